//! Any decoded sample layout to 8-bit RGB over white.

use crate::Picture;
use image::DynamicImage;

/// 8-bit RGB; what is transparent shows white.
pub(super) fn over_white(decoded: DynamicImage) -> Picture {
    let (width, height) = (decoded.width(), decoded.height());
    let rgb = match decoded {
        DynamicImage::ImageRgb8(pixels) => pixels.into_raw(),
        DynamicImage::ImageLuma8(pixels) => each::<1>(&pixels, |[grey]| [*grey; 3]),
        DynamicImage::ImageLumaA8(pixels) => {
            each::<2>(&pixels, |&[grey, alpha]| [blend(grey, alpha); 3])
        }
        DynamicImage::ImageRgba8(pixels) => each::<4>(&pixels, |&[r, g, b, a]| {
            [blend(r, a), blend(g, a), blend(b, a)]
        }),
        DynamicImage::ImageLuma16(pixels) => each::<1>(&high(&pixels), |[grey]| [*grey; 3]),
        DynamicImage::ImageLumaA16(pixels) => {
            each::<2>(&high(&pixels), |&[grey, alpha]| [blend(grey, alpha); 3])
        }
        DynamicImage::ImageRgb16(pixels) => high(&pixels),
        DynamicImage::ImageRgba16(pixels) => each::<4>(&high(&pixels), |&[r, g, b, a]| {
            [blend(r, a), blend(g, a), blend(b, a)]
        }),
        DynamicImage::ImageRgb32F(pixels) => unit(&pixels),
        other => {
            let samples = unit(&other.into_rgba32f());
            each::<4>(&samples, |&[r, g, b, a]| {
                [blend(r, a), blend(g, a), blend(b, a)]
            })
        }
    };
    Picture { width, height, rgb }
}

/// Three bytes for each pixel of `N` bytes.
fn each<const N: usize>(samples: &[u8], rgb: impl Fn(&[u8; N]) -> [u8; 3]) -> Vec<u8> {
    samples.as_chunks::<N>().0.iter().flat_map(rgb).collect()
}

/// The high bytes of 16-bit samples.
fn high(samples: &[u16]) -> Vec<u8> {
    samples
        .iter()
        .map(|sample| sample.to_be_bytes()[0])
        .collect()
}

/// Floating-point samples from 0..1, clipped; NaN becomes 0.
fn unit(samples: &[f32]) -> Vec<u8> {
    samples
        .iter()
        .map(|sample| (sample * 255.0 + 0.5) as u8)
        .collect()
}

/// A sample of opacity `alpha` over white, with the rounding of Pillow's `alpha_composite`: 7 bits below the product, then
/// a division by 255 as shifts.
fn blend(sample: u8, alpha: u8) -> u8 {
    let (sample, alpha) = (u32::from(sample), u32::from(alpha));
    let product = ((sample * alpha + 255 * (255 - alpha)) << 7) + (0x80 << 7);
    (((product >> 8) + product) >> 8 >> 7) as u8
}
