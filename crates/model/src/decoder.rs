//! The causal decoder: grouped-query attention over a key-value cache, gated MLP, and the head.

use crate::cache::{KvCache, LayerCache};
use crate::layers::{Linear, Norm, each_row, each_task, head_of, side_by_side};
use crate::spec::{DecoderSpec, EmbeddingNorm, ModelSpec, QkNorm};
use crate::{Checkpoint, ModelError, Taps};
use kernels::attention::{Queries, Reach, Scratch, attend};
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
    embedding: Vec<f32>,
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
    fn load(checkpoint: &Checkpoint, spec: &DecoderSpec, name: &str) -> Result<Block, ModelError> {
        let (d, q, kv) = (
            spec.hidden,
            spec.heads * spec.head_dim,
            spec.kv_heads * spec.head_dim,
        );
        let linear = |part: &str, outputs, inputs, bias: bool| {
            Linear::load(
                checkpoint,
                &format!("{name}{part}"),
                outputs,
                inputs,
                bias.into(),
            )
        };
        let norm = |part: &str| Norm::rms(checkpoint, &format!("{name}{part}"), spec.norm_eps);
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

/// Cosines and sines of a stretch of positions, `[m, head_dim / 2]` each.
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Decoder {
    pub fn load(checkpoint: &Checkpoint, spec: &ModelSpec) -> Result<Decoder, ModelError> {
        let (d, prefix) = (&spec.decoder, &spec.decoder_prefix);
        let embedding = format!("{prefix}model.embed_tokens.weight");
        let head = if d.tied {
            embedding.clone()
        } else {
            format!("{prefix}lm_head.weight")
        };
        let embedding_norm = match d.embedding_norm {
            EmbeddingNorm::LayerNorm => Some(Norm::layer(
                checkpoint,
                &format!("{prefix}model.embed_layer_norm"),
                d.norm_eps,
            )?),
            EmbeddingNorm::None => None,
        };
        Ok(Decoder {
            embedding: checkpoint.tensor_f32(&embedding)?,
            embedding_norm,
            blocks: (0..d.layers)
                .map(|layer| Block::load(checkpoint, d, &format!("{prefix}model.layers.{layer}.")))
                .collect::<Result<_, _>>()?,
            norm: Norm::rms(checkpoint, &format!("{prefix}model.norm"), d.norm_eps)?,
            head: Linear::from_weight(checkpoint, &head, d.vocabulary, d.hidden)?,
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
        let rows: Vec<f32> = ids
            .iter()
            .flat_map(|id| &self.embedding[*id as usize * d..][..d])
            .copied()
            .collect();
        match &self.embedding_norm {
            Some(norm) => norm.apply(isa, &rows),
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
            self.block(isa, block, &angles, before, cache.layer(layer), &mut x);
        }
        cache.advance(before + m);
        Ok(self.logits(isa, &x, logits, taps))
    }

    fn logits(&self, isa: Isa, x: &[f32], logits: LogitRows, taps: &mut dyn Taps) -> Vec<f32> {
        let d = self.spec.hidden;
        let wanted = if taps.wants("hidden.norm") || logits == LogitRows::All {
            x
        } else {
            &x[x.len().saturating_sub(d)..]
        };
        if logits == LogitRows::None && !taps.wants("hidden.norm") {
            return Vec::new();
        }
        let normed = self.norm.apply(isa, wanted);
        if taps.wants("hidden.norm") {
            taps.tap("hidden.norm", &[normed.len() / d, d], &normed);
        }
        let rows = match logits {
            LogitRows::None => return Vec::new(),
            LogitRows::Last => &normed[normed.len().saturating_sub(d)..],
            LogitRows::All => &normed[..],
        };
        let out = self.head.apply(isa, rows);
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

    fn block(
        &self,
        isa: Isa,
        block: &Block,
        angles: &Angles,
        before: usize,
        cache: &mut LayerCache,
        x: &mut [f32],
    ) {
        let normed = block.attention_norm.apply(isa, x);
        let (mut q, mut k) = (block.q.apply(isa, &normed), block.k.apply(isa, &normed));
        for (rows, norm) in [(&mut q, &block.q_norm), (&mut k, &block.k_norm)] {
            if let Some(norm) = norm {
                *rows = norm.apply(isa, rows);
            }
            self.rotate(isa, rows, angles);
        }
        self.remember(&k, &block.v.apply(isa, &normed), cache);
        let attended = self.attend(isa, &q, before, cache);
        rows::add(isa, x, &block.out.apply(isa, &attended));
        let normed = block.mlp_norm.apply(isa, x);
        let (mut gate, up) = (block.gate.apply(isa, &normed), block.up.apply(isa, &normed));
        let ffn = self.spec.ffn;
        each_row(&mut gate, ffn, |first, gate| {
            rows::silu_multiply(isa, gate, &up[first * ffn..][..gate.len()])
        });
        rows::add(isa, x, &block.down.apply(isa, &gate));
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

    /// Adds the rows' keys and values to the memories of their heads.
    fn remember(&self, k: &[f32], v: &[f32], cache: &mut LayerCache) {
        let (width, d) = (self.spec.head_dim, self.spec.kv_heads * self.spec.head_dim);
        for (head, memory) in cache.iter_mut().enumerate() {
            if !k.is_empty() {
                let at = head * width;
                memory.append(k.len() / d, head_of(k, d, at), head_of(v, d, at));
            }
        }
    }

    /// Row i attends to positions 0..=before + i; `group` query heads that stand side by side share a key head.
    fn attend(&self, isa: Isa, q: &[f32], before: usize, cache: &LayerCache) -> Vec<f32> {
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
            attend(
                isa,
                &queries,
                &cache[head],
                &mut Scratch::default(),
                &mut out,
                width,
            );
            out
        });
        let heads: Vec<Vec<f32>> = parts
            .chunks(portions.max(1))
            .map(|portions| portions.concat())
            .collect();
        side_by_side(&heads, share)
    }
}
