//! Row operations: norms, softmax, activations, rotary positions; written once and compiled for every instruction set.
//!
//! Sums over a row run in 16 fixed lanes that are added as a tree, exponentials are a polynomial of fused
//! multiply-adds: the bits depend neither on the instruction set nor on how many rows come together.

use crate::isa::per_isa;

/// Lanes of the partial sums.
pub(crate) const LANES: usize = 16;

per_isa! {
    /// `(x - mean) / sqrt(variance + eps) * weight + bias` for every row of `width` numbers.
    pub layer_norm(x: &[f32], width: usize, weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) => layer_norm_body
}
per_isa! {
    /// `x / sqrt(mean(x²) + eps) * weight` for every row of `width` numbers.
    pub rms_norm(x: &[f32], width: usize, weight: &[f32], eps: f32, out: &mut [f32]) => rms_norm_body
}
per_isa! {
    /// Exponentials divided by their sum, over the whole slice; an empty one stays empty.
    pub softmax(row: &mut [f32]) => softmax_body
}
per_isa! {
    /// GELU with the tanh approximation (`gelu_pytorch_tanh`).
    pub gelu_tanh(x: &mut [f32]) => gelu_tanh_body
}
per_isa! {
    /// GELU with the error function, `x · Φ(x)`.
    pub gelu_erf(x: &mut [f32]) => gelu_erf_body
}
per_isa! {
    /// `gate = silu(gate) * up`.
    pub silu_multiply(gate: &mut [f32], up: &[f32]) => silu_multiply_body
}
per_isa! {
    /// `x += y`.
    pub add(x: &mut [f32], y: &[f32]) => add_body
}
per_isa! {
    /// Adds `bias` to every row.
    pub add_bias(x: &mut [f32], bias: &[f32]) => add_bias_body
}
per_isa! {
    /// e to the power of each number; below -87 the smallest normal number, above 88 e⁸⁸.
    pub exp(x: &mut [f32]) => exp_body
}
per_isa! {
    /// Rotary positions, half-split pairing (i with i + head_dim / 2), of every head in `x`; `cos` and `sin` hold head_dim / 2 numbers.
    pub rope_half(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) => rope_half_body
}

/// The sum in 16 lanes and a tree.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += term(*value);
    }
    tree(lanes)
}

/// Sixteen numbers added pairwise, halves first.
#[inline(always)]
pub(crate) fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn layer_norm_body(
    x: &[f32],
    width: usize,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    assert!(
        weight.len() == width && bias.len() == width && x.len() == out.len(),
        "layer_norm of rows of {width}"
    );
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mean = sum_of(x, |v| v) / width as f32;
        let variance = sum_of(x, |v| (v - mean) * (v - mean)) / width as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *out = ((x - mean) * scale).mul_add(*weight, *bias);
        }
    }
}

#[inline(always)]
fn rms_norm_body(x: &[f32], width: usize, weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(
        weight.len() == width && x.len() == out.len(),
        "rms_norm of rows of {width}"
    );
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let scale = 1.0 / (sum_of(x, |v| v * v) / width as f32 + eps).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}

#[inline(always)]
fn softmax_body(row: &mut [f32]) {
    let highest = largest(row);
    for value in row.iter_mut() {
        *value = exp_one(*value - highest);
    }
    let scale = 1.0 / sum_of(row, |v| v);
    for value in row.iter_mut() {
        *value *= scale;
    }
}

/// The largest number, in 16 lanes; what is not a number is passed over here and shows in a sum.
#[inline(always)]
pub(crate) fn largest(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (high, value) in lanes.iter_mut().zip(chunk) {
            *high = if *value > *high { *value } else { *high };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
}

/// Adding and taking away 1.5 · 2²³ rounds a magnitude below 2²² to a whole number, ties to the even one.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// e^x: x = n ln2 + r, the polynomial of Cephes' expf for e^r with |r| <= ln2 / 2 (error
/// 2e-8, a third of an ulp), then n into the exponent.
#[inline(always)]
pub(crate) fn exp_one(x: f32) -> f32 {
    // ln2 in two parts, so that n * LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_HIGH, x);
    let r = n.mul_add(-LN2_LOW, r);
    let mut p = 1.987_569_1e-4f32;
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        0.166_666_65,
        0.5,
    ] {
        p = p.mul_add(r, c);
    }
    let p = p.mul_add(r * r, r) + 1.0;
    // The low bits of `shifted` are n: moved up they add to p's exponent. That could hide what is not a number.
    let power = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x.is_nan() { x } else { power }
}

#[inline(always)]
fn exp_body(x: &mut [f32]) {
    for value in x {
        *value = exp_one(*value);
    }
}

#[inline(always)]
fn gelu_tanh_body(x: &mut [f32]) {
    for value in x {
        let v = *value;
        // 0.5 (1 + tanh u) = 1 / (1 + e^(-2u)), u = sqrt(2/π) (v + 0.044715 v³)
        let u = 0.797_884_6 * (v * v * v).mul_add(0.044_715, v);
        *value = v / (1.0 + exp_one(-2.0 * u));
    }
}

/// The normal distribution below x, Φ(x), without the error function's division: Φ(-t) = e^-(t²/2 + q(t)), where q grows slowly
/// from ln 2. Coefficients: q interpolated in f64 at the 12 Chebyshev nodes of 0..6, in s = t/3 - 1, and rounded; from 6 on
/// q(6) stands in, where Φ is below 1e-9. The error is below 1e-7 of the largest result.
#[inline(always)]
fn normal_share(x: f32) -> f32 {
    const TOP: f32 = 6.0;
    let t = x.abs();
    let s = (if t > TOP { TOP } else { t }).mul_add(2.0 / TOP, -1.0);
    let mut q = -2.447_607_4e-4f32;
    for c in [
        4.827_766e-4,
        5.554_642e-5,
        -1.170_610_9e-3,
        3.580_891e-3,
        -1.063_820_7e-2,
        2.750_597_1e-2,
        -6.392_906e-2,
        0.141_617_27,
        -0.317_513_05,
        0.849_296,
        2.107_726,
    ] {
        q = q.mul_add(s, c);
    }
    let below = exp_one((t * t).mul_add(-0.5, -q));
    if x > 0.0 { 1.0 - below } else { below }
}

#[inline(always)]
fn gelu_erf_body(x: &mut [f32]) {
    for value in x {
        *value *= normal_share(*value);
    }
}

#[inline(always)]
fn silu_multiply_body(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "silu_multiply");
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp_one(-*gate)) * up;
    }
}

#[inline(always)]
fn add_body(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "add");
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[inline(always)]
fn add_bias_body(x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len().max(1)) {
        for (x, bias) in row.iter_mut().zip(bias) {
            *x += bias;
        }
    }
}

#[inline(always)]
fn rope_half_body(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    let half = head_dim / 2;
    assert!(
        cos.len() == half && sin.len() == half,
        "rope of heads of {head_dim}"
    );
    for head in x.chunks_exact_mut(head_dim) {
        let (first, second) = head.split_at_mut(half);
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*a, *b) = (a.mul_add(*cos, -(*b * sin)), b.mul_add(*cos, *a * sin));
        }
    }
}

#[cfg(test)]
mod tests;
