//! One block of the decoder: grouped-query attention over a key-value cache, and a gated MLP.

mod experts;
mod kinds;
mod latent;
mod quantized;

use crate::ModelError;
use crate::cache::{Asked, KvCache, LayerCache};
use crate::layers::{Linear, Norm, each_row, each_task, scale_rows};
use crate::matrix::{Intake, multiply_rows, threads_for};
use crate::rotary::{Angles, Rotary};
use crate::spec::{DecoderSpec, QkNorm, RopeAxes};
use crate::weights::Source;
use kernels::isa::Isa;
use kernels::rows;
use quantized::{Quantized, take_normed};
use std::ops::Range;

pub(crate) use kinds::AnyBlock;

/// Prompt rows of one key head that a thread takes at once.
const PORTION: usize = 48;

/// The weights of one block.
pub(crate) struct Block {
    attention_norm: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    mlp_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    pub fn load(source: Source, spec: &DecoderSpec, name: &str) -> Result<Block, ModelError> {
        let (d, q, kv) = (
            spec.hidden,
            spec.heads * spec.head_dim,
            spec.kv_heads * spec.head_dim,
        );
        let linear = |part: &str, outputs, inputs, bias: bool| {
            Linear::load(
                source,
                &format!("{name}{part}"),
                outputs,
                inputs,
                bias.into(),
            )
        };
        let norm = |part: &str| Norm::rms(source, &format!("{name}{part}"), spec.norm_eps);
        let row_norm = |part: &str| Norm::rms(source, &format!("{name}{part}"), Layers::eps(spec));
        let head_norm = |part: &str| {
            if spec.qk_norm == QkNorm::PerHead {
                norm(part).map(Some)
            } else {
                Ok(None)
            }
        };
        Ok(Block {
            attention_norm: row_norm("input_layernorm")?,
            q: linear("self_attn.q_proj", q, d, spec.qkv_bias)?,
            k: linear("self_attn.k_proj", kv, d, spec.qkv_bias)?,
            v: linear("self_attn.v_proj", kv, d, spec.qkv_bias)?,
            out: linear("self_attn.o_proj", d, q, spec.output_bias)?,
            q_norm: head_norm("self_attn.q_norm")?,
            k_norm: head_norm("self_attn.k_norm")?,
            mlp_norm: row_norm("post_attention_layernorm")?,
            gate: linear("mlp.gate_proj", spec.ffn, d, false)?,
            up: linear("mlp.up_proj", spec.ffn, d, false)?,
            down: linear("mlp.down_proj", d, spec.ffn, false)?,
        })
    }
}

/// Where rows stand.
pub(crate) struct Place<'a> {
    pub isa: Isa,
    pub angles: &'a Angles,
    /// Which rows are whose; together all of them, in order.
    pub stretches: &'a [Stretch],
}

/// Rows of one conversation, one after the other. Matrices take the rows of all conversations together; each attends to its own.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    /// Among all rows.
    pub rows: Range<usize>,
    /// Positions before the first.
    pub before: usize,
}

/// What portions of rows find, `[rows, group · head_dim]` each: stretch by stretch, a key head's portions one after the other.
struct Found {
    parts: Vec<Vec<f32>>,
    /// The number of each stretch's first part.
    firsts: Vec<usize>,
}

/// What matrices of a block take in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Queries, keys and values.
    Normed,
    /// The output projection.
    Attended,
    /// Gate and up.
    MlpNormed,
    /// Down.
    Gated,
}

/// Sees what matrices take in.
pub(crate) trait Watch {
    fn takes_in(&mut self, input: Input, rows: &[f32]);

    /// Whether it looks at all: else rows may be quantized on their way from one matrix to the next.
    fn watches(&self) -> bool {
        true
    }
}

/// Nobody watches.
impl Watch for () {
    fn takes_in(&mut self, _: Input, _: &[f32]) {}

    fn watches(&self) -> bool {
        false
    }
}

/// What rows need on their way through a block, used again for the next block.
#[derive(Default)]
pub(crate) struct Buffers {
    pub intake: Intake,
    /// What the last matrix takes in.
    inner: Intake,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    out: Vec<f32>,
}

/// What all blocks share.
pub(crate) struct Layers {
    pub spec: DecoderSpec,
    pub rotary: Rotary,
}

impl Layers {
    /// A decoder's blocks, which give what they are asked for divided by [`DecoderSpec::residual_scale`]: rows come in divided by
    /// it, so that what a block adds need not be multiplied. Norms do not see the difference but by what they add to the
    /// mean of squares, which [`Layers::eps`] corrects.
    pub fn new(spec: &DecoderSpec) -> Layers {
        Layers {
            rotary: Rotary::new(spec),
            spec: spec.clone(),
        }
    }

