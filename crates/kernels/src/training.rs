//! Row operations of training: norms that keep their statistics, derivatives, softmax that keeps its sum, the optimizer's
//! update. Written once and compiled for every instruction set, with the sums and fused multiply-adds of [`crate::rows`],
//! so the bits are the same on all of them.
//!
//! Rows may lie `stride` apart; where no stride is asked for they are contiguous.

use crate::isa::per_isa;
use crate::rows::{exp_one, tree};

/// Lanes of partial sums; score rows are padded to whole groups of lanes.
pub const LANES: usize = 16;

/// A norm's numbers: LayerNorm has a bias, RMS norm has none.
#[derive(Clone, Copy, Debug)]
pub struct NormWeights<'a> {
    /// One factor per feature.
    pub weight: &'a [f32],
    /// One summand per feature; its absence makes this an RMS norm.
    pub bias: Option<&'a [f32]>,
    /// Added to the variance.
    pub eps: f32,
}

/// Where a norm's gradients are added.
#[derive(Debug)]
pub struct NormGradients<'a> {
    /// Of the weight.
    pub weight: &'a mut [f32],
    /// Of the bias, if the norm has one.
    pub bias: Option<&'a mut [f32]>,
}

/// A block of attention scores: `rows` rows of `columns` numbers, a multiple of [`LANES`]. Row i sees its first
/// `first + i · step` columns.
#[derive(Clone, Copy, Debug)]
pub struct ScoreBlock {
    /// Rows of the block.
    pub rows: usize,
    /// Numbers of a row, padding included.
    pub columns: usize,
    /// Columns that row 0 sees.
    pub first: usize,
    /// How many more each next row sees: 0 or 1.
    pub step: usize,
    /// Factor of the scores.
    pub scale: f32,
}

/// AdamW's numbers for one stretch of parameters.
#[derive(Clone, Copy, Debug)]
pub struct AdamFactors {
    /// Decay of the mean gradient.
    pub beta1: f32,
    /// Decay of the mean squared gradient.
    pub beta2: f32,
    /// Added to the root.
    pub epsilon: f32,
    /// Factor of the gradients (clipping).
    pub clip: f32,
    /// Learning rate over (1 - beta1^step).
    pub rate: f32,
    /// 1 / sqrt(1 - beta2^step).
    pub root_correction: f32,
    /// Factor of the values: 1 - learning rate · weight decay.
    pub kept: f32,
}

