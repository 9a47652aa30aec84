//! SmolVLM's splits: the longer side to a fixed length, both sides up to whole tiles, the tiles, and the whole picture last.

use crate::tiling::Grid;
use crate::views::{Canvas, Views};

/// No side is ever longer.
const LONGEST: u32 = 4096;

/// The numbers of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splits {
    /// Length of the longer side.
    pub longest: u32,
    /// Side of a tile.
    pub tile: u32,
    /// Whether there are tiles, or the whole picture alone.
    pub split: bool,
}

impl Splits {
    pub(super) fn views(&self, size: (u32, u32)) -> Views {
        let first = self.first(size);
        let tile = self.tile;
        let after = |sizes: &[(u32, u32)], size: (u32, u32)| Canvas {
            first: sizes.to_vec(),
            ..Canvas::stretched(size)
        };
        let whole = self.whole_tiles(first);
        let grid = Grid::new(whole.0 / tile, whole.1 / tile);
        let list = match self.split {
            false => vec![after(&[first], (tile, tile)).whole()],
            true if grid == Grid::SINGLE => vec![after(&[first], whole).whole()],
            true => {
                let mut list = after(&[first], whole).tiles(grid);
                // The published code shrinks what was stretched over the tiles.
                list.push(after(&[first, whole], (tile, tile)).whole());
                list
            }
        };
        Views {
            original: size,
            grid: if list.len() > 1 { grid } else { Grid::SINGLE },
            list,
        }
    }

    /// The longer side as long as it should be, the other truncated and then even.
    fn first(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let ratio = f64::from(width) / f64::from(height);
        let even = |side: f64| (side as u32).next_multiple_of(2).max(1);
        let limit = |(long, short): (u32, f64)| {
            let scaled = f64::from(LONGEST) / f64::from(long.max(1));
            match long > LONGEST {
                true => (LONGEST, ((short * scaled) as u32).max(1)),
                false => (long, even(short)),
            }
        };
        match width >= height {
            true => limit((self.longest, f64::from(self.longest) / ratio)),
            false => {
                let (long, short) = limit((self.longest, f64::from(self.longest) * ratio));
                (short, long)
            }
        }
    }

    fn whole_tiles(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let ratio = f64::from(width) / f64::from(height);
        let up = |side: u32| side.max(1).next_multiple_of(self.tile);
        match width >= height {
            true => (up(width), up((f64::from(up(width)) / ratio) as u32)),
            false => (up((f64::from(up(height)) * ratio) as u32), up(height)),
        }
    }

    pub(super) fn most_pixels(&self) -> u64 {
        let side = u64::from(self.longest.min(LONGEST).next_multiple_of(self.tile));
        side * side + u64::from(self.tile).pow(2)
    }
}
