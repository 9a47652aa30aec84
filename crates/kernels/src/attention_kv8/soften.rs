//! From exact sums to weights: written once, compiled for every instruction set.

use super::{BLOCK, Part, Progress, Scratch, Visible, of_block};
use crate::isa::per_isa;
use crate::matmul_quantized::quantizing::{factor_and_scale, largest_magnitude, rounded};
use crate::rows::{LANES, ROUND, sum_of};
use std::ops::Range;

per_isa! {
    /// A block's scores to weights; row r sees `visible[r]` of the keys of all blocks.
    pub(super) soften(part: &Part<'_>, scratch: &mut Scratch, visible: &Visible) => soften_body
}

#[inline(always)]
fn soften_body(part: &Part<'_>, scratch: &mut Scratch, visible: &Visible) {
    let [key_scales, value_scales] = part.memory.block_scales(part.block);
    let [first, second] = &mut *scratch.weights;
    let progress = &mut scratch.progress;
    for row in 0..part.rows {
        let visible = of_block(&visible[row], part.block);
        let mut weights = weigh(&scratch.scores[row], row, key_scales, &visible, progress);
        for (weight, scale) in weights.iter_mut().zip(value_scales) {
            *weight *= scale;
        }
        hide(&mut weights, &visible, 0.0);
        let (factor, step) = factor_and_scale(largest_magnitude(&weights), part.weight_limit());
        progress.steps[row] = step;
        let places = first[row].iter_mut().zip(&mut second[row]);
        for ((first, second), weight) in places.zip(&weights) {
            let whole = rounded(weight * factor);
            (*first, *second) = match part.planes {
                1 => (whole as u8, 0),
                _ => ((whole >> 8) as u8, whole as u8),
            };
        }
    }
}

/// The weights of a block's keys against the highest score so far, which may rise.
#[inline(always)]
fn weigh(
    sums: &[i32; BLOCK],
    row: usize,
    key_scales: &[f32; BLOCK],
    visible: &Range<usize>,
    progress: &mut Progress,
) -> [f32; BLOCK] {
    let mut weights = [0.0; BLOCK];
    for ((weight, sum), scale) in weights.iter_mut().zip(sums).zip(key_scales) {
        *weight = *sum as f32 * scale;
    }
    hide(&mut weights, visible, f32::NEG_INFINITY);
    let (factor, old) = (progress.factors[row], progress.tops[row]);
    let top = highest(&weights, old);
    let shift = -(top * factor);
    for weight in &mut weights {
        *weight = power_of_two(weight.mul_add(factor, shift));
    }
    hide(&mut weights, visible, 0.0);
    let fade = power_of_two((old - top) * factor);
    progress.fades[row] = fade;
    progress.tops[row] = top;
    progress.sums[row] = progress.sums[row].mul_add(fade, sum_of(&weights, |v| v));
    weights
}

/// Puts a value where nothing is seen.
#[inline(always)]
fn hide(values: &mut [f32; BLOCK], visible: &Range<usize>, value: f32) {
    values[..visible.start].fill(value);
    values[visible.end..].fill(value);
}

/// The highest score, in 16 lanes and a tree.
#[inline(always)]
fn highest(scores: &[f32; BLOCK], least: f32) -> f32 {
    let mut lanes = [least; LANES];
    for chunk in scores.as_chunks::<LANES>().0 {
        for (high, value) in lanes.iter_mut().zip(chunk) {
            *high = if *value > *high { *value } else { *high };
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let other = lanes[lane + half];
            lanes[lane] = if other > lanes[lane] {
                other
            } else {
                lanes[lane]
            };
        }
        half /= 2;
    }
    lanes[0]
}

/// Of a polynomial for 2^r that interpolates (2^r - 1) / r at the four Chebyshev nodes of -1/2..1/2, highest power first: its relative
/// error is 7e-6, less than half a step of a 16-bit weight, and none at 0.
pub(super) const COEFFICIENTS: [f32; 5] =
    [9.656_711e-3, 5.583_828_3e-2, 0.240_225_3, 0.693_136_75, 1.0];

/// 2^x for x up to about 0, below -126 as for -126: x = n + r, and n goes into the exponent of 2^r.
#[inline(always)]
pub(super) fn power_of_two(x: f32) -> f32 {
    let x = if x < -126.0 { -126.0 } else { x };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let [first, rest @ ..] = COEFFICIENTS;
    let mut p = first;
    for c in rest {
        p = p.mul_add(r, c);
    }
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}