per_isa! {
    /// `y = (x - mean) · inverse · weight + bias`; keeps `[mean, inverse deviation]` of each row (mean 0 for RMS norm).
    pub norm_forward(norm: NormWeights, x: &[f32], y: &mut [f32], statistics: &mut [[f32; 2]]) => norm_forward_body
}
per_isa! {
    /// Adds a norm's input gradient to `dx` and, if wanted, its parameters' to `gradients`. `dy` is used up.
    ///
    /// With n = (x - mean)·inverse and g = dy·weight: `dx += inverse · (g - mean(g) - n·mean(g·n))`, for RMS without mean(g).
    pub norm_backward(norm: NormWeights, x: &[f32], statistics: &[[f32; 2]], dy: &mut [f32], dx: &mut [f32], gradients: Option<NormGradients>) => norm_backward_body
}
per_isa! {
    /// `y = x + row` for every row of x.
    pub add_row(y: &mut [f32], x: &[f32], row: &[f32]) => add_row_body
}
per_isa! {
    /// Adds every row of x to `sums`.
    pub add_columns(sums: &mut [f32], rows: usize, x: &[f32], stride: usize) => add_columns_body
}
per_isa! {
    /// `y = gelu(x)`, tanh form.
    pub gelu_tanh_to(y: &mut [f32], x: &[f32]) => gelu_tanh_to_body
}
per_isa! {
    /// Backward of the tanh GELU: `dy` becomes dx, `x` becomes gelu(x) again.
    pub gelu_tanh_backward(dy: &mut [f32], x: &mut [f32]) => gelu_tanh_backward_body
}
per_isa! {
    /// Backward of the exact GELU: `dy` becomes dx. `y = x·Φ(x)` is known from the forward pass, so Φ = y/x needs no
    /// error function.
    pub gelu_erf_backward(dy: &mut [f32], x: &[f32], y: &[f32]) => gelu_erf_backward_body
}
per_isa! {
    /// `y = silu(gate)·up`; each row of `gate_up` is `width` gates, then as many ups.
    pub silu_multiply_to(y: &mut [f32], gate_up: &[f32], width: usize) => silu_multiply_to_body
}
per_isa! {
    /// Backward of [`silu_multiply_to`]: `gate_up` becomes its gradient, `dy` becomes silu(gate)·up again.
    pub silu_multiply_backward(dy: &mut [f32], gate_up: &mut [f32], width: usize) => silu_multiply_backward_body
}
per_isa! {
    /// Softmax of every row's visible scores, zeros behind them; `log_sums[i · stride]` is log Σ exp(scale · score).
    pub score_softmax(block: ScoreBlock, scores: &mut [f32], log_sums: &mut [f32], stride: usize) => score_softmax_body
}
per_isa! {
    /// From raw scores and the gradient of their softmax: `scores` become probabilities p again, `gradients` become
    /// `p · (gradient - dots[i · stride]) · scale`; zeros behind the visible ones.
    pub score_backward(block: ScoreBlock, scores: &mut [f32], gradients: &mut [f32], log_sums: &[f32], dots: &[f32], stride: usize) => score_backward_body
}
per_isa! {
    /// Σ left·right of every `width` numbers.
    pub dots(left: &[f32], right: &[f32], width: usize, sums: &mut [f32]) => dots_body
}
per_isa! {
    /// Cross-entropy of one row of logits (nats) and whether the label's is the largest, the first of equal ones. The logits
    /// become their gradient times `scale`.
    pub cross_entropy(logits: &mut [f32], label: usize, scale: f32) -> (f32, bool) => cross_entropy_body
}
per_isa! {
    /// Rotary positions of every head of a row, half-split pairing; `sign` -1 turns back.
    pub rotate(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], sign: f32) => rotate_body
}
per_isa! {
    /// One AdamW step.
    pub adam(factors: AdamFactors, values: &mut [f32], gradients: &[f32], mean: &mut [f32], square: &mut [f32]) => adam_body
}
per_isa! {
    /// Σ x² in f64.
    pub sum_of_squares(x: &[f32]) -> f64 => sum_of_squares_body
}

/// The sum of `term(left, right)` in 16 lanes and a tree.
#[inline(always)]
fn sum_of(left: &[f32], right: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (chunks, rest) = left.as_chunks::<LANES>();
    let (other_chunks, other_rest) = right.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (chunk, other) in chunks.iter().zip(other_chunks) {
        for lane in 0..LANES {
            lanes[lane] = term(lanes[lane], chunk[lane], other[lane]);
        }
    }
    for ((lane, value), other) in lanes.iter_mut().zip(rest).zip(other_rest) {
        *lane = term(*lane, *value, *other);
    }
    tree(lanes)
}

#[inline(always)]
fn norm_forward_body(norm: NormWeights, x: &[f32], y: &mut [f32], statistics: &mut [[f32; 2]]) {
    let width = norm.weight.len();
    assert!(
        x.len() == y.len() && y.len() == statistics.len() * width,
        "norm of {} rows of {width}",
        statistics.len()
    );
    for ((x, y), statistics) in x
        .chunks_exact(width)
        .zip(y.chunks_exact_mut(width))
        .zip(statistics)
    {
        let mean = if norm.bias.is_some() {
            sum_of(x, x, |sum, v, _| sum + v) / width as f32
        } else {
            0.0
        };
        let variance = sum_of(x, x, |sum, v, _| (v - mean).mul_add(v - mean, sum)) / width as f32;
        let inverse = 1.0 / (variance + norm.eps).sqrt();
        *statistics = [mean, inverse];
        match norm.bias {
            Some(bias) => {
                for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(norm.weight).zip(bias) {
                    *y = ((x - mean) * inverse).mul_add(*weight, *bias);
                }
            }
            None => {
                for ((y, x), weight) in y.iter_mut().zip(x).zip(norm.weight) {
                    *y = x * inverse * weight;
                }
            }
        }
    }
}

