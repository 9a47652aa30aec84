//! One block of the decoder: grouped-query attention over a key-value cache, and a gated MLP.

mod experts;
mod kinds;
mod latent;
mod quantized;

use crate::ModelError;
use crate::cache::{Asked, KvCache, LayerCache};
use crate::encoder::activate_rows;
use crate::layers::{Linear, Norm, each_row, each_task, scale_rows};
use crate::matrix::{Intake, multiply_rows, threads_for};
use crate::rotary::{Angles, Rotary};
use crate::spec::{Activation, DecoderSpec, QkNorm, RopeAxes, Window};
use crate::weights::Source;
use kernels::attention::Reach;
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
    /// Over what attention gives, before it is added.
    attended_norm: Option<Norm>,
    mlp_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
    /// Over what the MLP gives.
    down_norm: Option<Norm>,
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
        let norm = |part: &str, eps| Norm::of(source, spec.norm, &format!("{name}{part}"), eps);
        let row_norm = |part: &str| norm(part, Layers::eps(spec));
        let maybe_norm = |wanted: bool, part: &str| match wanted {
            true => norm(part, spec.norm_eps).map(Some),
            false => Ok(None),
        };
        let head_norm = |part: &str| maybe_norm(spec.qk_norm == QkNorm::PerHead, part);
        Ok(Block {
            attention_norm: row_norm("input_layernorm")?,
            q: linear("self_attn.q_proj", q, d, spec.qkv_bias)?,
            k: linear("self_attn.k_proj", kv, d, spec.qkv_bias)?,
            v: linear("self_attn.v_proj", kv, d, spec.qkv_bias)?,
            out: linear("self_attn.o_proj", d, q, spec.output_bias)?,
            q_norm: head_norm("self_attn.q_norm")?.map(|norm| norm.times(spec.query_scale)),
            k_norm: head_norm("self_attn.k_norm")?,
            attended_norm: maybe_norm(spec.branch_norms, "attention_output_layernorm")?,
            mlp_norm: row_norm("post_attention_layernorm")?,
            gate: linear("mlp.gate_proj", spec.ffn, d, false)?,
            up: linear("mlp.up_proj", spec.ffn, d, false)?,
            down: linear("mlp.down_proj", d, spec.ffn, false)?,
            down_norm: maybe_norm(spec.branch_norms, "mlp_output_layernorm")?,
        })
    }
}

/// Where rows stand.
pub(crate) struct Place<'a> {
    pub isa: Isa,
    pub angles: &'a Angles,
    /// Which rows are whose; together all of them, in order.
    pub stretches: &'a [Stretch],
    /// Rows that a row sees, itself among them; none for all before it.
    pub window: Option<usize>,
}

/// Rows of one conversation, one after the other. Matrices take the rows of all conversations together; each attends to its own.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    /// Among all rows.
    pub rows: Range<usize>,
    /// Positions before the first.
    pub before: usize,
    /// Rows of pictures that see each other, counted from the stretch's first.
    pub pictures: Vec<Range<usize>>,
}

impl Stretch {
    /// The keys that its row `at` sees, with a window or without.
    fn span(&self, at: usize, window: Option<usize>) -> Range<usize> {
        let end = self.before + at + 1;
        let start = window.map_or(0, |tokens| end.saturating_sub(tokens));
        let picture = self.pictures.iter().find(|rows| rows.contains(&at));
        start..picture.map_or(end, |rows| self.before + rows.end)
    }
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
    /// Of layers with a window, where they have their own.
    window_rotary: Option<Rotary>,
}

/// The angles of rows, in all layers.
pub(crate) struct LayerAngles {
    far: Angles,
    near: Option<Angles>,
}

impl Layers {
    /// A decoder's blocks, which give what they are asked for divided by [`DecoderSpec::residual_scale`]: rows come in divided by
    /// it, so that what a block adds need not be multiplied. Norms do not see the difference but by what they add to the
    /// mean of squares, which [`Layers::eps`] corrects.
    pub fn new(spec: &DecoderSpec) -> Layers {
        Layers {
            rotary: Rotary::new(spec),
            window_rotary: Rotary::of_window(spec),
            spec: spec.clone(),
        }
    }

    /// The angles of rows at these positions.
    pub fn angles(&self, positions: &[[u32; 3]]) -> LayerAngles {
        let near = self.window_rotary.as_ref();
        LayerAngles {
            far: self.rotary.angles(positions),
            near: near.map(|rotary| rotary.angles(positions)),
        }
    }

