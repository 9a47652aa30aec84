//! A model as data: enums and numbers read from config.json. What computes it never asks for a family's name.

mod checks;
mod latent;
mod pixels;
mod places;
mod prompt;
mod tensors;

use crate::names::Names;
use crate::{ModelError, families};

pub use latent::{Experts, Latent, RopePairs};
pub use pixels::ReferencePixels;
pub use places::{RopeAxes, RopeScaling, Window};
pub use prompt::{Assembly, Begin, Layout, PromptSpec, Segment, Slices, Spot};

/// A whole network.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The image encoder and what joins it to the decoder; none for a text model.
    pub vision: Option<VisionSpec>,
    /// How features become decoder rows.
    pub projector: Option<ProjectorSpec>,
    /// The decoder.
    pub decoder: DecoderSpec,
    /// `<image>`, one for each row of features.
    pub image_token_id: Option<u32>,
    /// `<im_start>`.
    pub image_start_token_id: Option<u32>,
    /// `<im_end>`.
    pub image_end_token_id: Option<u32>,
    /// Switches the thinking mode on.
    pub think_token_id: Option<u32>,
    /// End-of-turn ids that config.json names.
    pub stop_token_ids: Vec<u32>,
    /// Begins the names of the decoder's tensors.
    pub decoder_prefix: String,
    /// How pictures and the beginning of a text stand in a prompt.
    pub prompt: PromptSpec,
    /// How the rows of a picture's views become the picture's rows.
    pub assembly: Assembly,
    /// How a reference lays out pixels.
    pub pixels: ReferencePixels,
    /// What the tensors are called in the files of the family.
    pub names: Names,
}

/// An image encoder: patches by one linear layer, positions, pre-norm blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionSpec {
    /// Width of a row.
    pub hidden: usize,
    /// Inner width of the MLP.
    pub ffn: usize,
    /// Blocks in the file.
    pub layers: usize,
    /// Blocks computed before the features are taken.
    pub used_layers: usize,
    /// Whether the features pass the post layer norm.
    pub post_norm: bool,
    /// Attention heads.
    pub heads: usize,
    /// Side of a tile in pixels.
    pub image: usize,
    /// Side of a patch in pixels; pixels past the last whole patch are not seen.
    pub patch: usize,
    /// Of every layer norm.
    pub norm_eps: f32,
    /// Of the MLP.
    pub activation: Activation,
    /// Begins the names of its tensors.
    pub prefix: String,
    /// Of all norms but those of queries and keys, which are RMSNorms.
    pub norm: NormKind,
    /// Whether the patch embedding has a bias.
    pub patch_bias: bool,
    /// A row before the patches that belongs to none, and is not a feature.
    pub class_token: bool,
    /// Whether rows are normed before the first block.
    pub pre_norm: bool,
    /// Whether the file has a norm after the last block.
    pub has_post_norm: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Norms on queries and keys.
    pub qk_norm: QkNorm,
    /// Whether what a block adds is scaled, feature by feature.
    pub layer_scale: bool,
    /// The MLP of a block.
    pub mlp: VisionMlp,
    /// What is added to the patches.
    pub positions: PatchPositions,
    /// How often a patch takes the same picture, as encoders of videos do.
    pub frames: usize,
    /// Whether queries and keys are turned by where their patch stands.
    pub rotary: Option<PatchRotary>,
    /// Windows in which patches see each other; none where they see all of their tile.
    pub windows: Option<PatchWindows>,
    /// Blocks, from the first on, whose features go through a projector of their own to a later layer of the decoder.
    pub deep_layers: Vec<usize>,
}

/// Rotary positions of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchRotary {
    /// The first half of the frequencies turns with the row, the second with the column.
    RowThenColumn,
    /// Neighbouring numbers turn, the first pair with the column, the second with the row, and so on: MoonViT.
    ColumnAndRowByPairs,
}

/// Squares of patches that see each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchWindows {
    /// Patches along a side.
    pub side: usize,
    /// Layers in which all patches see each other.
    pub full_layers: Vec<usize>,
}

/// The MLP of an encoder's block, with biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisionMlp {
    /// One linear layer, the activation, another linear layer.
    Plain,
    /// Two linear layers side by side, of which the one that is activated gates the other; then a third.
    Gated,
}

/// Learned positions of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchPositions {
    /// None.
    None,
    /// One for each patch of a tile, and of the class token.
    Table,
    /// A square table of so many rows and columns, over which any grid is spread: MiniCPM-V, SmolVLM.
    Spread {
        /// Rows, and columns.
        side: usize,
        /// How a patch's share of the way is computed.
        shares: Shares,
    },
    /// A table of so many rows and columns, resized to the grid: MoonViT, Qwen3-VL.
    Resized {
        /// Rows and columns.
        sides: [usize; 2],
        /// How.
        resize: TableResize,
    },
}

/// Ways to resize a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableResize {
    /// Cubic, cells being squares: MoonViT.
    Bicubic,
    /// Linear, the first and the last cell staying where they are: Qwen3-VL.
    BilinearCorners,
}