#[inline(always)]
fn norm_backward_body(
    norm: NormWeights,
    x: &[f32],
    statistics: &[[f32; 2]],
    dy: &mut [f32],
    dx: &mut [f32],
    mut gradients: Option<NormGradients>,
) {
    let width = norm.weight.len();
    assert!(
        x.len() == dy.len() && dx.len() == dy.len() && dy.len() == statistics.len() * width,
        "norm of rows of {width}"
    );
    let rows = x
        .chunks_exact(width)
        .zip(dy.chunks_exact_mut(width))
        .zip(dx.chunks_exact_mut(width));
    for (((x, dy), dx), &[mean, inverse]) in rows.zip(statistics) {
        if let Some(gradients) = &mut gradients {
            for ((sum, dy), x) in gradients.weight.iter_mut().zip(&*dy).zip(x) {
                *sum = dy.mul_add((x - mean) * inverse, *sum);
            }
            if let Some(bias) = &mut gradients.bias {
                add(bias, dy);
            }
        }
        for (dy, weight) in dy.iter_mut().zip(norm.weight) {
            *dy *= weight;
        }
        let share = 1.0 / width as f32;
        let mean_g = if norm.bias.is_some() {
            sum_of(dy, dy, |sum, v, _| sum + v) * share
        } else {
            0.0
        };
        let mean_gn = sum_of(dy, x, |sum, g, x| g.mul_add(x - mean, sum)) * inverse * share;
        let slope = mean_gn * inverse;
        for ((dx, g), x) in dx.iter_mut().zip(&*dy).zip(x) {
            let centred = g - mean_g;
            *dx = inverse.mul_add((x - mean).mul_add(-slope, centred), *dx);
        }
    }
}

#[inline(always)]
fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

#[inline(always)]
fn add_row_body(y: &mut [f32], x: &[f32], row: &[f32]) {
    for (y, x) in y.chunks_exact_mut(row.len()).zip(x.chunks_exact(row.len())) {
        for ((y, x), bias) in y.iter_mut().zip(x).zip(row) {
            *y = x + bias;
        }
    }
}

#[inline(always)]
fn add_columns_body(sums: &mut [f32], rows: usize, x: &[f32], stride: usize) {
    // 64 columns at a time stay in registers while all rows pass.
    for (block, sums) in sums.chunks_mut(4 * LANES).enumerate() {
        let mut lanes = [0.0f32; 4 * LANES];
        let width = sums.len();
        for row in 0..rows {
            let x = &x[row * stride + block * 4 * LANES..][..width];
            match x.first_chunk::<{ 4 * LANES }>() {
                Some(x) => {
                    for (lane, x) in lanes.iter_mut().zip(x) {
                        *lane += x;
                    }
                }
                None => add(&mut lanes[..width], x),
            }
        }
        add(sums, &lanes[..width]);
    }
}

const GELU_SLOPE: f32 = 0.797_884_6;
const GELU_CUBIC: f32 = 0.044_715;

/// Half of 1 + tanh: 1 / (1 + e^(-2u)), u = sqrt(2/π) (x + 0.044715 x³).
#[inline(always)]
fn gelu_share(x: f32) -> f32 {
    let u = GELU_SLOPE * (x * x * x).mul_add(GELU_CUBIC, x);
    1.0 / (1.0 + exp_one(-2.0 * u))
}

