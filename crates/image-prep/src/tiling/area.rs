//! The two rules that compare areas: LLaVA-NeXT's and the relaxed one.

use super::Grid;

/// A candidate that became the best so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The candidate.
    pub grid: Grid,
    /// Its effective area in pixels.
    pub effective_pixels: u128,
    /// The rest of its canvas in pixels.
    pub wasted_pixels: u128,
}

/// Areas of one candidate. Sizes are at least 1.
fn measure((width, height): (u32, u32), tile: u32, grid: Grid) -> Step {
    let canvas_width = u64::from(grid.columns) * u64::from(tile);
    let canvas_height = u64::from(grid.rows) * u64::from(tile);
    let (w, h) = (f64::from(width), f64::from(height));
    let scale = (canvas_width as f64 / w).min(canvas_height as f64 / h);
    let fitted = u128::from((w * scale) as u64) * u128::from((h * scale) as u64);
    let canvas = u128::from(canvas_width) * u128::from(canvas_height);
    let effective = fitted.min(u128::from(width) * u128::from(height));
    Step {
        grid,
        effective_pixels: effective,
        wasted_pixels: canvas.saturating_sub(effective),
    }
}

/// LLaVA-NeXT: candidates in ascending order, replaced by a larger effective area or by the same with less waste.
pub(super) fn largest(size: (u32, u32), tile: u32, max_grid: Grid) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for columns in 1..=max_grid.columns {
        for rows in 1..=max_grid.rows {
            let step = measure(size, tile, Grid { columns, rows });
            let better = steps.last().is_none_or(|best| {
                step.effective_pixels > best.effective_pixels
                    || (step.effective_pixels == best.effective_pixels
                        && step.wasted_pixels < best.wasted_pixels)
            });
            if better {
                steps.push(step);
            }
        }
    }
    steps
}

/// BlueLM-V-3B: candidates in descending order, columns outside. The tolerance is against the current best, which a tighter
/// candidate may have lowered; with nothing accepted yet the best is an area of 0 that wastes infinitely much.
pub(super) fn relaxed(size: (u32, u32), tile: u32, max_grid: Grid, slack: f64) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for columns in (1..=max_grid.columns).rev() {
        for rows in (1..=max_grid.rows).rev() {
            let step = measure(size, tile, Grid { columns, rows });
            let (best, wasted) = match steps.last() {
                Some(best) => (best.effective_pixels as f64, best.wasted_pixels),
                None => (0.0, u128::MAX),
            };
            // Exact: areas of pictures are far below 2^53.
            let gain = step.effective_pixels as f64 - best;
            let clearly_better = gain > slack * best;
            let close_and_tighter = -gain < slack * best && step.wasted_pixels < wasted;
            if clearly_better || close_and_tighter {
                steps.push(step);
            }
        }
    }
    steps
}
