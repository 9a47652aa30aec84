//! From numbers to whole numbers and scales.

use kernels::matmul_quantized::Bits;

/// How INT4 weights are rounded. INT8 weights are always rounded to the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The largest weight of a group becomes -8, the others the nearest.
    Nearest,
    /// The scale with the least squared error of several.
    Search,
}

/// Rows of `k` weights to whole numbers of the same shape and to bf16 scales `[rows, groups]`.
pub(super) fn quantize(
    bits: Bits,
    rounding: Rounding,
    rows: &[f32],
    k: usize,
    group: usize,
) -> (Vec<i8>, Vec<u16>) {
    let mut values = vec![0; rows.len()];
    let mut scales = Vec::with_capacity(rows.len() / k * k.div_ceil(group));
    for (row, values) in rows.chunks_exact(k).zip(values.chunks_exact_mut(k)) {
        for (row, values) in row.chunks(group).zip(values.chunks_mut(group)) {
            let scale = match bits {
                Bits::Eight => Scale::near(largest(row) / 127.0),
                Bits::Four => scale_of_four_bits(rounding, row),
            };
            for (value, weight) in values.iter_mut().zip(row) {
                *value = scale.round(bits, *weight);
            }
            scales.push(scale.bits);
        }
    }
    (values, scales)
}

/// A scale as bf16, which is how it is kept.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    bits: u16,
    number: f32,
    /// 0 for a scale of 0, so that all becomes 0.
    factor: f32,
}

impl Scale {
    fn near(scale: f32) -> Scale {
        let rounded = half::bf16::from_f32(scale);
        let number = rounded.to_f32();
        let factor = 1.0 / number;
        Scale {
            bits: rounded.to_bits(),
            number,
            factor: if factor.is_finite() { factor } else { 0.0 },
        }
    }

    fn round(self, bits: Bits, weight: f32) -> i8 {
        let (low, high) = match bits {
            Bits::Four => (-8.0, 7.0),
            Bits::Eight => (-128.0, 127.0),
        };
        // The cast of a number in bounds is exact.
        (weight * self.factor).round_ties_even().clamp(low, high) as i8
    }

    fn squared_error(self, weights: &[f32]) -> f32 {
        weights
            .iter()
            .map(|weight| {
                let error = f32::from(self.round(Bits::Four, *weight)) * self.number - weight;
                error * error
            })
            .sum()
    }
}

fn largest(weights: &[f32]) -> f32 {
    weights
        .iter()
        .fold(0.0, |most, weight| most.max(weight.abs()))
}

/// Steps that are tried between the whole range and two thirds of it.
const TRIED: usize = 12;

fn scale_of_four_bits(rounding: Rounding, weights: &[f32]) -> Scale {
    let outermost = weights.iter().fold(0.0f32, |most, weight| {
        if weight.abs() > most.abs() {
            *weight
        } else {
            most
        }
    });
    // There is one whole number more below zero than above, and a scale may be negative.
    let whole = outermost / -8.0;
    if rounding == Rounding::Nearest || outermost == 0.0 {
        return Scale::near(whole);
    }
    let candidates = (0..TRIED).flat_map(|step| {
        let part = 1.0 - step as f32 / (3.0 * TRIED as f32);
        [whole * part, -whole * part * (8.0 / 7.0)]
    });
    let mut best = Scale::near(whole);
    let mut least = best.squared_error(weights);
    for scale in candidates.map(Scale::near) {
        let error = scale.squared_error(weights);
        if error < least {
            (best, least) = (scale, error);
        }
    }
    best
}