#[inline(always)]
fn gelu_tanh_to_body(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = x * gelu_share(*x);
    }
}

#[inline(always)]
fn gelu_tanh_backward_body(dy: &mut [f32], x: &mut [f32]) {
    for (dy, x) in dy.iter_mut().zip(x) {
        let value = *x;
        let share = gelu_share(value);
        let slope = 2.0 * GELU_SLOPE * (value * value).mul_add(3.0 * GELU_CUBIC, 1.0);
        let y = value * share;
        *x = y;
        *dy *= (y * (1.0 - share)).mul_add(slope, share);
    }
}

#[inline(always)]
fn gelu_erf_backward_body(dy: &mut [f32], x: &[f32], y: &[f32]) {
    // The normal density at 0.
    const DENSITY: f32 = 0.398_942_3;
    for ((dy, &x), y) in dy.iter_mut().zip(x).zip(y) {
        let share = if x.abs() < 1e-3 {
            DENSITY.mul_add(x, 0.5)
        } else {
            y / x
        };
        *dy *= (x * DENSITY).mul_add(exp_one(-0.5 * x * x), share);
    }
}

#[inline(always)]
fn silu_multiply_to_body(y: &mut [f32], gate_up: &[f32], width: usize) {
    for (y, row) in y
        .chunks_exact_mut(width)
        .zip(gate_up.chunks_exact(2 * width))
    {
        let (gate, up) = row.split_at(width);
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = gate / (1.0 + exp_one(-gate)) * up;
        }
    }
}

#[inline(always)]
fn silu_multiply_backward_body(dy: &mut [f32], gate_up: &mut [f32], width: usize) {
    for (dy, row) in dy
        .chunks_exact_mut(width)
        .zip(gate_up.chunks_exact_mut(2 * width))
    {
        let (gate, up) = row.split_at_mut(width);
        // Three slices that change together: in whole arrays, or the compiler does not see that they are apart.
        let ((dy, dy_rest), (gate, gate_rest), (up, up_rest)) = (
            dy.as_chunks_mut::<LANES>(),
            gate.as_chunks_mut::<LANES>(),
            up.as_chunks_mut::<LANES>(),
        );
        for ((dy, gate), up) in dy.iter_mut().zip(gate).zip(up) {
            (*dy, *gate, *up) = silu_lanes(*dy, *gate, *up);
        }
        for ((dy, gate), up) in dy_rest.iter_mut().zip(gate_rest).zip(up_rest) {
            ([*dy], [*gate], [*up]) = silu_lanes([*dy], [*gate], [*up]);
        }
    }
}

/// The activation and the gradients of gate and up.
#[inline(always)]
fn silu_lanes<const N: usize>(
    mut dy: [f32; N],
    mut gate: [f32; N],
    mut up: [f32; N],
) -> ([f32; N], [f32; N], [f32; N]) {
    for lane in 0..N {
        let (d, g, u) = (dy[lane], gate[lane], up[lane]);
        let sigmoid = 1.0 / (1.0 + exp_one(-g));
        let silu = g * sigmoid;
        dy[lane] = silu * u;
        gate[lane] = d * u * silu.mul_add(1.0 - sigmoid, sigmoid);
        up[lane] = d * silu;
    }
    (dy, gate, up)
}

/// The largest number, in 16 lanes; a NaN is passed over here and shows in the sum.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
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

#[inline(always)]
fn score_softmax_body(block: ScoreBlock, scores: &mut [f32], log_sums: &mut [f32], stride: usize) {
    for (index, row) in scores
        .chunks_exact_mut(block.columns)
        .take(block.rows)
        .enumerate()
    {
        let visible = block.first + index * block.step;
        // Whole groups of lanes: what lies behind the visible ones adds less than 1e-37 to a sum of at least 1.
        let (row, hidden) = row.split_at_mut(visible.next_multiple_of(LANES));
        hidden.fill(0.0);
        row[visible..].fill(f32::NEG_INFINITY);
        let highest = largest(row) * block.scale;
        for value in row.iter_mut() {
            *value = exp_one(value.mul_add(block.scale, -highest));
        }
        let sum = sum_of(row, row, |sum, v, _| sum + v);
        let inverse = 1.0 / sum;
        for value in row.iter_mut() {
            *value *= inverse;
        }
        row[visible..].fill(0.0);
        log_sums[index * stride] = highest + sum.ln();
    }
}

