//! Muon: the running mean of a matrix's gradient, made orthogonal, is its step.
//!
//! All directions of a matrix learn equally fast, also those whose gradient is small; AdamW only evens out single numbers.
//! The step is scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that learning rates mean the same.

use kernels::matmul::Write;

use crate::network::{Arithmetic, Right, Rows};

/// Coefficients of the quintic iteration that pulls all singular values towards 1 (Jordan et al. 2024).
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Iterations; singular values then lie between about 0.7 and 1.2.
const ITERATIONS: usize = 5;
/// Root mean square of AdamW's steps beside the learning rate.
const ADAM_SIZE: f32 = 0.2;

/// One matrix with everything that its update needs.
pub(crate) struct Matrix<'a> {
    /// Numbers of one row.
    pub width: usize,
    /// The weights, row-major.
    pub values: &'a mut [f32],
    /// Running mean of the gradient.
    pub mean: &'a mut [f32],
    /// This step's gradient.
    pub gradients: &'a [f32],
    /// Factor of the learning rate.
    pub rate: f32,
}

/// The numbers of one step that all matrices share.
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    /// Decay of the mean gradient.
    pub momentum: f32,
    /// Factor of the gradient (clipping).
    pub clip: f32,
    /// Learning rate now.
    pub learning_rate: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

/// Moves one matrix.
pub(crate) fn step(arithmetic: Arithmetic, factors: Factors, matrix: Matrix) {
    let Factors {
        momentum,
        clip,
        learning_rate,
        weight_decay,
    } = factors;
    let mut direction = vec![0.0; matrix.values.len()];
    for ((mean, gradient), direction) in matrix
        .mean
        .iter_mut()
        .zip(matrix.gradients)
        .zip(&mut direction)
    {
        let gradient = gradient * clip;
        *mean = momentum * *mean + (1.0 - momentum) * gradient;
        // Nesterov: the mean as it will be if the next gradient is like this one.
        *direction = momentum * *mean + (1.0 - momentum) * gradient;
    }
    let width = matrix.width;
    let height = direction.len() / width;
    let direction = orthogonal(arithmetic, direction, width);
    let rate = learning_rate * matrix.rate;
    let size = rate * ADAM_SIZE * (width.max(height) as f32).sqrt();
    let kept = 1.0 - rate * weight_decay;
    for (value, direction) in matrix.values.iter_mut().zip(&direction) {
        *value = *value * kept - size * direction;
    }
}

/// The nearest matrix whose singular values are all about 1; zeros stay zeros.
pub(crate) fn orthogonal(arithmetic: Arithmetic, matrix: Vec<f32>, width: usize) -> Vec<f32> {
    let height = matrix.len() / width;
    if height > width {
        let turned = orthogonal(arithmetic, transposed(&matrix, width), height);
        return transposed(&turned, height);
    }
    let mut x = matrix;
    let length = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let inverse = (1.0 / (length + 1e-12)) as f32;
    x.iter_mut().for_each(|v| *v *= inverse);
    let mut products = Products::new(arithmetic, height, width);
    for _ in 0..ITERATIONS {
        products.iterate(&mut x);
    }
    x
}

/// Room of the iteration on a matrix `[height, width]`.
struct Products {
    arithmetic: Arithmetic,
    height: usize,
    width: usize,
    gram: Vec<f32>,
    polynomial: Vec<f32>,
    next: Vec<f32>,
    right: Right,
    room: Vec<u32>,
}

impl Products {
    fn new(arithmetic: Arithmetic, height: usize, width: usize) -> Products {
        Products {
            arithmetic,
            height,
            width,
            gram: vec![0.0; height * height],
            polynomial: vec![0.0; height * height],
            next: vec![0.0; height * width],
            right: Right::default(),
            room: Vec::new(),
        }
    }

    /// X becomes a·X + (b·A + c·A²)·X with A = X·Xᵀ.
    fn iterate(&mut self, x: &mut [f32]) {
        let [a, b, c] = QUINTIC;
        let (m, n) = (self.height, self.width);
        self.arithmetic
            .pack_columns(&mut self.right, [m, n], rows(x, n));
        self.arithmetic.product(
            [m, n],
            rows(x, n),
            &self.right,
            (&mut self.gram, m),
            &mut self.room,
        );
        self.arithmetic
            .pack_rows(&mut self.right, [m, m], rows(&self.gram, m));
        self.arithmetic.product(
            [m, m],
            rows(&self.gram, m),
            &self.right,
            (&mut self.polynomial, m),
            &mut self.room,
        );
        for (square, gram) in self.polynomial.iter_mut().zip(&self.gram) {
            *square = b * gram + c * *square;
        }
        self.arithmetic
            .pack_rows(&mut self.right, [m, n], rows(x, n));
        self.arithmetic.product(
            [m, m],
            rows(&self.polynomial, m),
            &self.right,
            (&mut self.next, n),
            &mut self.room,
        );
        for (x, next) in x.iter_mut().zip(&self.next) {
            *x = a * *x + next;
        }
    }
}

impl Arithmetic {
    /// `[m, k]` times what is packed on the right.
    fn product(
        self,
        [m, k]: [usize; 2],
        left: Rows,
        right: &Right,
        into: (&mut [f32], usize),
        room: &mut Vec<u32>,
    ) {
        let left = self.rows([m, k], left, room);
        self.multiply(m, left, right, into, Write::Replace);
    }
}

