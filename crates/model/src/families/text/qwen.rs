//! Qwen2 (and 2.5): biases on queries, keys and values. Qwen3 and its vision model: norms on queries and keys, heads of their own
//! width.

use super::{Defaults, LLAMA, Text, llama};
use crate::families::Keys;
use crate::spec::{ModelSpec, QkNorm};

const QWEN: Defaults = Defaults {
    ffn: 22016,
    kv_heads: Some(32),
    vocabulary: 151936,
    context: 32768,
    ..LLAMA
};

pub(super) const TEXTS: [Text; 3] = [
    Text {
        types: &["qwen2"],
        defaults: QWEN,
        finish: qwen2,
    },
    Text {
        types: &["qwen3"],
        defaults: Defaults {
            head_dim: Some(128),
            ..QWEN
        },
        finish: qwen3,
    },
    Text {
        types: &["qwen3_vl_text"],
        defaults: Defaults {
            head_dim: Some(128),
            context: 128000,
            ..QWEN
        },
        finish: qwen3_vl,
    },
];

fn qwen2(_: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    spec.decoder.qkv_bias = true;
    Ok(())
}

fn qwen3(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    spec.decoder.qk_norm = QkNorm::PerHead;
    llama::biases(keys, spec)
}

fn qwen3_vl(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    if keys.get("rope_theta").is_none() && keys.get("rope_parameters").is_none() {
        spec.decoder.rope_base = 500_000.0;
    }
    qwen3(keys, spec)
}
