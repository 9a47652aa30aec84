//! The language decoder's blocks: RMS norm, rotary grouped attention with branches, gated MLP; forward and backward.

use kernels::training::{rotate, silu_multiply_backward, silu_multiply_to};

use super::attention::{self, Attention, Heads};
use super::buffers::{gather_rows, row_blocks, scatter_rows, sized, span};
use super::linear::{Linear, Scratch, Weights};
use super::norm::{Norm, NormInput, Statistics};
use super::plan::{Pass, Plan};
use super::product::Rows;
use super::rope::RopeTable;
use super::shape::DecoderShape;

/// One decoder block.
#[derive(Clone, Debug)]
pub(crate) struct DecoderLayer {
    pub norm1: Norm,
    pub qkv: Linear,
    /// Norms of each query and key head (width `head_dim`), before the rotation.
    pub q_norm: Option<Norm>,
    pub k_norm: Option<Norm>,
    pub out: Linear,
    pub norm2: Norm,
    pub gate_up: Linear,
    pub down: Linear,
}

/// The decoder without embedding and head.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    pub shape: DecoderShape,
    pub layers: Vec<DecoderLayer>,
}

/// What one block keeps for its backward pass.
#[derive(Default)]
struct LayerSaved {
    input: Vec<f32>,
    normed1: Vec<f32>,
    statistics1: Statistics,
    qkv: Vec<f32>,
    /// q, k, v before norms and rotation, kept only where there are head norms.
    raw: Vec<f32>,
    head_statistics: Statistics,
    attended: Vec<f32>,
    log_sums: Vec<f32>,
    middle: Vec<f32>,
    normed2: Vec<f32>,
    statistics2: Statistics,
    gate_up: Vec<f32>,
}

/// Buffers of the decoder. The caller fills `plan`, `positions`, `supervised` and the rows of [`DecoderWork::input`].
#[derive(Default)]
pub(crate) struct DecoderWork {
    pub rows: usize,
    pub plan: Plan,
    pub positions: Vec<u32>,
    /// Rows with a label: behind the last block's attention, nothing else is computed.
    pub supervised: Vec<usize>,
    rope: RopeTable,
    layers: Vec<LayerSaved>,
    /// The supervised rows that leave the last block.
    last: Vec<f32>,
    /// The supervised rows that enter the last block, and their attention.
    last_input: Vec<f32>,
    last_attended: Vec<f32>,
    last_dattended: Vec<f32>,
    dx: Vec<f32>,
    attention: attention::Scratch,
    scratch: Scratch,
    wide: Vec<f32>,
    narrow: Vec<f32>,
    dattended: Vec<f32>,
    dqkv: Vec<f32>,
}

impl DecoderWork {
    /// The rows that enter the first block, `[rows, width]`, to be filled by the caller.
    pub fn input(&mut self, width: usize) -> &mut [f32] {
        if self.layers.is_empty() {
            self.layers.push(LayerSaved::default());
        }
        sized(&mut self.layers[0].input, self.rows * width)
    }

    /// The supervised rows that leave the last block.
    pub fn output(&self, width: usize) -> &[f32] {
        &self.last[..self.supervised.len() * width]
    }

    /// The gradient of [`DecoderWork::input`] after a backward pass.
    pub fn input_gradient(&self, width: usize) -> &[f32] {
        &self.dx[..self.rows * width]
    }
}

impl Decoder {
    fn heads(&self) -> Heads {
        Heads {
            heads: self.shape.heads,
            kv_heads: self.shape.kv_heads,
            head_dim: self.shape.head_dim,
        }
    }

    /// All blocks over `work.rows` rows.
    pub fn forward(&self, w: Weights, work: &mut DecoderWork) {
        work.layers.resize_with(
            self.layers.len().max(work.layers.len()),
            LayerSaved::default,
        );
        let longest = work.positions[..work.rows]
            .iter()
            .max()
            .map_or(0, |&last| last as usize + 1);
        work.rope
            .extend(self.shape.head_dim, self.shape.rope_base, longest);
        for index in 0..self.layers.len() {
            self.attention_forward(w, index, work);
            self.mlp_forward(w, index, work);
        }
    }

    fn is_last(&self, index: usize) -> bool {
        index + 1 == self.layers.len()
    }

    fn pass(&self, index: usize) -> Pass {
        if self.is_last(index) {
            Pass::Supervised
        } else {
            Pass::Every
        }
    }

