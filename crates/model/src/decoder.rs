//! The causal decoder: embedding, blocks, norm and head.

use crate::block::{AnyBlock, Buffers, Layers, Stretch};
use crate::cache::{CacheShape, KvCache};
use crate::layers::{Linear, Norm, WORTH_SPLITTING, alone, scale_rows};
use crate::matrix::Intake;
use crate::spec::{EmbeddingNorm, ModelSpec};
use crate::weights::{Source, Table};
use crate::{ModelError, NoTaps, Taps};
use kernels::isa::Isa;
use std::borrow::Cow;
use std::ops::Range;

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

/// Rows on their way into the decoder.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `[m, d]`, d being [`ModelSpec::hidden_size`].
    pub rows: &'a [f32],
    /// Where they stand (time, row, column), for decoders whose positions are those; None: each follows the one before.
    pub positions: Option<&'a [[u32; 3]]>,
    /// Which of them are pictures, for decoders in which the rows of a picture see each other.
    pub pictures: &'a [Range<usize>],
}

impl<'a> From<&'a [f32]> for Inputs<'a> {
    fn from(rows: &'a [f32]) -> Inputs<'a> {
        Inputs {
            rows,
            positions: None,
            pictures: &[],
        }
    }
}

/// Rows of one conversation among those of others.
pub struct Segment<'a> {
    /// Rows, which take the next places of the cache.
    pub inputs: Inputs<'a>,
    /// What it remembers.
    pub cache: &'a mut KvCache,
    /// Of which rows logits are wanted.
    pub logits: LogitRows,
}

/// Multiply-adds of one step of several conversations that one thread does alone: some hundreds of microseconds.
const LITTLE: usize = 128 * WORTH_SPLITTING;
fn scaled(rows: &[f32], factor: f32) -> Cow<'_, [f32]> {
    match factor {
        1.0 => Cow::Borrowed(rows),
        factor => Cow::Owned(rows.iter().map(|value| value * factor).collect()),
    }
}

