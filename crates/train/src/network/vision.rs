//! The vision encoder: SigLIP's patch embedding, learned positions and pre-norm blocks, forward and backward.

use kernels::rows::add;
use kernels::training::{gelu_tanh_backward, gelu_tanh_to};

use super::attention::{self, Attention, Heads};
use super::buffers::{row_blocks, sized, span};
use super::linear::{Linear, Scratch, Weights};
use super::norm::{Norm, NormInput, Statistics};
use super::plan::{Pass, Plan};
use super::product::Rows;
use super::shape::VisionShape;

/// One encoder block.
#[derive(Clone, Debug)]
pub(crate) struct VisionLayer {
    pub norm1: Norm,
    pub qkv: Linear,
    pub out: Linear,
    pub norm2: Norm,
    pub fc1: Linear,
    pub fc2: Linear,
}

/// The encoder's layers.
#[derive(Clone, Debug)]
pub(crate) struct Vision {
    pub shape: VisionShape,
    pub patch: Linear,
    /// `[patches, width]`.
    pub positions: usize,
    pub layers: Vec<VisionLayer>,
    pub post_norm: Option<Norm>,
}

/// What one block keeps for its backward pass.
#[derive(Default)]
struct LayerSaved {
    input: Vec<f32>,
    normed1: Vec<f32>,
    statistics1: Statistics,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    log_sums: Vec<f32>,
    middle: Vec<f32>,
    normed2: Vec<f32>,
    statistics2: Statistics,
    hidden: Vec<f32>,
}

/// Buffers of the encoder.
#[derive(Default)]
pub(crate) struct VisionWork {
    rows: usize,
    patches: Vec<f32>,
    layers: Vec<LayerSaved>,
    last: Vec<f32>,
    normed: Vec<f32>,
    statistics: Statistics,
    plan: Plan,
    attention: attention::Scratch,
    scratch: Scratch,
    wide: Vec<f32>,
    narrow: Vec<f32>,
    dx: Vec<f32>,
    dattended: Vec<f32>,
    dqkv: Vec<f32>,
}

impl Vision {
    fn heads(&self) -> Heads {
        Heads {
            heads: self.shape.heads,
            kv_heads: self.shape.heads,
            head_dim: self.shape.width / self.shape.heads,
        }
    }