    fn attention_forward(&self, w: Weights, index: usize, work: &mut DecoderWork) {
        let (layer, rows, width, qkv_width) = (
            &self.layers[index],
            work.rows,
            self.shape.width,
            self.shape.qkv_width(),
        );
        let this = &mut work.layers[index];
        let normed = sized(&mut this.normed1, rows * width);
        let statistics = sized(&mut this.statistics1, rows);
        let qkv = sized(&mut this.qkv, rows * qkv_width);
        for block in row_blocks(rows) {
            let at = span(&block, width);
            layer.norm1.forward(
                w,
                &this.input[at.clone()],
                &mut normed[at.clone()],
                &mut statistics[block.clone()],
            );
            layer.qkv.forward(
                w,
                Rows {
                    data: &normed[at],
                    stride: width,
                },
                &mut qkv[span(&block, qkv_width)],
                &mut work.scratch,
            );
        }
        self.norm_heads(
            w,
            layer,
            rows,
            qkv,
            &mut this.raw,
            &mut this.head_statistics,
        );
        self.rotate(w, qkv, &work.positions[..rows], &work.rope, 1.0);
        let attended = sized(&mut this.attended, rows * self.shape.q_width());
        let log_sums = sized(&mut this.log_sums, rows * self.shape.heads);
        let attention = Attention {
            arithmetic: w.arithmetic,
            plan: &work.plan,
            pass: self.pass(index),
            heads: self.heads(),
            qkv,
        };
        attention.forward(attended, log_sums, &mut work.attention);
    }

    /// Output projection, norm and MLP: into the next block's input, for the last block of the supervised rows only.
    fn mlp_forward(&self, w: Weights, index: usize, work: &mut DecoderWork) {
        let (layer, width, ffn, q_width) = (
            &self.layers[index],
            self.shape.width,
            self.shape.ffn,
            self.shape.q_width(),
        );
        let rows = if self.is_last(index) {
            work.supervised.len()
        } else {
            work.rows
        };
        let (this, later) = work.layers[index..]
            .split_first_mut()
            .expect("one record per layer");
        let (mut input, mut attended) = (&this.input[..], &this.attended[..]);
        let next = if self.is_last(index) {
            let (last_input, last_attended) = (
                sized(&mut work.last_input, rows * width),
                sized(&mut work.last_attended, rows * q_width),
            );
            gather_rows(input, &work.supervised, width, last_input);
            gather_rows(attended, &work.supervised, q_width, last_attended);
            (input, attended) = (last_input, last_attended);
            &mut work.last
        } else {
            &mut later[0].input
        };
        let next = sized(next, rows * width);
        let middle = sized(&mut this.middle, rows * width);
        let normed = sized(&mut this.normed2, rows * width);
        let statistics = sized(&mut this.statistics2, rows);
        let gate_up = sized(&mut this.gate_up, rows * 2 * ffn);
        for block in row_blocks(rows) {
            let at = span(&block, width);
            let middle = &mut middle[at.clone()];
            let attended = Rows {
                data: &attended[span(&block, q_width)],
                stride: q_width,
            };
            layer
                .out
                .forward_residual(w, attended, &input[at.clone()], middle, &mut work.scratch);
            let normed = &mut normed[at.clone()];
            layer
                .norm2
                .forward(w, middle, normed, &mut statistics[block.clone()]);
            let gate_up = &mut gate_up[span(&block, 2 * ffn)];
            layer.gate_up.forward(
                w,
                Rows {
                    data: normed,
                    stride: width,
                },
                gate_up,
                &mut work.scratch,
            );
            let active = sized(&mut work.wide, block.len() * ffn);
            silu_multiply_to(w.isa, active, gate_up, ffn);
            layer.down.forward_residual(
                w,
                Rows {
                    data: active,
                    stride: ffn,
                },
                middle,
                &mut next[at],
                &mut work.scratch,
            );
        }
    }

