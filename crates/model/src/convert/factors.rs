//! How a matrix's inputs go together, in the form in which rounding errors are passed on: GPTQ with the inputs in the order of
//! their size and scales fixed beforehand.
//!
//! With H the sum of x·xᵀ over the rows x that the matrix takes in, the error of an input's weight is spread over the inputs
//! after it by the rows of U, where H⁻¹ = Uᵀ·U and U is upper triangular.
//!
//! The rows are those that come out of blocks that are rounded already. Where e is what they lost, and D the sum of e·xᵀ, the
//! weights W·(1 + D·H⁻¹) give the outputs nearest to those without any rounding, and these are the ones that are rounded: the
//! least squares of GPTAQ (<https://arxiv.org/abs/2504.02692>), in closed form before the rounding instead of along with it.

use super::refining::Output;
use super::rounding::Scale;
use kernels::isa::Isa;
use kernels::matmul::{Panels, View, Write, matmul};
use kernels::matmul_quantized::Bits;
use rayon::prelude::*;
use std::borrow::Cow;

/// Share of the mean of H's diagonal that is added to it: inputs that hardly vary would be relied upon too much.
const DAMPING: f32 = 0.01;
/// Sides below which other threads cost more than they bring.
const WORTH_SPLITTING: usize = 512;

/// The sum of e·xᵀ, `[k, k]`: of x·xᵀ, or of what x lost and x.
pub(super) struct Gram {
    k: usize,
    sum: Vec<f32>,
}

impl Gram {
    pub fn new(k: usize) -> Gram {
        Gram {
            k,
            sum: vec![0.0; k * k],
        }
    }

    /// Adds e·xᵀ for rows e and x of k numbers.
    pub fn add(&mut self, isa: Isa, left: &[f32], rows: &[f32]) {
        let (k, m) = (self.k, rows.len() / self.k);
        let panels = Panels::from_f32(m, k, View::rows(rows, k));
        let share = k.div_ceil(rayon::current_num_threads());
        self.sum
            .par_chunks_mut(share * k)
            .enumerate()
            .for_each(|(at, sum)| {
                let columns = View::rows(&left[at * share..], k).transposed();
                let all = 0..panels.panel_count();
                matmul(
                    isa,
                    sum.len() / k,
                    columns,
                    &panels,
                    all,
                    sum,
                    k,
                    Write::Add,
                );
            });
    }
}

/// See the module.
pub(super) struct Factors {
    /// Inputs, those that matter most first.
    order: Vec<usize>,
    /// U in that order, `[k, k]`.
    upper: Vec<f32>,
    /// H's diagonal, by input.
    pub importance: Vec<f32>,
    /// H, `[k, k]` by input.
    gram: Vec<f32>,
    /// D·H⁻¹, `[k, k]` by input; None where nothing was lost yet.
    shift: Option<Panels>,
    isa: Isa,
}

impl Factors {
    /// H, and D where rows lost something.
    pub fn new(isa: Isa, gram: Gram, drift: Option<Gram>) -> Factors {
        let k = gram.k;
        let mut importance: Vec<f32> = (0..k).map(|at| gram.sum[at * k + at]).collect();
        let mean = importance.iter().sum::<f32>() / k as f32;
        let damping = (mean * DAMPING).max(f32::MIN_POSITIVE);
        for importance in &mut importance {
            *importance += damping;
        }
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|a, b| importance[*b].total_cmp(&importance[*a]));
        let mut upper = vec![0.0; k * k];
        for (row, from) in upper.chunks_exact_mut(k).zip(&order) {
            let source = &gram.sum[from * k..][..k];
            for (number, column) in row.iter_mut().zip(&order) {
                *number = source[*column];
            }
        }
        let mut gram = gram.sum;
        for (at, importance) in importance.iter().enumerate() {
            gram[at * k + at] = *importance;
        }
        for (at, from) in order.iter().enumerate() {
            upper[at * k + at] = importance[*from];
        }
        decompose(&mut upper, k);
        invert(&mut upper, k);
        let shift = drift.map(|drift| shift(isa, drift.sum, &upper, &order));
        Factors {
            order,
            upper,
            importance,
            gram,
            shift,
            isa,
        }
    }

    /// Rows of weights that make up for what the rows they meet lost.
    pub fn shifted<'a>(&self, rows: &'a [f32]) -> Cow<'a, [f32]> {
        let Some(shift) = &self.shift else {
            return Cow::Borrowed(rows);
        };
        let mut shifted = rows.to_vec();
        add_product(self.isa, rows, shift, self.order.len(), &mut shifted);
        Cow::Owned(shifted)
    }

    /// Makes whole numbers and scales better in turns.
    pub fn refine(
        &self,
        bits: Bits,
        rows: &[f32],
        values: &mut [i8],
        scales: &mut [Scale],
        group: usize,
    ) {
        let k = self.order.len();
        let values = values.chunks_exact_mut(k);
        let scales = scales.chunks_exact_mut(k.div_ceil(group));
        for ((weights, values), scales) in rows.chunks_exact(k).zip(values).zip(scales) {
            let mut output = Output {
                weights,
                values,
                scales,
                group,
            };
            output.refine(&self.gram, bits);
        }
    }

    /// Rows of weights to whole numbers; each error goes to the inputs that come later.
    pub fn round(
        &self,
        bits: Bits,
        rows: &[f32],
        scales: &[Scale],
        k: usize,
        group: usize,
    ) -> Vec<i8> {
        let groups = k.div_ceil(group);
        let mut left: Vec<f32> = rows
            .chunks_exact(k)
            .flat_map(|row| self.order.iter().map(|input| row[*input]))
            .collect();
        let mut values = vec![0; rows.len()];
        for (at, input) in self.order.iter().enumerate() {
            let spread = &self.upper[at * k + at..(at + 1) * k];
            for (output, left) in left.chunks_exact_mut(k).enumerate() {
                let left = &mut left[at..];
                let scale = scales[output * groups + input / group];
                let value = scale.round(bits, left[0]);
                values[output * k + input] = value;
                let error = (left[0] - f32::from(value) * scale.number()) / spread[0];
                for (left, spread) in left[1..].iter_mut().zip(&spread[1..]) {
                    *left -= error * spread;
                }
            }
        }
        values
    }
}

