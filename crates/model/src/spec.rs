//! A model as data: enums and numbers read from config.json. What computes it never asks for a family's name.

use crate::{ModelError, families};

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
}

/// A SigLIP encoder: patches by one linear layer, learned positions, pre-norm blocks.
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
}

impl VisionSpec {
    /// Patches along a side.
    pub fn grid(&self) -> usize {
        self.image / self.patch
    }
}

/// Zero-padded block merge, LayerNorm, linear, GELU, linear.
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
}

/// Norms on queries and keys before the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// RMSNorm over each head.
    PerHead,
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

    /// Width of a decoder row.
    pub fn hidden_size(&self) -> usize {
        self.decoder.hidden
    }

    /// Ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.decoder.vocabulary
    }

    /// Positions the decoder was made for.
    pub fn context_tokens(&self) -> usize {
        self.decoder.context_tokens
    }

    /// Every tensor of the file, in no particular order.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = TensorList::default();
        if let Some(vision) = &self.vision {
            list.vision(vision);
            if let Some(projector) = &self.projector {
                list.projector(projector, vision.hidden, self.decoder.hidden);
            }
        }
        list.decoder(&self.decoder, &self.decoder_prefix);
        list.0
    }

    /// Weights of the decoder's matrices, embedding and head apart.
    pub fn decoder_weights(&self) -> usize {
        let tensors = self.tensors();
        let own = tensors.iter().filter(|tensor| tensor.role == Role::Decoder);
        own.map(|tensor| tensor.shape.iter().product::<usize>())
            .sum()
    }

    fn check(&self) -> Result<(), String> {
        self.check_sizes()?;
        self.check_decoder()?;
        self.check_ids()?;
        match (&self.vision, &self.projector) {
            (Some(vision), Some(projector)) => check_vision(vision, projector),
            _ => Ok(()),
        }
    }

    /// Nothing is zero, and nothing so large that a product of sizes overflows or a typing error asks for all memory.
    fn check_sizes(&self) -> Result<(), String> {
        let d = &self.decoder;
        let mut sizes = vec![
            ("hidden_size", d.hidden, 1 << 17),
            ("intermediate_size", d.ffn, 1 << 20),
            ("num_hidden_layers", d.layers, 1 << 12),
            ("num_attention_heads", d.heads, 1 << 12),
            ("num_key_value_heads", d.kv_heads, 1 << 12),
            ("head_dim", d.head_dim, 1 << 12),
            ("vocab_size", d.vocabulary, 1 << 22),
            ("max_position_embeddings", d.context_tokens, 1 << 24),
        ];
        if let Some(v) = &self.vision {
            sizes.extend([
                ("vision hidden_size", v.hidden, 1 << 15),
                ("vision intermediate_size", v.ffn, 1 << 17),
                ("vision num_hidden_layers", v.layers, 1 << 10),
                ("vision num_attention_heads", v.heads, 1 << 10),
                ("image_size", v.image, 1 << 14),
                ("patch_size", v.patch, 1 << 10),
            ]);
        }
        match sizes
            .iter()
            .find(|(_, value, limit)| *value == 0 || value > limit)
        {
            Some((name, value, limit)) => Err(format!("{name} is {value}, expected 1 to {limit}")),
            None => Ok(()),
        }
    }

    fn check_decoder(&self) -> Result<(), String> {
        let d = &self.decoder;
        if !d.heads.is_multiple_of(d.kv_heads) {
            return Err(format!(
                "{} query heads do not share {} key-value heads evenly",
                d.heads, d.kv_heads
            ));
        }
        if !d.head_dim.is_multiple_of(2) {
            return Err(format!(
                "head_dim is {}, expected an even number for rotary positions",
                d.head_dim
            ));
        }
        Ok(())
    }

    fn check_ids(&self) -> Result<(), String> {
        let ids = [
            self.image_token_id,
            self.image_start_token_id,
            self.image_end_token_id,
            self.think_token_id,
        ];
        let vocabulary = self.decoder.vocabulary;
        match ids
            .into_iter()
            .flatten()
            .find(|id| *id as usize >= vocabulary)
        {
            Some(id) => Err(format!(
                "token id {id}, expected one below vocab_size {vocabulary}"
            )),
            None => Ok(()),
        }
    }
}

fn check_vision(v: &VisionSpec, p: &ProjectorSpec) -> Result<(), String> {
    let fits = v.hidden.is_multiple_of(v.heads) && v.grid() > 0;
    if fits && p.merge > 0 && p.merge <= v.grid() {
        return Ok(());
    }
    Err(format!(
        "vision: width {}, {} heads, image {}, patch {}, merge {} do not fit together",
        v.hidden, v.heads, v.image, v.patch, p.merge
    ))
}

#[derive(Default)]
struct TensorList(Vec<TensorSpec>);

