//! The causal decoder: grouped-query attention over a key-value cache, gated MLP, and the head.

use crate::cache::{KvCache, LayerCache};
use crate::layers::{Linear, Norm, each_row, each_task, side_by_side};
use crate::matrix::Intake;
use crate::spec::{DecoderSpec, EmbeddingNorm, ModelSpec, QkNorm};
use crate::weights::{Source, Table};
use crate::{ModelError, Taps};
use kernels::attention::{Queries, Reach};
use kernels::isa::Isa;
use kernels::matmul::View;
use kernels::rows;

/// Prompt rows of one key head that a thread takes at once.
const PORTION: usize = 48;

/// Which rows the head is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// None: a chunk in the middle of a prompt.
    None,
    /// The last row.
    Last,
    /// Every row.
    All,
}

/// The decoder of one model.
pub(crate) struct Decoder {
    spec: DecoderSpec,
    /// None where the head's rows are the embedding.
    embedding: Option<Table>,
    embedding_norm: Option<Norm>,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
    /// Rotary frequencies, head_dim / 2 of them.
    frequencies: Vec<f64>,
}

struct Block {
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
    fn load(source: Source, spec: &DecoderSpec, name: &str) -> Result<Block, ModelError> {
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
        let head_norm = |part: &str| {
            if spec.qk_norm == QkNorm::PerHead {
                norm(part).map(Some)
            } else {
                Ok(None)
            }
        };
        Ok(Block {
            attention_norm: norm("input_layernorm")?,
            q: linear("self_attn.q_proj", q, d, spec.qkv_bias)?,
            k: linear("self_attn.k_proj", kv, d, spec.qkv_bias)?,
            v: linear("self_attn.v_proj", kv, d, spec.qkv_bias)?,
            out: linear("self_attn.o_proj", d, q, spec.output_bias)?,
            q_norm: head_norm("self_attn.q_norm")?,
            k_norm: head_norm("self_attn.k_norm")?,
            mlp_norm: norm("post_attention_layernorm")?,
            gate: linear("mlp.gate_proj", spec.ffn, d, false)?,
            up: linear("mlp.up_proj", spec.ffn, d, false)?,
            down: linear("mlp.down_proj", d, spec.ffn, false)?,
        })
    }
}

/// Where rows stand: which layer, after how many positions.
struct Place<'a> {
    isa: Isa,
    layer: usize,
    angles: &'a Angles,
    before: usize,
}

impl Place<'_> {
    /// Shows what a block's matrices take in.
    fn tap(&self, taps: &mut dyn Taps, what: &str, m: usize, data: &[f32]) {
        if taps.wants_inputs() {
            let name = format!("hidden.{}.{what}", self.layer);
            taps.tap(&name, &[m, data.len() / m.max(1)], data);
        }
    }
}

/// What rows need on their way through a block, used again for the next block.
#[derive(Default)]
struct Buffers {
    intake: Intake,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    out: Vec<f32>,
}

