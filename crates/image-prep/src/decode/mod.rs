//! Image bytes to an upright 8-bit RGB picture, with limits that hold before anything is decoded.
//!
//! Choices, all as Pillow's users know them:
//! * EXIF orientation is applied (JPEG, WebP, PNG's eXIf before the pixels, TIFF's tag), and [`dimensions`] are those after it.
//! * Transparent pixels are blended over white, with Pillow's rounding (`alpha_composite`), so that a screenshot with a
//!   transparent ground stays readable. This includes palettes and single transparent colours.
//! * 16-bit samples keep their high byte, as Pillow's RGB readers do; floating-point samples are taken as 0..1 and clipped.
//! * GIF, animated WebP and animated PNG give their first picture; multi-page TIFF the first page.
//! * Colour profiles are ignored.

mod flatten;
mod recognise;
mod whole;

use crate::{ImageError, Picture};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};
use std::io::Cursor;

/// Largest side of a picture in pixels, twice what JPEG can have: keeps the tables of [`crate::resize`] small.
pub const MAX_SIDE: u32 = 1 << 17;

/// What a file may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels, width times height; checked against the header before anything is allocated. A side is never above
    /// [`MAX_SIDE`].
    pub max_pixels: u64,
}

impl Default for Limits {
    /// 100 megapixels.
    fn default() -> Limits {
        Limits {
            max_pixels: 100_000_000,
        }
    }
}

impl Limits {
    fn check(&self, (width, height): (u32, u32)) -> Result<(), ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::Empty { width, height });
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels || width.max(height) > MAX_SIDE {
            return Err(ImageError::TooLarge {
                width,
                height,
                max_pixels: self.max_pixels,
                max_side: MAX_SIDE,
            });
        }
        Ok(())
    }
}

/// Decodes the first picture of a PNG, JPEG, WebP, GIF, BMP or TIFF file.
///
/// # Errors
/// [`ImageError::NotAPicture`], [`ImageError::TooLarge`] and [`ImageError::Empty`] from the header alone;
/// [`ImageError::Truncated`], [`ImageError::Damaged`], [`ImageError::Unsupported`] and [`ImageError::TooMuchMemory`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, ImageError> {
    let format = recognise::format(bytes)?;
    let failed = |error| recognise::explain(error, format, bytes.len());
    if let Some(size) = whole::png_size(bytes, format) {
        limits.check(size)?;
    }
    whole::check(bytes, format)?;
    let mut decoder = open(bytes, format).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check((width, height))?;
    let orientation = orientation(&mut decoder);
    let max_bytes = memory_bytes(width, height);
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(max_bytes);
    let memory = |error| match error {
        image::ImageError::Limits(_) => ImageError::TooMuchMemory {
            format: recognise::name(format),
            width,
            height,
            max_bytes,
        },
        error => failed(error),
    };
    decoder.set_limits(allowed).map_err(memory)?;
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(memory)?;
    decoded.apply_orientation(orientation);
    Ok(flatten::over_white(decoded))
}

/// Width and height of a picture after its EXIF orientation, from the header alone: nothing is decoded, and only the limit on
/// sides applies.
///
/// # Errors
/// As [`decode`], as far as the header shows it.
pub fn dimensions(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    let format = recognise::format(bytes)?;
    let any = Limits {
        max_pixels: u64::MAX,
    };
    if let Some(size) = whole::png_size(bytes, format) {
        any.check(size)?;
    }
    let mut decoder =
        open(bytes, format).map_err(|error| recognise::explain(error, format, bytes.len()))?;
    let (width, height) = decoder.dimensions();
    any.check((width, height))?;
    Ok(match orientation(&mut decoder) {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    })
}

/// What a decoder may allocate before the size is known: profiles, palettes, text.
const HEADER_BYTES: u64 = 64 << 20;

/// What a decoder may allocate for a picture: twice its largest sample layout (16-bit RGBA), and the header's share.
fn memory_bytes(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height) * 16 + HEADER_BYTES
}

/// A decoder that has read the header.
fn open(
    bytes: &[u8],
    format: image::ImageFormat,
) -> Result<impl ImageDecoder + '_, image::ImageError> {
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(HEADER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    reader.into_decoder()
}

fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}
