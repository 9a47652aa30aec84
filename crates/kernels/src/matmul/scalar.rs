//! The twin that is visibly right.

use super::{PANEL, Work, Write};

pub(super) fn matmul(work: &Work, c: &mut [f32]) {
    for (at, panel) in work.panels.clone().enumerate() {
        let columns = PANEL.min(work.b.n - panel * PANEL);
        for row in 0..work.m {
            for column in 0..columns {
                let place = row * work.c_stride + at * PANEL + column;
                let mut sum = if work.write == Write::Add {
                    c[place]
                } else {
                    0.0
                };
                for k in 0..work.depth {
                    let a = work.a.at(row, k);
                    sum = a.mul_add(work.b.at(k, panel * PANEL + column), sum);
                }
                c[place] = sum;
            }
        }
    }
}