/// Cosines and sines of a stretch of positions, `[m, head_dim / 2]` each.
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Decoder {
    pub fn load(source: Source, spec: &ModelSpec) -> Result<Decoder, ModelError> {
        let (d, prefix) = (&spec.decoder, &spec.decoder_prefix);
        let embedding = format!("{prefix}model.embed_tokens.weight");
        let head = if d.tied {
            embedding.clone()
        } else {
            format!("{prefix}lm_head.weight")
        };
        let embedding_norm = match d.embedding_norm {
            EmbeddingNorm::LayerNorm => Some(Norm::layer(
                source,
                &format!("{prefix}model.embed_layer_norm"),
                d.norm_eps,
            )?),
            EmbeddingNorm::None => None,
        };
        Ok(Decoder {
            embedding: match d.tied {
                true => None,
                false => Some(source.table(&embedding)?),
            },
            embedding_norm,
            blocks: (0..d.layers)
                .map(|layer| Block::load(source, d, &format!("{prefix}model.layers.{layer}.")))
                .collect::<Result<_, _>>()?,
            norm: Norm::rms(source, &format!("{prefix}model.norm"), d.norm_eps)?,
            head: Linear::from_weight(source, &head, d.vocabulary, d.hidden)?,
            frequencies: (0..d.head_dim / 2)
                .map(|i| d.rope_base.powf(-2.0 * i as f64 / d.head_dim as f64))
                .collect(),
            spec: d.clone(),
        })
    }

    pub fn new_cache(&self, capacity: usize) -> KvCache {
        let spec = &self.spec;
        KvCache::new(spec.layers, spec.kv_heads, spec.head_dim, capacity)
    }

    /// Rows `[ids, d]`. Panics for an id past the vocabulary.
    pub fn embed(&self, isa: Isa, ids: &[u32]) -> Vec<f32> {
        let d = self.spec.hidden;
        let mut rows = vec![0.0; ids.len() * d];
        for (row, id) in rows.chunks_exact_mut(d).zip(ids) {
            match &self.embedding {
                Some(table) => table.read_row(*id as usize, row),
                None => self.head.matrix.read_row(*id as usize, row),
            }
        }
        match &self.embedding_norm {
            Some(norm) => {
                let mut normed = Vec::new();
                norm.apply(isa, &rows, &mut normed);
                normed
            }
            None => rows,
        }
    }

    /// Rows `[m, d]` at the next m positions to logits. After a cancel the cache holds what it held before.
    pub fn forward(
        &self,
        isa: Isa,
        inputs: &[f32],
        cache: &mut KvCache,
        logits: LogitRows,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        let d = self.spec.hidden;
        let (m, before) = (inputs.len() / d, cache.len());
        assert!(
            before + m <= cache.capacity(),
            "{m} rows after {before}, the cache was made for {}",
            cache.capacity()
        );
        let angles = self.angles(before, m);
        let mut buffers = Buffers::default();
        let mut x = inputs.to_vec();
        for (layer, block) in self.blocks.iter().enumerate() {
            if cancel() {
                cache.truncate(before);
                return Err(ModelError::Cancelled);
            }
            let name = format!("hidden.{layer}");
            if taps.wants(&name) {
                taps.tap(&name, &[m, d], &x);
            }
            let place = Place {
                isa,
                layer,
                angles: &angles,
                before,
            };
            self.block(
                block,
                &place,
                cache.layer(layer),
                &mut x,
                &mut buffers,
                taps,
            );
        }
        cache.advance(before + m);
        Ok(self.logits(isa, &x, logits, &mut buffers.intake, taps))
    }

    fn logits(
        &self,
        isa: Isa,
        x: &[f32],
        logits: LogitRows,
        intake: &mut Intake,
        taps: &mut dyn Taps,
    ) -> Vec<f32> {
        let d = self.spec.hidden;
        let wanted = if taps.wants("hidden.norm") || logits == LogitRows::All {
            x
        } else {
            &x[x.len().saturating_sub(d)..]
        };
        if logits == LogitRows::None && !taps.wants("hidden.norm") {
            return Vec::new();
        }
        let mut normed = Vec::new();
        self.norm.apply(isa, wanted, &mut normed);
        if taps.wants("hidden.norm") {
            taps.tap("hidden.norm", &[normed.len() / d, d], &normed);
        }
        let rows = match logits {
            LogitRows::None => return Vec::new(),
            LogitRows::Last => &normed[normed.len().saturating_sub(d)..],
            LogitRows::All => &normed[..],
        };
        let mut out = Vec::new();
        self.head.apply(isa, intake, rows, &mut out);
        if logits == LogitRows::All && taps.wants("prefill_logits") {
            taps.tap(
                "prefill_logits",
                &[rows.len() / d, self.spec.vocabulary],
                &out,
            );
        }
        out
    }

    /// The reference multiplies position and frequency in f32; the angle is rounded there, its cosine only once.
    fn angles(&self, first: usize, m: usize) -> Angles {
        let angle = |position: usize| {
            self.frequencies
                .iter()
                .map(move |frequency| (position as f32 * *frequency as f32) as f64)
        };
        let all = || (first..first + m).flat_map(angle);
        Angles {
            cos: all().map(|a| a.cos() as f32).collect(),
            sin: all().map(|a| a.sin() as f32).collect(),
        }
    }

    /// Attention and MLP, both added to `x`. Taps: what its matrices take in, `hidden.i.normed`, `.attended`, `.mlp_normed`
    /// and `.gated`.
    fn block(
        &self,
        block: &Block,
        place: &Place,
        cache: &mut LayerCache,
        x: &mut [f32],
        buffers: &mut Buffers,
        taps: &mut dyn Taps,
    ) {
        let isa = place.isa;
        let Buffers {
            intake,
            normed,
            q,
            k,
            v,
            gate,
            up,
            out,
        } = buffers;
        block.attention_norm.apply(isa, x, normed);
        place.tap(taps, "normed", x.len() / self.spec.hidden, normed);
        let projections = &mut [block.q.product(q), block.k.product(k), block.v.product(v)];
        intake.multiply(isa, normed, projections);
        for (rows, norm) in [(&mut *q, &block.q_norm), (&mut *k, &block.k_norm)] {
            if let Some(norm) = norm {
                norm.apply(isa, rows, out);
                std::mem::swap(rows, out);
            }
            self.rotate(isa, rows, place.angles);
        }
        let m = x.len() / self.spec.hidden;
        cache.append(m, k, v);
        self.attend(isa, q, place.before, cache, normed);
        place.tap(taps, "attended", m, normed);
        block.out.apply(isa, intake, normed, out);
        rows::add(isa, x, out);
        block.mlp_norm.apply(isa, x, normed);
        place.tap(taps, "mlp_normed", m, normed);
        let halves = &mut [block.gate.product(gate), block.up.product(up)];
        intake.multiply(isa, normed, halves);
        let ffn = self.spec.ffn;
        each_row(gate, ffn, |first, gate| {
            rows::silu_multiply(isa, gate, &up[first * ffn..][..gate.len()])
        });
        place.tap(taps, "gated", m, gate);
        block.down.apply(isa, intake, gate, out);
        rows::add(isa, x, out);
    }

    fn rotate(&self, isa: Isa, x: &mut [f32], angles: &Angles) {
        let half = self.spec.head_dim / 2;
        let width = x.len() / (angles.cos.len() / half).max(1);
        for (row, values) in x.chunks_exact_mut(width.max(1)).enumerate() {
            let at = row * half..(row + 1) * half;
            rows::rope_half(
                isa,
                values,
                self.spec.head_dim,
                &angles.cos[at.clone()],
                &angles.sin[at],
            );
        }
    }

    /// Row i attends to positions 0..=before + i; `group` query heads that stand side by side share a key head.
    fn attend(
        &self,
        isa: Isa,
        q: &[f32],
        before: usize,
        cache: &LayerCache,
        attended: &mut Vec<f32>,
    ) {
        let spec = &self.spec;
        let (group, width) = (spec.heads / spec.kv_heads, spec.head_dim);
        let (d, share) = (spec.heads * width, group * width);
        let m = q.len() / d;
        // A key head's queries, by portions of rows: the tasks for the threads.
        let portions = m.div_ceil(PORTION);
        let work = m * (before + m) * d;
        let parts = each_task(spec.kv_heads * portions, work, |task| {
            let (head, first) = (task / portions, task % portions * PORTION);
            let rows = PORTION.min(m - first);
            let own = |row| &q[(first + row) * d + head * share..][..share];
            let own: Vec<f32> = (0..rows).flat_map(own).copied().collect();
            let queries = Queries {
                count: rows * group,
                rows: View::rows(&own, width),
                scale: 1.0 / (width as f32).sqrt(),
                reach: Reach::Past {
                    first: before + first + 1,
                    group,
                },
            };
            let mut out = vec![0.0; own.len()];
            cache.attend(isa, head, &queries, &mut out);
            out
        });
        let heads: Vec<Vec<f32>> = parts
            .chunks(portions.max(1))
            .map(|portions| portions.concat())
            .collect();
        side_by_side(&heads, share, attended);
    }
}
