//! A block with multi-head latent attention: what a position remembers is one row that all heads share, and that is key and
//! value at once.
//!
//! Keys and values of a head are linear in the latent, so a query is carried over to the latent instead, and the latents that
//! it finds are made into values afterwards (<https://arxiv.org/abs/2405.04434>, section 2.1.2: "absorbed"). To the cache this is
//! one key head with many query heads: the same bits however a prompt is cut.

use super::experts::Mlp;
use super::{Buffers, Layers, Place};
use crate::ModelError;
use crate::cache::LayerCache;
use crate::layers::{Linear, Norm, each_task, side_by_side};
use crate::matrix::{Intake, Matrix, Product};
use crate::rotary::{Angles, turn_neighbours};
use crate::spec::{DecoderSpec, Experts, Latent, RopePairs};
use crate::weights::Source;
use kernels::isa::Isa;
use kernels::matmul::Panels;
use kernels::rows;

/// Of the norms over latents: the reference has it in its code, not in config.json.
const LATENT_EPS: f32 = 1e-6;

/// The weights of one block.
pub(crate) struct LatentBlock {
    shape: Latent,
    query_scale: f32,
    attention_norm: Norm,
    query: Query,
    kv_a: Linear,
    kv_norm: Norm,
    /// Of each head: from the part of a query that has no position to what meets the latent.
    to_latent: Vec<Matrix>,
    /// Of each head: from the latent to values.
    to_value: Vec<Matrix>,
    out: Linear,
    mlp_norm: Norm,
    mlp: Mlp,
}

/// How queries are made from rows.
enum Query {
    Whole(Linear),
    LowRank { a: Linear, norm: Norm, b: Linear },
}

impl LatentBlock {
    /// Block `layer` of a decoder with this latent; its tensors' names begin with `name`.
    pub fn load(
        source: Source,
        spec: &DecoderSpec,
        latent: &Latent,
        (layer, name): (usize, &str),
    ) -> Result<LatentBlock, ModelError> {
        let d = spec.hidden;
        let linear = |part: &str, outputs, inputs, bias: bool| {
            let name = format!("{name}self_attn.{part}");
            Linear::load(source, &name, outputs, inputs, bias.into())
        };
        let norm = |part: &str, eps| Norm::rms(source, &format!("{name}{part}"), eps);
        let heads = |part: &str| source.numbers(&format!("{name}self_attn.{part}.weight"));
        let queries = spec.heads * latent.of_query();
        Ok(LatentBlock {
            attention_norm: norm("input_layernorm", Layers::eps(spec))?,
            query: match latent.query {
                None => Query::Whole(linear("q_proj", queries, d, false)?),
                Some(width) => Query::LowRank {
                    a: linear("q_a_proj", width, d, spec.qkv_bias)?,
                    norm: norm("self_attn.q_a_layernorm", LATENT_EPS)?,
                    b: linear("q_b_proj", queries, width, false)?,
                },
            },
            kv_a: linear("kv_a_proj_with_mqa", latent.remembered(), d, spec.qkv_bias)?,
            kv_norm: norm("self_attn.kv_a_layernorm", LATENT_EPS)?,
            to_latent: heads("k_b_proj")?
                .chunks_exact(latent.plain * latent.width)
                .map(|head| matrix(latent.width, latent.plain, &transposed(head, latent.width)))
                .collect(),
            to_value: heads("v_b_proj")?
                .chunks_exact(latent.value * latent.width)
                .map(|head| matrix(latent.value, latent.width, head))
                .collect(),
            out: linear("o_proj", d, spec.heads * latent.value, spec.output_bias)?,
            mlp_norm: norm("post_attention_layernorm", Layers::eps(spec))?,
            mlp: Mlp::load(
                source,
                spec,
                Experts::at(&spec.experts, layer),
                &format!("{name}mlp."),
            )?,
            shape: latent.clone(),
            query_scale: spec.query_scale,
        })
    }

    /// Rows `[m, d]`, normed, to queries `[m, heads · (plain + rotated)]`.
    fn queries(&self, isa: Isa, intake: &mut Intake, normed: &[f32], q: &mut Vec<f32>) {
        match &self.query {
            Query::Whole(linear) => linear.apply(isa, intake, normed, q),
            Query::LowRank { a, norm, b } => {
                let (mut low, mut normed_low) = (Vec::new(), Vec::new());
                a.apply(isa, intake, normed, &mut low);
                norm.apply(isa, &low, &mut normed_low);
                b.apply(isa, intake, &normed_low, q);
            }
        }
    }

    /// Rows `[m, d]`, normed, to what is remembered: `[m, latent | rotated key]`.
    fn remembered(&self, place: &Place, intake: &mut Intake, normed: &[f32], kv: &mut Vec<f32>) {
        let (isa, width) = (place.isa, self.shape.width);
        self.kv_a.apply(isa, intake, normed, kv);
        let mut latent = vec![0.0; width];
        for (at, row) in kv.chunks_exact_mut(self.shape.remembered()).enumerate() {
            self.kv_norm.write(isa, &row[..width], &mut latent);
            row[..width].copy_from_slice(&latent);
            self.turn(isa, &mut row[width..], place.angles, at);
        }
    }

