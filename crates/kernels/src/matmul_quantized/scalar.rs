//! The visibly right one: weights as numbers, sums in i64.

use super::{Columns, PANEL, Work};

pub(super) fn matmul(work: &Work, c: &mut Columns) {
    let (weights, rows) = (&work.weights, work.rows);
    let first = work.panels.start * PANEL;
    for row in 0..rows.len() {
        for column in 0..work.columns() {
            let output = first + column;
            let place = &mut c.row_mut(row)[column];
            let mut c = [0.0];
            work.start.fill(column, &[*place], &mut c);
            let [mut c] = c;
            for block in 0..rows.blocks().len() {
                let inputs = rows.blocks().inputs_of(block);
                let group = inputs.start / weights.group;
                let sum: i64 = inputs
                    .map(|k| {
                        i64::from(weights.whole_at(output, k)) * i64::from(rows.whole_at(row, k))
                    })
                    .sum();
                let at = output / PANEL * weights.panel_scales() + group * PANEL + output % PANEL;
                let of_weights = weights.scale_format.number(weights.scales[at]);
                let scale = rows.scale_at(row, block) * of_weights;
                c = (sum as i32 as f32).mul_add(scale, c);
            }
            *place = c;
        }
    }
}
