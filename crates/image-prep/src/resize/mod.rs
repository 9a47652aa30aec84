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
use std::borrow::Cow;
use std::ops::Range;
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
    resize_band(picture, (width, height), 0..height, filter)
}

/// The rows `band` of the picture resized to `size` (width and height), with the bits that [`resize`] gives them.
///
/// Panics as [`resize_part`].
pub fn resize_band(
    picture: &Picture,
    size: (u32, u32),
    band: Range<u32>,
    filter: Filter,
) -> Picture {
    resize_part(picture, size, 0..size.0, band, filter)
}

/// Some columns and rows of the picture resized to `size` (width and height), with the bits that [`resize`] gives them: only the
/// rows of the picture that they are made of are looked at, so memory is needed for a part, not for the whole.
///
/// Panics when a side is 0, the picture's sides and bytes disagree, or the part is empty or not within the size.
pub fn resize_part(
    picture: &Picture,
    (width, height): (u32, u32),
    columns: Range<u32>,
    band: Range<u32>,
    filter: Filter,
) -> Picture {
    assert!(width > 0 && height > 0, "a picture has at least one pixel");
    assert!(
        picture.is_whole(),
        "a picture's bytes are 3 * width * height"
    );
    assert!(
        band.start < band.end && band.end <= height,
        "rows {band:?} of {height}"
    );
    assert!(
        columns.start < columns.end && columns.end <= width,
        "columns {columns:?} of {width}"
    );
    let (windows, lines) = match height == picture.height {
        true => (None, band.start as usize..band.end as usize),
        false => {
            let mut of_band = windows(picture.height, height, band.clone(), filter);
            let lines = cut_lines(&mut of_band, picture.height as usize);
            (Some(of_band), lines)
        }
    };
    let row = 3 * picture.width as usize;
    let rgb = &picture.rgb[lines.start * row..lines.end * row];
    let part = 3 * columns.len();
    let narrow = match width == picture.width {
        true if part == row => Cow::Borrowed(rgb),
        true => {
            let first = 3 * columns.start as usize;
            let lines = rgb.chunks_exact(row);
            Cow::Owned(
                lines
                    .flat_map(|line| &line[first..first + part])
                    .copied()
                    .collect(),
            )
        }
        false => Cow::Owned(horizontal(
            rgb,
            row,
            &self::windows(picture.width, width, columns.clone(), filter),
        )),
    };
    let rgb = match windows {
        Some(windows) => vertical(&narrow, part, &windows),
        None => narrow.into_owned(),
    };
    Picture {
        width: columns.end - columns.start,
        height: band.end - band.start,
        rgb,
    }
}

/// The input rows, an even first one, that windows look at; the windows then count from there.
fn cut_lines(windows: &mut [Window], height: usize) -> Range<usize> {
    let first = windows.iter().map(|w| w.first_pair).min().unwrap_or(0);
    let end = windows.iter().map(|w| w.first_pair + w.weights.len()).max();
    for window in windows {
        window.first_pair -= first;
    }
    2 * first..(2 * end.unwrap_or(0)).min(height)
}

/// Lines of `row` bytes with one output column for each window. A strip is a band of rows, so that each lane is one row's channel.
fn horizontal(lines: &[u8], row: usize, windows: &[Window]) -> Vec<u8> {
    let new_row = 3 * windows.len();
    let mut rgb = vec![0; new_row * (lines.len() / row)];
    let mut strip = Strip::new(row / 3);
    let bands = lines.chunks(ROWS * row);
    for (band, output) in bands.zip(rgb.chunks_mut(ROWS * new_row)) {
        strip.fill_with_rows(band, row);
        for (x, window) in windows.iter().enumerate() {
            let pixels = strip.weigh(window);
            for (y, line) in output.chunks_exact_mut(new_row).enumerate() {
                line[3 * x..3 * x + 3].copy_from_slice(&pixels[3 * y..3 * y + 3]);
            }
        }
    }
    rgb
}

/// One output row of `row` bytes for each window. A strip is a bundle of columns.
fn vertical(lines: &[u8], row: usize, windows: &[Window]) -> Vec<u8> {
    let mut rgb = vec![0; row * windows.len()];
    let mut strip = Strip::new(lines.len() / row);
    for left in (0..row).step_by(LANES) {
        let lanes = LANES.min(row - left);
        strip.fill_with_columns(lines, row, left..left + lanes);
        for (window, line) in windows.iter().zip(rgb.chunks_exact_mut(row)) {
            let samples = strip.weigh(window);
            line[left..left + lanes].copy_from_slice(&samples[..lanes]);
        }
    }
    rgb
}
