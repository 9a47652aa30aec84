//! Which grid of tiles a picture of a given size gets: three rules, pure functions of the size.
//!
//! A grid of `columns` by `rows` tiles of `tile` pixels is a canvas of `columns * tile` by `rows * tile`. For a picture of
//! `w` x `h`, let `scale = min(canvas_w / w, canvas_h / h)`; then the *effective* area of the canvas is the area of the
//! picture fitted into it (sides truncated), at most the picture's own, and the *wasted* area is the rest of the canvas.
//!
//! | rule | takes |
//! | --- | --- |
//! | [`GridChoice::LargestEffectiveArea`] | the largest effective area, then the least waste (LLaVA-NeXT) |
//! | [`GridChoice::NearestAspectRatio`] | the nearest width / height, whatever the size (InternVL 1.5) |
//! | [`GridChoice::RelaxedEffectiveArea`] | a larger grid only when it shows clearly more (BlueLM-V-3B, arXiv 2411.10640 §3.2) |
//!
//! Areas are whole numbers; the divisions and products that the published code does in 64-bit floats are done in the same
//! order here, because `trunc(x * (384 / x))` is 383 for 170 of the x up to 4000.

mod area;
mod nearest;

pub use area::Step;

/// A grid of tiles: width first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grid {
    /// Tiles side by side.
    pub columns: u32,
    /// Tiles one above the other.
    pub rows: u32,
}

impl Grid {
    /// One tile.
    pub const SINGLE: Grid = Grid {
        columns: 1,
        rows: 1,
    };

    /// A grid of `columns` by `rows`.
    pub const fn new(columns: u32, rows: u32) -> Grid {
        Grid { columns, rows }
    }

    /// Number of tiles.
    pub fn tiles(self) -> u64 {
        u64::from(self.columns) * u64::from(self.rows)
    }
}

impl std::fmt::Display for Grid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.columns, self.rows)
    }
}

/// A rule with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum GridChoice {
    /// LLaVA-NeXT "anyres": the largest effective area; among equals the least waste; among these the first, columns
    /// ascending and rows ascending inside.
    LargestEffectiveArea {
        /// Largest columns and largest rows.
        max_grid: Grid,
    },
    /// BlueLM-V-3B: candidates from large to small; one replaces the best so far when its effective area is larger by more
    /// than `slack` of it, or smaller by less than `slack` of it while wasting less.
    RelaxedEffectiveArea {
        /// Largest columns and largest rows.
        max_grid: Grid,
        /// The paper's alpha, 0.1 there.
        slack: f64,
    },
    /// InternVL 1.5: the nearest aspect ratio; of two equally near ones the larger, if the picture has more than half of
    /// that canvas' pixels.
    NearestAspectRatio {
        /// Fewest tiles.
        min_tiles: u32,
        /// Most tiles.
        max_tiles: u32,
    },
}

impl GridChoice {
    /// The largest number of tiles that this rule can choose, not counting a thumbnail.
    pub fn max_tiles(&self) -> u64 {
        match self {
            GridChoice::LargestEffectiveArea { max_grid }
            | GridChoice::RelaxedEffectiveArea { max_grid, .. } => max_grid.tiles(),
            GridChoice::NearestAspectRatio { max_tiles, .. } => u64::from(*max_tiles),
        }
    }

    /// The same rule with no more columns, rows or tiles than `most` has; what it allows already never grows.
    pub fn at_most(self, most: Grid) -> GridChoice {
        let smaller = |grid: Grid| Grid {
            columns: grid.columns.min(most.columns),
            rows: grid.rows.min(most.rows),
        };
        match self {
            GridChoice::LargestEffectiveArea { max_grid } => GridChoice::LargestEffectiveArea {
                max_grid: smaller(max_grid),
            },
            GridChoice::RelaxedEffectiveArea { max_grid, slack } => {
                GridChoice::RelaxedEffectiveArea {
                    max_grid: smaller(max_grid),
                    slack,
                }
            }
            GridChoice::NearestAspectRatio {
                min_tiles,
                max_tiles,
            } => {
                let tiles = u32::try_from(most.tiles()).unwrap_or(u32::MAX);
                GridChoice::NearestAspectRatio {
                    min_tiles: min_tiles.min(tiles),
                    max_tiles: max_tiles.min(tiles),
                }
            }
        }
    }
}

/// The grid for a picture of `width` x `height` pixels on tiles of `tile` pixels. Sizes for which a rule accepts nothing
/// (a line of 4000x1, a side of 0) get 1:1.
pub fn choose(choice: &GridChoice, width: u32, height: u32, tile: u32) -> Grid {
    if width == 0 || height == 0 || tile == 0 {
        return Grid::SINGLE;
    }
    match choice {
        GridChoice::NearestAspectRatio {
            min_tiles,
            max_tiles,
        } => nearest::nearest((width, height), tile, *min_tiles, *max_tiles),
        _ => trace(choice, width, height, tile)
            .last()
            .map_or(Grid::SINGLE, |step| step.grid),
    }
}

/// Every candidate that became the best so far, in order; the last is the choice. Empty for
/// [`GridChoice::NearestAspectRatio`], which knows no areas, and when no candidate was accepted.
pub fn trace(choice: &GridChoice, width: u32, height: u32, tile: u32) -> Vec<Step> {
    if width == 0 || height == 0 || tile == 0 {
        return Vec::new();
    }
    match choice {
        GridChoice::LargestEffectiveArea { max_grid } => {
            area::largest((width, height), tile, *max_grid)
        }
        GridChoice::RelaxedEffectiveArea { max_grid, slack } => {
            area::relaxed((width, height), tile, *max_grid, *slack)
        }
        GridChoice::NearestAspectRatio { .. } => Vec::new(),
    }
}
