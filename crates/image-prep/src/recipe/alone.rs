//! NVILA: a picture that stands alone is shown in many views, one among others in a single one.

use super::Recipe;
use crate::TileLayout;
use crate::tiling::{self, Grid, GridChoice};
use crate::views::{Canvas, Views};

/// The views of a picture that stands alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Several {
    /// Square tiles.
    Tiles(TileLayout),
    /// The picture at three scales.
    Scales(Scales),
}

/// The whole picture on one tile, on four, and on nine or more whose grid has the nearest proportions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scales {
    /// Side of a tile.
    pub tile: u32,
    /// Most tiles of the last scale.
    pub most_tiles: u32,
}

impl Several {
    pub(super) fn views(&self, size: (u32, u32)) -> Views {
        let Scales { tile, most_tiles } = match self {
            Several::Tiles(layout) => {
                return Views::of_plan(size, &layout.plan(size.0, size.1), layout.tile);
            }
            Several::Scales(scales) => *scales,
        };
        let choice = GridChoice::NearestAspectRatio {
            min_tiles: 9,
            max_tiles: most_tiles.max(9),
        };
        let last = tiling::choose(&choice, size.0, size.1, tile);
        let scale = |grid: Grid| {
            let side = |tiles: u32| tiles.saturating_mul(tile);
            Canvas::stretched((side(grid.columns), side(grid.rows))).tiles(grid)
        };
        let scales = [Grid::SINGLE, Grid::new(2, 2), last];
        Views {
            original: size,
            grid: last,
            list: scales.into_iter().flat_map(scale).collect(),
        }
    }

    pub(crate) fn tile(&self) -> u32 {
        match self {
            Several::Tiles(layout) => layout.tile,
            Several::Scales(scales) => scales.tile,
        }
    }

    /// One view of one tile.
    pub(super) fn among(&self, pictures: usize) -> Option<Recipe> {
        let (width, height) = (self.tile(), self.tile());
        (pictures > 1).then_some(Recipe::Stretch { width, height })
    }

    pub(super) fn most_pixels(&self) -> u64 {
        let tiles = match self {
            Several::Tiles(layout) => layout.choice.max_tiles() + 1,
            Several::Scales(scales) => u64::from(scales.most_tiles.max(9)) + 5,
        };
        tiles * u64::from(self.tile()).pow(2)
    }
}
