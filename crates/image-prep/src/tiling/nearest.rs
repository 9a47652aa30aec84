//! InternVL 1.5's rule: the nearest aspect ratio, whatever the size.

use super::Grid;

/// The grid of `min_tiles..=max_tiles` tiles whose columns / rows is nearest to width / height. Candidates come by number of
/// tiles ascending, and by columns ascending where that is equal. Sizes are at least 1.
pub(super) fn nearest(
    (width, height): (u32, u32),
    tile: u32,
    min_tiles: u32,
    max_tiles: u32,
) -> Grid {
    let wanted = f64::from(width) / f64::from(height);
    let twice_area = 2 * u128::from(width) * u128::from(height);
    let tile_area = u128::from(tile) * u128::from(tile);
    let (mut best, mut smallest) = (Grid::SINGLE, f64::INFINITY);
    for tiles in min_tiles.max(1)..=max_tiles {
        for columns in (1..=tiles).filter(|columns| tiles % columns == 0) {
            let rows = tiles / columns;
            let difference = (wanted - f64::from(columns) / f64::from(rows)).abs();
            let fills_half = twice_area > tile_area * u128::from(tiles);
            if difference < smallest || (difference == smallest && fills_half) {
                (best, smallest) = (Grid { columns, rows }, difference);
            }
        }
    }
    best
}
