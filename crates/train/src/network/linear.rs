//! One linear layer over many rows: `y = x Wᵀ + b`, its two gradients, and the packed weights that they multiply with.

use std::ops::Range;

use kernels::isa::Isa;
use kernels::matmul::Write;
use kernels::training::{add_columns, add_row};
use rayon::prelude::*;

use super::product::{Arithmetic, Right, Rows};

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

/// The weights of every linear layer packed for multiplication, made once per optimizer step and shared by threads.
#[derive(Default)]
pub struct PackedWeights {
    /// For `x Wᵀ`.
    forward: Vec<Right>,
    /// For `dy W`.
    backward: Vec<Right>,
}

impl PackedWeights {
    /// Packs again after the values changed; allocates only the first time.
    pub(crate) fn repack(&mut self, arithmetic: Arithmetic, linears: &[Linear], values: &[f32]) {
        self.forward.resize_with(linears.len(), Right::default);
        self.backward.resize_with(linears.len(), Right::default);
        let both = self
            .forward
            .par_iter_mut()
            .zip(self.backward.par_iter_mut());
        both.zip(linears.par_iter())
            .for_each(|((forward, backward), linear)| {
                let shape = [linear.outputs, linear.inputs];
                let weight = Rows {
                    data: &values[linear.weight_range()],
                    stride: linear.inputs,
                };
                arithmetic.pack_columns(forward, shape, weight);
                arithmetic.pack_rows(backward, shape, weight);
            });
    }
}

/// Buffers for packed and rounded operands.
#[derive(Default)]
pub(crate) struct Scratch {
    right: Right,
    left: Vec<u32>,
}

/// The values of a step, as they are and packed.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub arithmetic: Arithmetic,
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
        self.multiply_forward(w, x, y, write, scratch);
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
        self.multiply_forward(w, x, y, Write::Add, scratch);
    }

    fn multiply_forward(
        &self,
        w: Weights,
        x: Rows,
        y: &mut [f32],
        write: Write,
        scratch: &mut Scratch,
    ) {
        let rows = y.len() / self.outputs;
        let left = w.arithmetic.rows([rows, self.inputs], x, &mut scratch.left);
        w.arithmetic.multiply(
            rows,
            left,
            &w.packed.forward[self.slot],
            (y, self.outputs),
            write,
        );
    }

    /// `dx = dy W`.
    pub fn backward_input(&self, w: Weights, dy: Rows, dx: &mut [f32], scratch: &mut Scratch) {
        let rows = dx.len() / self.inputs;
        let left = w
            .arithmetic
            .rows([rows, self.outputs], dy, &mut scratch.left);
        w.arithmetic.multiply(
            rows,
            left,
            &w.packed.backward[self.slot],
            (dx, self.inputs),
            Write::Replace,
        );
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
        let Scratch { right, left } = scratch;
        for start in (0..rows).step_by(GRADIENT_ROWS) {
            let count = GRADIENT_ROWS.min(rows - start);
            w.arithmetic
                .pack_rows(right, [count, self.inputs], x.from(start));
            let left = w
                .arithmetic
                .columns([count, self.outputs], dy.from(start), left);
            let into = &mut gradients[self.weight_range()];
            w.arithmetic
                .multiply(self.outputs, left, right, (into, self.inputs), Write::Add);
        }
        if let Some(bias) = self.bias {
            add_columns(
                w.isa,
                &mut gradients[bias..bias + self.outputs],
                rows,
                dy.data,
                dy.stride,
            );
        }
    }
}
