//! Llama (Vicuna, SmolLM) and Mistral.

use super::{Defaults, LLAMA, Text, windows};
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

/// The class's window of 4096 is what a folder means that does not say `null`.
fn mistral(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    if !keys.is_null("sliding_window") {
        let tokens = keys.size_or("sliding_window", 4096)?;
        let window = windows::read(keys, spec.decoder.layers, tokens, |_| false)?;
        spec.decoder.window = Some(window);
    }
    Ok(())
}
