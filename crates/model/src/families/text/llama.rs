//! Llama (Vicuna, SmolLM) and Mistral.

use super::{Defaults, LLAMA, Text};
use crate::families::Keys;
use crate::spec::ModelSpec;

pub(super) const TEXTS: [Text; 2] = [
    Text {
        types: &["llama"],
        defaults: LLAMA,
        finish: biases,
    },
    Text {
        types: &["mistral"],
        defaults: Defaults {
            ffn: 14336,
            kv_heads: Some(8),
            context: 131072,
            ..LLAMA
        },
        finish: mistral,
    },
];

/// `attention_bias` gives all four projections one.
pub(super) fn biases(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    let bias = keys.flag_or("attention_bias", false)?;
    (spec.decoder.qkv_bias, spec.decoder.output_bias) = (bias, bias);
    Ok(())
}

/// The class's window of 4096 is what a folder means that does not say `null`; a context that fits into it is as good.
fn mistral(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    if !keys.is_null("sliding_window") {
        let window = keys.size_or("sliding_window", 4096)?;
        spec.decoder.context_tokens = spec.decoder.context_tokens.min(window);
    }
    Ok(())
}
