//! What a file says about itself before its decoder runs: whether it is all there, and how large its picture is.
//!
//! Some decoders fill a missing end with grey, or miss an EXIF orientation that stood there, and say nothing; a model would
//! then answer about a picture that nobody has. So these formats are checked first, without decoding.

use super::recognise;
use crate::ImageError;
use image::ImageFormat;

/// An error when a JPEG file ends before its end-of-image marker, or a WebP file before the length that it states.
pub(super) fn check(bytes: &[u8], format: ImageFormat) -> Result<(), ImageError> {
    let whole = match format {
        ImageFormat::Jpeg => jpeg_has_end(bytes),
        ImageFormat::WebP => webp_has_length(bytes),
        _ => true,
    };
    match whole {
        true => Ok(()),
        false => Err(ImageError::Truncated {
            format: recognise::name(format),
            bytes: bytes.len(),
        }),
    }
}

/// Width and height in a PNG's header. Its decoder reserves memory for a row before it tells them.
pub(super) fn png_size(bytes: &[u8], format: ImageFormat) -> Option<(u32, u32)> {
    if format != ImageFormat::Png || bytes.get(12..16) != Some(b"IHDR") {
        return None;
    }
    let number = |at| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    Some((number(16)?, number(20)?))
}

fn webp_has_length(bytes: &[u8]) -> bool {
    let length = bytes.get(4..).and_then(|rest| rest.first_chunk());
    length.is_some_and(|&length| bytes.len() as u64 >= 8 + u64::from(u32::from_le_bytes(length)))
}

/// Walks the markers, over segments by their lengths and over entropy-coded data by what may not occur in it.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    // After the start-of-image marker, by which the file was recognised.
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            END_OF_IMAGE => return true,
            // Markers without a length: TEM, restarts, another start.
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = bytes.get(at..).and_then(|rest| rest.first_chunk());
                at += length.map_or(2, |&length| usize::from(u16::from_be_bytes(length)));
            }
        }
    }
    false
}

/// The next marker at or after `at`, skipping entropy-coded data (where 0xff is followed by 0) and fill bytes.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        *at += rest.iter().position(|&byte| byte == 0xff)? + 1;
        match *bytes.get(*at)? {
            0x00 => *at += 1,
            0xff => {}
            marker => {
                *at += 1;
                return Some(marker);
            }
        }
    }
}
