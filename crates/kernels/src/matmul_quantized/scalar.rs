//! The visibly right one: weights as numbers, sums in i64.

use super::pack::weight_at;
use super::{PANEL, Work};
use crate::matmul::{Write, from_bf16};

pub(super) fn matmul(work: &Work, c: &mut [f32]) {
    let (weights, rows) = (&work.weights, work.rows);
    let first = work.panels.start * PANEL;
    for row in 0..rows.len() {
        for column in 0..work.columns() {
            let output = first + column;
            let place = &mut c[row * work.c_stride + column];
            let mut c = match work.write {
                Write::Replace => 0.0,
                Write::Add => *place,
            };
            for block in 0..rows.blocks() {
                let inputs = block * rows.block()..(block + 1) * rows.block();
                let group = inputs.start / weights.group;
                let sum: i64 = inputs
                    .map(|k| i64::from(weight_at(weights, output, k)) * activation(work, row, k))
                    .sum();
                let at = output / PANEL * weights.panel_scales() + group * PANEL + output % PANEL;
                let scale = rows.row_scales(row)[block] * from_bf16(weights.scales[at]);
                c = (sum as i32 as f32).mul_add(scale, c);
            }
            *place = c;
        }
    }
}

fn activation(work: &Work, row: usize, k: usize) -> i64 {
    let planes = work.rows.precision().planes();
    (0..planes).fold(0, |sum, plane| {
        sum * 256 + i64::from(work.rows.row(plane, row)[k])
    })
}
