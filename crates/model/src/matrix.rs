//! Matrices ready to multiply: panels of f32 or bf16, or quantized weights, each with the way it wants its rows.
//!
//! How a matrix is kept is a property of the matrix: the networks do not ask. Rows that several matrices take are quantized
//! once. Threads take different rows, or different columns of a single row; never parts of one sum. So the bits depend
//! neither on the number of threads nor on how many rows come together.

use crate::bundle::{Part, Shared};
use crate::layers::WORTH_SPLITTING;
use kernels::isa::Isa;
use kernels::matmul::{self, Panels, View, Write, matmul};
use kernels::matmul_quantized::{self, Bits, Precision, QuantizedRows, Weights, matmul_quantized};
use kernels::rows;
use rayon::prelude::*;

/// A weight of `outputs` x `inputs`.
pub(crate) enum Matrix {
    /// f32, or bf16 that is widened as it is read; rows stay f32.
    Panels(Panels),
    /// INT4 or INT8 in place; rows are quantized.
    Quantized(Quantized),
}

/// Packed weights that lie in a file.
pub(crate) struct Quantized {
    pub bits: Bits,
    pub outputs: usize,
    /// Without the filling up to whole groups.
    pub inputs: usize,
    /// Inputs that share a scale.
    pub group: usize,
    /// How the rows are kept.
    pub format: Format,
    pub values: Part,
    pub scales: Shared,
}

/// How rows are quantized on their way into a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub precision: Precision,
    /// Inputs that share a scale in a row.
    pub block: usize,
    /// Rows are filled up with zeros to a multiple of it.
    pub multiple: usize,
}

impl Quantized {
    pub fn weights(&self) -> Weights<'_> {
        Weights {
            bits: self.bits,
            n: self.outputs,
            k: self.inputs.next_multiple_of(self.group),
            group: self.group,
            values: self.values.bytes(),
            scales: self.scales.numbers(),
        }
    }
}

impl Matrix {
    /// Numbers of a row that goes in.
    pub fn inputs(&self) -> usize {
        match self {
            Matrix::Panels(panels) => panels.k,
            Matrix::Quantized(weights) => weights.inputs,
        }
    }

    /// Numbers of a row that comes out.
    pub fn outputs(&self) -> usize {
        match self {
            Matrix::Panels(panels) => panels.n,
            Matrix::Quantized(weights) => weights.outputs,
        }
    }

    /// One output's weights, as the row of an embedding.
    pub fn read_row(&self, output: usize, row: &mut [f32]) {
        match self {
            Matrix::Panels(panels) => {
                for (input, number) in row.iter_mut().enumerate() {
                    *number = panels.weight(output, input);
                }
            }
            Matrix::Quantized(quantized) => {
                let weights = quantized.weights();
                for (input, number) in row.iter_mut().enumerate() {
                    *number = weights.number_at(output, input);
                }
            }
        }
    }

    fn format(&self) -> Option<Format> {
        match self {
            Matrix::Panels(_) => None,
            Matrix::Quantized(weights) => Some(weights.format),
        }
    }

    /// Outputs that a thread's share is counted in.
    fn panel(&self) -> usize {
        match self {
            Matrix::Panels(_) => matmul::PANEL,
            Matrix::Quantized(_) => matmul_quantized::PANEL,
        }
    }
}

/// A matrix, what is added to its outputs, and where they go.
pub(crate) struct Product<'a> {
    pub matrix: &'a Matrix,
    pub bias: Option<&'a [f32]>,
    pub out: &'a mut Vec<f32>,
}

/// Rows as the kernels take them; its memory is used again for the rows that come next.
#[derive(Default)]
pub(crate) struct Intake {
    format: Option<Format>,
    /// One for each thread's share of the rows.
    pieces: Vec<QuantizedRows>,
}

/// One share of the work: some rows, some panels.
struct Task<'a> {
    matrix: &'a Matrix,
    bias: Option<&'a [f32]>,
    x: &'a [f32],
    quantized: Option<&'a QuantizedRows>,
    first_panel: usize,
    /// All outputs of these rows, or those of some panels of one row.
    out: &'a mut [f32],
}

