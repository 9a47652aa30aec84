//! Features of three scales of a picture side by side (NVILA's S2): the maps of the smaller scales, spread over the largest.

/// Features `[tiles, side * side, d]` of one tile, of four, and of `grid` (rows and columns) tiles, as `[grid tiles, side * side, 3 d]`.
/// One tile alone stands for all three scales.
pub(super) fn side_by_side(features: &[f32], side: usize, d: usize, grid: [usize; 2]) -> Vec<f32> {
    let tile = side * side * d;
    let (scales, grid) = match features.len() == tile {
        true => ([Map::new(features, side, d, [1, 1]); 3], [1, 1]),
        false => {
            let (first, rest) = features.split_at(tile);
            let (second, third) = rest.split_at(4 * tile);
            let maps = [(first, [1, 1]), (second, [2, 2]), (third, grid)];
            (
                maps.map(|(features, tiles)| Map::new(features, side, d, tiles)),
                grid,
            )
        }
    };
    let size = grid.map(|tiles| tiles * side);
    let mut out = Vec::with_capacity(grid[0] * grid[1] * 3 * tile);
    for at in 0..grid[0] * grid[1] * side * side {
        let (tile, inside) = (at / (side * side), at % (side * side));
        let row = tile / grid[1] * side + inside / side;
        let column = tile % grid[1] * side + inside % side;
        for map in &scales {
            map.mean(row, column, size, &mut out);
        }
    }
    out
}

/// Tiles of features as one map.
#[derive(Clone, Copy)]
struct Map<'a> {
    features: &'a [f32],
    side: usize,
    d: usize,
    /// Rows and columns of tiles.
    tiles: [usize; 2],
}

impl<'a> Map<'a> {
    fn new(features: &'a [f32], side: usize, d: usize, tiles: [usize; 2]) -> Map<'a> {
        Map {
            features,
            side,
            d,
            tiles,
        }
    }

    fn at(&self, row: usize, column: usize) -> &[f32] {
        let tile = row / self.side * self.tiles[1] + column / self.side;
        let inside = row % self.side * self.side + column % self.side;
        &self.features[(tile * self.side * self.side + inside) * self.d..][..self.d]
    }

    /// Appends the mean of what lies under one place of a map of another size (adaptive average pooling).
    fn mean(&self, row: usize, column: usize, size: [usize; 2], out: &mut Vec<f32>) {
        let under = |place: usize, to: usize, from: usize| {
            place * from / to..((place + 1) * from).div_ceil(to)
        };
        let rows = under(row, size[0], self.tiles[0] * self.side);
        let columns = under(column, size[1], self.tiles[1] * self.side);
        let first = out.len();
        out.resize(first + self.d, 0.0);
        let count = (rows.len() * columns.len()) as f32;
        for row in rows {
            for column in columns.clone() {
                let sums = out[first..].iter_mut();
                sums.zip(self.at(row, column))
                    .for_each(|(sum, value)| *sum += value);
            }
        }
        out[first..].iter_mut().for_each(|sum| *sum /= count);
    }
}

/// Rows `[tiles, side * side, d]` as one map, row after row of all tiles.
pub(super) fn across_tiles(rows: &[f32], side: usize, d: usize, tiles: [usize; 2]) -> Vec<f32> {
    let map = Map::new(rows, side, d, tiles);
    let places =
        (0..tiles[0] * side).flat_map(|row| (0..tiles[1] * side).map(move |column| (row, column)));
    places
        .flat_map(|(row, column)| map.at(row, column).iter().copied())
        .collect()
}