/// The decoder of one model.
pub(crate) struct Decoder {
    layers: Layers,
    /// None where the head's rows are the embedding.
    embedding: Option<Table>,
    embedding_norm: Option<Norm>,
    blocks: Vec<AnyBlock>,
    norm: Norm,
    head: Linear,
    cache: CacheShape,
    /// Numbers of a row that goes in.
    width: usize,
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
                .map(|layer| {
                    let name = format!("{prefix}model.layers.{layer}.");
                    AnyBlock::load(source, d, layer, &name)
                })
                .collect::<Result<_, _>>()?,
            norm: Norm::of(
                source,
                d.norm,
                &format!("{prefix}model.norm"),
                Layers::eps(d),
            )?,
            head: Linear::from_weight(source, &head, d.vocabulary, d.hidden)?,
            layers: Layers::new(d),
            width: spec.hidden_size(),
            cache: CacheShape {
                layers: d.layers,
                heads: d.kv_heads,
                head_dim: d.head_dim,
                precision: match d.latent {
                    // A latent stands for the keys and values of all heads: it is not rounded.
                    Some(_) => None,
                    None => source.attention(&format!("{prefix}model.layers."), d.head_dim),
                },
            },
        })
    }

    pub fn new_cache(&self, capacity: usize) -> KvCache {
        KvCache::new(&self.cache, capacity)
    }

    pub fn cache_from_bytes(
        &self,
        capacity: usize,
        tokens: usize,
        bytes: &[u8],
    ) -> Option<KvCache> {
        KvCache::from_bytes(&self.cache, capacity, tokens, bytes)
    }

    pub fn cache_bytes_per_token(&self) -> usize {
        self.cache.bytes_per_token()
    }

    /// Rows `[ids, d]`; a text brings nothing for later layers. Panics for an id past the vocabulary.
    pub fn embed(&self, isa: Isa, ids: &[u32]) -> Vec<f32> {
        let rows = self.embed_rows(isa, ids);
        let (d, width) = (self.layers.spec.hidden, self.width);
        if width == d {
            return rows;
        }
        let mut wide = vec![0.0; ids.len() * width];
        for (wide, row) in wide.chunks_exact_mut(width).zip(rows.chunks_exact(d)) {
            wide[..d].copy_from_slice(row);
        }
        wide
    }

    fn embed_rows(&self, isa: Isa, ids: &[u32]) -> Vec<f32> {
        let d = self.layers.spec.hidden;
        let mut rows = vec![0.0; ids.len() * d];
        for (row, id) in rows.chunks_exact_mut(d).zip(ids) {
            match &self.embedding {
                Some(table) => table.read_row(*id as usize, row),
                None => self.head.matrix.read_row(*id as usize, row),
            }
        }
        if self.layers.spec.embedding_scale != 1.0 {
            scale_rows(&mut rows, self.layers.spec.embedding_scale);
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
        segment: Segment,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        let (logits, mut buffers) = (segment.logits, Buffers::default());
        let x = self.run(isa, &mut [segment], &mut buffers, cancel, taps)?;
        Ok(self.logits(isa, &x, logits, &mut buffers.intake, taps))
    }

    /// Rows of several conversations to the logits of each, in one reading of the weights.
    pub fn forward_batch(
        &self,
        isa: Isa,
        batch: &mut [Segment],
        cancel: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let rows: usize = batch.iter().map(|segment| segment.inputs.rows.len()).sum();
        match self.is_little(rows / self.width) {
            true => alone(|| self.forward_together(isa, batch, cancel)),
            false => self.forward_together(isa, batch, cancel),
        }
    }

    /// Whether rows are so little work that other threads would be there too late: waking one takes as long as some products.
    fn is_little(&self, rows: usize) -> bool {
        let spec = &self.layers.spec;
        let d = spec.hidden;
        let attention = 2 * (spec.heads + spec.kv_heads) * spec.head_dim;
        let row = spec.layers * d * (attention + 3 * spec.ffn) + d * spec.vocabulary;
        rows * row <= LITTLE
    }

    fn forward_together(
        &self,
        isa: Isa,
        batch: &mut [Segment],
        cancel: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut buffers = Buffers::default();
        let x = self.run(isa, batch, &mut buffers, cancel, &mut NoTaps)?;
        let d = self.layers.spec.hidden;
        let (mut wanted, mut rest) = (Vec::new(), &x[..]);
        let mut counts = Vec::with_capacity(batch.len());
        for segment in batch {
            let own;
            (own, rest) = rest.split_at(segment.inputs.rows.len() / self.width * d);
            let own = match segment.logits {
                LogitRows::None => &[],
                LogitRows::Last => &own[own.len().saturating_sub(d)..],
                LogitRows::All => own,
            };
            wanted.extend_from_slice(own);
            counts.push(own.len() / d);
        }
        let intake = &mut buffers.intake;
        let all = self.logits(isa, &wanted, LogitRows::All, intake, &mut NoTaps);
        let mut rest = &all[..];
        let mut take = |rows: usize| {
            let own;
            (own, rest) = rest.split_at(rows * self.layers.spec.vocabulary);
            own.to_vec()
        };
        Ok(counts.into_iter().map(&mut take).collect())
    }

    /// All rows through all blocks: what comes out of the last one. After a cancel the caches hold what they held before.
    fn run(
        &self,
        isa: Isa,
        batch: &mut [Segment],
        buffers: &mut Buffers,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        let d = self.layers.spec.hidden;
        let (mut x, mut stretches) = (Vec::new(), Vec::with_capacity(batch.len()));
        let (mut positions, mut deep) = (Vec::new(), Vec::new());
        for segment in &mut *batch {
            let (first, before) = (x.len() / d, segment.cache.len());
            for row in segment.inputs.rows.chunks_exact(self.width) {
                x.extend_from_slice(&row[..d]);
                deep.extend_from_slice(&row[d..]);
            }
            let rows = first..x.len() / d;
            assert!(
                before + rows.len() <= segment.cache.capacity(),
                "{} rows after {before}, the cache was made for {}",
                rows.len(),
                segment.cache.capacity()
            );
            let given = segment.inputs.positions;
            positions.extend(self.layers.positions(segment.cache, rows.len(), given));
            stretches.push(Stretch {
                rows,
                before,
                pictures: match self.layers.spec.whole_pictures {
                    true => segment.inputs.pictures.to_vec(),
                    false => Vec::new(),
                },
            });
        }
        self.layers.enter(&mut x);
        let scale = self.layers.spec.residual_scale;
        let angles = self.layers.angles(&positions);
        for (layer, block) in self.blocks.iter().enumerate() {
            if cancel() {
                for (segment, stretch) in batch.iter_mut().zip(&stretches) {
                    segment.cache.truncate(stretch.before);
                }
                return Err(ModelError::Cancelled);
            }
            let name = format!("hidden.{layer}");
            if taps.wants(&name) {
                taps.tap(&name, &[x.len() / d, d], &scaled(&x, scale));
            }
            let layers = batch.iter_mut().map(|segment| segment.cache.layer(layer));
            let caches = &mut layers.collect::<Vec<_>>();
            let place = self.layers.place(isa, layer, &angles, &stretches);
            self.layers
                .any_block(block, &place, caches, &mut x, buffers);
            if layer < self.layers.spec.deep_rows {
                self.add_deep(&mut x, &deep, layer);
            }
        }
        for (segment, stretch) in batch.iter_mut().zip(&stretches) {
            segment.cache.advance(stretch.before + stretch.rows.len());
        }
        Ok(x)
    }

    /// Adds to every row what its picture brings for what comes after a layer.
    fn add_deep(&self, x: &mut [f32], deep: &[f32], layer: usize) {
        let d = self.layers.spec.hidden;
        let rows = x.chunks_exact_mut(d).zip(deep.chunks_exact(self.width - d));
        for (row, deep) in rows {
            let sums = row.iter_mut().zip(&deep[layer * d..][..d]);
            sums.for_each(|(sum, value)| *sum += value);
        }
    }

    fn logits(
        &self,
        isa: Isa,
        x: &[f32],
        logits: LogitRows,
        intake: &mut Intake,
        taps: &mut dyn Taps,
    ) -> Vec<f32> {
        let d = self.layers.spec.hidden;
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
        let rows = scaled(rows, 1.0 / self.layers.spec.logit_divisor);
        let mut out = Vec::new();
        self.head.apply(isa, intake, &rows, &mut out);
        if let Some(cap) = self.layers.spec.logit_cap {
            out.iter_mut()
                .for_each(|logit| *logit = cap * (*logit / cap).tanh());
        }
        if logits == LogitRows::All && taps.wants("prefill_logits") {
            taps.tap(
                "prefill_logits",
                &[rows.len() / d, self.layers.spec.vocabulary],
                &out,
            );
        }
        out
    }
}
