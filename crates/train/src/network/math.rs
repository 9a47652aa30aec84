//! Row arithmetic of training that `kernels::rows` does not have: norms that keep their statistics, and derivatives.

use super::linear::Rows;

const LANES: usize = 16;

fn sum_of(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (blocks, tail) = row.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] += f(block[lane]);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(tail) {
        *lane += f(value);
    }
    tree(lanes)
}

fn sum_of_products(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (left_blocks, left_tail) = left.as_chunks::<LANES>();
    let (right_blocks, right_tail) = right.as_chunks::<LANES>();
    for (left, right) in left_blocks.iter().zip(right_blocks) {
        for lane in 0..LANES {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    for (lane, (left, right)) in lanes.iter_mut().zip(left_tail.iter().zip(right_tail)) {
        *lane += left * right;
    }
    tree(lanes)
}

fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `y = x + row` for every row of x.
pub(crate) fn add_row(y: &mut [f32], x: &[f32], row: &[f32]) {
    for (y, x) in y.chunks_exact_mut(row.len()).zip(x.chunks_exact(row.len())) {
        for ((y, x), bias) in y.iter_mut().zip(x).zip(row) {
            *y = x + bias;
        }
    }
}

/// `y += x`.
pub(crate) fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// `sums += Σ over rows`.
pub(crate) fn add_columns(sums: &mut [f32], rows: usize, x: Rows) {
    for row in 0..rows {
        let row = &x.data[row * x.stride..][..sums.len()];
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

/// A norm's parameters: `bias` for LayerNorm, none for RMS norm.
#[derive(Clone, Copy)]
pub(crate) struct NormWeights<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub eps: f32,
}

/// `y = (x - mean) · inverse · weight + bias`; keeps mean and inverse deviation of each row (mean 0 for RMS norm).
pub(crate) fn norm_forward(norm: NormWeights, x: Rows, y: &mut [f32], statistics: &mut [[f32; 2]]) {
    let width = norm.weight.len();
    for (index, (y, statistics)) in y.chunks_exact_mut(width).zip(statistics).enumerate() {
        let x = &x.data[index * x.stride..][..width];
        let mean = if norm.bias.is_some() { sum_of(x, |v| v) / width as f32 } else { 0.0 };
        let variance = sum_of(x, |v| (v - mean) * (v - mean)) / width as f32;
        let inverse = 1.0 / (variance + norm.eps).sqrt();
        *statistics = [mean, inverse];
        for ((y, x), weight) in y.iter_mut().zip(x).zip(norm.weight) {
            *y = (x - mean) * inverse * weight;
        }
        if let Some(bias) = norm.bias {
            add(y, bias);
        }
    }
}

/// Gradients of a norm's parameters, if wanted.
pub(crate) struct NormGradients<'a> {
    pub weight: &'a mut [f32],
    pub bias: Option<&'a mut [f32]>,
}

/// Backward of [`norm_forward`]: adds into `dx`; dy is overwritten (scratch).
///
/// With n = (x - mean)·inverse and g = dy·weight: `dx = inverse · (g - mean(g) - n·mean(g·n))`, without mean(g) for RMS.
pub(crate) fn norm_backward(
    norm: NormWeights, x: Rows, statistics: &[[f32; 2]], dy: &mut [f32], dx: &mut [f32], dx_stride: usize, mut gradients: Option<NormGradients>,
) {
    let width = norm.weight.len();
    for (index, (dy, &[mean, inverse])) in dy.chunks_exact_mut(width).zip(statistics).enumerate() {
        let x = &x.data[index * x.stride..][..width];
        let dx = &mut dx[index * dx_stride..][..width];
        if let Some(gradients) = &mut gradients {
            for ((sum, dy), x) in gradients.weight.iter_mut().zip(&*dy).zip(x) {
                *sum += dy * ((x - mean) * inverse);
            }
            if let Some(bias) = &mut gradients.bias {
                add(bias, dy);
            }
        }
        for (dy, weight) in dy.iter_mut().zip(norm.weight) {
            *dy *= weight;
        }
        let mean_g = if norm.bias.is_some() { sum_of(dy, |v| v) / width as f32 } else { 0.0 };
        let total = sum_of_products(dy, x) - mean * mean_g * width as f32;
        let mean_gn = total * inverse / width as f32;
        for ((dx, g), x) in dx.iter_mut().zip(&*dy).zip(x) {
            *dx += inverse * (g - mean_g - (x - mean) * inverse * mean_gn);
        }
    }
}

/// e^x within about 2 ulp for x in -87..88; 0 below, large above.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.3);
    let rounded = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let rest = (x - rounded * 0.693_145_75) - rounded * 1.428_606_8e-6;
    let mut polynomial = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        polynomial = polynomial * rest + coefficient;
    }
    polynomial * f32::from_bits(((rounded as i32 + 127) << 23) as u32)
}