    /// Rows as the first block takes them in.
    pub fn enter(&self, rows: &mut [f32]) {
        let factor = self.spec.input_scale / self.spec.residual_scale;
        if factor != 1.0 {
            scale_rows(rows, factor);
        }
    }

    /// Where the next `rows` rows of a cache stand, which remembers positions that do not count by one. None given: each
    /// follows the one before.
    pub fn positions(
        &self,
        cache: &mut KvCache,
        rows: usize,
        given: Option<&[[u32; 3]]>,
    ) -> Vec<[u32; 3]> {
        let counted = |first: u32| (first..).take(rows).map(|position| [position; 3]).collect();
        if self.spec.rope_axes == RopeAxes::One {
            return counted(cache.len() as u32);
        }
        let positions = match given {
            Some(positions) => positions.to_vec(),
            None => counted(cache.next_position()),
        };
        assert_eq!(positions.len(), rows, "a position for each row");
        cache.remember_positions(&positions);
        positions
    }

    /// Of the norms over rows that are divided by the residual scale.
    pub fn eps(spec: &DecoderSpec) -> f32 {
        match spec.residual_scale {
            1.0 => spec.norm_eps,
            scale => spec.norm_eps / (scale * scale),
        }
    }

    /// Attention and MLP, both added to `x`. `caches`: one for each stretch.
    pub fn block(
        &self,
        block: &Block,
        place: &Place,
        caches: &mut [&mut LayerCache],
        x: &mut [f32],
        buffers: &mut Buffers,
        watch: &mut dyn Watch,
    ) {
        let isa = place.isa;
        let Buffers {
            intake,
            inner,
            normed,
            q,
            k,
            v,
            gate,
            up,
            out,
        } = buffers;
        let m = x.len() / self.spec.hidden;
        // A single row's numbers are few enough to lie about.
        let quantized = match m > 1 && !watch.watches() {
            true => Quantized::of(block, &self.spec),
            false => None,
        };
        let projections = &mut [block.q.product(q), block.k.product(k), block.v.product(v)];
        if let Some(quantized) = &quantized {
            let rows = take_normed(isa, intake, &block.attention_norm, x, quantized.projections);
            multiply_rows(isa, rows, projections);
        } else {
            block.attention_norm.apply(isa, x, normed);
            watch.takes_in(Input::Normed, normed);
            intake.multiply(isa, normed, projections);
        }
        for (rows, norm) in [(&mut *q, &block.q_norm), (&mut *k, &block.k_norm)] {
            if let Some(norm) = norm {
                norm.apply(isa, rows, out);
                std::mem::swap(rows, out);
            }
            self.rotate(isa, rows, place.angles);
        }
        let width = self.spec.kv_heads * self.spec.head_dim;
        for (stretch, cache) in place.stretches.iter().zip(&mut *caches) {
            let own = stretch.rows.start * width..stretch.rows.end * width;
            cache.append(isa, stretch.rows.len(), &k[own.clone()], &v[own]);
        }
        if let Some(quantized) = &quantized {
            let found = self.attend_rows(isa, q, place.stretches, caches);
            let gather = |first, to: &mut [f32]| self.gather(&found, place.stretches, first, to);
            quantized.add_attended(isa, (m, gather), intake, x);
            let rows = take_normed(isa, intake, &block.mlp_norm, x, quantized.gate.format);
            quantized.multiply_gated(isa, rows, inner);
            return quantized.add_down(isa, inner, x);
        }
        self.attend(isa, q, place.stretches, caches, normed);
        watch.takes_in(Input::Attended, normed);
        block.out.add_to(isa, intake, normed, x, out);
        block.mlp_norm.apply(isa, x, normed);
        watch.takes_in(Input::MlpNormed, normed);
        let halves = &mut [block.gate.product(gate), block.up.product(up)];
        intake.multiply(isa, normed, halves);
        let ffn = self.spec.ffn;
        each_row(gate, ffn, |first, gate| {
            rows::silu_multiply(isa, gate, &up[first * ffn..][..gate.len()])
        });
        watch.takes_in(Input::Gated, gate);
        block.down.add_to(isa, intake, gate, x, out);
    }

    fn rotate(&self, isa: Isa, x: &mut [f32], angles: &Angles) {
        let half = self.spec.head_dim / 2;
        let width = (x.len() / (angles.cos.len() / half).max(1)).max(1);
        each_row(x, width, |first, x| {
            for (row, values) in (first..).zip(x.chunks_exact_mut(width)) {
                let at = row * half..(row + 1) * half;
                let (cos, sin) = (&angles.cos[at.clone()], &angles.sin[at]);
                rows::rope_half(isa, values, self.spec.head_dim, cos, sin);
            }
        });
    }

