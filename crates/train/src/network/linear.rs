//! One linear layer over many rows: `y = x Wᵀ + b`, its two gradients, and the packed weights that they multiply with.

use std::ops::Range;

use kernels::isa::Isa;
use kernels::matmul::{Panels, View, Write, matmul};
use kernels::training::{add_columns, add_row};

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

/// The weights of every linear layer packed for multiplication, made once per optimizer step and shared by threads.
#[derive(Default)]
pub struct PackedWeights {
    forward: Vec<Panels>,
    backward: Vec<Panels>,
}

impl PackedWeights {
    /// Packs again after the values changed; allocates only the first time.
    pub(crate) fn repack(&mut self, linears: &[Linear], values: &[f32]) {
        use rayon::prelude::*;
        self.forward.resize_with(linears.len(), Panels::empty);
        self.backward.resize_with(linears.len(), Panels::empty);
        let both = self
            .forward
            .par_iter_mut()
            .zip(self.backward.par_iter_mut());
        both.zip(linears.par_iter())
            .for_each(|((forward, backward), linear)| {
                let weight = View::rows(&values[linear.weight_range()], linear.inputs);
                forward.pack(linear.inputs, linear.outputs, weight.transposed());
                backward.pack(linear.outputs, linear.inputs, weight);
            });
    }
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
    pub fn forward(&self, w: Weights, x: Rows, y: &mut [f32]) {
        let panels = &w.packed.forward[self.slot];
        let rows = y.len() / self.outputs;
        let write = match self.bias {
            Some(bias) => {
                let bias = &w.values[bias..bias + self.outputs];
                y.chunks_exact_mut(self.outputs)
                    .for_each(|row| row.copy_from_slice(bias));
                Write::Add
            }
            None => Write::Replace,
        };
        matmul(
            w.isa,
            rows,
            View::rows(x.data, x.stride),
            panels,
            0..panels.panel_count(),
            y,
            self.outputs,
            write,
        );
    }

    /// `y = residual + x Wᵀ + b`.
    pub fn forward_residual(&self, w: Weights, x: Rows, residual: &[f32], y: &mut [f32]) {
        let panels = &w.packed.forward[self.slot];
        let rows = y.len() / self.outputs;
        match self.bias {
            Some(bias) => add_row(w.isa, y, residual, &w.values[bias..bias + self.outputs]),
            None => y.copy_from_slice(residual),
        }
        matmul(
            w.isa,
            rows,
            View::rows(x.data, x.stride),
            panels,
            0..panels.panel_count(),
            y,
            self.outputs,
            Write::Add,
        );
    }

    /// `dx = dy W`, or added to dx.
    pub fn backward_input(&self, w: Weights, dy: Rows, dx: &mut [f32], write: Write) {
        let panels = &w.packed.backward[self.slot];
        let rows = dx.len() / self.inputs;
        matmul(
            w.isa,
            rows,
            View::rows(dy.data, dy.stride),
            panels,
            0..panels.panel_count(),
            dx,
            self.inputs,
            write,
        );
    }

    /// `dW += dyᵀ x` and `db += Σ dy`.
    pub fn backward_weight(
        &self,
        isa: Isa,
        rows: usize,
        dy: Rows,
        x: Rows,
        gradients: &mut [f32],
        scratch: &mut Panels,
    ) {
        for start in (0..rows).step_by(GRADIENT_ROWS) {
            let count = GRADIENT_ROWS.min(rows - start);
            scratch.pack(
                count,
                self.inputs,
                View::rows(&x.data[start * x.stride..], x.stride),
            );
            let dy_block = View::rows(&dy.data[start * dy.stride..], dy.stride).transposed();
            let into = &mut gradients[self.weight_range()];
            matmul(
                isa,
                self.outputs,
                dy_block,
                scratch,
                0..scratch.panel_count(),
                into,
                self.inputs,
                Write::Add,
            );
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