    /// Norms each query and key head in place, if the family does; keeps the rows from before.
    fn norm_heads(
        &self,
        w: Weights,
        layer: &DecoderLayer,
        rows: usize,
        qkv: &mut [f32],
        raw: &mut Vec<f32>,
        statistics: &mut Statistics,
    ) {
        let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) else {
            return;
        };
        let raw = sized(raw, qkv.len());
        raw.copy_from_slice(qkv);
        let normed_heads = self.shape.heads + self.shape.kv_heads;
        let statistics = sized(statistics, rows * normed_heads);
        let (dim, width) = (self.shape.head_dim, self.shape.qkv_width());
        for row in 0..rows {
            for head in 0..normed_heads {
                let norm = if head < self.shape.heads {
                    q_norm
                } else {
                    k_norm
                };
                let at = row * width + head * dim;
                let index = row * normed_heads + head;
                norm.forward(
                    w,
                    &raw[at..at + dim],
                    &mut qkv[at..at + dim],
                    &mut statistics[index..=index],
                );
            }
        }
    }

    fn rotate(&self, w: Weights, qkv: &mut [f32], positions: &[u32], table: &RopeTable, sign: f32) {
        let rotated = self.shape.q_width() + self.shape.kv_width();
        for (row, &position) in qkv.chunks_exact_mut(self.shape.qkv_width()).zip(positions) {
            let (cos, sin) = table.row(position as usize);
            rotate(
                w.isa,
                &mut row[..rotated],
                self.shape.head_dim,
                cos,
                sin,
                sign,
            );
        }
    }

    /// From the gradient of the supervised rows behind the last block (used up) to that of the first block's input, in
    /// [`DecoderWork::input_gradient`]; parameter gradients only if asked for.
    pub fn backward(
        &self,
        w: Weights,
        dlast: &mut [f32],
        mut gradients: Option<&mut [f32]>,
        work: &mut DecoderWork,
    ) {
        let (rows, width, q_width) = (work.rows, self.shape.width, self.shape.q_width());
        let mut dx = std::mem::take(&mut work.dx);
        let dx_rows = sized(&mut dx, rows * width);
        let mut dattended = std::mem::take(&mut work.dattended);
        let dattended_rows = sized(&mut dattended, rows * q_width);
        for index in (0..self.layers.len()).rev() {
            if self.is_last(index) {
                let mut dlast_attended = std::mem::take(&mut work.last_dattended);
                let dlast_attended_rows =
                    sized(&mut dlast_attended, work.supervised.len() * q_width);
                self.mlp_backward(
                    w,
                    index,
                    dlast,
                    dlast_attended_rows,
                    gradients.as_deref_mut(),
                    work,
                );
                scatter_rows(dlast, &work.supervised, width, dx_rows);
                scatter_rows(
                    dlast_attended_rows,
                    &work.supervised,
                    q_width,
                    dattended_rows,
                );
                work.last_dattended = dlast_attended;
            } else {
                self.mlp_backward(
                    w,
                    index,
                    dx_rows,
                    dattended_rows,
                    gradients.as_deref_mut(),
                    work,
                );
            }
            self.attention_backward(
                w,
                index,
                dattended_rows,
                dx_rows,
                gradients.as_deref_mut(),
                work,
            );
        }
        (work.dx, work.dattended) = (dx, dattended);
    }

    /// The MLP with its norm, and the output projection: fills the gradient of `attended`.
    fn mlp_backward(
        &self,
        w: Weights,
        index: usize,
        dx: &mut [f32],
        dattended: &mut [f32],
        mut gradients: Option<&mut [f32]>,
        work: &mut DecoderWork,
    ) {
        let (layer, width, ffn, q_width) = (
            &self.layers[index],
            self.shape.width,
            self.shape.ffn,
            self.shape.q_width(),
        );
        let saved = &mut work.layers[index];
        let attended = if self.is_last(index) {
            &work.last_attended
        } else {
            &saved.attended
        };
        let scratch = &mut work.scratch;
        for block in row_blocks(dx.len() / width) {
            let (count, at) = (block.len(), span(&block, width));
            let dx = &mut dx[at.clone()];
            let gate_up = &mut saved.gate_up[span(&block, 2 * ffn)];
            let active = sized(&mut work.wide, count * ffn);
            let dy = Rows {
                data: dx,
                stride: width,
            };
            layer.down.backward_input(w, dy, active, scratch);
            silu_multiply_backward(w.isa, active, gate_up, ffn);
            let dgate_up = Rows {
                data: gate_up,
                stride: 2 * ffn,
            };
            let normed = Rows {
                data: &saved.normed2[at.clone()],
                stride: width,
            };
            if let Some(flat) = gradients.as_deref_mut() {
                layer.down.backward_weight(
                    w,
                    count,
                    dy,
                    Rows {
                        data: active,
                        stride: ffn,
                    },
                    flat,
                    scratch,
                );
                layer
                    .gate_up
                    .backward_weight(w, count, dgate_up, normed, flat, scratch);
            }
            let dnormed = sized(&mut work.narrow, count * width);
            layer.gate_up.backward_input(w, dgate_up, dnormed, scratch);
            let input = NormInput {
                x: &saved.middle[at],
                statistics: &saved.statistics2[block.clone()],
            };
            layer
                .norm2
                .backward(w, input, dnormed, dx, gradients.as_deref_mut());
            let dy = Rows {
                data: dx,
                stride: width,
            };
            layer
                .out
                .backward_input(w, dy, &mut dattended[span(&block, q_width)], scratch);
            if let Some(flat) = gradients.as_deref_mut() {
                let attended = Rows {
                    data: &attended[span(&block, q_width)],
                    stride: q_width,
                };
                layer
                    .out
                    .backward_weight(w, count, dy, attended, flat, scratch);
            }
        }
    }

    fn attention_backward(
        &self,
        w: Weights,
        index: usize,
        dattended: &[f32],
        dx: &mut [f32],
        mut gradients: Option<&mut [f32]>,
        work: &mut DecoderWork,
    ) {
        let (layer, rows, width, qkv_width) = (
            &self.layers[index],
            work.rows,
            self.shape.width,
            self.shape.qkv_width(),
        );
        let saved = &mut work.layers[index];
        let dqkv = sized(&mut work.dqkv, rows * qkv_width);
        let kept = attention::Saved {
            out: &saved.attended,
            log_sums: &saved.log_sums,
        };
        let attention = Attention {
            arithmetic: w.arithmetic,
            plan: &work.plan,
            pass: self.pass(index),
            heads: self.heads(),
            qkv: &saved.qkv,
        };
        attention.backward(kept, dattended, dqkv, &mut work.attention);
        self.rotate(w, dqkv, &work.positions[..rows], &work.rope, -1.0);
        self.norm_heads_backward(w, layer, dqkv, saved, gradients.as_deref_mut());
        let scratch = &mut work.scratch;
        for block in row_blocks(rows) {
            let (count, at) = (block.len(), span(&block, width));
            let dqkv = Rows {
                data: &dqkv[span(&block, qkv_width)],
                stride: qkv_width,
            };
            let dnormed = sized(&mut work.narrow, count * width);
            layer.qkv.backward_input(w, dqkv, dnormed, scratch);
            if let Some(flat) = gradients.as_deref_mut() {
                let normed = Rows {
                    data: &saved.normed1[at.clone()],
                    stride: width,
                };
                layer
                    .qkv
                    .backward_weight(w, count, dqkv, normed, flat, scratch);
            }
            let input = NormInput {
                x: &saved.input[at.clone()],
                statistics: &saved.statistics1[block],
            };
            layer
                .norm1
                .backward(w, input, dnormed, &mut dx[at], gradients.as_deref_mut());
        }
    }

    fn norm_heads_backward(
        &self,
        w: Weights,
        layer: &DecoderLayer,
        dqkv: &mut [f32],
        saved: &mut LayerSaved,
        mut gradients: Option<&mut [f32]>,
    ) {
        let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) else {
            return;
        };
        let (dim, width) = (self.shape.head_dim, self.shape.qkv_width());
        let normed_heads = self.shape.heads + self.shape.kv_heads;
        for (row, dqkv) in dqkv.chunks_exact_mut(width).enumerate() {
            for head in 0..normed_heads {
                let norm = if head < self.shape.heads {
                    q_norm
                } else {
                    k_norm
                };
                let at = row * width + head * dim;
                let statistics = &saved.head_statistics[row * normed_heads + head..][..1];
                let input = NormInput {
                    x: &saved.raw[at..at + dim],
                    statistics,
                };
                // The rotated q and k are used up by now: their place serves as dy, the gradient's place as dx.
                let dy = &mut saved.qkv[at..at + dim];
                let dx = &mut dqkv[head * dim..(head + 1) * dim];
                dy.copy_from_slice(dx);
                dx.fill(0.0);
                norm.backward(w, input, dy, dx, gradients.as_deref_mut());
            }
        }
    }
}
