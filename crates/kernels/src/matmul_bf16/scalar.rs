//! The visibly right one: what `vdpbf16ps` computes, number by number.

use super::Work;
use crate::matmul::Write;

pub(super) fn matmul(work: &Work, c: &mut [f32]) {
    for row in 0..work.m {
        for column in 0..work.b.n {
            let place = &mut c[row * work.c_stride + column];
            let mut sum = if work.write == Write::Add {
                *place
            } else {
                0.0
            };
            for pair in 0..work.b.pairs() {
                let a = work.a.data[row * work.a.row_stride + pair * work.a.pair_stride];
                let b = work.b.at(pair, column);
                sum = add_product(high(a), high(b), sum);
                sum = add_product(low(a), low(b), sum);
            }
            *place = sum;
        }
    }
}

fn low(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

fn high(pair: u32) -> f32 {
    f32::from_bits(pair & 0xffff_0000)
}

fn add_product(a: f32, b: f32, sum: f32) -> f32 {
    flush(flush(a).mul_add(flush(b), flush(sum)))
}

/// The instruction takes subnormal numbers as zero and gives none.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() {
        0.0f32.copysign(x)
    } else {
        x
    }
}