#[inline(always)]
fn score_backward_body(
    block: ScoreBlock,
    scores: &mut [f32],
    gradients: &mut [f32],
    log_sums: &[f32],
    dots: &[f32],
    stride: usize,
) {
    let rows = scores
        .chunks_exact_mut(block.columns)
        .zip(gradients.chunks_exact_mut(block.columns));
    for (index, (p, dp)) in rows.take(block.rows).enumerate() {
        let visible = block.first + index * block.step;
        let (log_sum, dot) = (log_sums[index * stride], dots[index * stride]);
        let end = visible.next_multiple_of(LANES);
        for (p, dp) in p[..end].iter_mut().zip(&mut dp[..end]) {
            *p = exp_one(p.mul_add(block.scale, -log_sum));
            *dp = *p * (*dp - dot) * block.scale;
        }
        p[visible..].fill(0.0);
        dp[visible..].fill(0.0);
    }
}

#[inline(always)]
fn dots_body(left: &[f32], right: &[f32], width: usize, sums: &mut [f32]) {
    for ((left, right), sum) in left
        .chunks_exact(width)
        .zip(right.chunks_exact(width))
        .zip(sums)
    {
        *sum = sum_of(left, right, |sum, a, b| a.mul_add(b, sum));
    }
}

#[inline(always)]
fn cross_entropy_body(logits: &mut [f32], label: usize, scale: f32) -> (f32, bool) {
    let own = logits[label];
    let highest = largest(logits);
    let right = own == highest && !logits[..label].contains(&own);
    for value in logits.iter_mut() {
        *value = exp_one(*value - highest);
    }
    let sum = sum_of(logits, logits, |sum, v, _| sum + v);
    let factor = scale / sum;
    for value in logits.iter_mut() {
        *value *= factor;
    }
    logits[label] -= scale;
    (highest - own + sum.ln(), right)
}

#[inline(always)]
fn rotate_body(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], sign: f32) {
    let half = head_dim / 2;
    assert!(
        cos.len() == half && sin.len() == half,
        "rope of heads of {head_dim}"
    );
    for head in x.chunks_exact_mut(head_dim) {
        let (first, second) = head.split_at_mut(half);
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let sin = sin * sign;
            (*a, *b) = (a.mul_add(*cos, -(*b * sin)), b.mul_add(*cos, *a * sin));
        }
    }
}

#[inline(always)]
fn adam_body(
    f: AdamFactors,
    values: &mut [f32],
    gradients: &[f32],
    mean: &mut [f32],
    square: &mut [f32],
) {
    let moments = mean.iter_mut().zip(square);
    for ((value, gradient), (mean, square)) in values.iter_mut().zip(gradients).zip(moments) {
        let gradient = gradient * f.clip;
        *mean = (1.0 - f.beta1).mul_add(gradient - *mean, *mean);
        *square = (1.0 - f.beta2).mul_add(gradient.mul_add(gradient, -*square), *square);
        let root = square.sqrt().mul_add(f.root_correction, f.epsilon);
        *value = value.mul_add(f.kept, -(f.rate * *mean / root));
    }
}

#[inline(always)]
fn sum_of_squares_body(x: &[f32]) -> f64 {
    const WIDE: usize = 32;
    let (chunks, rest) = x.as_chunks::<WIDE>();
    let mut lanes = [0.0f64; WIDE];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = f64::from(*value).mul_add(f64::from(*value), *lane);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = f64::from(*value).mul_add(f64::from(*value), *lane);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests;
