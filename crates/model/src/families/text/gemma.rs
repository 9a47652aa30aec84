//! Gemma 3: norms that are added to one, before and after what a layer adds; windows in most layers, with a rotary base of their own.

use super::{Defaults, LLAMA, Text, llama, windows};
use crate::families::Keys;
use crate::spec::{Activation, Begin, ModelSpec, NormKind, QkNorm, Window};

pub(super) const TEXT: Text = Text {
    types: &["gemma3_text"],
    defaults: Defaults {
        hidden: 2304,
        ffn: 9216,
        layers: 26,
        heads: 8,
        kv_heads: Some(4),
        head_dim: Some(256),
        vocabulary: 262208,
        context: 131072,
        tied: true,
        ..LLAMA
    },
    finish,
};

fn finish(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    if keys.get("attn_logit_softcapping").is_some() {
        return Err(format!(
            "{} is set; scores that are bent are not supported",
            keys.name("attn_logit_softcapping")
        ));
    }
    if keys.flag_or("use_bidirectional_attention", false)? {
        return Err(format!(
            "{} is true; a text that sees what comes after it is not supported",
            keys.name("use_bidirectional_attention")
        ));
    }
    let d = &mut spec.decoder;
    d.activation = keys.activation("hidden_activation", "gelu_pytorch_tanh")?;
    if !matches!(
        d.activation,
        Activation::GeluTanh | Activation::Gelu | Activation::Silu
    ) {
        return Err(format!(
            "{}: expected gelu_pytorch_tanh, gelu or silu",
            keys.name("hidden_activation")
        ));
    }
    (d.norm, d.branch_norms, d.qk_norm) = (NormKind::RmsPlusOne, true, QkNorm::PerHead);
    d.embedding_scale = (d.hidden as f64).sqrt() as f32;
    let width = keys.number_or("query_pre_attn_scalar", 256.0)?;
    d.query_scale = (d.head_dim as f64 / width).sqrt() as f32;
    if keys.get("final_logit_softcapping").is_some() {
        d.logit_cap = Some(keys.number_or("final_logit_softcapping", 30.0)? as f32);
    }
    if keys.get("rope_theta").is_none() && keys.get("rope_parameters").is_none() {
        d.rope_base = 1e6;
    }
    d.window = window(keys, d.layers)?;
    // Its template writes the token for the beginning, and so does its tokenizer.
    spec.prompt.begin = Begin::ByTokenizer;
    let norms = [
        (".post_attention_layernorm.", ".attention_output_layernorm."),
        (".pre_feedforward_layernorm.", ".post_attention_layernorm."),
        (".post_feedforward_layernorm.", ".mlp_output_layernorm."),
    ];
    spec.names.replaced.extend(norms);
    llama::biases(keys, spec)
}

/// Every sixth layer sees all, unless the file says otherwise.
fn window(keys: &Keys, layers: usize) -> Result<Option<Window>, String> {
    if keys.is_null("sliding_window") {
        return Ok(None);
    }
    let tokens = keys.size_or("sliding_window", 4096)?;
    let every = keys.size_or("sliding_window_pattern", 6)?.max(1);
    let window = windows::read(keys, layers, tokens, |layer| {
        (layer + 1).is_multiple_of(every)
    })?;
    let mut base = keys.number_or("rope_local_base_freq", 10000.0)?;
    if keys.get("rope_parameters").is_some() {
        let rope = keys.object("rope_parameters")?;
        if rope.get("sliding_attention").is_some() {
            base = rope
                .object("sliding_attention")?
                .number_or("rope_theta", base)?;
        }
    }
    Ok(Some(Window {
        rope_base: Some(base),
        ..window
    }))
}
