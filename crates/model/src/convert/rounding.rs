//! From numbers to whole numbers and scales.

use super::factors::Factors;
use kernels::matmul_quantized::Bits;
use std::borrow::Cow;

/// How INT4 weights are rounded. INT8 weights are always rounded to the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The largest weight of a group becomes -8, the others the nearest.
    Nearest,
    /// The scale with the least squared error of several.
    Search,
    /// As `Search`, and each rounding error is made up for by the weights of the same output that are still to be rounded,
    /// so that the output changes least on rows that the model meets: GPTQ (<https://arxiv.org/abs/2210.17323>). What rows lost
    /// in blocks before is made up for too, and whole numbers and scales are made better in turns afterwards.
    Compensated,
}

/// What rounding knows about the rows that a matrix takes in.
pub(super) enum Knowledge<'a> {
    /// Nothing: the nearest number, with the scale that the largest weight asks for.
    None,
    /// Nothing, but time to search.
    Scales,
    /// How its inputs go together.
    Inputs(&'a Factors),
}

/// Rows of `k` weights to whole numbers of the same shape and to bf16 scales `[rows, groups]`.
pub(super) fn quantize(
    bits: Bits,
    knowledge: &Knowledge,
    rows: &[f32],
    k: usize,
    group: usize,
) -> (Vec<i8>, Vec<u16>) {
    let shifted = match knowledge {
        Knowledge::Inputs(factors) => factors.shifted(rows),
        _ => Cow::Borrowed(rows),
    };
    let rows = &shifted[..];
    let mut scales = Vec::with_capacity(rows.len() / k * k.div_ceil(group));
    for row in rows.chunks_exact(k) {
        for (at, weights) in row.chunks(group).enumerate() {
            scales.push(match (bits, knowledge) {
                (Bits::Eight, _) => Scale::near(largest(weights) / 127.0),
                (Bits::Four, Knowledge::None) => Scale::near(whole_range(weights)),
                (Bits::Four, Knowledge::Scales) => search(weights, None),
                (Bits::Four, Knowledge::Inputs(factors)) => {
                    let importance = &factors.importance[at * group..][..weights.len()];
                    search(weights, Some(importance))
                }
            });
        }
    }
    let values = match knowledge {
        Knowledge::Inputs(factors) => {
            let mut values = factors.round(bits, rows, &scales, k, group);
            factors.refine(bits, rows, &mut values, &mut scales, group);
            values
        }
        _ => nearest(bits, rows, &scales, k, group),
    };
    (values, scales.iter().map(|scale| scale.bits).collect())
}

fn nearest(bits: Bits, rows: &[f32], scales: &[Scale], k: usize, group: usize) -> Vec<i8> {
    let scales = scales.chunks_exact(k.div_ceil(group));
    let mut values = Vec::with_capacity(rows.len());
    for (row, scales) in rows.chunks_exact(k).zip(scales) {
        for (weights, scale) in row.chunks(group).zip(scales) {
            values.extend(weights.iter().map(|weight| scale.round(bits, *weight)));
        }
    }
    values
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
    pub(super) fn near(scale: f32) -> Scale {
        let rounded = half::bf16::from_f32(scale);
        let number = rounded.to_f32();
        let factor = 1.0 / number;
        Scale {
            bits: rounded.to_bits(),
            number,
            factor: if factor.is_finite() { factor } else { 0.0 },
        }
    }

    pub(super) fn round(self, bits: Bits, weight: f32) -> i8 {
        let (low, high) = match bits {
            Bits::Four => (-8.0, 7.0),
            Bits::Eight => (-128.0, 127.0),
        };
        // The cast of a number in bounds is exact.
        (weight * self.factor).round_ties_even().clamp(low, high) as i8
    }

    pub(super) fn number(self) -> f32 {
        self.number
    }

    fn squared_error(self, weights: &[f32], importance: Option<&[f32]>) -> f32 {
        let error = |weight: f32| f32::from(self.round(Bits::Four, weight)) * self.number - weight;
        match importance {
            None => weights.iter().map(|weight| error(*weight).powi(2)).sum(),
            Some(importance) => weights
                .iter()
                .zip(importance)
                .map(|(weight, importance)| importance * error(*weight).powi(2))
                .sum(),
        }
    }
}

fn largest(weights: &[f32]) -> f32 {
    weights
        .iter()
        .fold(0.0, |most, weight| most.max(weight.abs()))
}

/// The INT4 scale that makes -8 of the outermost weight: there is one whole number more below zero than above, and a scale may
/// be negative.
fn whole_range(weights: &[f32]) -> f32 {
    let further = |most: f32, weight: &f32| {
        if weight.abs() > most.abs() {
            *weight
        } else {
            most
        }
    };
    weights.iter().fold(0.0, further) / -8.0
}

/// Scales that are tried between the whole range and less than two thirds of it.
const TRIED: usize = 14;

/// The scale with the least squared error, every weight's counted by its importance.
fn search(weights: &[f32], importance: Option<&[f32]>) -> Scale {
    let whole = whole_range(weights);
    let mut best = Scale::near(whole);
    let mut least = best.squared_error(weights, importance);
    for step in 0..TRIED {
        let part = 1.0 - step as f32 * 0.4 / TRIED as f32;
        // The same range with the outermost weight at 7.
        for scale in [whole * part, whole * part * (-8.0 / 7.0)] {
            let scale = Scale::near(scale);
            let error = scale.squared_error(weights, importance);
            if error < least {
                (best, least) = (scale, error);
            }
        }
    }
    best
}
