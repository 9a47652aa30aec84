//! One linear layer over many rows: `y = x Wᵀ + b`, its two gradients, and the packed weights that they multiply with.

use std::ops::Range;

use kernels::isa::Isa;
use kernels::matmul::{Panels, View, Write, matmul};
use kernels::matmul_bf16::{Bf16Isa, PairPanels, PairView, matmul_bf16, round_across, round_along};
use kernels::training::{add_columns, add_row};
use rayon::prelude::*;

use super::buffers::sized;

/// Rows of one pass of the weight gradient: a panel of packed inputs and a block of output gradients stay in the first
/// cache.
const GRADIENT_ROWS: usize = 256;

/// Where a linear layer's numbers lie. The weight is `[outputs, inputs]`, row-major, and may be several tensors that
/// lie side by side in the flat vector (q, k, v).
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub inputs: usize,
    pub outputs: usize,
    pub weight: usize,
    pub bias: Option<usize>,
    /// Index in [`PackedWeights`].
    pub slot: usize,
}

/// Rows inside a larger matrix: row i is `data[i * stride..][..width]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// The same rows from row `start` on.
    fn from(self, start: usize) -> Rows<'a> {
        Rows {
            data: &self.data[start * self.stride..],
            stride: self.stride,
        }
    }
}

/// How linear layers multiply. Values, sums, gradients and everything between linear layers are f32 with both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// In f32.
    #[default]
    F32,
    /// Inputs, weights and output gradients rounded to bf16 before they are multiplied: twice as fast where the processor
    /// multiplies bf16 itself.
    Bf16,
}

/// One packed matrix.
enum Matrix {
    F32(Panels),
    Bf16(Bf16Isa, PairPanels),
}

/// The weights of every linear layer packed for multiplication, made once per optimizer step and shared by threads.
#[derive(Default)]
pub struct PackedWeights {
    /// For `x Wᵀ`.
    forward: Vec<Matrix>,
    /// For `dy W`.
    backward: Vec<Matrix>,
}

impl PackedWeights {
    /// Packs again after the values changed; allocates only the first time.
    pub(crate) fn repack(
        &mut self,
        isa: Isa,
        bf16: Option<Bf16Isa>,
        linears: &[Linear],
        values: &[f32],
    ) {
        for matrices in [&mut self.forward, &mut self.backward] {
            matrices.resize_with(linears.len(), || Matrix::F32(Panels::empty()));
            matrices.iter_mut().for_each(|matrix| matrix.turn(bf16));
        }
        let both = self
            .forward
            .par_iter_mut()
            .zip(self.backward.par_iter_mut());
        both.zip(linears.par_iter())
            .for_each(|((forward, backward), linear)| {
                let (outputs, inputs) = (linear.outputs, linear.inputs);
                let weight = &values[linear.weight_range()];
                let view = View::rows(weight, inputs);
                match forward {
                    Matrix::F32(panels) => panels.pack(inputs, outputs, view.transposed()),
                    Matrix::Bf16(_, panels) => panels.pack_linear(outputs, inputs, weight),
                }
                match backward {
                    Matrix::F32(panels) => panels.pack(outputs, inputs, view),
                    Matrix::Bf16(_, panels) => panels.pack_rows(isa, outputs, inputs, view),
                }
            });
    }
}

impl Matrix {
    /// Makes this the kind of matrix that `bf16` asks for, empty if it was the other.
    fn turn(&mut self, bf16: Option<Bf16Isa>) {
        match (&self, bf16) {
            (Matrix::F32(_), Some(isa)) => *self = Matrix::Bf16(isa, PairPanels::empty()),
            (Matrix::Bf16(..), None) => *self = Matrix::F32(Panels::empty()),
            _ => {}
        }
    }

