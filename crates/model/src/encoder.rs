//! From pixels to decoder rows: SigLIP blocks on each tile, zero-padded block merge, projector.

use crate::layers::{Bias, Linear, Norm, each_row, each_task, head_of, side_by_side};
use crate::spec::{Activation, ModelSpec, ProjectorSpec, VisionSpec};
use crate::{Checkpoint, ModelError, Taps};
use kernels::attention::{Memory, Queries, Reach, Scratch, attend as attend_rows};
use kernels::isa::Isa;
use kernels::rows;
use rayon::prelude::*;

/// The encoder and the projector of one model.
pub(crate) struct Encoder {
    spec: VisionSpec,
    projector: ProjectorSpec,
    patches: Linear,
    positions: Vec<f32>,
    blocks: Vec<Block>,
    post_norm: Option<Norm>,
    merge_norm: Norm,
    linear_1: Linear,
    linear_2: Linear,
}

struct Block {
    norm_1: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm_2: Norm,
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    fn load(checkpoint: &Checkpoint, spec: &VisionSpec, name: &str) -> Result<Block, ModelError> {
        let d = spec.hidden;
        let projection = |projection: &str| {
            Linear::load(
                checkpoint,
                &format!("{name}self_attn.{projection}"),
                d,
                d,
                Bias::Present,
            )
        };
        Ok(Block {
            norm_1: Norm::layer(checkpoint, &format!("{name}layer_norm1"), spec.norm_eps)?,
            q: projection("q_proj")?,
            k: projection("k_proj")?,
            v: projection("v_proj")?,
            out: projection("out_proj")?,
            norm_2: Norm::layer(checkpoint, &format!("{name}layer_norm2"), spec.norm_eps)?,
            fc1: Linear::load(
                checkpoint,
                &format!("{name}mlp.fc1"),
                spec.ffn,
                d,
                Bias::Present,
            )?,
            fc2: Linear::load(
                checkpoint,
                &format!("{name}mlp.fc2"),
                d,
                spec.ffn,
                Bias::Present,
            )?,
        })
    }

    /// Attention among the patches of one tile, then the MLP, both added to `x`.
    fn apply(&self, isa: Isa, spec: &VisionSpec, x: &mut [f32]) {
        let normed = self.norm_1.apply(isa, x);
        let (q, k, v) = (
            self.q.apply(isa, &normed),
            self.k.apply(isa, &normed),
            self.v.apply(isa, &normed),
        );
        let attended = attend(isa, spec, [&q, &k, &v]);
        rows::add(isa, x, &self.out.apply(isa, &attended));
        let mut inner = self.fc1.apply(isa, &self.norm_2.apply(isa, x));
        activate(isa, spec.activation, spec.ffn, &mut inner);
        rows::add(isa, x, &self.fc2.apply(isa, &inner));
    }
}

/// Every patch of a tile attends to all; heads are computed apart and then put side by side.
fn attend(isa: Isa, spec: &VisionSpec, [q, k, v]: [&[f32]; 3]) -> Vec<f32> {
    let (d, width) = (spec.hidden, spec.hidden / spec.heads);
    let patches = q.len() / d;
    let heads = each_task(spec.heads, patches * patches * d, |head| {
        let at = head * width;
        let mut memory = Memory::empty(width);
        memory.append(patches, head_of(k, d, at), head_of(v, d, at));
        let queries = Queries {
            count: patches,
            rows: head_of(q, d, at),
            scale: 1.0 / (width as f32).sqrt(),
            reach: Reach::Everything,
        };
        let mut out = vec![0.0; patches * width];
        attend_rows(
            isa,
            &queries,
            &memory,
            &mut Scratch::default(),
            &mut out,
            width,
        );
        out
    });
    side_by_side(&heads, width)
}

fn activate(isa: Isa, activation: Activation, width: usize, x: &mut [f32]) {
    each_row(x, width, |_, rows| match activation {
        Activation::Gelu => rows::gelu_erf(isa, rows),
        Activation::GeluTanh => rows::gelu_tanh(isa, rows),
        Activation::Silu => {
            let ones = vec![1.0; rows.len()];
            rows::silu_multiply(isa, rows, &ones);
        }
    });
}