    /// Features of the last forward pass: `[tiles · patches, width]`.
    pub fn features<'a>(&self, work: &'a VisionWork) -> &'a [f32] {
        let features = if self.post_norm.is_some() {
            &work.normed
        } else {
            &work.last
        };
        &features[..work.rows * self.shape.width]
    }

    /// Encodes `[tiles, 3, image, image]` pixels.
    pub fn forward(&self, w: Weights, pixels: &[f32], work: &mut VisionWork) {
        let shape = &self.shape;
        let tiles = pixels.len() / shape.tile_values();
        let rows = tiles * shape.patches();
        work.rows = rows;
        work.layers.resize_with(
            self.layers.len().max(work.layers.len()),
            LayerSaved::default,
        );
        work.plan.clear();
        (0..tiles).for_each(|tile| {
            work.plan
                .add_tile(tile * shape.patches()..(tile + 1) * shape.patches())
        });
        self.embed(w, pixels, work);
        for index in 0..self.layers.len() {
            self.layer_forward(w, index, work);
        }
        if let Some(norm) = &self.post_norm {
            let normed = sized(&mut work.normed, rows * shape.width);
            norm.forward(
                w,
                &work.last[..rows * shape.width],
                normed,
                sized(&mut work.statistics, rows),
            );
        }
    }

    fn embed(&self, w: Weights, pixels: &[f32], work: &mut VisionWork) {
        let shape = &self.shape;
        let patches = sized(&mut work.patches, work.rows * shape.patch_inputs());
        for (index, row) in patches.chunks_exact_mut(shape.patch_inputs()).enumerate() {
            let (tile, place) = (index / shape.patches(), index % shape.patches());
            let tile = &pixels[tile * shape.tile_values()..][..shape.tile_values()];
            copy_patch(tile, shape, place, row);
        }
        let first = work
            .layers
            .first_mut()
            .map_or(&mut work.last, |layer| &mut layer.input);
        let x = sized(first, work.rows * shape.width);
        self.patch.forward(
            w,
            Rows {
                data: patches,
                stride: shape.patch_inputs(),
            },
            x,
            &mut work.scratch,
        );
        let positions = &w.values[self.positions..][..shape.patches() * shape.width];
        x.chunks_exact_mut(positions.len())
            .for_each(|tile| add(w.isa, tile, positions));
    }

    fn layer_forward(&self, w: Weights, index: usize, work: &mut VisionWork) {
        let (layer, rows, width) = (&self.layers[index], work.rows, self.shape.width);
        let (this, later) = work.layers[index..]
            .split_first_mut()
            .expect("one record per layer");
        let next = if index + 1 < self.layers.len() {
            &mut later[0].input
        } else {
            &mut work.last
        };
        let next = sized(next, rows * width);
        let normed1 = sized(&mut this.normed1, rows * width);
        let statistics1 = sized(&mut this.statistics1, rows);
        let qkv = sized(&mut this.qkv, rows * 3 * width);
        for block in row_blocks(rows) {
            let at = span(&block, width);
            layer.norm1.forward(
                w,
                &this.input[at.clone()],
                &mut normed1[at.clone()],
                &mut statistics1[block.clone()],
            );
            layer.qkv.forward(
                w,
                Rows {
                    data: &normed1[at],
                    stride: width,
                },
                &mut qkv[span(&block, 3 * width)],
                &mut work.scratch,
            );
        }
        let attended = sized(&mut this.attended, rows * width);
        let log_sums = sized(&mut this.log_sums, rows * self.shape.heads);
        let attention = Attention {
            arithmetic: w.arithmetic,
            plan: &work.plan,
            pass: Pass::Every,
            heads: self.heads(),
            qkv,
        };
        attention.forward(attended, log_sums, &mut work.attention);
        let middle = sized(&mut this.middle, rows * width);
        let normed2 = sized(&mut this.normed2, rows * width);
        let statistics2 = sized(&mut this.statistics2, rows);
        let hidden = sized(&mut this.hidden, rows * self.shape.ffn);
        for block in row_blocks(rows) {
            let at = span(&block, width);
            let middle = &mut middle[at.clone()];
            let attended = Rows {
                data: &attended[at.clone()],
                stride: width,
            };
            layer.out.forward_residual(
                w,
                attended,
                &this.input[at.clone()],
                middle,
                &mut work.scratch,
            );
            let normed2 = &mut normed2[at.clone()];
            layer
                .norm2
                .forward(w, middle, normed2, &mut statistics2[block.clone()]);
            let hidden = &mut hidden[span(&block, self.shape.ffn)];
            layer.fc1.forward(
                w,
                Rows {
                    data: normed2,
                    stride: width,
                },
                hidden,
                &mut work.scratch,
            );
            let active = sized(&mut work.wide, hidden.len());
            gelu_tanh_to(w.isa, active, hidden);
            layer.fc2.forward_residual(
                w,
                Rows {
                    data: active,
                    stride: self.shape.ffn,
                },
                middle,
                &mut next[at],
                &mut work.scratch,
            );
        }
    }

    /// From the gradient of the features (used up) to all gradients of the encoder.
    pub fn backward(
        &self,
        w: Weights,
        dfeatures: &mut [f32],
        gradients: &mut [f32],
        work: &mut VisionWork,
    ) {
        let (rows, width) = (work.rows, self.shape.width);
        let mut dx = std::mem::take(&mut work.dx);
        let dx_rows = sized(&mut dx, rows * width);
        match &self.post_norm {
            Some(norm) => {
                dx_rows.fill(0.0);
                let input = NormInput {
                    x: &work.last[..rows * width],
                    statistics: &work.statistics[..rows],
                };
                norm.backward(w, input, dfeatures, dx_rows, Some(gradients));
            }
            None => dx_rows.copy_from_slice(dfeatures),
        }
        for index in (0..self.layers.len()).rev() {
            self.layer_backward(w, index, dx_rows, gradients, work);
        }
        let positions = &mut gradients[self.positions..][..self.shape.patches() * width];
        dx_rows
            .chunks_exact(positions.len())
            .for_each(|tile| add(w.isa, positions, tile));
        let (dy, x) = (
            Rows {
                data: dx_rows,
                stride: width,
            },
            Rows {
                data: &work.patches,
                stride: self.shape.patch_inputs(),
            },
        );
        self.patch
            .backward_weight(w, rows, dy, x, gradients, &mut work.scratch);
        work.dx = dx;
    }

    fn layer_backward(
        &self,
        w: Weights,
        index: usize,
        dx: &mut [f32],
        gradients: &mut [f32],
        work: &mut VisionWork,
    ) {
        let (layer, rows, width, ffn) = (
            &self.layers[index],
            work.rows,
            self.shape.width,
            self.shape.ffn,
        );
        let saved = &mut work.layers[index];
        let scratch = &mut work.scratch;
        let dattended = sized(&mut work.dattended, rows * width);
        for block in row_blocks(rows) {
            let (count, at) = (block.len(), span(&block, width));
            let dx = &mut dx[at.clone()];
            let hidden = &mut saved.hidden[span(&block, ffn)];
            let dhidden = sized(&mut work.wide, hidden.len());
            let dy = Rows {
                data: dx,
                stride: width,
            };
            layer.fc2.backward_input(w, dy, dhidden, scratch);
            gelu_tanh_backward(w.isa, dhidden, hidden);
            layer.fc2.backward_weight(
                w,
                count,
                dy,
                Rows {
                    data: hidden,
                    stride: ffn,
                },
                gradients,
                scratch,
            );
            let dnormed = sized(&mut work.narrow, count * width);
            let dhidden = Rows {
                data: dhidden,
                stride: ffn,
            };
            layer.fc1.backward_input(w, dhidden, dnormed, scratch);
            let normed = Rows {
                data: &saved.normed2[at.clone()],
                stride: width,
            };
            layer
                .fc1
                .backward_weight(w, count, dhidden, normed, gradients, scratch);
            let input = NormInput {
                x: &saved.middle[at.clone()],
                statistics: &saved.statistics2[block],
            };
            layer.norm2.backward(w, input, dnormed, dx, Some(gradients));
            let dy = Rows {
                data: dx,
                stride: width,
            };
            layer
                .out
                .backward_input(w, dy, &mut dattended[at.clone()], scratch);
            let attended = Rows {
                data: &saved.attended[at],
                stride: width,
            };
            layer
                .out
                .backward_weight(w, count, dy, attended, gradients, scratch);
        }
        let dqkv = sized(&mut work.dqkv, rows * 3 * width);
        let kept = attention::Saved {
            out: &saved.attended,
            log_sums: &saved.log_sums,
        };
        let attention = Attention {
            arithmetic: w.arithmetic,
            plan: &work.plan,
            pass: Pass::Every,
            heads: self.heads(),
            qkv: &saved.qkv,
        };
        attention.backward(kept, dattended, dqkv, &mut work.attention);
        for block in row_blocks(rows) {
            let (count, at) = (block.len(), span(&block, width));
            let dqkv = Rows {
                data: &dqkv[span(&block, 3 * width)],
                stride: 3 * width,
            };
            let dnormed = sized(&mut work.narrow, count * width);
            layer.qkv.backward_input(w, dqkv, dnormed, scratch);
            let normed = Rows {
                data: &saved.normed1[at.clone()],
                stride: width,
            };
            layer
                .qkv
                .backward_weight(w, count, dqkv, normed, gradients, scratch);
            let input = NormInput {
                x: &saved.input[at.clone()],
                statistics: &saved.statistics1[block],
            };
            layer
                .norm1
                .backward(w, input, dnormed, &mut dx[at], Some(gradients));
        }
    }
}

/// One patch as the row that the convolution sees: channel, row, column. Pixels beyond the last whole patch are unseen.
fn copy_patch(tile: &[f32], shape: &VisionShape, place: usize, row: &mut [f32]) {
    let (patch, image) = (shape.patch, shape.image);
    let (top, left) = (place / shape.side() * patch, place % shape.side() * patch);
    for (line, into) in row.chunks_exact_mut(patch).enumerate() {
        let (channel, y) = (line / patch, top + line % patch);
        into.copy_from_slice(&tile[(channel * image + y) * image + left..][..patch]);
    }
}
