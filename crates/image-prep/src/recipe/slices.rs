//! MiniCPM-V's slices: the whole picture at about the area of one view, and a grid of slices of about that area each.

use crate::tiling::Grid;
use crate::views::{Canvas, Views};

/// The numbers of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slicing {
    /// A view has about the area of a square of this side.
    pub side: u32,
    /// Sides of views are multiples of it.
    pub patch: u32,
    /// Most slices.
    pub most: u32,
}

impl Slicing {
    pub(super) fn views(&self, size: (u32, u32)) -> Views {
        let (w, h) = (f64::from(size.0), f64::from(size.1));
        let area = f64::from(self.side).powi(2);
        let count = ((w * h / area).ceil() as u32).min(self.most);
        if count <= 1 {
            return Views::stretched(size, self.fit((w, h), Growth::Allowed));
        }
        let whole = Canvas::stretched(self.fit((w, h), Growth::Refused)).whole();
        let grid = self.grid((w, h), count);
        let (columns, rows) = (f64::from(grid.columns), f64::from(grid.rows));
        let shared =
            |side: f64, parts: f64| ((side / parts).round_ties_even() * parts).max(parts) / parts;
        let slice = (shared(w, columns), shared(h, rows));
        let (width, height) = self.fit(slice, Growth::Allowed);
        let canvas = Canvas::stretched((width * grid.columns, height * grid.rows));
        let mut list = vec![whole];
        list.extend(canvas.tiles(grid));
        Views {
            original: size,
            grid,
            list,
        }
    }

    /// The size of a view with these proportions.
    fn fit(&self, (mut w, mut h): (f64, f64), growth: Growth) -> (u32, u32) {
        let side = f64::from(self.side);
        if w * h > side * side || growth == Growth::Allowed {
            let ratio = w / h;
            h = (side / ratio.sqrt()).trunc();
            w = (h * ratio).trunc();
        }
        let patch = f64::from(self.patch);
        let whole = |side: f64| ((side / patch).round_ties_even() * patch).max(patch) as u32;
        (whole(w), whole(h))
    }

    /// The grid of one slice fewer, as many or one more whose proportions are nearest, as logarithms.
    fn grid(&self, (w, h): (f64, f64), count: u32) -> Grid {
        let wanted = (w / h).ln();
        let (mut best, mut smallest) = (Grid::SINGLE, f64::INFINITY);
        for slices in (count - 1..=count + 1).filter(|slices| *slices != 1 && *slices <= self.most)
        {
            for columns in (1..=slices).filter(|columns| slices % columns == 0) {
                let grid = Grid::new(columns, slices / columns);
                let apart = (wanted - (f64::from(grid.columns) / f64::from(grid.rows)).ln()).abs();
                if apart < smallest {
                    (best, smallest) = (grid, apart);
                }
            }
        }
        best
    }

    pub(super) fn most_pixels(&self) -> u64 {
        // Sides are rounded to patches, up to half as much again for the smallest.
        u64::from(self.side).pow(2) * 2 * (u64::from(self.most) + 1)
    }
}

/// Whether a picture smaller than a view becomes as large.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Growth {
    Allowed,
    Refused,
}