/// D·H⁻¹ = D·Uᵀ·U, with the columns of D and of what comes out by input and those of U in its order.
fn shift(isa: Isa, mut drift: Vec<f32>, upper: &[f32], order: &[usize]) -> Panels {
    let k = order.len();
    let mut row = vec![0.0; k];
    for numbers in drift.chunks_exact_mut(k) {
        row.copy_from_slice(numbers);
        for (number, from) in numbers.iter_mut().zip(order) {
            *number = row[*from];
        }
    }
    let mut half = vec![0.0; k * k];
    let transposed = Panels::from_f32(k, k, View::rows(upper, k).transposed());
    add_product(isa, &drift, &transposed, k, &mut half);
    drop(transposed);
    drift.fill(0.0);
    let straight = Panels::from_f32(k, k, View::rows(upper, k));
    add_product(isa, &half, &straight, k, &mut drift);
    drop((half, straight));
    for numbers in drift.chunks_exact_mut(k) {
        row.copy_from_slice(numbers);
        for (number, to) in row.iter().zip(order) {
            numbers[*to] = *number;
        }
    }
    Panels::from_f32(k, k, View::rows(&drift, k))
}

/// Adds the product of rows and panels `[k, k]` to `out`, threads taking rows.
fn add_product(isa: Isa, rows: &[f32], panels: &Panels, k: usize, out: &mut [f32]) {
    let share = (rows.len() / k)
        .div_ceil(rayon::current_num_threads())
        .max(1);
    out.par_chunks_mut(share * k)
        .zip(rows.par_chunks(share * k))
        .for_each(|(out, rows)| {
            let (m, all) = (rows.len() / k, 0..panels.panel_count());
            matmul(isa, m, View::rows(rows, k), panels, all, out, k, Write::Add);
        });
}

/// H, of which the upper half is read, becomes the upper triangular R with H = R·Rᵀ.
fn decompose(h: &mut [f32], k: usize) {
    for last in (0..k).rev() {
        let (above, rest) = h.split_at_mut(last * k);
        let own = &mut rest[..k];
        let square = own[last] - dot(&own[last + 1..], &own[last + 1..]);
        // Rounding may leave nothing of a number that depends on the others; the damping is far above what is left then.
        own[last] = square.max(f32::MIN_POSITIVE).sqrt();
        let (diagonal, own) = (own[last], &own[last + 1..]);
        let column = |row: &mut [f32]| {
            row[last] = (row[last] - dot(&row[last + 1..], own)) / diagonal;
        };
        if k < WORTH_SPLITTING {
            above.chunks_exact_mut(k).for_each(column);
        } else {
            above
                .par_chunks_exact_mut(k)
                .with_min_len(64)
                .for_each(column);
        }
    }
    for (at, row) in h.chunks_exact_mut(k).enumerate() {
        row[..at].fill(0.0);
    }
}