    /// Turns what is at row `at`.
    fn turn(&self, isa: Isa, values: &mut [f32], angles: &Angles, at: usize) {
        let half = self.shape.rotated / 2;
        let (cos, sin) = (
            &angles.cos[at * half..][..half],
            &angles.sin[at * half..][..half],
        );
        match self.shape.pairs {
            RopePairs::Halves => rows::rope_half(isa, values, self.shape.rotated, cos, sin),
            RopePairs::Neighbours => turn_neighbours(values, cos, sin),
        }
    }

    /// Queries carried over to the latent, `[m, heads · (latent | rotated)]`. The cache divides scores by the root of a width that is
    /// larger than a query's own: they are made larger by as much.
    fn absorbed(&self, place: &Place, q: &[f32]) -> Vec<f32> {
        let (shape, isa) = (&self.shape, place.isa);
        let (own, wide) = (shape.of_query(), shape.remembered());
        let stride = self.to_latent.len() * own;
        let m = q.len() / stride;
        let factor = (wide as f64 / own as f64).sqrt() as f32 * self.query_scale;
        let work = m * self.to_latent.len() * shape.plain * shape.width;
        let heads = each_task(self.to_latent.len(), work, |head| {
            let of_head = q.chunks_exact(stride).map(|row| &row[head * own..][..own]);
            let plain = of_head.clone().flat_map(|query| &query[..shape.plain]);
            let plain: Vec<f32> = plain.map(|number| number * factor).collect();
            let mut carried = Vec::new();
            multiply(isa, &self.to_latent[head], &plain, &mut carried);
            let mut out = Vec::with_capacity(m * wide);
            let both = of_head.zip(carried.chunks_exact(shape.width));
            for (at, (query, carried)) in both.enumerate() {
                out.extend_from_slice(carried);
                let first = out.len();
                out.extend(query[shape.plain..].iter().map(|number| number * factor));
                self.turn(isa, &mut out[first..], place.angles, at);
            }
            out
        });
        let mut out = Vec::new();
        side_by_side(&heads, wide, &mut out);
        out
    }

    /// Latents that heads found, `[m, heads · (latent | …)]`, to values `[m, heads · value]`.
    fn values(&self, isa: Isa, found: &[f32], out: &mut Vec<f32>) {
        let (shape, wide) = (&self.shape, self.shape.remembered());
        let stride = self.to_value.len() * wide;
        let work = found.len() / wide * shape.width * shape.value;
        let heads = each_task(self.to_value.len(), work, |head| {
            let rows = found.chunks_exact(stride);
            let latents = rows.flat_map(|row| &row[head * wide..][..shape.width]);
            let latents: Vec<f32> = latents.copied().collect();
            let mut values = Vec::new();
            multiply(isa, &self.to_value[head], &latents, &mut values);
            values
        });
        side_by_side(&heads, shape.value, out);
    }
}

impl Layers {
    /// Attention and MLP, both added to `x`: [`Layers::block`] for this kind of block.
    pub fn latent_block(
        &self,
        block: &LatentBlock,
        place: &Place,
        caches: &mut [&mut LayerCache],
        x: &mut [f32],
        buffers: &mut Buffers,
    ) {
        let isa = place.isa;
        let Buffers {
            intake,
            normed,
            q,
            k,
            out,
            ..
        } = buffers;
        block.attention_norm.apply(isa, x, normed);
        block.queries(isa, intake, normed, q);
        block.remembered(place, intake, normed, k);
        let absorbed = block.absorbed(place, q);
        let wide = block.shape.remembered();
        for (stretch, cache) in place.stretches.iter().zip(&mut *caches) {
            let own = &k[stretch.rows.start * wide..stretch.rows.end * wide];
            cache.append(isa, stretch.rows.len(), own, own);
        }
        self.attend(place, &absorbed, caches, q);
        block.values(isa, q, normed);
        block.out.add_to(isa, intake, normed, x, out);
        block.mlp_norm.apply(isa, x, normed);
        block.mlp.add_to(isa, intake, normed, x);
    }
}

fn multiply(isa: Isa, matrix: &Matrix, x: &[f32], out: &mut Vec<f32>) {
    let product = Product {
        matrix,
        bias: None,
        out,
    };
    Intake::default().multiply(isa, x, &mut [product]);
}

/// A matrix of a head; where every number is a bf16, it takes half the memory and gives the same.
fn matrix(outputs: usize, inputs: usize, numbers: &[f32]) -> Matrix {
    Matrix::Panels(match numbers.iter().all(|n| n.to_bits() & 0xffff == 0) {
        true => {
            let bits: Vec<u16> = numbers.iter().map(|n| (n.to_bits() >> 16) as u16).collect();
            Panels::from_linear_bf16(outputs, inputs, &bits)
        }
        false => Panels::from_linear_f32(outputs, inputs, numbers),
    })
}

/// Rows of `width` numbers as columns.
fn transposed(rows: &[f32], width: usize) -> Vec<f32> {
    let column = |at: usize| rows.iter().skip(at).step_by(width).copied();
    (0..width).flat_map(column).collect()
}