/// A patch's share of the way across a grid, in the order of operations that decides between neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// Divided in f64: MiniCPM-V.
    Divided,
    /// Multiples of an f32 step, just below one at most: SmolVLM.
    Stepped,
}

/// Norms of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm with a bias.
    Layer,
    /// RMSNorm.
    Rms,
    /// RMSNorm whose weight is what is added to one.
    RmsPlusOne,
}

impl VisionSpec {
    /// SigLIP as its class has it when a configuration says nothing; families change what differs.
    pub fn siglip() -> VisionSpec {
        VisionSpec {
            hidden: 768,
            ffn: 3072,
            layers: 12,
            used_layers: 12,
            post_norm: true,
            heads: 12,
            image: 224,
            patch: 16,
            norm_eps: 1e-6,
            activation: Activation::GeluTanh,
            prefix: "vision_tower.vision_model.".into(),
            norm: NormKind::Layer,
            patch_bias: true,
            class_token: false,
            pre_norm: false,
            has_post_norm: true,
            qkv_bias: true,
            qk_norm: QkNorm::None,
            layer_scale: false,
            mlp: VisionMlp::Plain,
            positions: PatchPositions::Table,
            frames: 1,
            rotary: None,
            windows: None,
            deep_layers: Vec::new(),
        }
    }

    /// Patches along a side.
    pub fn grid(&self) -> usize {
        self.image / self.patch
    }
}

/// Zero-padded block merge, norm, linear, activation, linear.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectorSpec {
    /// Side of a block of patches that becomes one row.
    pub merge: usize,
    /// Of the layer norm.
    pub norm_eps: f32,
    /// Between the linear layers.
    pub activation: Activation,
    /// Begins the names of its tensors.
    pub prefix: String,
    /// Where a norm stands.
    pub norm: MergeNorm,
    /// Numbers between the linear layers.
    pub inner: usize,
    /// What it is made of.
    pub kind: ProjectorKind,
}

/// What a projector is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectorKind {
    /// Merge, norm, two linear layers.
    Linears,
    /// Merge and one linear layer without a bias: SmolVLM.
    Linear,
    /// The mean of each block, a norm and one linear layer without a bias: Gemma 3.
    Mean,
    /// Learned queries that attend to the features of a view: MiniCPM-V.
    Resampler {
        /// Rows that a view becomes.
        queries: usize,
    },
    /// Merge, norm, a linear layer, the activation, another norm, two linear layers: NVILA's merge of 3x3.
    LinearsTwice {
        /// Numbers after the first.
        first: usize,
    },
}

impl ProjectorSpec {
    /// A merge of so many patches along a side and two linear layers with so many numbers between them.
    pub fn linears(merge: usize, inner: usize) -> ProjectorSpec {
        ProjectorSpec {
            merge,
            norm_eps: 1e-5,
            activation: Activation::Gelu,
            prefix: "multi_modal_projector.".into(),
            norm: MergeNorm::None,
            inner,
            kind: ProjectorKind::Linears,
        }
    }

    /// Numbers of what a block of patches of so many becomes.
    pub(crate) fn merged(&self, patch: usize) -> usize {
        match self.kind {
            ProjectorKind::Mean => patch,
            _ => patch * self.merge * self.merge,
        }
    }

    /// The projector of the features of the `at`th of [`VisionSpec::deep_layers`].
    pub fn deep(&self, at: usize) -> ProjectorSpec {
        ProjectorSpec {
            prefix: format!("{}deep.{at}.", self.prefix),
            norm: MergeNorm::AfterMerge(NormKind::Layer),
            ..self.clone()
        }
    }
}

/// The norm of a projector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeNorm {
    /// None.
    None,
    /// Over what a block of patches became.
    AfterMerge(NormKind),
    /// Over each patch.
    BeforeMerge(NormKind),
}

/// Elementwise functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// With the error function.
    Gelu,
    /// With the tanh approximation.
    GeluTanh,
    /// x · sigmoid(x).
    Silu,
    /// x · sigmoid(1.702 x).
    QuickGelu,
}

/// Norms on queries and keys before the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// RMSNorm over each head.
    PerHead,
    /// RMSNorm over all heads together.
    WholeRow,
}

/// What happens to text embeddings before the first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddingNorm {
    /// Nothing.
    None,
    /// LayerNorm with bias, on text tokens only.
    LayerNorm,
}