const GELU_SLOPE: f32 = 0.797_884_56;
const GELU_CUBIC: f32 = 0.044_715;

/// `y = gelu(x)`, tanh form.
pub(crate) fn gelu_tanh(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        let u = GELU_SLOPE * (x + GELU_CUBIC * x * x * x);
        *y = x / (1.0 + exp(-2.0 * u));
    }
}

/// `dy` becomes dx, `x` becomes gelu(x).
pub(crate) fn gelu_tanh_backward(dy: &mut [f32], x: &mut [f32]) {
    for (dy, x) in dy.iter_mut().zip(x) {
        let value = *x;
        let u = GELU_SLOPE * (value + GELU_CUBIC * value * value * value);
        let sigmoid = 1.0 / (1.0 + exp(-2.0 * u));
        let slope = GELU_SLOPE * (1.0 + 3.0 * GELU_CUBIC * value * value);
        *x = value * sigmoid;
        *dy *= sigmoid + 2.0 * value * sigmoid * (1.0 - sigmoid) * slope;
    }
}

/// Backward of the exact GELU. `y = x·Φ(x)` is known from the forward pass, so Φ = y/x needs no error function; `dy`
/// becomes dx.
pub(crate) fn gelu_erf_backward(dy: &mut [f32], x: &[f32], y: &[f32]) {
    const DENSITY: f32 = 0.398_942_28;
    for ((dy, &x), y) in dy.iter_mut().zip(x).zip(y) {
        let share = if x.abs() < 1e-3 { 0.5 + DENSITY * x } else { y / x };
        *dy *= share + x * DENSITY * exp(-0.5 * x * x);
    }
}

/// `y = silu(gate)·up`; each row of `gate_up` is gate then up.
pub(crate) fn silu_multiply(y: &mut [f32], gate_up: &[f32], width: usize) {
    for (y, row) in y.chunks_exact_mut(width).zip(gate_up.chunks_exact(2 * width)) {
        let (gate, up) = row.split_at(width);
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = gate / (1.0 + exp(-gate)) * up;
        }
    }
}

/// `gate_up` becomes its gradient, `dy` becomes silu(gate)·up.
pub(crate) fn silu_multiply_backward(dy: &mut [f32], gate_up: &mut [f32], width: usize) {
    for (dy, row) in dy.chunks_exact_mut(width).zip(gate_up.chunks_exact_mut(2 * width)) {
        let (gate, up) = row.split_at_mut(width);
        for ((dy, gate), up) in dy.iter_mut().zip(gate).zip(up) {
            let sigmoid = 1.0 / (1.0 + exp(-*gate));
            let silu = *gate * sigmoid;
            let d = *dy;
            *dy = silu * *up;
            *gate = d * *up * (sigmoid + silu * (1.0 - sigmoid));
            *up = d * silu;
        }
    }
}

/// Softmax of `scale · row` in place; gives log Σ exp(scale · row).
pub(crate) fn softmax(row: &mut [f32], scale: f32) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, tail) = row.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    let largest = lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |a, &b| a.max(b)) * scale;
    for value in row.iter_mut() {
        *value = exp(*value * scale - largest);
    }
    let sum = sum_of(row, |v| v);
    let inverse = 1.0 / sum;
    for value in row.iter_mut() {
        *value *= inverse;
    }
    largest + sum.ln()
}

/// `row = exp(scale · row - log_sum)`: the same softmax again, its sum known.
pub(crate) fn softmax_again(row: &mut [f32], scale: f32, log_sum: f32) {
    for value in row.iter_mut() {
        *value = exp(*value * scale - log_sum);
    }
}

/// `dp = p · (dp - d) · scale`.
pub(crate) fn softmax_backward(dp: &mut [f32], p: &[f32], d: f32, scale: f32) {
    for (dp, p) in dp.iter_mut().zip(p) {
        *dp = p * (*dp - d) * scale;
    }
}

/// Σ left·right of two rows.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    sum_of_products(left, right)
}

/// Rotates the halves of each head by the row's angles; `sign` -1 turns back.
pub(crate) fn rope(row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], sign: f32) {
    for head in row.chunks_exact_mut(head_dim) {
        let (first, second) = head.split_at_mut(head_dim / 2);
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let sin = sin * sign;
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}
