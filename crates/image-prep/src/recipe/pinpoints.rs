//! LLaVA-NeXT's "any resolution": a list of resolutions, the picture fitted into the best, and the whole of it on one tile.

use crate::tiling::Grid;
use crate::views::{Canvas, Views};

/// The resolutions of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Pinpoints {
    /// Side of a tile.
    pub tile: u32,
    /// Widths and heights, multiples of the tile's side, in the order of the file: the first of equals wins.
    pub resolutions: Vec<(u32, u32)>,
}

impl Pinpoints {
    pub(super) fn views(&self, size: (u32, u32)) -> Views {
        let best = self.best(size);
        let grid = Grid::new(best.0 / self.tile, best.1 / self.tile);
        let mut list = vec![Canvas::stretched((self.tile, self.tile)).whole()];
        list.extend(fitted(size, best).tiles(grid));
        Views {
            original: size,
            grid,
            list,
        }
    }

    /// The largest effective area, then the least waste.
    fn best(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let mut best: Option<((u32, u32), u64, u64)> = None;
        for &(w, h) in &self.resolutions {
            let (fw, fh) = (f64::from(width), f64::from(height));
            let scale = (f64::from(w) / fw).min(f64::from(h) / fh);
            let fitted = ((fw * scale) as u64) * ((fh * scale) as u64);
            let effective = fitted.min(u64::from(width) * u64::from(height));
            let wasted = (u64::from(w) * u64::from(h)).saturating_sub(effective);
            let better = best.is_none_or(|(_, most, least)| {
                effective > most || (effective == most && wasted < least)
            });
            if better {
                best = Some(((w, h), effective, wasted));
            }
        }
        best.map_or((self.tile, self.tile), |(resolution, _, _)| resolution)
    }

    pub(super) fn most_pixels(&self) -> u64 {
        let area = |&(width, height): &(u32, u32)| u64::from(width) * u64::from(height);
        let largest = self.resolutions.iter().map(area).max().unwrap_or(0);
        largest + u64::from(self.tile).pow(2)
    }
}

/// The picture as large as it fits, sides rounded up, in the middle of padding.
fn fitted((width, height): (u32, u32), (w, h): (u32, u32)) -> Canvas {
    let (fw, fh) = (f64::from(width), f64::from(height));
    let (scale_w, scale_h) = (f64::from(w) / fw, f64::from(h) / fh);
    let resized = match scale_w < scale_h {
        true => (w, ((fh * scale_w).ceil() as u32).min(h)),
        false => (((fw * scale_h).ceil() as u32).min(w), h),
    };
    Canvas {
        first: Vec::new(),
        resized,
        offset: ((w - resized.0) / 2, (h - resized.1) / 2),
        size: (w, h),
    }
}
