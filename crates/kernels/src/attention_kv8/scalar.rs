//! The visibly right one.

use super::{BLOCK, LINE, PANEL, Part, Scratch};

/// Exact sums of queries times the keys of a block.
pub(super) fn score(part: &Part, scratch: &mut Scratch) {
    let fours = part.memory.fours();
    let keys = part.memory.block_keys(part.block);
    for row in 0..part.rows {
        for key in 0..part.keys {
            let panel = &keys[key / PANEL * fours * LINE..][..fours * LINE];
            let mut sum = 0i64;
            for four in 0..fours {
                for i in 0..4 {
                    let key = i64::from(panel[four * LINE + key % PANEL * 4 + i]) - 128;
                    let byte = |plane: usize| {
                        let at = (plane * fours + four) * part.rows + row;
                        i64::from(scratch.queries[at][i] as i8)
                    };
                    sum += key * (0..part.planes).fold(0, |high, plane| high * 256 + byte(plane));
                }
            }
            scratch.scores[row][key] = sum as i32;
        }
    }
}

/// Adds a block's weighted values to the results.
pub(super) fn mix(part: &Part, scratch: &mut Scratch) {
    let values = part.memory.block_values(part.block);
    let width = part.memory.panels() * PANEL;
    for row in 0..part.rows {
        let (fade, step) = (scratch.progress.fades[row], scratch.progress.steps[row]);
        for column in 0..width {
            let panel = &values[column / PANEL * (BLOCK / 4) * LINE..];
            let mut sum = 0i64;
            for key in 0..part.keys {
                let byte = |plane: usize| i64::from(scratch.weights[plane][row][key]);
                let weight = (0..part.planes).fold(0, |high, plane| high * 256 + byte(plane));
                let value = panel[key / 4 * LINE + column % PANEL * 4 + key % 4];
                sum += weight * i64::from(value);
            }
            let result = &mut scratch.results[row * width + column];
            *result = (sum as i32 as f32).mul_add(step, *result * fade);
        }
    }
}