/// An upper triangular matrix becomes its inverse.
fn invert(r: &mut [f32], k: usize) {
    /// Columns that a thread takes at once.
    const COLUMNS: usize = 256;
    for at in (0..k).rev() {
        let (own, below) = r[at * k..].split_at_mut(k);
        let factors: Vec<f32> = own[at + 1..].to_vec();
        let scale = 1.0 / own[at];
        let stretch = |(piece, out): (usize, &mut [f32])| {
            let first = at + 1 + piece * COLUMNS;
            out.fill(0.0);
            for (index, factor) in factors.iter().enumerate() {
                let row = at + 1 + index;
                let begin = row.max(first);
                if begin >= first + out.len() {
                    break;
                }
                let from = &below[index * k + begin..index * k + first + out.len()];
                for (out, number) in out[begin - first..].iter_mut().zip(from) {
                    *out -= factor * number;
                }
            }
            for out in out {
                *out *= scale;
            }
        };
        let pieces = &mut own[at + 1..];
        if k < WORTH_SPLITTING {
            pieces.chunks_mut(COLUMNS).enumerate().for_each(stretch);
        } else {
            pieces.par_chunks_mut(COLUMNS).enumerate().for_each(stretch);
        }
        own[at] = scale;
    }
}

/// The sum of products in 16 fixed lanes, the same on every machine.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut lanes = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose columns depend on one another.
    fn rows(m: usize, k: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut rows = Vec::new();
        for _ in 0..m {
            let shared = draw();
            rows.extend((0..k).map(|at| draw() + shared * (at % 3) as f32));
        }
        rows
    }

    #[test]
    fn what_rows_lost_is_made_up_for_as_far_as_they_can_tell_it() {
        // Rows that lost a share of one column, which a neighbour still knows about.
        let (m, k, n) = (400, 12, 5);
        let whole = rows(m, k);
        let mut left = whole.clone();
        for row in left.chunks_exact_mut(k) {
            row[4] = 0.9 * row[4] - 0.2 * row[5];
        }
        let lost: Vec<f32> = whole.iter().zip(&left).map(|(a, b)| a - b).collect();
        let (mut gram, mut drift) = (Gram::new(k), Gram::new(k));
        gram.add(Isa::detect(), &left, &left);
        drift.add(Isa::detect(), &lost, &left);
        let factors = Factors::new(Isa::detect(), gram, Some(drift));
        let weights = &rows(n, k)[..n * k];
        let shifted = factors.shifted(weights);
        let difference = |weights_of_left: &[f32]| -> f64 {
            let mut sum = 0.0;
            for (whole, left) in whole.chunks_exact(k).zip(left.chunks_exact(k)) {
                let pairs = weights.chunks_exact(k).zip(weights_of_left.chunks_exact(k));
                for (before, after) in pairs {
                    sum += f64::from(dot(before, whole) - dot(after, left)).powi(2);
                }
            }
            sum
        };
        // What was lost is a linear map of what is left, so that nothing but the damping is in the way.
        let (before, after) = (difference(weights), difference(&shifted));
        assert!(after < 0.01 * before, "{before} became {after}");
    }

    #[test]
    fn the_factors_square_is_the_inverse_of_the_damped_sum() {
        for k in [1, 5, 37, 600] {
            let rows = rows(2 * k + 50, k);
            let mut gram = Gram::new(k);
            gram.add(Isa::detect(), &rows, &rows);
            let mut h = gram.sum.clone();
            let factors = Factors::new(Isa::detect(), gram, None);
            for at in 0..k {
                h[at * k + at] = factors.importance[at];
            }
            // Uᵀ·U·H is the identity, in the order of the factors. Rows are tried at a few places: a product of three would
            // take long. The condition of H is below 1e5 after damping, f32 carries 1e-7: 1e-2 stands above their product.
            for at in [0, k / 2, k - 1] {
                let mut inverse = vec![0.0f64; k];
                for row in 0..=at {
                    let u = &factors.upper[row * k..][..k];
                    for (sum, number) in inverse.iter_mut().zip(u) {
                        *sum += f64::from(u[at]) * f64::from(*number);
                    }
                }
                for column in [0, k / 3, k - 1] {
                    let product: f64 = (0..k)
                        .map(|i| {
                            let h = h[factors.order[i] * k + factors.order[column]];
                            inverse[i] * f64::from(h)
                        })
                        .sum();
                    let expected = if column == at { 1.0 } else { 0.0 };
                    assert!(
                        (product - expected).abs() < 1e-2,
                        "{k}: ({at}, {column}) is {product}"
                    );
                }
            }
        }
    }
}
