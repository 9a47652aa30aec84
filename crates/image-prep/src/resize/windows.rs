//! Which input samples make one output sample, and with what weights.

use super::Filter;
use std::ops::Range;

/// Fractional bits of a weight: 32 less 8 for a sample less 2 for weights that sum to more than one before they cancel.
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Low bits of a weight that stand apart, so that both parts fit into 16 bits: weight = high * 2^15 + low.
pub(super) const LOW_BITS: u32 = 15;

/// Two neighbouring weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WeightPair {
    /// The low 15 bits of both.
    pub low: [i16; 2],
    /// The bits above, with the sign.
    pub high: [i16; 2],
}

/// The input samples of one output sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Index of the first pair of input samples.
    pub first_pair: usize,
    /// Weights from there on; samples of a pair that are outside of the window weigh 0.
    pub weights: Vec<WeightPair>,
}

/// The windows of some of the `output` samples over `input` samples. In f64, operation by operation as Pillow does it.
pub(super) fn windows(input: u32, output: u32, wanted: Range<u32>, filter: Filter) -> Vec<Window> {
    let scale = f64::from(input) / f64::from(output);
    let filter_scale = scale.max(1.0);
    let support = support(filter) * filter_scale;
    let inverse = 1.0 / filter_scale;
    let mut raw: Vec<f64> = Vec::new();
    wanted
        .map(|index| {
            let center = (f64::from(index) + 0.5) * scale;
            // Truncated, as a C cast does, and then clipped.
            let start = ((center - support + 0.5) as i64).max(0);
            let end = ((center + support + 0.5) as i64).min(i64::from(input));
            raw.clear();
            raw.extend((0..end - start).map(|at| {
                let distance = (at + start) as f64 - center + 0.5;
                weight(filter, distance * inverse)
            }));
            let sum: f64 = raw.iter().sum();
            let fixed = raw.iter().map(|&weight| {
                let share = if sum != 0.0 { weight / sum } else { weight };
                fixed_point(share)
            });
            Window::new(start as usize, fixed)
        })
        .collect()
}

impl Window {
    /// A window that begins at an input sample.
    fn new(start: usize, weights: impl Iterator<Item = i32>) -> Window {
        // Pairs begin at even samples; a window that does not gets a weight of 0 in front.
        let mut weights: Vec<i32> = std::iter::repeat_n(0, start % 2).chain(weights).collect();
        if weights.len() % 2 == 1 {
            weights.push(0);
        }
        let low = |weight: i32| (weight & ((1 << LOW_BITS) - 1)) as i16;
        let high = |weight: i32| (weight >> LOW_BITS) as i16;
        let pairs = weights.as_chunks::<2>().0.iter().map(|&[a, b]| WeightPair {
            low: [low(a), low(b)],
            high: [high(a), high(b)],
        });
        Window {
            first_pair: start / 2,
            weights: pairs.collect(),
        }
    }
}

/// Rounded half away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (if weight < 0.0 {
        scaled - 0.5
    } else {
        scaled + 0.5
    }) as i32
}

/// Half the width of the kernel in output samples.
fn support(filter: Filter) -> f64 {
    match filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos3 => 3.0,
    }
}

fn weight(filter: Filter, x: f64) -> f64 {
    match filter {
        Filter::Bilinear => (1.0 - x.abs()).max(0.0),
        Filter::Bicubic => cubic(x.abs()),
        Filter::Lanczos3 if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
        Filter::Lanczos3 => 0.0,
    }
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}