    /// Where rows stand in a layer.
    pub fn place<'a>(
        &self,
        isa: Isa,
        layer: usize,
        angles: &'a LayerAngles,
        stretches: &'a [Stretch],
    ) -> Place<'a> {
        let window = Window::at(&self.spec.window, layer);
        Place {
            isa,
            angles: match (&angles.near, window) {
                (Some(near), Some(_)) => near,
                _ => &angles.far,
            },
            stretches,
            window: window.map(|window| window.tokens),
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
            let found = self.attend_rows(place, q, caches);
            let gather = |first, to: &mut [f32]| self.gather(&found, place.stretches, first, to);
            quantized.add_attended(isa, (m, gather), intake, x);
            let rows = take_normed(isa, intake, &block.mlp_norm, x, quantized.gate.format);
            quantized.multiply_gated(isa, rows, inner);
            return quantized.add_down(isa, inner, x);
        }
        self.attend(place, q, caches, normed);
        watch.takes_in(Input::Attended, normed);
        add_normed(
            isa,
            (&block.out, &block.attended_norm),
            intake,
            normed,
            (x, out, q),
        );
        block.mlp_norm.apply(isa, x, normed);
        watch.takes_in(Input::MlpNormed, normed);
        let halves = &mut [block.gate.product(gate), block.up.product(up)];
        intake.multiply(isa, normed, halves);
        let (ffn, activation) = (self.spec.ffn, self.spec.activation);
        each_row(gate, ffn, |first, gate| {
            multiply_gated(isa, activation, gate, &up[first * ffn..][..gate.len()])
        });
        watch.takes_in(Input::Gated, gate);
        add_normed(
            isa,
            (&block.down, &block.down_norm),
            intake,
            gate,
            (x, out, q),
        );
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

    /// Every row of a stretch attends to what it sees; `group` query heads that stand side by side share a key head.
    fn attend(
        &self,
        place: &Place,
        q: &[f32],
        caches: &[&mut LayerCache],
        attended: &mut Vec<f32>,
    ) {
        if let ([stretch], [cache]) = (place.stretches, caches)
            && stretch.rows.len() == 1
        {
            return self.attend_one(place, q, cache, attended);
        }
        let found = self.attend_rows(place, q, caches);
        attended.resize(q.len(), 0.0);
        self.gather(&found, place.stretches, 0, attended);
    }

    fn attend_rows(&self, place: &Place, q: &[f32], caches: &[&mut LayerCache]) -> Found {
        let (spec, stretches) = (&self.spec, place.stretches);
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
            let positions = PORTION.min(stretch.rows.len() - first);
            let spans: Vec<Range<usize>>;
            let asked = Asked {
                positions,
                group,
                data: &q[(stretch.rows.start + first) * d + head * share..],
                stride: d,
                reach: match (place.window, stretch.pictures.as_slice()) {
                    (None, []) => Reach::Past {
                        first: stretch.before + first + 1,
                        group,
                    },
                    (window, _) => {
                        let rows = first..first + positions;
                        spans = rows.map(|row| stretch.span(row, window)).collect();
                        Reach::Spans {
                            spans: &spans,
                            group,
                        }
                    }
                },
            };
            caches[at].attend(place.isa, head, &asked)
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
    fn attend_one(&self, place: &Place, q: &[f32], cache: &LayerCache, attended: &mut Vec<f32>) {
        let spec = &self.spec;
        let (group, width) = (spec.heads / spec.kv_heads, spec.head_dim);
        let span = place.stretches[0].span(0, place.window);
        let work = span.len() * spec.heads * width;
        let threads = threads_for(work);
        let tasks = stretches(spec.heads, group, spec.heads.div_ceil(threads));
        let parts = each_task(tasks.len(), work, |task| {
            let heads = tasks[task].clone();
            let asked = Asked {
                positions: 1,
                group: heads.len(),
                data: &q[heads.start * width..],
                stride: q.len(),
                reach: Reach::Spans {
                    spans: std::slice::from_ref(&span),
                    group: heads.len(),
                },
            };
            cache.attend(place.isa, heads.start / group, &asked)
        });
        attended.clear();
        attended.extend(parts.iter().flatten());
    }
}

/// `sum += norm(x · Wᵀ + b)`, where there is a norm. `room` is for what cannot be added on the way.
fn add_normed(
    isa: Isa,
    (linear, norm): (&Linear, &Option<Norm>),
    intake: &mut Intake,
    x: &[f32],
    (sum, out, room): (&mut [f32], &mut Vec<f32>, &mut Vec<f32>),
) {
    let Some(norm) = norm else {
        return linear.add_to(isa, intake, x, sum, out);
    };
    linear.apply(isa, intake, x, out);
    norm.apply(isa, out, room);
    rows::add(isa, sum, room);
}

/// `activation(gate) · up`, in the place of the first.
fn multiply_gated(isa: Isa, activation: Activation, gate: &mut [f32], up: &[f32]) {
    if activation == Activation::Silu {
        return rows::silu_multiply(isa, gate, up);
    }
    activate_rows(isa, activation, gate);
    gate.iter_mut().zip(up).for_each(|(gate, up)| *gate *= up);
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