    /// Row i of a stretch attends to positions 0..=before + i; `group` query heads that stand side by side share a key head.
    fn attend(
        &self,
        isa: Isa,
        q: &[f32],
        stretches: &[Stretch],
        caches: &[&mut LayerCache],
        attended: &mut Vec<f32>,
    ) {
        if let ([stretch], [cache]) = (stretches, caches)
            && stretch.rows.len() == 1
        {
            return self.attend_one(isa, q, stretch.before, cache, attended);
        }
        let found = self.attend_rows(isa, q, stretches, caches);
        attended.resize(q.len(), 0.0);
        self.gather(&found, stretches, 0, attended);
    }

    fn attend_rows(
        &self,
        isa: Isa,
        q: &[f32],
        stretches: &[Stretch],
        caches: &[&mut LayerCache],
    ) -> Found {
        let spec = &self.spec;
        let (group, width) = (spec.heads / spec.kv_heads, spec.head_dim);
        let (d, share) = (spec.heads * width, group * width);
        // The tasks for the threads.
        let (mut tasks, mut firsts) = (Vec::new(), Vec::new());
        let mut work = 0;
        for (at, stretch) in stretches.iter().enumerate() {
            firsts.push(tasks.len());
            let portions = || (0..stretch.rows.len()).step_by(PORTION);
            tasks.extend(
                (0..spec.kv_heads).flat_map(|head| portions().map(move |first| (at, head, first))),
            );
            work += stretch.rows.len() * (stretch.before + stretch.rows.len()) * d;
        }
        let parts = each_task(tasks.len(), work, |task| {
            let (at, head, first) = tasks[task];
            let stretch = &stretches[at];
            let asked = Asked {
                positions: PORTION.min(stretch.rows.len() - first),
                group,
                data: &q[(stretch.rows.start + first) * d + head * share..],
                stride: d,
                visible: stretch.before + first + 1,
            };
            caches[at].attend(isa, head, &asked)
        });
        Found { parts, firsts }
    }

    /// Rows that hold all heads, from row `first` on, of what [`Layers::attend_rows`] found.
    fn gather(&self, found: &Found, stretches: &[Stretch], first: usize, to: &mut [f32]) {
        let share = self.spec.heads / self.spec.kv_heads * self.spec.head_dim;
        let mut at = stretches.partition_point(|stretch| stretch.rows.end <= first);
        for (row, to) in (first..).zip(to.chunks_exact_mut(self.spec.kv_heads * share)) {
            while row == stretches[at].rows.end {
                at += 1;
            }
            let (rows, part) = (&stretches[at].rows, found.firsts[at]);
            let (portions, row) = (rows.len().div_ceil(PORTION), row - rows.start);
            for (head, to) in to.chunks_exact_mut(share).enumerate() {
                let part = &found.parts[part + head * portions + row / PORTION];
                to.copy_from_slice(&part[row % PORTION * share..][..share]);
            }
        }
    }

    /// The same for a single row. Each thread takes as many query heads as the others: a key head in the middle is shared.
    fn attend_one(
        &self,
        isa: Isa,
        q: &[f32],
        before: usize,
        cache: &LayerCache,
        attended: &mut Vec<f32>,
    ) {
        let spec = &self.spec;
        let (group, width) = (spec.heads / spec.kv_heads, spec.head_dim);
        let work = (before + 1) * spec.heads * width;
        let threads = threads_for(work);
        let tasks = stretches(spec.heads, group, spec.heads.div_ceil(threads));
        let parts = each_task(tasks.len(), work, |task| {
            let heads = tasks[task].clone();
            let asked = Asked {
                positions: 1,
                group: heads.len(),
                data: &q[heads.start * width..],
                stride: q.len(),
                visible: before + 1,
            };
            cache.attend(isa, heads.start / group, &asked)
        });
        attended.clear();
        attended.extend(parts.iter().flatten());
    }
}

/// Numbers below `count`, cut at every multiple of `group` and of `share`.
fn stretches(count: usize, group: usize, share: usize) -> Vec<Range<usize>> {
    let mut stretches = Vec::new();
    let mut first = 0;
    while first < count {
        let next = |length: usize| (first / length + 1) * length;
        let end = next(group).min(next(share)).min(count);
        stretches.push(first..end);
        first = end;
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::stretches;

    #[test]
    fn two_threads_get_ten_heads_each_of_five_groups_of_four() {
        let expected = [0..4, 4..8, 8..10, 10..12, 12..16, 16..20];
        assert_eq!(stretches(20, 4, 10), expected);
        assert_eq!(stretches(6, 3, 6), [0..3, 3..6]);
    }
}
