//! Where the patches of a tile stand: rotary angles by row and column, and windows.

use crate::rotary::Angles;
use crate::spec::{PatchRotary, VisionSpec};
use std::ops::Range;

/// Base of the rotary frequencies of all encoders that have them.
const BASE: f64 = 10000.0;

/// The places of a tile's rows, which its blocks share.
pub(super) struct Places {
    /// Which patch stands where, so that the patches of a window stand side by side; none for row after row.
    order: Option<Vec<usize>>,
    windows: Vec<Range<usize>>,
    /// One stretch of all rows.
    whole: Range<usize>,
    pub angles: Option<Angles>,
}

impl Places {
    /// For a tile of so many rows and columns of patches; `count` has the class token.
    pub fn new(spec: &VisionSpec, grid: [usize; 2], count: usize) -> Places {
        let mut places = Places {
            order: None,
            windows: Vec::new(),
            whole: 0..count,
            angles: None,
        };
        if let Some(windows) = &spec.windows {
            let mut order = Vec::with_capacity(count);
            for top in (0..grid[0]).step_by(windows.side) {
                for left in (0..grid[1]).step_by(windows.side) {
                    let first = order.len();
                    for row in top..(top + windows.side).min(grid[0]) {
                        let columns = left..(left + windows.side).min(grid[1]);
                        order.extend(columns.map(|column| row * grid[1] + column));
                    }
                    places.windows.push(first..order.len());
                }
            }
            places.order = Some(order);
        }
        places.angles = spec.rotary.map(|rotary| places.angles(spec, rotary, grid));
        places
    }

    fn angles(&self, spec: &VisionSpec, rotary: PatchRotary, grid: [usize; 2]) -> Angles {
        // Half of a head's angles for the row, half for the column.
        let quarter = spec.hidden / spec.heads / 4;
        let frequency = |i: usize| BASE.powf(-(i as f64) / quarter as f64) as f32;
        let frequencies: Vec<f32> = (0..quarter).map(frequency).collect();
        let angle = |place: usize| {
            let patch = self.order.as_ref().map_or(place, |order| order[place]);
            let at = [patch / grid[1], patch % grid[1]].map(|at| at as f32);
            let both = at.map(|at| frequencies.iter().map(move |frequency| at * frequency));
            let [rows, columns] = both;
            match rotary {
                PatchRotary::RowThenColumn => rows.chain(columns).collect::<Vec<f32>>(),
                PatchRotary::ColumnAndRowByPairs => columns
                    .zip(rows)
                    .flat_map(|(column, row)| [column, row])
                    .collect(),
            }
        };
        let all: Vec<f32> = (0..grid[0] * grid[1]).flat_map(angle).collect();
        Angles {
            cos: all.iter().map(|a| f64::from(*a).cos() as f32).collect(),
            sin: all.iter().map(|a| f64::from(*a).sin() as f32).collect(),
        }
    }

    /// The stretches of rows that see each other in a layer.
    pub fn stretches(&self, spec: &VisionSpec, layer: usize) -> &[Range<usize>] {
        match &spec.windows {
            Some(windows) if !windows.full_layers.contains(&layer) => &self.windows,
            _ => std::slice::from_ref(&self.whole),
        }
    }

    /// Whether rows stand as they come, see all others and are not turned.
    pub fn is_plain(&self) -> bool {
        self.order.is_none() && self.angles.is_none()
    }

    /// Rows of `d` numbers of all tiles, as the blocks want them.
    pub fn arrange(&self, rows: Vec<f32>, d: usize) -> Vec<f32> {
        let Some(order) = &self.order else {
            return rows;
        };
        let tiles = rows.chunks_exact(order.len() * d);
        let tile = |tile: &[f32]| -> Vec<f32> {
            let row = |at: &usize| tile[at * d..][..d].iter().copied();
            order.iter().flat_map(row).collect()
        };
        tiles.flat_map(tile).collect()
    }

    /// The same rows as they came.
    pub fn restore(&self, rows: Vec<f32>, d: usize) -> Vec<f32> {
        let Some(order) = &self.order else {
            return rows;
        };
        let mut restored = vec![0.0; rows.len()];
        let tiles = rows.chunks_exact(order.len() * d);
        for (from, to) in tiles.zip(restored.chunks_exact_mut(order.len() * d)) {
            for (row, at) in from.chunks_exact(d).zip(order) {
                to[at * d..][..d].copy_from_slice(row);
            }
        }
        restored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::PatchWindows;

    #[test]
    fn windows_begin_at_the_corner_and_end_with_the_grid() {
        let spec = VisionSpec {
            windows: Some(PatchWindows {
                side: 2,
                full_layers: vec![1],
            }),
            ..VisionSpec::siglip()
        };
        let places = Places::new(&spec, [3, 3], 9);
        assert_eq!(places.stretches(&spec, 0), [0..4, 4..6, 6..8, 8..9]);
        assert_eq!(places.stretches(&spec, 1), Vec::from_iter(Some(0..9)));
        let rows: Vec<f32> = (0..18).map(|n| n as f32).collect();
        let arranged = places.arrange(rows.clone(), 1);
        assert_eq!(arranged[..9], [0.0, 1.0, 3.0, 4.0, 2.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(places.restore(arranged, 1), rows);
    }
}
