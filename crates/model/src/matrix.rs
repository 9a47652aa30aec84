//! Matrices ready to multiply: panels of f32 or bf16, or quantized weights, each with the way it wants its rows.
//!
//! How a matrix is kept is a property of the matrix: the networks do not ask. Rows that several matrices take are quantized
//! once. Threads take different rows, or different columns; never parts of one sum. So the bits depend neither on the number
//! of threads nor on how many rows come together.

use crate::bundle::{Part, Shared};
use crate::layers::worth_splitting;
use kernels::isa::Isa;
use kernels::matmul::{self, Panels, View, Write, matmul};
use kernels::matmul_quantized::{
    self, Bits, Columns, Precision, QuantizedRows, ScaleFormat, Start, TILE, TileMut, Weights,
    matmul_quantized,
};
use kernels::rows;
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

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
    pub scale_format: ScaleFormat,
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

impl Format {
    /// Blocks that a row of `width` numbers falls into, where they are all alike and of whole panels of the product before:
    /// its results can then be quantized block by block.
    pub fn whole_blocks(self, width: usize) -> Option<usize> {
        let alike = self.multiple.is_multiple_of(self.block);
        let of_panels = self.block.is_multiple_of(matmul_quantized::PANEL);
        (alike && of_panels).then(|| width.next_multiple_of(self.multiple) / self.block)
    }
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
            scale_format: self.scale_format,
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
        self.quantized().map(|weights| weights.format)
    }

    /// Its packed weights, if it has those.
    pub fn quantized(&self) -> Option<&Quantized> {
        match self {
            Matrix::Panels(_) => None,
            Matrix::Quantized(weights) => Some(weights),
        }
    }
}

/// A matrix, what is added to its outputs, and where they go.
pub(crate) struct Product<'a> {
    pub matrix: &'a Matrix,
    pub bias: Option<&'a [f32]>,
    pub out: &'a mut Vec<f32>,
}

/// Quantized weights, what their products begin at, and where they go.
pub(crate) struct Output<'a> {
    pub weights: &'a Quantized,
    pub start: Start<'a>,
    pub c: Columns<'a>,
}

/// Rows as the kernels take them; its memory is used again for the rows that come next.
#[derive(Default)]
pub(crate) struct Intake {
    held: Option<(Format, QuantizedRows)>,
}

thread_local! {
    /// Numbers between two kernels on one thread.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` with `count` numbers of this thread's, whatever they are.
pub(crate) fn with_scratch<T>(count: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    let mut scratch = SCRATCH.take();
    if scratch.len() < count {
        scratch.resize(count, 0.0);
    }
    let result = work(&mut scratch[..count]);
    SCRATCH.set(scratch);
    result
}

/// Threads that are worth it.
pub(crate) fn threads_for(multiply_adds: usize) -> usize {
    match worth_splitting(multiply_adds) {
        true => rayon::current_num_threads(),
        false => 1,
    }
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
        match format {
            None => multiply_panels(isa, x, products),
            Some(format) => {
                multiply_rows(isa, self.take_rows(isa, x, width, format), products);
            }
        }
    }

    /// Room for rows of this format.
    pub fn room(&mut self, format: Format) -> &mut QuantizedRows {
        if self.held.as_ref().is_none_or(|(held, _)| *held != format) {
            self.held = None;
        }
        let fresh = || (format, QuantizedRows::new(format.precision, format.block));
        &mut self.held.get_or_insert_with(fresh).1
    }

    /// The rows of `x`, quantized.
    pub fn take_rows(
        &mut self,
        isa: Isa,
        x: &[f32],
        width: usize,
        format: Format,
    ) -> &QuantizedRows {
        let rows = self.room(format);
        each_tile(rows, x.len() / width, width, format, |first, tile| {
            tile.fill(isa, &x[first * width..], width);
        });
        rows
    }

    /// `m` rows of `width` numbers, quantized, which `give` writes for as many rows as it has room, from the given one on.
    pub fn take(
        &mut self,
        isa: Isa,
        (m, width): (usize, usize),
        format: Format,
        give: impl Fn(usize, &mut [f32]) + Sync,
    ) -> &QuantizedRows {
        let rows = self.room(format);
        each_tile(rows, m, width, format, |first, tile| {
            with_scratch(tile.len() * width, |x| {
                give(first, x);
                tile.fill(isa, x, width);
            });
        });
        rows
    }
}