fn rows(data: &[f32], stride: usize) -> Rows<'_> {
    Rows { data, stride }
}

fn transposed(matrix: &[f32], width: usize) -> Vec<f32> {
    let height = matrix.len() / width;
    let mut turned = vec![0.0; matrix.len()];
    for (row, values) in matrix.chunks(width).enumerate() {
        for (column, value) in values.iter().enumerate() {
            turned[column * height + row] = *value;
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::isa::Isa;
    use rand_chacha::ChaCha12Rng;
    use rand_core::{Rng, SeedableRng};

    const F32: fn() -> Arithmetic = || Arithmetic {
        isa: Isa::detect(),
        bf16: None,
    };

    /// Numbers between -1 and 1 whose rows differ up to a hundredfold in size.
    fn uneven(height: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut matrix = Vec::with_capacity(height * width);
        for row in 0..height {
            let size = 10f32.powf(-2.0 * row as f32 / height as f32);
            for _ in 0..width {
                matrix.push(size * (random.next_u32() as f32 / 2f32.powi(31) - 1.0));
            }
        }
        matrix
    }

    /// `[m, k]` times the transposed `[n, k]`, in f64.
    fn product(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum();
        a.chunks(k)
            .flat_map(|x| b.chunks(k).map(move |y| dot(x, y)))
            .collect()
    }

    /// The orthogonal factor of a wide matrix, by the cubic iteration run until it stands still.
    fn polar(matrix: &[f32], width: usize) -> Vec<f64> {
        let height = matrix.len() / width;
        let mut x: Vec<f64> = matrix.iter().map(|v| f64::from(*v)).collect();
        let length = x.iter().map(|v| v * v).sum::<f64>().sqrt();
        x.iter_mut().for_each(|v| *v /= length);
        for _ in 0..80 {
            let gram = product(&x, &x, width);
            let turned: Vec<f64> = (0..width)
                .flat_map(|column| (0..height).map(move |row| (row, column)))
                .map(|(row, column)| x[row * width + column])
                .collect();
            let cubed = product(&gram, &turned, height);
            for (x, cubed) in x.iter_mut().zip(cubed) {
                *x = 1.5 * *x - 0.5 * cubed;
            }
        }
        x
    }

    #[test]
    fn singular_values_end_near_one_and_vectors_stay() {
        for (height, width) in [(24, 40), (16, 16), (5, 33), (1, 7)] {
            let matrix = uneven(height, width, 3);
            let found = orthogonal(F32(), matrix.clone(), width);
            let found: Vec<f64> = found.into_iter().map(f64::from).collect();
            let exact = polar(&matrix, width);
            // Both have the same singular vectors, so found · exactᵀ is symmetric with the singular values as eigenvalues. An iteration
            // multiplies errors by at most its first coefficient, 3.4445, five of them by 482; each of its three products rounds
            // sums of up to 40 numbers below 1, so its own errors are below 40·2⁻²⁴. 482·40·2⁻²⁴ is 1.2e-3.
            let turned = product(&found, &exact, width);
            let trace: f64 = (0..height).map(|i| turned[i * height + i]).sum();
            let mean = trace / height as f64;
            assert!((0.67..1.2).contains(&mean), "{height}x{width}: {mean}");
            for row in 0..height {
                for column in 0..row {
                    let (a, b) = (turned[row * height + column], turned[column * height + row]);
                    assert!((a - b).abs() < 2e-3, "{height}x{width}: {a} and {b}");
                }
            }
        }
    }

    #[test]
    fn a_tall_matrix_is_turned_and_turned_back() {
        let wide = uneven(12, 30, 9);
        let tall = transposed(&wide, 30);
        let expected = transposed(&orthogonal(F32(), wide, 30), 30);
        assert_eq!(orthogonal(F32(), tall, 12), expected);
    }

    #[test]
    fn a_step_is_as_long_as_one_of_adam_and_decays_what_it_moves() {
        let (height, width) = (32, 48);
        let gradients = uneven(height, width, 4);
        let mut mean = vec![0.0; gradients.len()];
        let mut values = vec![1.0; gradients.len()];
        let factors = Factors {
            momentum: 0.95,
            clip: 0.5,
            learning_rate: 0.01,
            weight_decay: 0.1,
        };
        let matrix = Matrix {
            width,
            values: &mut values,
            mean: &mut mean,
            gradients: &gradients,
            rate: 0.5,
        };
        step(F32(), factors, matrix);
        for (mean, gradient) in mean.iter().zip(&gradients) {
            // 0.05 · (0.5 · gradient) with |gradient| ≤ 1: one rounding of each factor and product, below 4 · 2⁻²⁴ · 0.025, and
            // 1 - 0.95, which is exact only to 2⁻²⁴ / 0.05.
            assert!((mean - 0.025 * gradient).abs() < 0.025 * 24.0 * f32::EPSILON);
        }
        let kept = 1.0 - 0.005 * 0.1;
        let squares = values.iter().map(|v| f64::from(v - kept).powi(2));
        let size = (squares.sum::<f64>() / values.len() as f64).sqrt();
        assert!((0.7..1.2).contains(&(size / (0.005 * 0.2))), "{size}");
    }

    #[test]
    fn no_gradient_is_no_direction() {
        assert_eq!(orthogonal(F32(), vec![0.0; 12], 4), vec![0.0; 12]);
    }
}