/// A causal decoder of pre-norm blocks: grouped-query attention with half-split rotary positions, gated MLP, RMSNorm.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Width of a row.
    pub hidden: usize,
    /// Inner width of the MLP.
    pub ffn: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Positions it was made for.
    pub context_tokens: usize,
    /// Of every RMSNorm.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Norms on queries and keys.
    pub qk_norm: QkNorm,
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on the output projection.
    pub output_bias: bool,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// On text embeddings.
    pub embedding_norm: EmbeddingNorm,
    /// How rotary frequencies are stretched for long texts.
    pub rope_scaling: RopeScaling,
    /// Which positions the rotary frequencies turn with.
    pub rope_axes: RopeAxes,
    /// Text embeddings are multiplied with it.
    pub embedding_scale: f32,
    /// All rows are multiplied with it on their way into the first layer.
    pub input_scale: f32,
    /// What a layer adds is multiplied with it.
    pub residual_scale: f32,
    /// The last rows are divided by it before the head.
    pub logit_divisor: f32,
    /// Keys and values that all heads share; `kv_heads` is 1 then, and `head_dim` the width of what is remembered.
    pub latent: Option<Latent>,
    /// MLPs of which each row takes some; only beside `latent`.
    pub experts: Option<Experts>,
    /// Of all norms, those of queries and keys too.
    pub norm: NormKind,
    /// Of the gate.
    pub activation: Activation,
    /// Whether what attention and the MLP give is normed before it is added.
    pub branch_norms: bool,
    /// Normed queries are multiplied with it, besides the root of their width.
    pub query_scale: f32,
    /// Layers in which a row sees only those rows before it that are near.
    pub window: Option<Window>,
    /// Whether the rows of a picture see each other, those after them too.
    pub whole_pictures: bool,
    /// So many first layers after which another row that a picture brings is added to each of its rows.
    pub deep_rows: usize,
    /// Logits are bent to stay between this and its negative.
    pub logit_cap: Option<f32>,
}

impl DecoderSpec {
    /// What it has besides pre-norm blocks with unscaled sums and positions that count by one, which are all that training
    /// computes: the first such thing.
    pub fn beyond_plain(&self) -> Option<&'static str> {
        let scales = [self.embedding_scale, self.input_scale, self.residual_scale];
        let ends = [self.logit_divisor, self.query_scale];
        let all = [
            ("latent attention", self.latent.is_some()),
            ("experts", self.experts.is_some()),
            (
                "stretched positions",
                self.rope_scaling != RopeScaling::None,
            ),
            ("three positions", self.rope_axes != RopeAxes::One),
            ("windows", self.window.is_some()),
            ("pictures that are seen whole", self.whole_pictures),
            ("rows of pictures for later layers", self.deep_rows > 0),
            ("norms after a layer's branches", self.branch_norms),
            (
                "norms with weights added to one",
                self.norm != NormKind::Rms,
            ),
            (
                "a gate that is not SiLU",
                self.activation != Activation::Silu,
            ),
            ("scaled sums", scales != [1.0; 3] || ends != [1.0; 2]),
            ("bent logits", self.logit_cap.is_some()),
        ];
        all.into_iter().find(|(_, has)| *has).map(|(name, _)| name)
    }

    /// Whether every block is one of queries, keys, values and a gated MLP, in which a row sees all rows before it and none after.
    pub fn has_plain_blocks(&self) -> bool {
        (&self.latent, &self.experts, &self.window) == (&None, &None, &None)
            && !self.branch_norms
            && !self.whole_pictures
            && self.deep_rows == 0
    }
}

/// A tensor that a network needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// As in the safetensors file.
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

/// What a tensor is to a network: which precision it needs depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Norms, biases and positions: few numbers, added or multiplied one by one.
    Numbers,
    /// A matrix of the encoder.
    Encoder,
    /// A matrix of the projector.
    Projector,
    /// A matrix of a decoder block.
    Decoder,
    /// The embedding, of which rows are taken, where it is not the head as well.
    Embedding,
    /// The head; where they are tied, rows of the embedding are taken from it too.
    Head,
    /// In the file, and not computed with.
    Unused,
}

impl ModelSpec {
    /// Reads config.json's text.
    pub fn from_json(config: &str) -> Result<ModelSpec, ModelError> {
        let spec = families::read(config).map_err(ModelError::Config)?;
        spec.check().map_err(ModelError::Config)?;
        Ok(spec)
    }

    /// How pictures are prepared for the network of a config.json, by the texts of config.json and preprocessor_config.json;
    /// none where the latter says it all in the words of [`image_prep::Preprocessor::from_json`], or the network sees nothing.
    pub fn pictures(
        config: &str,
        preprocessor: &str,
    ) -> Result<Option<image_prep::Preprocessor>, ModelError> {
        families::pictures(config, preprocessor).map_err(ModelError::Config)
    }

    /// Decoder rows that one tile becomes; 0 without an encoder.
    pub fn tokens_per_tile(&self) -> usize {
        match (&self.vision, &self.projector) {
            (Some(vision), Some(projector)) => vision.grid().div_ceil(projector.merge).pow(2),
            _ => 0,
        }
    }

    /// Side of a tile in pixels; 0 without an encoder.
    pub fn image_size(&self) -> usize {
        self.vision.as_ref().map_or(0, |vision| vision.image)
    }

    /// Width of a row that the decoder takes in: of its own rows, and of those that a picture brings for later layers.
    pub fn hidden_size(&self) -> usize {
        self.decoder.hidden * (1 + self.decoder.deep_rows)
    }

    /// Ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.decoder.vocabulary
    }

    /// Positions the decoder was made for.
    pub fn context_tokens(&self) -> usize {
        self.decoder.context_tokens
    }
}
