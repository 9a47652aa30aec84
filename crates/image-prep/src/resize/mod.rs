//! Resizing with antialiasing, equal to Pillow's `Image.resize` bit for bit.
//!
//! The models were trained on pictures that Pillow resized, and its rounding is part of what they saw: weights in fixed
//! point with 22 fractional bits, rounded half away from zero; every output clipped to a byte, also between the passes; the
//! horizontal pass first, as in every Pillow up to 12 and in torchvision (Pillow 13 picks the order by size, which moves
//! results by tens of levels where the clipping bites). A pass whose size does not change is left out.
//! Source of the arithmetic: Pillow's `src/libImaging/Resample.c`.

mod strip;
mod windows;

use crate::Picture;
use strip::{LANES, ROWS, Strip};
use windows::{Window, windows};

/// Interpolation kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Triangle, support 1 (Pillow's number 2).
    Bilinear,
    /// Cubic with a = -0.5, support 2 (Pillow's number 3).
    Bicubic,
    /// Windowed sinc, support 3 (Pillow's number 1).
    Lanczos3,
}

impl Filter {
    /// Pillow's number, as `resample` in preprocessor_config.json.
    pub fn pillow_number(self) -> u8 {
        match self {
            Filter::Lanczos3 => 1,
            Filter::Bilinear => 2,
            Filter::Bicubic => 3,
        }
    }

    /// The filter with this Pillow number.
    pub fn from_pillow_number(number: u64) -> Option<Filter> {
        match number {
            1 => Some(Filter::Lanczos3),
            2 => Some(Filter::Bilinear),
            3 => Some(Filter::Bicubic),
            _ => None,
        }
    }
}

/// The picture resized to `width` x `height`. Panics when a side is 0 or the picture's sides and bytes disagree.
pub fn resize(picture: &Picture, width: u32, height: u32, filter: Filter) -> Picture {
    assert!(width > 0 && height > 0, "a picture has at least one pixel");
    assert!(
        picture.is_whole(),
        "a picture's bytes are 3 * width * height"
    );
    let widened = (width != picture.width).then(|| {
        let windows = windows(picture.width, width, filter);
        horizontal(picture, &windows)
    });
    let source = widened.as_ref().unwrap_or(picture);
    if height != source.height {
        let windows = windows(source.height, height, filter);
        return vertical(source, &windows);
    }
    widened.unwrap_or_else(|| picture.clone())
}

/// One output column for each window. A strip is a band of rows, so that each lane is one row's channel.
fn horizontal(picture: &Picture, windows: &[Window]) -> Picture {
    let (row, new_row) = (3 * picture.width as usize, 3 * windows.len());
    let mut rgb = vec![0; new_row * picture.height as usize];
    let mut strip = Strip::new(picture.width as usize);
    let bands = picture.rgb.chunks(ROWS * row);
    for (band, output) in bands.zip(rgb.chunks_mut(ROWS * new_row)) {
        strip.fill_with_rows(band, row);
        for (x, window) in windows.iter().enumerate() {
            let pixels = strip.weigh(window);
            for (y, line) in output.chunks_exact_mut(new_row).enumerate() {
                line[3 * x..3 * x + 3].copy_from_slice(&pixels[3 * y..3 * y + 3]);
            }
        }
    }
    Picture {
        width: windows.len() as u32,
        height: picture.height,
        rgb,
    }
}

/// One output row for each window. A strip is a bundle of columns.
fn vertical(picture: &Picture, windows: &[Window]) -> Picture {
    let row = 3 * picture.width as usize;
    let mut rgb = vec![0; row * windows.len()];
    let mut strip = Strip::new(picture.height as usize);
    for left in (0..row).step_by(LANES) {
        let lanes = LANES.min(row - left);
        strip.fill_with_columns(&picture.rgb, row, left..left + lanes);
        for (window, line) in windows.iter().zip(rgb.chunks_exact_mut(row)) {
            let samples = strip.weigh(window);
            line[left..left + lanes].copy_from_slice(&samples[..lanes]);
        }
    }
    Picture {
        width: picture.width,
        height: windows.len() as u32,
        rgb,
    }
}
