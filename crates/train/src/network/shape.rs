//! The numbers that the trainer needs from a [`ModelSpec`], in one plain struct per part, and what it cannot train.

use model::ModelSpec;
use model::spec::{
    Activation, Assembly, DecoderSpec, EmbeddingNorm, MergeNorm, NormKind, ProjectorKind,
    ProjectorSpec, QkNorm, VisionSpec,
};

use super::error::NetworkError;

use crate::starts::Places;

/// The vision encoder: SigLIP's layers up to the feature layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VisionShape {
    pub width: usize,
    pub heads: usize,
    pub ffn: usize,
    /// Layers in the file.
    pub layers: usize,
    /// Layers that the feature layer needs.
    pub used_layers: usize,
    /// Whether the features go through the norm behind the last layer.
    pub post_norm: bool,
    pub patch: usize,
    /// Tile side in pixels.
    pub image: usize,
    pub eps: f32,
    /// Block side that the projector merges.
    pub merge: usize,
}

impl VisionShape {
    /// Patches along one side.
    pub fn side(&self) -> usize {
        self.image / self.patch
    }
    /// Where rows start out keeping their position.
    pub fn places(&self) -> Places {
        Places::fitting(self.side(), self.width, self.width / self.heads)
    }
    /// Patches of one tile.
    pub fn patches(&self) -> usize {
        self.side() * self.side()
    }
    /// Merged blocks along one side, the last one filled up with zeros.
    pub fn merged_side(&self) -> usize {
        self.side().div_ceil(self.merge)
    }
    /// Tokens that one tile gives to the decoder.
    pub fn tokens(&self) -> usize {
        self.merged_side() * self.merged_side()
    }
    /// Inputs of the patch embedding.
    pub fn patch_inputs(&self) -> usize {
        3 * self.patch * self.patch
    }
    /// Width of one merged block.
    pub fn merged_width(&self) -> usize {
        self.merge * self.merge * self.width
    }
    /// Pixel values of one tile.
    pub fn tile_values(&self) -> usize {
        3 * self.image * self.image
    }
}

/// The decoder: RMS norm, rotary positions, grouped queries, gated MLP.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DecoderShape {
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub layers: usize,
    pub vocabulary: usize,
    pub eps: f32,
    pub rope_base: f64,
    pub qk_norm: bool,
    pub qkv_bias: bool,
    pub output_bias: bool,
    pub tied: bool,
}

impl DecoderShape {
    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }
    /// Width of all key heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
    /// Width of q, k and v side by side.
    pub fn qkv_width(&self) -> usize {
        self.q_width() + 2 * self.kv_width()
    }
}

/// The whole network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub vision: VisionShape,
    pub projector_eps: f32,
    pub decoder: DecoderShape,
    pub image_token: u32,
}

fn unsupported(what: &'static str, expected: &'static str, found: impl ToString) -> NetworkError {
    NetworkError::Unsupported {
        what,
        expected,
        found: found.to_string(),
    }
}

impl Shape {
    /// Reads a description; what the layers here do not compute is an error.
    pub fn new(spec: &ModelSpec) -> Result<Shape, NetworkError> {
        let missing = |what| unsupported(what, "a model with pictures", "none in the description");
        let vision = spec
            .vision
            .as_ref()
            .ok_or_else(|| missing("the vision encoder"))?;
        let projector = spec
            .projector
            .as_ref()
            .ok_or_else(|| missing("the projector"))?;
        let image_token = spec
            .image_token_id
            .ok_or_else(|| missing("image_token_id"))?;
        if vision.activation != Activation::GeluTanh {
            return Err(unsupported(
                "the encoder's activation",
                "GeluTanh",
                format!("{:?}", vision.activation),
            ));
        }
        if projector.activation != Activation::Gelu {
            return Err(unsupported(
                "the projector's activation",
                "Gelu",
                format!("{:?}", projector.activation),
            ));
        }
        if *vision != plain_tower(vision) {
            return Err(unsupported("the encoder", "SigLIP", "another tower"));
        }
        if let Some(found) = beyond_plain(spec, projector) {
            return Err(unsupported(
                "the projector",
                "a merge, a LayerNorm and two linear layers for each tile",
                found,
            ));
        }
        let vision = VisionShape {
            width: vision.hidden,
            heads: vision.heads,
            ffn: vision.ffn,
            layers: vision.layers,
            used_layers: vision.used_layers,
            post_norm: vision.post_norm,
            patch: vision.patch,
            image: vision.image,
            eps: vision.norm_eps,
            merge: projector.merge,
        };
        Ok(Shape {
            vision,
            projector_eps: projector.norm_eps,
            decoder: DecoderShape::new(&spec.decoder)?,
            image_token,
        })
    }
}

/// A SigLIP with the numbers of this tower.
fn plain_tower(v: &VisionSpec) -> VisionSpec {
    VisionSpec {
        hidden: v.hidden,
        ffn: v.ffn,
        layers: v.layers,
        used_layers: v.used_layers,
        post_norm: v.post_norm,
        heads: v.heads,
        image: v.image,
        patch: v.patch,
        norm_eps: v.norm_eps,
        prefix: v.prefix.clone(),
        ..VisionSpec::siglip()
    }
}

fn beyond_plain(spec: &ModelSpec, projector: &ProjectorSpec) -> Option<String> {
    if spec.assembly != Assembly::Views {
        return Some(format!("{:?}", spec.assembly));
    }
    if projector.kind != ProjectorKind::Linears {
        return Some(format!("{:?}", projector.kind));
    }
    let norm = MergeNorm::AfterMerge(NormKind::Layer);
    (projector.norm != norm).then(|| format!("norm {:?}", projector.norm))
}

impl DecoderShape {
    fn new(spec: &DecoderSpec) -> Result<DecoderShape, NetworkError> {
        if let Some(found) = spec.beyond_plain() {
            return Err(unsupported("the decoder", "plain blocks", found));
        }
        if spec.embedding_norm != EmbeddingNorm::None {
            return Err(unsupported(
                "the norm on embeddings",
                "none",
                format!("{:?}", spec.embedding_norm),
            ));
        }
        Ok(DecoderShape {
            width: spec.hidden,
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            ffn: spec.ffn,
            layers: spec.layers,
            vocabulary: spec.vocabulary,
            eps: spec.norm_eps,
            rope_base: spec.rope_base,
            qk_norm: spec.qk_norm == QkNorm::PerHead,
            qkv_bias: spec.qkv_bias,
            output_bias: spec.output_bias,
            tied: spec.tied,
        })
    }
}
