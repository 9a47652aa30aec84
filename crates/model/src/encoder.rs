//! From pixels to decoder rows: SigLIP blocks on each tile, zero-padded block merge, projector.

mod chunked;

use crate::layers::{Bias, Linear, Norm, each_row, each_task, head_of, side_by_side};
use crate::matrix::Intake;
use crate::spec::{Activation, ModelSpec, ProjectorSpec, VisionSpec};
use crate::weights::Source;
use crate::{ModelError, Taps};
use chunked::Chunked;
use kernels::attention::{self, Reach};
use kernels::attention_kv8;
use kernels::isa::Isa;
use kernels::matmul_quantized::Precision;
use kernels::rows;
use rayon::prelude::*;

/// Tiles after the patch embedding: what the encoder's blocks begin with.
pub struct Patches {
    /// How many tiles.
    pub tiles: usize,
    /// `[tiles * patches of a tile, hidden size of the encoder]`, positions added.
    pub rows: Vec<f32>,
}

/// The encoder and the projector of one model.
pub(crate) struct Encoder {
    spec: VisionSpec,
    projector: ProjectorSpec,
    /// What attention rounds queries and the weights of values to, keys and values being INT8; None: all is f32.
    precision: Option<Precision>,
    patches: Linear,
    positions: Vec<f32>,
    blocks: Vec<Block>,
    post_norm: Option<Norm>,
    merge_norm: Norm,
    linear_1: Linear,
    linear_2: Linear,
}

pub(crate) struct Block {
    pub norm_1: Norm,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub out: Linear,
    pub norm_2: Norm,
    pub fc1: Linear,
    pub fc2: Linear,
}

impl Block {
    fn load(source: Source, spec: &VisionSpec, name: &str) -> Result<Block, ModelError> {
        let d = spec.hidden;
        let projection = |projection: &str| {
            Linear::load(
                source,
                &format!("{name}self_attn.{projection}"),
                d,
                d,
                Bias::Present,
            )
        };
        Ok(Block {
            norm_1: Norm::layer(source, &format!("{name}layer_norm1"), spec.norm_eps)?,
            q: projection("q_proj")?,
            k: projection("k_proj")?,
            v: projection("v_proj")?,
            out: projection("out_proj")?,
            norm_2: Norm::layer(source, &format!("{name}layer_norm2"), spec.norm_eps)?,
            fc1: Linear::load(
                source,
                &format!("{name}mlp.fc1"),
                spec.ffn,
                d,
                Bias::Present,
            )?,
            fc2: Linear::load(
                source,
                &format!("{name}mlp.fc2"),
                d,
                spec.ffn,
                Bias::Present,
            )?,
        })
    }

    /// Attention among the patches of one tile, then the MLP, both added to `x`.
    fn apply(
        &self,
        isa: Isa,
        spec: &VisionSpec,
        precision: Option<Precision>,
        x: &mut [f32],
        buffers: &mut Buffers,
    ) {
        let Buffers {
            intake,
            normed,
            q,
            k,
            v,
            inner,
            out,
        } = buffers;
        self.norm_1.apply(isa, x, normed);
        let projections = &mut [self.q.product(q), self.k.product(k), self.v.product(v)];
        intake.multiply(isa, normed, projections);
        attend(isa, spec, precision, [q, k, v], normed);
        self.out.add_to(isa, intake, normed, x, out);
        self.norm_2.apply(isa, x, normed);
        self.fc1.apply(isa, intake, normed, inner);
        activate(isa, spec.activation, spec.ffn, inner);
        self.fc2.add_to(isa, intake, inner, x, out);
    }
}

/// What one tile needs on its way through a block, used again for the next block.
#[derive(Default)]
struct Buffers {
    intake: Intake,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    inner: Vec<f32>,
    out: Vec<f32>,
}

/// Every patch of a tile attends to all; heads are computed apart and then put side by side.
fn attend(
    isa: Isa,
    spec: &VisionSpec,
    precision: Option<Precision>,
    [q, k, v]: [&[f32]; 3],
    out: &mut Vec<f32>,
) {
    let (d, width) = (spec.hidden, spec.hidden / spec.heads);
    let (count, scale) = (q.len() / d, 1.0 / (width as f32).sqrt());
    let reach = Reach::Everything;
    let heads = each_task(spec.heads, count * count * d, |head| {
        let at = head * width;
        let [keys, values] = [k, v].map(|x| head_of(x, d, at));
        let mut out = vec![0.0; count * width];
        if let Some(precision) = precision {
            let mut memory = attention_kv8::Memory::empty(width);
            memory.reserve(count);
            memory.append(isa, count, keys, values);
            let queries = attention_kv8::Queries {
                count,
                data: &q[at..],
                stride: d,
                group: 1,
                scale,
                reach,
                precision,
            };
            let scratch = &mut attention_kv8::Scratch::default();
            attention_kv8::attend(isa, &queries, &memory, scratch, &mut out, width);
        } else {
            let mut memory = attention::Memory::empty(width);
            memory.append(count, keys, values);
            let rows = head_of(q, d, at);
            let queries = attention::Queries {
                count,
                rows,
                scale,
                reach,
            };
            let scratch = &mut attention::Scratch::default();
            attention::attend(isa, &queries, &memory, scratch, &mut out, width);
        }
        out
    });
    side_by_side(&heads, width, out);
}

fn activate(isa: Isa, activation: Activation, width: usize, x: &mut [f32]) {
    each_row(x, width, |_, rows| activate_rows(isa, activation, rows));
}