impl TensorList {
    fn push(&mut self, name: String, shape: &[usize], role: Role) {
        self.0.push(TensorSpec {
            name,
            shape: shape.to_vec(),
            role,
        });
    }

    /// A linear layer or a norm: weight and bias.
    fn pair(&mut self, name: &str, shape: &[usize], role: Role) {
        let of_bias = match role {
            Role::Unused => Role::Unused,
            _ => Role::Numbers,
        };
        self.push(format!("{name}.weight"), shape, role);
        self.push(format!("{name}.bias"), &shape[..1], of_bias);
    }

    fn vision(&mut self, v: &VisionSpec) {
        let p = &v.prefix;
        let numbers = |used: bool| if used { Role::Numbers } else { Role::Unused };
        self.push(
            format!("{p}embeddings.patch_embedding.weight"),
            &[v.hidden, 3, v.patch, v.patch],
            Role::Encoder,
        );
        self.push(
            format!("{p}embeddings.patch_embedding.bias"),
            &[v.hidden],
            Role::Numbers,
        );
        self.push(
            format!("{p}embeddings.position_embedding.weight"),
            &[v.grid() * v.grid(), v.hidden],
            Role::Numbers,
        );
        for layer in 0..v.layers {
            let l = format!("{p}encoder.layers.{layer}.");
            let used = layer < v.used_layers;
            let matrix = if used { Role::Encoder } else { Role::Unused };
            for norm in ["layer_norm1", "layer_norm2"] {
                self.pair(&format!("{l}{norm}"), &[v.hidden], numbers(used));
            }
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                let name = format!("{l}self_attn.{projection}");
                self.pair(&name, &[v.hidden, v.hidden], matrix);
            }
            self.pair(&format!("{l}mlp.fc1"), &[v.ffn, v.hidden], matrix);
            self.pair(&format!("{l}mlp.fc2"), &[v.hidden, v.ffn], matrix);
        }
        self.pair(
            &format!("{p}post_layernorm"),
            &[v.hidden],
            numbers(v.post_norm),
        );
    }

    fn projector(&mut self, p: &ProjectorSpec, from: usize, to: usize) {
        let merged = from * p.merge * p.merge;
        let linear = |layer: &str| format!("{}{layer}", p.prefix);
        self.pair(&linear("norm"), &[merged], Role::Numbers);
        self.pair(&linear("linear_1"), &[to, merged], Role::Projector);
        self.pair(&linear("linear_2"), &[to, to], Role::Projector);
    }

    fn decoder(&mut self, d: &DecoderSpec, prefix: &str) {
        let table = [d.vocabulary, d.hidden];
        let embedding = if d.tied { Role::Head } else { Role::Embedding };
        self.push(
            format!("{prefix}model.embed_tokens.weight"),
            &table,
            embedding,
        );
        if d.embedding_norm == EmbeddingNorm::LayerNorm {
            let name = format!("{prefix}model.embed_layer_norm");
            self.pair(&name, &[d.hidden], Role::Numbers);
        }
        for layer in 0..d.layers {
            self.block(d, &format!("{prefix}model.layers.{layer}."));
        }
        self.norm(format!("{prefix}model.norm"), d.hidden);
        if !d.tied {
            self.push(format!("{prefix}lm_head.weight"), &table, Role::Head);
        }
    }

    fn block(&mut self, d: &DecoderSpec, l: &str) {
        let (q, kv) = (d.heads * d.head_dim, d.kv_heads * d.head_dim);
        self.norm(format!("{l}input_layernorm"), d.hidden);
        self.norm(format!("{l}post_attention_layernorm"), d.hidden);
        for (name, outputs) in [("q", q), ("k", kv), ("v", kv)] {
            let name = format!("{l}self_attn.{name}_proj");
            self.linear(name, &[outputs, d.hidden], d.qkv_bias);
        }
        self.linear(
            format!("{l}self_attn.o_proj"),
            &[d.hidden, q],
            d.output_bias,
        );
        if d.qk_norm == QkNorm::PerHead {
            self.norm(format!("{l}self_attn.q_norm"), d.head_dim);
            self.norm(format!("{l}self_attn.k_norm"), d.head_dim);
        }
        self.linear(format!("{l}mlp.gate_proj"), &[d.ffn, d.hidden], false);
        self.linear(format!("{l}mlp.up_proj"), &[d.ffn, d.hidden], false);
        self.linear(format!("{l}mlp.down_proj"), &[d.hidden, d.ffn], false);
    }

    /// An RMSNorm of the decoder.
    fn norm(&mut self, name: String, width: usize) {
        self.push(format!("{name}.weight"), &[width], Role::Numbers);
    }

    /// A linear layer of a decoder block.
    fn linear(&mut self, name: String, shape: &[usize; 2], bias: bool) {
        self.push(format!("{name}.weight"), shape, Role::Decoder);
        if bias {
            self.push(format!("{name}.bias"), &shape[..1], Role::Numbers);
        }
    }
}
