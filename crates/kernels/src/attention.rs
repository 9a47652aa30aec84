//! Attention of one query row and one head over cached keys and values, in f32.
//!
//! A query's result is a function of its own keys and values only: rows that come together in a chunk do not touch each
//! other's sums, so any chunking of a prompt gives the same bits.

use crate::isa::{Isa, per_isa};
use crate::matmul::View;
use crate::rows::softmax;

const LANES: usize = 16;

/// `out = softmax(scale · q·keys[0..t]ᵀ) · values[0..t]`.
///
/// `q` and `out` hold head_dim numbers; keys and values are views of `t` rows of head_dim columns, `column_stride` 1;
/// `scratch` is memory that calls may share.
#[allow(clippy::too_many_arguments)]
pub fn attend_row(
    isa: Isa,
    q: &[f32],
    keys: View,
    values: View,
    t: usize,
    scale: f32,
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    assert!(
        keys.column_stride == 1 && values.column_stride == 1 && q.len() == out.len(),
        "attention over turned keys"
    );
    scratch.clear();
    scratch.resize(t, 0.0);
    score(isa, q, keys, scale, scratch);
    softmax(isa, scratch);
    mix(isa, scratch, values, out);
}

per_isa! { score(q: &[f32], keys: View, scale: f32, scores: &mut [f32]) => score_body }
per_isa! { mix(weights: &[f32], values: View, out: &mut [f32]) => mix_body }

#[inline(always)]
fn score_body(q: &[f32], keys: View, scale: f32, scores: &mut [f32]) {
    for (at, score) in scores.iter_mut().enumerate() {
        let key = &keys.data[at * keys.row_stride..][..q.len()];
        let mut lanes = [0.0f32; LANES];
        let (q_chunks, q_rest) = q.as_chunks::<LANES>();
        let (k_chunks, k_rest) = key.as_chunks::<LANES>();
        for (q, k) in q_chunks.iter().zip(k_chunks) {
            for ((lane, q), k) in lanes.iter_mut().zip(q).zip(k) {
                *lane = q.mul_add(*k, *lane);
            }
        }
        for ((lane, q), k) in lanes.iter_mut().zip(q_rest).zip(k_rest) {
            *lane = q.mul_add(*k, *lane);
        }
        *score = crate::rows::tree(lanes) * scale;
    }
}

#[inline(always)]
fn mix_body(weights: &[f32], values: View, out: &mut [f32]) {
    out.fill(0.0);
    for (at, weight) in weights.iter().enumerate() {
        let row = &values.data[at * values.row_stride..][..out.len()];
        for (out, value) in out.iter_mut().zip(row) {
            *out = weight.mul_add(*value, *out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_weighs_values_by_the_softmax_of_scores() {
        let (q, keys, values) = (
            [1.0, 0.0],
            [2f32.ln(), 9.0, 0.0, 7.0, 99.0, 99.0],
            [3.0, 6.0, 0.0, 9.0, 1.0, 1.0],
        );
        let mut expected = Vec::new();
        for isa in Isa::available() {
            let (mut out, mut scratch) = ([0.0; 2], Vec::new());
            attend_row(
                isa,
                &q,
                View::rows(&keys, 2),
                View::rows(&values, 2),
                2,
                1.0,
                &mut scratch,
                &mut out,
            );
            // weights 2/3 and 1/3; the third row is past t
            assert!(
                (out[0] - 2.0).abs() < 1e-6 && (out[1] - 7.0).abs() < 1e-5,
                "{out:?}"
            );
            expected.push(out.map(f32::to_bits));
        }
        assert!(expected.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
