//! A block of a decoder of any kind.

use super::latent::LatentBlock;
use super::{Block, Buffers, Layers, Place};
use crate::ModelError;
use crate::cache::LayerCache;
use crate::spec::DecoderSpec;
use crate::weights::Source;

/// One of the kinds.
pub(crate) enum AnyBlock {
    /// Grouped-query attention and a gated MLP.
    Grouped(Box<Block>),
    /// Latent attention, and an MLP or experts.
    Latent(Box<LatentBlock>),
}

impl AnyBlock {
    /// Block `layer`; its tensors' names begin with `name`.
    pub fn load(
        source: Source,
        spec: &DecoderSpec,
        layer: usize,
        name: &str,
    ) -> Result<AnyBlock, ModelError> {
        Ok(match &spec.latent {
            None => AnyBlock::Grouped(Box::new(Block::load(source, spec, name)?)),
            Some(latent) => {
                let block = LatentBlock::load(source, spec, latent, (layer, name))?;
                AnyBlock::Latent(Box::new(block))
            }
        })
    }
}

impl Layers {
    /// Attention and MLP, both added to `x`; nobody watches.
    pub fn any_block(
        &self,
        block: &AnyBlock,
        place: &Place,
        caches: &mut [&mut LayerCache],
        x: &mut [f32],
        buffers: &mut Buffers,
    ) {
        match block {
            AnyBlock::Grouped(block) => self.block(block, place, caches, x, buffers, &mut ()),
            AnyBlock::Latent(block) => self.latent_block(block, place, caches, x, buffers),
        }
    }
}