/// Fills tiles on all threads; `fill` is told each one's first row.
fn each_tile(
    rows: &mut QuantizedRows,
    m: usize,
    width: usize,
    format: Format,
    fill: impl Fn(usize, &mut TileMut) + Sync,
) {
    let tiles = rows.tiles_mut(m, width, format.multiple).enumerate();
    let fill = |(at, mut tile): (usize, TileMut)| fill(at * TILE, &mut tile);
    // Rounding a number is worth some multiply-adds.
    match threads_for(m * width * 32) {
        1 => tiles.for_each(fill),
        _ => tiles.collect::<Vec<_>>().into_par_iter().for_each(fill),
    }
}

/// Quantized rows times each of the matrices, which are quantized too and take these rows.
pub(crate) fn multiply_rows(isa: Isa, rows: &QuantizedRows, products: &mut [Product]) {
    let outputs = products.iter_mut().map(|product| {
        let weights = product.matrix.quantized();
        let weights = weights.expect("the caller looked at the format");
        let (m, n) = (rows.len(), weights.outputs);
        product.out.resize(m * n, 0.0);
        Output {
            weights,
            start: Start {
                write: Write::Replace,
                bias: product.bias,
            },
            c: Columns::new(product.out, m, n, n),
        }
    });
    multiply_quantized(isa, rows, outputs.collect());
}

/// Quantized rows times each of the matrices: threads share the panels of all of them.
pub(crate) fn multiply_quantized(isa: Isa, rows: &QuantizedRows, outputs: Vec<Output>) {
    let panels = |output: &Output| output.weights.outputs.div_ceil(matmul_quantized::PANEL);
    let all: usize = outputs.iter().map(panels).sum();
    let threads = threads_for(rows.len() * rows.inputs() * all * matmul_quantized::PANEL);
    let mut tasks = Vec::new();
    for output in outputs {
        let share = match rows.len() {
            1 => panels(&output).div_ceil(threads),
            // Pairs of panels, and several shares for each thread: one may be held up.
            _ if threads > 1 => all.div_ceil(threads * 4).next_multiple_of(2),
            _ => all,
        };
        let (weights, start) = (output.weights, output.start);
        let (mut first, mut rest) = (0, output.c);
        while rest.columns() > 0 {
            let width = (share * matmul_quantized::PANEL).min(rest.columns());
            let (c, others) = rest.split_at(width);
            let column = first * matmul_quantized::PANEL;
            tasks.push(Task {
                weights,
                panels: first..first + width.div_ceil(matmul_quantized::PANEL),
                start: Start {
                    bias: start.bias.map(|bias| &bias[column..][..width]),
                    ..start
                },
                c,
            });
            (first, rest) = (first + share, others);
        }
    }
    match threads {
        1 => tasks.into_iter().for_each(|task| task.run(isa, rows)),
        _ => tasks.into_par_iter().for_each(|task| task.run(isa, rows)),
    }
}

/// One share of a product: all rows, some panels.
struct Task<'a> {
    weights: &'a Quantized,
    panels: Range<usize>,
    start: Start<'a>,
    c: Columns<'a>,
}

impl Task<'_> {
    fn run(mut self, isa: Isa, rows: &QuantizedRows) {
        let weights = self.weights.weights();
        matmul_quantized(isa, rows, weights, self.panels, &mut self.c, self.start);
    }
}

