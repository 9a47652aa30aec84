//! Text decoders are one block with switches. Folders leave out keys that equal the class default, so each family's defaults
//! stand with it.

mod bluelm;
mod deepseek;
mod gemma;
mod internlm2;
mod llama;
mod minicpm;
mod minicpm3;
mod phi;
mod qwen;
mod rotary;
mod windows;

use super::{Family, Keys};
use crate::names::Names;
use crate::spec::{
    Activation, Assembly, DecoderSpec, EmbeddingNorm, ModelSpec, NormKind, PromptSpec, QkNorm,
    ReferencePixels, RopeAxes, RopeScaling,
};

/// A family of text decoders.
struct Text {
    types: &'static [&'static str],
    defaults: Defaults,
    /// Changes what differs from a plain decoder.
    finish: fn(&Keys, &mut ModelSpec) -> Result<(), String>,
}

/// What a configuration that says nothing means.
#[derive(Clone, Copy)]
struct Defaults {
    hidden: usize,
    ffn: usize,
    layers: usize,
    heads: usize,
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    vocabulary: usize,
    context: usize,
    norm_eps: f64,
    tied: bool,
}

const LLAMA: Defaults = Defaults {
    hidden: 4096,
    ffn: 11008,
    layers: 32,
    heads: 32,
    kv_heads: None,
    head_dim: None,
    vocabulary: 32000,
    context: 2048,
    norm_eps: 1e-6,
    tied: false,
};

const TEXTS: [&[Text]; 9] = [
    &llama::TEXTS,
    &qwen::TEXTS,
    &[bluelm::TEXT],
    &[minicpm::TEXT],
    &[internlm2::TEXT],
    &[deepseek::TEXT],
    &[minicpm3::TEXT],
    &[gemma::TEXT],
    &[phi::TEXT],
];

/// Folders that hold a text model only.
pub(super) const FAMILY: Family = Family {
    types: &[
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "bluelm",
        "BlueLM",
        "minicpm",
        "internlm2",
        "deepseek_v3",
        "minicpm3",
        "gemma3_text",
        "phi3",
    ],
    read,
    pictures: None,
};

/// The decoder that `keys` describe, as a model without pictures.
pub(super) fn read(keys: &Keys) -> Result<ModelSpec, String> {
    read_as(keys.text("model_type")?, keys)
}

/// The same of a family that the keys do not name.
pub(super) fn read_as(family: &str, keys: &Keys) -> Result<ModelSpec, String> {
    let mut all = TEXTS.iter().copied().flatten();
    let text = all
        .find(|text| text.types.contains(&family))
        .ok_or_else(|| {
            let known = TEXTS.iter().copied().flatten().flat_map(|text| text.types);
            let known: Vec<&str> = known.copied().collect();
            format!(
                "{} is {family:?}, expected one of {}",
                keys.name("model_type"),
                known.join(", ")
            )
        })?;
    refuse_unsupported(keys)?;
    let mut spec = ModelSpec {
        vision: None,
        projector: None,
        decoder: plain(keys, &text.defaults)?,
        image_token_id: None,
        image_start_token_id: None,
        image_end_token_id: None,
        think_token_id: None,
        stop_token_ids: keys.ids("eos_token_id")?,
        decoder_prefix: String::new(),
        prompt: PromptSpec::default(),
        assembly: Assembly::Views,
        pixels: ReferencePixels::Views,
        names: Names::default(),
    };
    rotary::read(keys, &mut spec.decoder)?;
    spec.decoder.window = windows::where_asked(keys, spec.decoder.layers)?;
    (text.finish)(keys, &mut spec)?;
    Ok(spec)
}

fn plain(keys: &Keys, defaults: &Defaults) -> Result<DecoderSpec, String> {
    let hidden = keys.size_or("hidden_size", defaults.hidden)?;
    let heads = keys.size_or("num_attention_heads", defaults.heads)?;
    Ok(DecoderSpec {
        hidden,
        ffn: keys.size_or("intermediate_size", defaults.ffn)?,
        layers: keys.size_or("num_hidden_layers", defaults.layers)?,
        heads,
        kv_heads: keys.size_or("num_key_value_heads", defaults.kv_heads.unwrap_or(heads))?,
        head_dim: head_dim(keys, defaults.head_dim, hidden, heads)?,
        vocabulary: keys.size_or("vocab_size", defaults.vocabulary)?,
        context_tokens: keys.size_or("max_position_embeddings", defaults.context)?,
        norm_eps: keys.number_or("rms_norm_eps", defaults.norm_eps)? as f32,
        rope_base: 10000.0,
        qk_norm: QkNorm::None,
        qkv_bias: false,
        output_bias: false,
        tied: keys.flag_or("tie_word_embeddings", defaults.tied)?,
        embedding_norm: EmbeddingNorm::None,
        rope_scaling: RopeScaling::None,
        rope_axes: RopeAxes::One,
        embedding_scale: 1.0,
        input_scale: 1.0,
        residual_scale: 1.0,
        logit_divisor: 1.0,
        latent: None,
        experts: None,
        norm: NormKind::Rms,
        activation: Activation::Silu,
        branch_norms: false,
        query_scale: 1.0,
        window: None,
        whole_pictures: false,
        deep_rows: 0,
        logit_cap: None,
    })
}

/// Switches of these classes that would change the result and that nothing here computes.
fn refuse_unsupported(keys: &Keys) -> Result<(), String> {
    if keys.activation("hidden_act", "silu")? != Activation::Silu {
        return Err(format!(
            "{} is not silu, the only gate of these families",
            keys.name("hidden_act")
        ));
    }
    match keys.flag_or("mlp_bias", false)? {
        true => Err(format!(
            "{} is true; an MLP with biases is not supported",
            keys.name("mlp_bias")
        )),
        false => Ok(()),
    }
}

/// Its own key, the class's default, or the width shared evenly.
fn head_dim(
    keys: &Keys,
    default: Option<usize>,
    hidden: usize,
    heads: usize,
) -> Result<usize, String> {
    let shared = match default {
        Some(width) => width,
        None if keys.get("head_dim").is_none() && heads > 0 && !hidden.is_multiple_of(heads) => {
            return Err(format!(
                "{} is {hidden}, which {heads} heads do not share evenly",
                keys.name("hidden_size")
            ));
        }
        None => hidden / heads.max(1),
    };
    keys.size_or("head_dim", shared)
}