/// The activation of numbers on this thread.
fn activate_rows(isa: Isa, activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Gelu => rows::gelu_erf(isa, x),
        Activation::GeluTanh => rows::gelu_tanh(isa, x),
        Activation::Silu => {
            let ones = vec![1.0; x.len()];
            rows::silu_multiply(isa, x, &ones);
        }
    }
}

impl Encoder {
    /// The layers that are computed; the file's others were checked and stay unread.
    pub fn load(source: Source, spec: &ModelSpec) -> Result<Option<Encoder>, ModelError> {
        let (Some(vision), Some(projector)) = (&spec.vision, &spec.projector) else {
            return Ok(None);
        };
        let (v, p) = (&vision.prefix, &projector.prefix);
        let merged = vision.hidden * projector.merge * projector.merge;
        let d = spec.decoder.hidden;
        Ok(Some(Encoder {
            precision: source
                .attention(&format!("{v}encoder.layers."), vision.hidden / vision.heads),
            patches: Linear::load(
                source,
                &format!("{v}embeddings.patch_embedding"),
                vision.hidden,
                3 * vision.patch * vision.patch,
                Bias::Present,
            )?,
            positions: source.numbers(&format!("{v}embeddings.position_embedding.weight"))?,
            blocks: (0..vision.used_layers)
                .map(|layer| Block::load(source, vision, &format!("{v}encoder.layers.{layer}.")))
                .collect::<Result<_, _>>()?,
            post_norm: if vision.post_norm {
                Some(Norm::layer(
                    source,
                    &format!("{v}post_layernorm"),
                    vision.norm_eps,
                )?)
            } else {
                None
            },
            merge_norm: Norm::layer(source, &format!("{p}norm"), projector.norm_eps)?,
            linear_1: Linear::load(source, &format!("{p}linear_1"), d, merged, Bias::Present)?,
            linear_2: Linear::load(source, &format!("{p}linear_2"), d, d, Bias::Present)?,
            spec: vision.clone(),
            projector: projector.clone(),
        }))
    }

    /// Pixels `[tiles, 3, side, side]` to patches.
    pub fn embed_patches(&self, isa: Isa, pixels: &[f32], tiles: usize) -> Patches {
        let spec = &self.spec;
        let (side, patches) = (spec.image, spec.grid() * spec.grid());
        assert_eq!(
            pixels.len(),
            tiles * 3 * side * side,
            "pixels of {tiles} tiles of {side}"
        );
        let mut rows = Vec::new();
        let unfolded = self.unfold(pixels);
        self.patches
            .apply(isa, &mut Intake::default(), &unfolded, &mut rows);
        for tile in rows.chunks_exact_mut(patches * spec.hidden) {
            rows::add(isa, tile, &self.positions);
        }
        Patches { tiles, rows }
    }

    /// Patches to rows `[tiles * tokens_per_tile, d]`; asks `cancel` before every block and before the projector.
    pub fn encode_patches(
        &self,
        isa: Isa,
        patches: Patches,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        let Patches { tiles, rows: mut x } = patches;
        let spec = &self.spec;
        let patches = spec.grid() * spec.grid();
        assert_eq!(
            x.len(),
            tiles * patches * spec.hidden,
            "patches of {tiles} tiles"
        );
        // Tiles do not see each other: each thread takes one through all blocks, and memory is needed for as many at once.
        let at_once = rayon::current_num_threads();
        let mut buffers: Vec<Buffers> = Vec::new();
        buffers.resize_with(at_once, Buffers::default);
        let mut in_chunks = chunked::Buffers::default();
        for tiles in x.chunks_mut(at_once * patches * spec.hidden) {
            for block in &self.blocks {
                if cancel() {
                    return Err(ModelError::Cancelled);
                }
                if let Some(chunked) = Chunked::of(isa, spec, self.precision, block) {
                    chunked.apply(tiles, &mut in_chunks);
                    continue;
                }
                tiles
                    .par_chunks_mut(patches * spec.hidden)
                    .zip(&mut buffers)
                    .for_each(|(tile, buffers)| {
                        block.apply(isa, spec, self.precision, tile, buffers)
                    });
            }
        }
        drop(buffers);
        if let Some(norm) = &self.post_norm {
            let mut normed = Vec::new();
            norm.apply(isa, &x, &mut normed);
            x = normed;
        }
        taps.tap("vision_features", &[tiles, patches, spec.hidden], &x);
        if cancel() {
            return Err(ModelError::Cancelled);
        }
        Ok(self.project(isa, &self.merge(&x, tiles), tiles, taps))
    }

    /// Merged blocks to decoder rows.
    fn project(&self, isa: Isa, merged: &[f32], tiles: usize, taps: &mut dyn Taps) -> Vec<f32> {
        let (width, d) = (self.linear_1.inputs(), self.linear_1.outputs());
        let tokens = self.spec.grid().div_ceil(self.projector.merge).pow(2);
        taps.tap("merged", &[tiles, tokens, width], merged);
        let (mut normed, mut inner, mut out) = (Vec::new(), Vec::new(), Vec::new());
        let intake = &mut Intake::default();
        self.merge_norm.apply(isa, merged, &mut normed);
        self.linear_1.apply(isa, intake, &normed, &mut inner);
        activate(isa, self.projector.activation, d, &mut inner);
        self.linear_2.apply(isa, intake, &inner, &mut out);
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