/// Fewer rows than these are not shared by threads: each would read all the weights for its own.
const FEW_ROWS: usize = 16;

/// Rows of `x` times matrices of f32 or bf16, whose rows stay as they are; threads share the rows, or the columns of a few.
fn multiply_panels(isa: Isa, x: &[f32], products: &mut [Product]) {
    let outputs: usize = products
        .iter()
        .map(|product| product.matrix.outputs())
        .sum();
    let threads = threads_for(x.len() * outputs);
    let rows = products.first().map_or(0, |p| x.len() / p.matrix.inputs());
    if threads > 1 && (2..FEW_ROWS).contains(&rows) {
        return multiply_few(isa, x, products, threads);
    }
    let mut tasks = Vec::new();
    for Product { matrix, bias, out } in products {
        let Matrix::Panels(weights) = matrix else {
            unreachable!("the caller looked at the format");
        };
        let (k, n) = (weights.k, weights.n);
        let m = x.len() / k;
        out.resize(m * n, 0.0);
        if m == 1 {
            let share = (n.div_ceil(matmul::PANEL).div_ceil(threads) * matmul::PANEL).max(1);
            tasks.extend(
                out.chunks_mut(share)
                    .enumerate()
                    .map(|(at, out)| PanelTask {
                        weights,
                        bias: bias.map(|bias| &bias[at * share..][..out.len()]),
                        x,
                        first_panel: at * share / matmul::PANEL,
                        out,
                    }),
            );
        } else {
            let share = m.div_ceil(threads).max(1);
            let of_rows = out.chunks_mut((share * n).max(1)).zip(x.chunks(share * k));
            tasks.extend(of_rows.map(|(out, x)| PanelTask {
                weights,
                bias: *bias,
                x,
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

/// The same for a few rows: threads share the columns, so that the weights are read once.
fn multiply_few(isa: Isa, x: &[f32], products: &mut [Product], threads: usize) {
    for Product { matrix, bias, out } in products {
        let Matrix::Panels(weights) = matrix else {
            unreachable!("the caller looked at the format");
        };
        let (n, m) = (weights.n, x.len() / weights.k);
        let panels = n.div_ceil(matmul::PANEL).div_ceil(threads).max(1);
        let shares: Vec<Vec<f32>> = (0..n)
            .into_par_iter()
            .step_by(panels * matmul::PANEL)
            .map(|first| {
                let width = (panels * matmul::PANEL).min(n - first);
                let mut share = vec![0.0; m * width];
                PanelTask {
                    weights,
                    bias: bias.map(|bias| &bias[first..][..width]),
                    x,
                    first_panel: first / matmul::PANEL,
                    out: &mut share,
                }
                .run(isa);
                share
            })
            .collect();
        out.resize(m * n, 0.0);
        for (row, out) in out.chunks_exact_mut(n).enumerate() {
            let mut rest = out;
            for share in &shares {
                let width = share.len() / m;
                let own;
                (own, rest) = rest.split_at_mut(width);
                own.copy_from_slice(&share[row * width..][..width]);
            }
        }
    }
}

/// All outputs of some rows, or those of some panels of one row or a few.
struct PanelTask<'a> {
    weights: &'a Panels,
    bias: Option<&'a [f32]>,
    x: &'a [f32],
    first_panel: usize,
    out: &'a mut [f32],
}

impl PanelTask<'_> {
    fn run(self, isa: Isa) {
        if self.out.is_empty() {
            return;
        }
        let k = self.weights.k;
        let m = self.x.len() / k;
        let columns = self.out.len() / m;
        let panels = self.first_panel..self.first_panel + columns.div_ceil(matmul::PANEL);
        let rows = View::rows(self.x, k);
        matmul(
            isa,
            m,
            rows,
            self.weights,
            panels,
            self.out,
            columns,
            Write::Replace,
        );
        if let Some(bias) = self.bias {
            rows::add_bias(isa, self.out, bias);
        }
    }
}
