//! A loaded model: weights checked against the specification, packed, and ready to be asked.

use crate::cache::KvCache;
use crate::decoder::{Decoder, Inputs, LogitRows, Segment};
use crate::encoder::{Encoder, Patches};
use crate::mapped::Part;
use crate::spec::{Assembly, ModelSpec};
use crate::weights::Source;
use crate::{Bundle, Checkpoint, ModelError, Taps};
use kernels::isa::Isa;

/// One model in memory. It holds no state of a conversation: that is a [`KvCache`].
pub struct Model {
    isa: Isa,
    spec: ModelSpec,
    encoder: Option<Encoder>,
    decoder: Decoder,
    /// Where a bundle's weights of encoder and projector lie.
    encoder_pages: Vec<Part>,
}

impl Model {
    /// Reads config.json, compares every tensor with it, and packs the weights that are computed with.
    pub fn load(checkpoint: &Checkpoint) -> Result<Model, ModelError> {
        let spec = ModelSpec::from_json(checkpoint.config())?;
        checkpoint.check(&spec)?;
        let isa = Isa::from_env().map_err(ModelError::InstructionSet)?;
        Model::from(Source::Checkpoint(checkpoint), spec, isa)
    }

    /// Takes the weights of a bundle where they lie.
    pub fn from_bundle(bundle: &Bundle) -> Result<Model, ModelError> {
        let isa = Isa::from_env().map_err(ModelError::InstructionSet)?;
        Model::from(Source::Bundle(bundle), bundle.spec().clone(), isa)
    }

    fn from(source: Source, spec: ModelSpec, isa: Isa) -> Result<Model, ModelError> {
        Ok(Model {
            isa,
            encoder: Encoder::load(source, &spec)?,
            decoder: Decoder::load(source, &spec)?,
            encoder_pages: match source {
                Source::Bundle(bundle) => bundle.encoder_pages(),
                Source::Checkpoint(_) | Source::Overlaid(..) => Vec::new(),
            },
            spec,
        })
    }

    /// Computes with another instruction set: the bits stay the same.
    pub fn with_isa(self, isa: Isa) -> Model {
        Model { isa, ..self }
    }

    /// What it is.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Pixels `[tiles, 3, side, side]` to rows `[tiles * tokens_per_tile, d]`. Taps: `vision_features`, `merged`,
    /// `image_embeds`. `cancel` is asked before every layer.
    ///
    /// # Panics
    /// Without an encoder, or when `pixels` are not `tiles` tiles.
    pub fn encode_tiles(
        &self,
        pixels: &[f32],
        tiles: usize,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        let side = self.spec.image_size() as u32;
        let patches = self.embed_patches(pixels, (side, side));
        assert_eq!(patches.tiles, tiles, "tiles of {side}x{side} pixels");
        self.encode_patches(patches, cancel, taps)
    }

    /// The first part of [`Model::encode_tiles`], for tiles `[tiles, 3, height, width]` of any `size` (width and height): the
    /// patch embedding, which may go on beside the blocks of other tiles.
    ///
    /// # Panics
    /// Without an encoder, or when `pixels` are not whole tiles.
    pub fn embed_patches(&self, pixels: &[f32], size: (u32, u32)) -> Patches {
        self.encoder().embed_patches(self.isa, pixels, size)
    }

    /// The rows of a picture, `features` being those of its views one after the other: what [`ModelSpec::image_tokens`] counts.
    pub fn assemble(&self, views: &image_prep::Views, features: Vec<f32>) -> Vec<f32> {
        let encoder = self.encoder();
        match self.spec.assembly {
            Assembly::Scales => {
                let tiles = match views.list.len() {
                    1 => [1, 1],
                    _ => [views.grid.rows as usize, views.grid.columns as usize],
                };
                encoder.project_scales(self.isa, &features, tiles)
            }
            _ => self.spec.assemble(views, features, encoder.newline()),
        }
    }

    /// The rest of it: blocks, merge and projector. `cancel` is asked before every layer.
    ///
    /// # Panics
    /// Without an encoder, or when the patches are another model's.
    pub fn encode_patches(
        &self,
        patches: Patches,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        self.encoder()
            .encode_patches(self.isa, patches, cancel, taps)
    }

    fn encoder(&self) -> &Encoder {
        self.encoder
            .as_ref()
            .expect("a text model was given a picture; callers ask spec().vision first")
    }

    /// Gives the memory back in which the weights of encoder and projector lie in a mapped bundle; the next encoding
    /// reads them from the file again, which costs page faults only where the system kept them. Returns the bytes that
    /// were given back: 0 for a model that was read from a folder, and on systems that know no such advice.
    pub fn release_encoder(&self) -> usize {
        self.encoder_pages.iter().map(Part::release).sum()
    }

    /// Rows `[ids, d]` of token ids below the vocabulary's size.
    pub fn embed(&self, ids: &[u32]) -> Vec<f32> {
        self.decoder.embed(self.isa, ids)
    }

    /// An empty cache for up to `tokens` positions; memory is taken as they come.
    pub fn new_cache(&self, tokens: usize) -> KvCache {
        self.decoder.new_cache(tokens)
    }

    /// The cache of `tokens` positions that [`KvCache::to_bytes`] wrote; none when they are not so many bytes.
    pub fn cache_from_bytes(
        &self,
        capacity: usize,
        tokens: usize,
        bytes: &[u8],
    ) -> Option<KvCache> {
        self.decoder.cache_from_bytes(capacity, tokens, bytes)
    }

    /// Memory that a position takes in a cache. Quantized weights bring INT8 keys and values, others f32.
    pub fn cache_bytes_per_token(&self) -> usize {
        self.decoder.cache_bytes_per_token()
    }

    /// Rows `[m, d]`, which take the next m places of the cache, to logits: `[m, vocabulary]`, `[vocabulary]` of the last row, or
    /// nothing. The bits depend only on the rows before, never on how they were cut into calls. Taps: `hidden.i`,
    /// `hidden.norm`, `prefill_logits` (with [`LogitRows::All`]).
    pub fn forward(
        &self,
        inputs: &[f32],
        cache: &mut KvCache,
        logits: LogitRows,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        self.forward_at(inputs.into(), cache, logits, cancel, taps)
    }

    /// The same of rows that say where they stand.
    pub fn forward_at(
        &self,
        inputs: Inputs,
        cache: &mut KvCache,
        logits: LogitRows,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        let segment = Segment {
            inputs,
            cache,
            logits,
        };
        self.decoder.forward(self.isa, segment, cancel, taps)
    }

    /// Rows of several conversations, each with its own cache and position, in one reading of the weights: for each what
    /// [`Model::forward`] gives, in the same bits. `cancel` is asked before every layer; the caches are then as they were.
    pub fn forward_batch(
        &self,
        batch: &mut [Segment],
        cancel: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        self.decoder.forward_batch(self.isa, batch, cancel)
    }
}
