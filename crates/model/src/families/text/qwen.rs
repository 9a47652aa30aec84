//! Qwen2 (and 2.5): biases on queries, keys and values. Qwen3: norms on queries and keys, heads of their own width.

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

pub(super) const TEXTS: [Text; 2] = [
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
];

fn qwen2(_: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    spec.decoder.qkv_bias = true;
    Ok(())
}

fn qwen3(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    spec.decoder.qk_norm = QkNorm::PerHead;
    llama::biases(keys, spec)
}
