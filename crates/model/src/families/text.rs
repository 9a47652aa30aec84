//! Text decoders: llama, qwen2, qwen3 and bluelm are one block with switches. Folders leave out keys that equal the class
//! default, so each family's defaults stand here.

use super::{Keys, rotary};
use crate::spec::{Activation, DecoderSpec, EmbeddingNorm, ModelSpec, QkNorm};

struct Defaults {
    hidden: usize,
    ffn: usize,
    layers: usize,
    heads: usize,
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    vocabulary: usize,
    context: usize,
    qkv_bias: bool,
}

/// A folder that holds a text model only.
pub(super) fn read_alone(keys: &Keys) -> Result<ModelSpec, String> {
    read(keys)
}

/// The decoder that `keys` describe, as a model without pictures.
pub(super) fn read(keys: &Keys) -> Result<ModelSpec, String> {
    let family = keys.text("model_type")?;
    let llama = Defaults {
        hidden: 4096,
        ffn: 11008,
        layers: 32,
        heads: 32,
        kv_heads: None,
        head_dim: None,
        vocabulary: 32000,
        context: 2048,
        qkv_bias: false,
    };
    let qwen = Defaults {
        ffn: 22016,
        kv_heads: Some(32),
        vocabulary: 151936,
        context: 32768,
        ..llama
    };
    let defaults = match family {
        "llama" | "bluelm" | "BlueLM" => llama,
        "qwen2" => Defaults {
            qkv_bias: true,
            ..qwen
        },
        "qwen3" => Defaults {
            head_dim: Some(128),
            ..qwen
        },
        other => {
            return Err(format!(
                "{} is {other:?}, expected llama, qwen2, qwen3 or bluelm",
                keys.name("model_type")
            ));
        }
    };
    if keys.activation("hidden_act", "silu")? != Activation::Silu {
        return Err(format!(
            "{} is not silu, the only gate of these families",
            keys.name("hidden_act")
        ));
    }
    refuse_unsupported(keys)?;
    let hidden = keys.size_or("hidden_size", defaults.hidden)?;
    let heads = keys.size_or("num_attention_heads", defaults.heads)?;
    let bluelm = matches!(family, "bluelm" | "BlueLM");
    let bias = keys.flag_or("attention_bias", false)?;
    let decoder = DecoderSpec {
        hidden,
        ffn: keys.size_or("intermediate_size", defaults.ffn)?,
        layers: keys.size_or("num_hidden_layers", defaults.layers)?,
        heads,
        kv_heads: keys.size_or("num_key_value_heads", defaults.kv_heads.unwrap_or(heads))?,
        head_dim: head_dim(keys, defaults.head_dim, hidden, heads)?,
        vocabulary: keys.size_or("vocab_size", defaults.vocabulary)?,
        context_tokens: keys.size_or("max_position_embeddings", defaults.context)?,
        norm_eps: keys.number_or("rms_norm_eps", 1e-6)? as f32,
        rope_base: rotary::base(keys)?,
        qk_norm: if family == "qwen3" {
            QkNorm::PerHead
        } else {
            QkNorm::None
        },
        qkv_bias: defaults.qkv_bias || (family != "qwen2" && bias),
        output_bias: family != "qwen2" && bias,
        tied: keys.flag_or("tie_word_embeddings", false)?,
        embedding_norm: if bluelm && keys.flag_or("use_stable_embedding", true)? {
            EmbeddingNorm::LayerNorm
        } else {
            EmbeddingNorm::None
        },
    };
    Ok(ModelSpec {
        vision: None,
        projector: None,
        decoder,
        image_token_id: None,
        image_start_token_id: None,
        image_end_token_id: None,
        think_token_id: None,
        stop_token_ids: keys.ids("eos_token_id")?,
        decoder_prefix: String::new(),
    })
}

/// Switches of these classes that would change the result and that nothing here computes.
fn refuse_unsupported(keys: &Keys) -> Result<(), String> {
    for (key, what) in [
        ("use_sliding_window", "windowed attention"),
        ("mlp_bias", "an MLP with biases"),
    ] {
        if keys.flag_or(key, false)? {
            return Err(format!(
                "{} is true; {what} is not supported",
                keys.name(key)
            ));
        }
    }
    Ok(())
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