impl Encoder {
    /// The layers that are computed; the file's others were checked and stay unread.
    pub fn load(checkpoint: &Checkpoint, spec: &ModelSpec) -> Result<Option<Encoder>, ModelError> {
        let (Some(vision), Some(projector)) = (&spec.vision, &spec.projector) else {
            return Ok(None);
        };
        let (v, p) = (&vision.prefix, &projector.prefix);
        let merged = vision.hidden * projector.merge * projector.merge;
        let d = spec.decoder.hidden;
        Ok(Some(Encoder {
            patches: Linear::load(
                checkpoint,
                &format!("{v}embeddings.patch_embedding"),
                vision.hidden,
                3 * vision.patch * vision.patch,
                Bias::Present,
            )?,
            positions: checkpoint
                .tensor_f32(&format!("{v}embeddings.position_embedding.weight"))?,
            blocks: (0..vision.used_layers)
                .map(|layer| {
                    Block::load(checkpoint, vision, &format!("{v}encoder.layers.{layer}."))
                })
                .collect::<Result<_, _>>()?,
            post_norm: if vision.post_norm {
                Some(Norm::layer(
                    checkpoint,
                    &format!("{v}post_layernorm"),
                    vision.norm_eps,
                )?)
            } else {
                None
            },
            merge_norm: Norm::layer(checkpoint, &format!("{p}norm"), projector.norm_eps)?,
            linear_1: Linear::load(
                checkpoint,
                &format!("{p}linear_1"),
                d,
                merged,
                Bias::Present,
            )?,
            linear_2: Linear::load(checkpoint, &format!("{p}linear_2"), d, d, Bias::Present)?,
            spec: vision.clone(),
            projector: projector.clone(),
        }))
    }

    /// Pixels `[tiles, 3, side, side]` to rows `[tiles * tokens_per_tile, d]`; asks `cancel` before every block.
    pub fn encode(
        &self,
        isa: Isa,
        pixels: &[f32],
        tiles: usize,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        let spec = &self.spec;
        let (side, patches) = (spec.image, spec.grid() * spec.grid());
        assert_eq!(
            pixels.len(),
            tiles * 3 * side * side,
            "pixels of {tiles} tiles of {side}"
        );
        let mut x = self.patches.apply(isa, &self.unfold(pixels));
        for tile in x.chunks_exact_mut(patches * spec.hidden) {
            rows::add(isa, tile, &self.positions);
        }
        for block in &self.blocks {
            if cancel() {
                return Err(ModelError::Cancelled);
            }
            // Tiles do not see each other: one thread keeps a tile's rows in its caches for a whole block.
            x.par_chunks_mut(patches * spec.hidden)
                .for_each(|tile| block.apply(isa, spec, tile));
        }
        if let Some(norm) = &self.post_norm {
            x = norm.apply(isa, &x);
        }
        taps.tap("vision_features", &[tiles, patches, spec.hidden], &x);
        Ok(self.project(isa, &self.merge(&x, tiles), tiles, taps))
    }

    /// Merged blocks to decoder rows.
    fn project(&self, isa: Isa, merged: &[f32], tiles: usize, taps: &mut dyn Taps) -> Vec<f32> {
        let (width, d) = (self.linear_1.inputs(), self.linear_1.outputs());
        let tokens = self.spec.grid().div_ceil(self.projector.merge).pow(2);
        taps.tap("merged", &[tiles, tokens, width], merged);
        let mut inner = self
            .linear_1
            .apply(isa, &self.merge_norm.apply(isa, merged));
        activate(isa, self.projector.activation, d, &mut inner);
        let out = self.linear_2.apply(isa, &inner);
        taps.tap("image_embeds", &[tiles * tokens, d], &out);
        out
    }

    /// One row for each patch, in the order of a convolution's weight: channel, line, column.
    fn unfold(&self, pixels: &[f32]) -> Vec<f32> {
        let (side, patch, grid) = (self.spec.image, self.spec.patch, self.spec.grid());
        let width = 3 * patch * patch;
        let mut out = vec![0.0; pixels.len() / (3 * side * side) * grid * grid * width];
        out.par_chunks_mut(grid * grid * width)
            .zip(pixels.par_chunks(3 * side * side))
            .for_each(|(out, tile)| {
                for (at, row) in out.chunks_exact_mut(width).enumerate() {
                    let (top, left) = (at / grid * patch, at % grid * patch);
                    for (line, to) in row.chunks_exact_mut(patch).enumerate() {
                        let (channel, y) = (line / patch, top + line % patch);
                        to.copy_from_slice(&tile[(channel * side + y) * side + left..][..patch]);
                    }
                }
            });
        out
    }

    /// Blocks of merge x merge patches side by side in one row; patches past the grid are zeros.
    fn merge(&self, x: &[f32], tiles: usize) -> Vec<f32> {
        let (d, grid, merge) = (self.spec.hidden, self.spec.grid(), self.projector.merge);
        let blocks = grid.div_ceil(merge);
        let mut out = vec![0.0; tiles * blocks * blocks * merge * merge * d];
        for (at, to) in out.chunks_exact_mut(d).enumerate() {
            let (place, block) = (at % (merge * merge), at / (merge * merge));
            let (tile, block) = (block / (blocks * blocks), block % (blocks * blocks));
            let (y, x_at) = (
                block / blocks * merge + place / merge,
                block % blocks * merge + place % merge,
            );
            if y < grid && x_at < grid {
                to.copy_from_slice(&x[((tile * grid + y) * grid + x_at) * d..][..d]);
            }
        }
        out
    }
}