    /// `y = x · matrix`, or added to y, for contiguous rows of y.
    fn multiply(&self, isa: Isa, x: Rows, y: &mut [f32], write: Write, scratch: &mut Scratch) {
        match self {
            Matrix::F32(panels) => {
                let (rows, width) = (y.len() / panels.n, panels.n);
                matmul(
                    isa,
                    rows,
                    View::rows(x.data, x.stride),
                    panels,
                    0..panels.panel_count(),
                    y,
                    width,
                    write,
                );
            }
            Matrix::Bf16(bf16, panels) => {
                let (rows, half) = (y.len() / panels.n, panels.pairs());
                let pairs = sized(&mut scratch.pairs, rows * half);
                round_along(isa, rows, panels.k, x.data, x.stride, pairs);
                let view = PairView {
                    data: pairs,
                    row_stride: half,
                    pair_stride: 1,
                };
                matmul_bf16(*bf16, rows, view, panels, y, panels.n, write);
            }
        }
    }
}

/// Buffers for packed and rounded operands.
#[derive(Default)]
pub(crate) struct Scratch {
    panels: Panels,
    pair_panels: PairPanels,
    pairs: Vec<u32>,
}

/// The values of a step, as they are and packed.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub isa: Isa,
    pub values: &'a [f32],
    pub packed: &'a PackedWeights,
}

impl Linear {
    pub fn weight_range(&self) -> Range<usize> {
        self.weight..self.weight + self.inputs * self.outputs
    }

    /// `y = x Wᵀ + b` for contiguous rows of y.
    pub fn forward(&self, w: Weights, x: Rows, y: &mut [f32], scratch: &mut Scratch) {
        let write = match self.bias {
            Some(bias) => {
                let bias = &w.values[bias..bias + self.outputs];
                y.chunks_exact_mut(self.outputs)
                    .for_each(|row| row.copy_from_slice(bias));
                Write::Add
            }
            None => Write::Replace,
        };
        w.packed.forward[self.slot].multiply(w.isa, x, y, write, scratch);
    }

    /// `y = residual + x Wᵀ + b`.
    pub fn forward_residual(
        &self,
        w: Weights,
        x: Rows,
        residual: &[f32],
        y: &mut [f32],
        scratch: &mut Scratch,
    ) {
        match self.bias {
            Some(bias) => add_row(w.isa, y, residual, &w.values[bias..bias + self.outputs]),
            None => y.copy_from_slice(residual),
        }
        w.packed.forward[self.slot].multiply(w.isa, x, y, Write::Add, scratch);
    }

    /// `dx = dy W`.
    pub fn backward_input(&self, w: Weights, dy: Rows, dx: &mut [f32], scratch: &mut Scratch) {
        w.packed.backward[self.slot].multiply(w.isa, dy, dx, Write::Replace, scratch);
    }

    /// `dW += dyᵀ x` and `db += Σ dy`.
    pub fn backward_weight(
        &self,
        w: Weights,
        rows: usize,
        dy: Rows,
        x: Rows,
        gradients: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (isa, into) = (w.isa, &mut gradients[self.weight_range()]);
        for start in (0..rows).step_by(GRADIENT_ROWS) {
            let count = GRADIENT_ROWS.min(rows - start);
            let (dy, x) = (dy.from(start), View::rows(x.from(start).data, x.stride));
            match &w.packed.backward[self.slot] {
                Matrix::F32(_) => {
                    let panels = &mut scratch.panels;
                    panels.pack(count, self.inputs, x);
                    let dy = View::rows(dy.data, dy.stride).transposed();
                    matmul(
                        isa,
                        self.outputs,
                        dy,
                        panels,
                        0..panels.panel_count(),
                        into,
                        self.inputs,
                        Write::Add,
                    );
                }
                Matrix::Bf16(bf16, _) => {
                    let panels = &mut scratch.pair_panels;
                    panels.pack_rows(isa, count, self.inputs, x);
                    let pairs = sized(&mut scratch.pairs, panels.pairs() * self.outputs);
                    round_across(isa, count, self.outputs, dy.data, dy.stride, pairs);
                    let dy = PairView {
                        data: pairs,
                        row_stride: 1,
                        pair_stride: self.outputs,
                    };
                    matmul_bf16(
                        *bf16,
                        self.outputs,
                        dy,
                        panels,
                        into,
                        self.inputs,
                        Write::Add,
                    );
                }
            }
        }
        if let Some(bias) = self.bias {
            add_columns(
                isa,
                &mut gradients[bias..bias + self.outputs],
                rows,
                dy.data,
                dy.stride,
            );
        }
    }
}
