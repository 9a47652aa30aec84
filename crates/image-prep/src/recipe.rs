//! The rules by which model families show a picture to their encoders: from its size to [`Views`].
//!
//! Each is a pure function of two numbers. Divisions and roundings stand as in the published code, in f64: Python's `round`
//! is half to even, its `int` truncates.

mod pinpoints;

use crate::tiling::Grid;
use crate::views::{Canvas, Cut, Views};
use crate::TileLayout;
pub use pinpoints::{Pinpoints, Several};

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
            Recipe::Stretch { width, height } => Views::stretched(size, (*width, *height)),
        }
    }

    /// Another recipe, where there is one for pictures of which so many stand in a prompt.
    pub fn among(&self, pictures: usize) -> Option<Recipe> {
        match self {
            Recipe::Pinpoints(pinpoints) => pinpoints.among(pictures),
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
            Recipe::Stretch { width, height } => u64::from(*width) * u64::from(*height),
        }
    }
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