impl Intake {
    /// Rows of `x` times each of the matrices, whose inputs are as many.
    pub fn multiply(&mut self, isa: Isa, x: &[f32], products: &mut [Product]) {
        let same = |pair: &[Product]| pair[0].matrix.format() == pair[1].matrix.format();
        if !products.windows(2).all(same) {
            for product in products {
                self.multiply(isa, x, std::slice::from_mut(product));
            }
            return;
        }
        let Some(first) = products.first() else {
            return;
        };
        let (width, format) = (first.matrix.inputs(), first.matrix.format());
        let m = x.len() / width;
        let outputs: usize = products
            .iter()
            .map(|product| product.matrix.outputs())
            .sum();
        let threads = match rayon::current_num_threads() {
            threads if m * width * outputs >= WORTH_SPLITTING => threads,
            _ => 1,
        };
        let share = m.div_ceil(threads).max(1);
        if let Some(format) = format {
            self.quantize(isa, x, width, format, share);
        }
        let quantized = |piece: usize| format.map(|_| &self.pieces[piece]);
        let mut tasks = Vec::with_capacity(products.len() * threads);
        for Product { matrix, bias, out } in products {
            let n = matrix.outputs();
            out.resize(m * n, 0.0);
            if m == 1 {
                let panels = n.div_ceil(matrix.panel()).div_ceil(threads);
                let of_panels = out.chunks_mut((panels * matrix.panel()).max(1));
                tasks.extend(of_panels.enumerate().map(|(at, out)| Task {
                    matrix,
                    bias: bias.map(|bias| &bias[at * panels * matrix.panel()..][..out.len()]),
                    x,
                    quantized: quantized(0),
                    first_panel: at * panels,
                    out,
                }));
            } else {
                let of_rows = out
                    .chunks_mut((share * n).max(1))
                    .zip(x.chunks(share * width));
                tasks.extend(of_rows.enumerate().map(|(at, (out, x))| Task {
                    matrix,
                    bias: *bias,
                    x,
                    quantized: quantized(at),
                    first_panel: 0,
                    out,
                }));
            }
        }
        match threads {
            1 => tasks.into_iter().for_each(|task| task.run(isa)),
            _ => tasks.into_par_iter().for_each(|task| task.run(isa)),
        }
    }

    /// Quantizes the rows, `share` of them for each piece.
    fn quantize(&mut self, isa: Isa, x: &[f32], width: usize, format: Format, share: usize) {
        if self.format != Some(format) {
            self.pieces.clear();
            self.format = Some(format);
        }
        let count = x.len().div_ceil(share * width).max(1);
        while self.pieces.len() < count {
            self.pieces
                .push(QuantizedRows::new(format.precision, format.block));
        }
        let pieces = &mut self.pieces[..count];
        let fill = |piece: &mut QuantizedRows, x| piece.fill(isa, x, width, format.multiple);
        if let [piece] = pieces {
            fill(piece, x);
        } else {
            pieces
                .par_iter_mut()
                .zip(x.par_chunks(share * width))
                .for_each(|(piece, x)| fill(piece, x));
        }
    }
}

impl Task<'_> {
    fn run(self, isa: Isa) {
        if self.out.is_empty() {
            return;
        }
        let (k, n) = (self.matrix.inputs(), self.matrix.outputs());
        let m = self.x.len() / k;
        let columns = self.out.len() / m;
        let panels = self.first_panel..self.first_panel + columns.div_ceil(self.matrix.panel());
        match (self.matrix, self.quantized) {
            (Matrix::Panels(weights), _) => matmul(
                isa,
                m,
                View::rows(self.x, k),
                weights,
                panels,
                self.out,
                n,
                Write::Replace,
            ),
            (Matrix::Quantized(weights), Some(rows)) => matmul_quantized(
                isa,
                rows,
                weights.weights(),
                panels,
                self.out,
                n,
                Write::Replace,
            ),
            (Matrix::Quantized(_), None) => unreachable!("the rows were quantized before"),
        }
        if let Some(bias) = self.bias {
            rows::add_bias(isa, self.out, bias);
        }
    }
}
