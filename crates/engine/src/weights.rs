//! The real network behind [`Network`]: `model::Model`.

use std::borrow::Cow;

use image_prep::Views;
use model::spec::Segment as PromptSegment;
use model::{Inputs, KvCache, LogitRows, Model, NoTaps, Patches, Taps};

use crate::cancel::Cancel;
use crate::error::EngineError;
use crate::network::{Cache, ImageIds, Network, NetworkShape, Segment};

impl Cache for KvCache {
    fn tokens(&self) -> usize {
        self.len()
    }

    fn truncate(&mut self, tokens: usize) {
        KvCache::truncate(self, tokens);
    }

    fn copy(&self, tokens: usize) -> Option<Self> {
        Some(KvCache::copy(self, tokens))
    }

    fn to_bytes(&self) -> Vec<u8> {
        KvCache::to_bytes(self)
    }
}

impl Network for Model {
    type Cache = KvCache;

    fn shape(&self) -> NetworkShape {
        let spec = self.spec();
        // A family whose config.json does not tell the id tells the token's spelling instead.
        let image = spec.image_token_id.unwrap_or(0);
        let image_ids = spec.vision.is_some().then(|| ImageIds {
            start: spec.image_start_token_id.unwrap_or(image),
            image,
            end: spec.image_end_token_id.unwrap_or(image),
        });
        NetworkShape {
            hidden: spec.hidden_size(),
            vocabulary: spec.vocab_size(),
            context_tokens: spec.context_tokens(),
            tokens_per_tile: spec.tokens_per_tile(),
            tile_side: spec.image_size(),
            image_ids,
        }
    }

    fn image_tokens(&self, views: &Views) -> usize {
        self.spec().image_tokens(views)
    }

    fn image_text(&self, views: &Views, of: (usize, usize)) -> Vec<PromptSegment> {
        self.spec().image_text(views, of)
    }

    fn position_grid(&self, views: &Views) -> Option<[usize; 2]> {
        self.spec().position_grid(views)
    }

    fn reads_whole_pictures(&self) -> bool {
        self.spec().decoder.whole_pictures
    }

    fn first_rows<'r>(&self, rows: &'r [f32]) -> Cow<'r, [f32]> {
        let (own, all) = (self.spec().decoder.hidden, self.spec().hidden_size());
        match own == all {
            true => Cow::Borrowed(rows),
            false => rows
                .chunks_exact(all)
                .flat_map(|row| &row[..own])
                .copied()
                .collect(),
        }
    }

    fn embed_patches(&self, pixels: &[f32], size: (u32, u32)) -> Patches {
        Model::embed_patches(self, pixels, size)
    }

    fn assembles(&self) -> bool {
        self.spec().assembles_whole_pictures()
    }

    fn assemble(&self, views: &Views, features: Vec<f32>) -> Vec<f32> {
        Model::assemble(self, views, features)
    }

    fn encode_patches(&self, patches: Patches, cancel: &Cancel) -> Result<Vec<f32>, EngineError> {
        let cancelled = || cancel.is_cancelled();
        Ok(Model::encode_patches(
            self,
            patches,
            &cancelled,
            &mut NoTaps,
        )?)
    }

    fn cache_bytes_per_token(&self) -> usize {
        Model::cache_bytes_per_token(self)
    }

    fn release_encoder(&self) {
        Model::release_encoder(self);
    }

    fn embed(&self, ids: &[u32]) -> Vec<f32> {
        Model::embed(self, ids)
    }

    fn new_cache(&self, tokens: usize) -> KvCache {
        Model::new_cache(self, tokens)
    }

    fn cache_from_bytes(&self, capacity: usize, tokens: usize, bytes: &[u8]) -> Option<KvCache> {
        Model::cache_from_bytes(self, capacity, tokens, bytes)
    }

    fn forward(
        &self,
        inputs: Inputs,
        cache: &mut KvCache,
        logits: LogitRows,
        cancel: &Cancel,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, EngineError> {
        Ok(Model::forward_at(
            self,
            inputs,
            cache,
            logits,
            &|| cancel.is_cancelled(),
            taps,
        )?)
    }

    fn forward_batch(
        &self,
        batch: &mut [Segment<KvCache>],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut batch: Vec<model::Segment> = batch
            .iter_mut()
            .map(|segment| model::Segment {
                inputs: Inputs {
                    rows: &segment.inputs,
                    positions: segment.positions,
                    pictures: &segment.pictures,
                },
                cache: segment.cache,
                logits: segment.logits,
            })
            .collect();
        Ok(Model::forward_batch(self, &mut batch, stop)?)
    }
}
