//! From the rows of a picture's views to the picture's rows.

use crate::spec::{Assembly, ModelSpec};
use image_prep::Views;

/// LLaVA-NeXT's map of tiles without the rows and columns that only padding is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unpadding {
    /// Rows and columns of a tile.
    tile: [usize; 2],
    /// Tiles down and across; none where the picture is its first view alone.
    tiles: [usize; 2],
    /// First row and column that is kept.
    first: [usize; 2],
    /// Rows and columns that are kept.
    kept: [usize; 2],
    /// Rows and columns that they are shrunk to.
    shrunk: [usize; 2],
}

impl Unpadding {
    pub fn plan(tile: [usize; 2], most_tiles: Option<usize>, views: &Views) -> Unpadding {
        let tiles = match views.list.len() {
            0 | 1 => [0; 2],
            _ => [views.grid.rows as usize, views.grid.columns as usize],
        };
        let map = [tile[0] * tiles[0], tile[1] * tiles[1]];
        let (width, height) = (f64::from(views.original.0), f64::from(views.original.1));
        let (mut first, mut kept) = ([0; 2], map);
        // The order of operations is the published one, with its rounding to seven digits before truncation.
        let truncated = |x: f64| round_to_seven(x) as usize;
        if map.contains(&0) {
        } else if width / height > map[1] as f64 / map[0] as f64 {
            let rows = truncated(height * (map[1] as f64 / width)).min(map[0]);
            first[0] = (map[0] - rows) / 2;
            kept[0] = map[0] - 2 * first[0];
        } else {
            let columns = truncated(width * (map[0] as f64 / height)).min(map[1]);
            first[1] = (map[1] - columns) / 2;
            kept[1] = map[1] - 2 * first[1];
        }
        let shrunk = match most_tiles {
            Some(most) => shrink(kept, most, tile[0]),
            None => kept,
        };
        Unpadding {
            tile,
            tiles,
            first,
            kept,
            shrunk,
        }
    }

    /// Rows of the map, and one after each line; a picture of one view ends with one.
    pub fn tokens(&self) -> usize {
        match self.tiles {
            [0, 0] => 1,
            _ => self.shrunk[0] * (self.shrunk[1] + 1),
        }
    }

    /// The map of the tiles' rows, which stand tile by tile, line by line with `newline` after each.
    fn rows(&self, tiles: &[f32], newline: &[f32]) -> Vec<f32> {
        let d = newline.len();
        if self.tiles == [0, 0] {
            return newline.to_vec();
        }
        let [rows, columns] = self.tile;
        let at = |row: usize, column: usize| {
            let (row, column) = (row + self.first[0], column + self.first[1]);
            let tile = row / rows * self.tiles[1] + column / columns;
            let inside = row % rows * columns + column % columns;
            &tiles[(tile * rows * columns + inside) * d..][..d]
        };
        let mut out = Vec::with_capacity(self.tokens() * d);
        for row in 0..self.shrunk[0] {
            for column in 0..self.shrunk[1] {
                match self.shrunk == self.kept {
                    true => out.extend_from_slice(at(row, column)),
                    false => {
                        let [rows, columns] = [(0, row), (1, column)].map(|(side, place)| {
                            between(place, self.kept[side], self.shrunk[side])
                        });
                        blend(&mut out, [rows, columns], at);
                    }
                }
            }
            out.extend_from_slice(newline);
        }
        out
    }
}

/// LLaVA-OneVision: lines and columns as if the map had the area of so many tiles, when it has over 1.1 times their sides.
fn shrink([rows, columns]: [usize; 2], most_tiles: usize, side: usize) -> [usize; 2] {
    let area = (most_tiles * side * side) as f64;
    let ratio = ((rows * columns) as f64 / area).sqrt();
    match ratio > 1.1 {
        true => [
            (rows as f64 / ratio) as usize,
            (columns as f64 / ratio) as usize,
        ]
        .map(|n| n.max(1)),
        false => [rows, columns],
    }
}

/// Python's `round(x, 7)` for positive x as far as truncation sees it.
fn round_to_seven(x: f64) -> f64 {
    (x * 1e7).round_ties_even() / 1e7
}

/// The two places that one place of a shrunk line lies between, and how much of the second (bilinear, `align_corners=False`).
fn between(place: usize, from: usize, to: usize) -> (usize, usize, f32) {
    let scale = from as f32 / to as f32;
    let at = (scale * (place as f32 + 0.5) - 0.5).max(0.0);
    let first = (at as usize).min(from - 1);
    (first, (first + 1).min(from - 1), at - first as f32)
}

/// Appends what lies between four rows.
fn blend<'a>(
    out: &mut Vec<f32>,
    [(top, bottom, down), (left, right, across)]: [(usize, usize, f32); 2],
    at: impl Fn(usize, usize) -> &'a [f32],
) {
    let corners = [
        at(top, left),
        at(top, right),
        at(bottom, left),
        at(bottom, right),
    ];
    out.extend((0..corners[0].len()).map(|i| {
        let above = corners[0][i] * (1.0 - across) + corners[1][i] * across;
        let below = corners[2][i] * (1.0 - across) + corners[3][i] * across;
        above * (1.0 - down) + below * down
    }));
}

impl ModelSpec {
    /// Whether the rows of a picture are known only when those of all its views are.
    pub fn assembles_whole_pictures(&self) -> bool {
        self.assembly != Assembly::Views
    }

    /// The rows of a picture, `features` being those of its views one after the other.
    pub(crate) fn assemble(&self, views: &Views, features: Vec<f32>, newline: &[f32]) -> Vec<f32> {
        match self.assembly {
            // Scales are put together before the projector: the encoder does that.
            Assembly::Views | Assembly::Scales => features,
            Assembly::Unpadded { most_tiles } => {
                let tile = views
                    .list
                    .first()
                    .map_or([0; 2], |view| self.view_grid(view));
                let plan = Unpadding::plan(tile, most_tiles, views);
                let whole = tile[0] * tile[1] * newline.len();
                let mut rows = features[..whole].to_vec();
                rows.extend(plan.rows(&features[whole..], newline));
                rows
            }
        }
    }
}
