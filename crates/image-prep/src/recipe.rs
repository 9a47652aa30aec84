//! The rules by which model families show a picture to their encoders: from its size to [`Views`].
//!
//! Each is a pure function of two numbers. Divisions and roundings stand as in the published code, in f64: Python's `round`
//! is half to even, its `int` truncates.

mod alone;
mod padded;
mod pinpoints;
mod slices;
mod splits;

use crate::TileLayout;
use crate::tiling::Grid;
use crate::views::{Canvas, Cut, Views};
pub use alone::{Scales, Several};
pub use padded::Padding;
pub use pinpoints::Pinpoints;
pub use slices::Slicing;
pub use splits::Splits;

/// How a picture becomes views.
#[derive(Clone, Debug, PartialEq)]
pub enum Recipe {
    /// Square tiles by one of the rules of [`crate::tiling`].
    Tiles(TileLayout),
    /// LLaVA-1.5: the shorter side to `edge`, then the middle `crop` x `crop`.
    CentreCrop {
        /// Length of the shorter side.
        edge: u32,
        /// Side of what is cut out, at most `edge`.
        crop: u32,
    },
    /// LLaVA-NeXT and LLaVA-OneVision: the best of a list of resolutions, and the whole picture first.
    Pinpoints(Pinpoints),
    /// NVILA: many views of a picture that stands alone, one of a picture among others.
    Alone(Several),
    /// MiniCPM-V: the whole picture, and slices of it.
    Slices(Slicing),
    /// SmolVLM: tiles, and the whole picture last.
    Splits(Splits),
    /// Qwen-VL: the picture's own size, its sides rounded to multiples of `factor`, within limits of its area.
    Rounded {
        /// Patches of this many pixels are one row.
        factor: u32,
        /// Smaller pictures grow.
        min_pixels: u64,
        /// Larger pictures shrink.
        max_pixels: u64,
    },
    /// Kimi-VL: the picture's own size within a limit, on padding.
    Padded(Padding),
    /// One size for all.
    Stretch {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
}

impl Recipe {
    /// The views of a picture of this size, at least one. A side of 0 counts as 1.
    pub fn views(&self, width: u32, height: u32) -> Views {
        let size = (width.max(1), height.max(1));
        match self {
            Recipe::Tiles(layout) => {
                Views::of_plan(size, &layout.plan(size.0, size.1), layout.tile)
            }
            Recipe::CentreCrop { edge, crop } => centre_crop(size, *edge, *crop),
            Recipe::Pinpoints(pinpoints) => pinpoints.views(size),
            Recipe::Alone(several) => several.views(size),
            Recipe::Slices(slicing) => slicing.views(size),
            Recipe::Splits(splits) => splits.views(size),
            Recipe::Rounded {
                factor,
                min_pixels,
                max_pixels,
            } => Views::stretched(size, rounded(size, *factor, [*min_pixels, *max_pixels])),
            Recipe::Padded(padding) => padding.views(size),
            Recipe::Stretch { width, height } => Views::stretched(size, (*width, *height)),
        }
    }

    /// Another recipe, where there is one for pictures of which so many stand in a prompt: some families show less of each then.
    pub fn among(&self, pictures: usize) -> Option<Recipe> {
        match self {
            Recipe::Alone(several) => several.among(pictures),
            _ => None,
        }
    }

    /// Pixels of all views of one picture together, at most.
    pub fn most_pixels(&self) -> u64 {
        match self {
            Recipe::Tiles(layout) => {
                (layout.choice.max_tiles() + 1) * u64::from(layout.tile).pow(2)
            }
            Recipe::CentreCrop { crop, .. } => u64::from(*crop).pow(2),
            Recipe::Pinpoints(pinpoints) => pinpoints.most_pixels(),
            Recipe::Alone(several) => several.most_pixels(),
            Recipe::Slices(slicing) => slicing.most_pixels(),
            Recipe::Splits(splits) => splits.most_pixels(),
            // A side is never below one factor, so that a line of a picture may take somewhat more.
            Recipe::Rounded { max_pixels, .. } => *max_pixels,
            Recipe::Padded(padding) => padding.most_pixels(),
            Recipe::Stretch { width, height } => u64::from(*width) * u64::from(*height),
        }
    }
}

/// `smart_resize` of the published code, without its refusal of pictures 200 times as long as wide: these become one row of
/// patches, cut at the limit.
fn rounded((width, height): (u32, u32), factor: u32, [min, max]: [u64; 2]) -> (u32, u32) {
    let (w, h, f) = (f64::from(width), f64::from(height), f64::from(factor));
    let near = |side: f64| (side / f).round_ties_even() * f;
    let (mut across, mut down) = (near(w), near(h));
    if across * down > max as f64 {
        let beta = ((h * w) / max as f64).sqrt();
        let fit = |side: f64| f.max((side / beta / f).floor() * f);
        (across, down) = (fit(w), fit(h));
    } else if across * down < min as f64 {
        let beta = (min as f64 / (h * w)).sqrt();
        let grow = |side: f64| (side * beta / f).ceil() * f;
        (across, down) = (grow(w), grow(h));
    }
    let longest = (max as f64 / f / f).floor() * f;
    let within = |side: f64| side.clamp(f, longest.max(f)) as u32;
    (within(across), within(down))
}

/// The longer side is truncated, as CLIP's processor does.
fn centre_crop((width, height): (u32, u32), edge: u32, crop: u32) -> Views {
    let long = |side: u32, short: u32| {
        let scaled = u64::from(edge) * u64::from(side) / u64::from(short);
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    let resized = match width <= height {
        true => (edge, long(height, width)),
        false => (long(width, height), edge),
    };
    let canvas = Canvas::stretched(resized);
    let cut = Cut {
        left: (resized.0 - crop.min(resized.0)) / 2,
        top: (resized.1 - crop.min(resized.1)) / 2,
        width: crop.min(resized.0),
        height: crop.min(resized.1),
    };
    Views {
        original: (width, height),
        grid: Grid::SINGLE,
        list: vec![crate::views::View { canvas, cut }],
    }
}
