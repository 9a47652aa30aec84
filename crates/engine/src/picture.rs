//! Pictures from files and streams, bounded before they are read.

use std::io::Read;
use std::path::Path;

use image_prep::{Limits, Picture};

use crate::error::EngineError;
use crate::files::read_capped;

/// Longest picture file that is read, in bytes.
pub const MAX_PICTURE_BYTES: u64 = 256 << 20;

/// Reads and decodes a picture file.
pub fn read_picture(path: &Path, limits: &Limits) -> Result<Picture, EngineError> {
    decode(
        &path.display().to_string(),
        &read_capped(path, MAX_PICTURE_BYTES)?,
        limits,
    )
}

/// Reads a picture to the end of a stream, such as standard input, and decodes it. Errors call it `name`.
pub fn read_picture_stream(
    name: &str,
    stream: impl Read,
    limits: &Limits,
) -> Result<Picture, EngineError> {
    let mut bytes = Vec::new();
    stream
        .take(MAX_PICTURE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| EngineError::Read {
            path: name.into(),
            source,
        })?;
    if bytes.len() as u64 > MAX_PICTURE_BYTES {
        return Err(EngineError::request(
            name,
            format!("a picture of more than {MAX_PICTURE_BYTES} bytes"),
        ));
    }
    decode(name, &bytes, limits)
}

fn decode(name: &str, bytes: &[u8], limits: &Limits) -> Result<Picture, EngineError> {
    image_prep::decode(bytes, limits).map_err(|source| EngineError::Image {
        name: name.into(),
        source,
    })
}
