//! Which format some bytes have, by their content only; and what a decoder's complaint means.

use crate::ImageError;
use image::ImageFormat;
use std::error::Error;
use std::io::ErrorKind;

/// The format of the bytes, of those that we read.
pub(super) fn format(bytes: &[u8]) -> Result<ImageFormat, ImageError> {
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp
            | ImageFormat::Tiff),
        ) => Ok(format),
        _ => Err(ImageError::NotAPicture {
            found: describe(bytes),
        }),
    }
}

/// The name of a format for messages.
pub(super) fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        _ => "TIFF",
    }
}

/// A decoder's error in our words.
pub(super) fn explain(error: image::ImageError, format: ImageFormat, bytes: usize) -> ImageError {
    let format = name(format);
    if ends_early(&error) {
        return ImageError::Truncated { format, bytes };
    }
    let reason = match &error {
        image::ImageError::Decoding(inner) => inner.source().map(ToString::to_string),
        _ => None,
    };
    let reason = one_line(&reason.unwrap_or_else(|| error.to_string()));
    match error {
        image::ImageError::Unsupported(_) => ImageError::Unsupported { format, reason },
        _ => ImageError::Damaged { format, reason },
    }
}

/// Whether a decoder ran out of data. Most say so by the kind of their I/O error, some only in words.
fn ends_early(error: &image::ImageError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == ErrorKind::UnexpectedEof
        {
            return true;
        }
        cause = error.source();
    }
    let text = error.to_string().to_lowercase();
    [
        "unexpected end",
        "unexpected eof",
        "no more data",
        "not enough bytes",
        "failed to fill whole buffer",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// What bytes that are no picture look like, for the error message.
fn describe(bytes: &[u8]) -> String {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let known = if bytes.is_empty() {
        "an empty file"
    } else if starts(b"%PDF") {
        "a PDF document"
    } else if bytes.get(4..8) == Some(b"ftyp") {
        match bytes.get(8..12) {
            Some(b"avif" | b"avis") => "an AVIF picture",
            Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1") => "a HEIC picture",
            _ => "a video (MP4)",
        }
    } else if starts(b"PK\x03\x04") {
        "a ZIP archive"
    } else if starts(b"\x1f\x8b") {
        "a gzip archive"
    } else if starts(b"\xff\x0a") || starts(b"\0\0\0\x0cJXL ") {
        "a JPEG XL picture"
    } else if starts(b"\0\0\x01\0") {
        "a Windows icon"
    } else if starts(b"8BPS") {
        "a Photoshop document"
    } else if starts(b"RIFF") {
        "a RIFF file that is not WebP"
    } else {
        return describe_text(bytes);
    };
    known.to_owned()
}

fn describe_text(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(256)];
    // A character may be cut at the end of the excerpt.
    let text = match std::str::from_utf8(start) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let is_text = |text: &&str| {
        let mut characters = text.chars();
        characters.all(|character| !character.is_control() || character.is_whitespace())
    };
    match text.filter(is_text) {
        Some(text) if text.contains("<svg") => "an SVG drawing".to_owned(),
        Some(text) => {
            let line = one_line(text.trim_start_matches('\u{feff}').trim_start());
            let excerpt: String = line.chars().take(30).collect();
            let more = if excerpt.len() < line.len() {
                "..."
            } else {
                ""
            };
            format!("text that begins \"{excerpt}{more}\"")
        }
        None => {
            let first: Vec<String> = bytes
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("{} bytes that begin {}", bytes.len(), first.join(" "))
        }
    }
}

/// A decoder's or a stranger's text on one line of reasonable length; control characters become spaces.
fn one_line(text: &str) -> String {
    let line = text.split(['\n', '\r']).next().unwrap_or_default();
    let printable = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    line.chars().map(printable).take(200).collect()
}
