//! DeepSeek-V3 and Moonlight: latent attention, and experts chosen by sigmoid scores.

use super::{Defaults, LLAMA, Text, llama, rotary};
use crate::families::Keys;
use crate::names::Fused;
use crate::spec::{DecoderSpec, Experts, Latent, ModelSpec, RopePairs};

pub(super) const TEXT: Text = Text {
    types: &["deepseek_v3"],
    defaults: Defaults {
        hidden: 7168,
        ffn: 18432,
        layers: 61,
        heads: 128,
        head_dim: Some(64),
        vocabulary: 129280,
        context: 4096,
        ..LLAMA
    },
    finish,
};

/// A latent of these widths: remembered, of queries, rotated, without position, of values.
pub(super) struct Widths {
    pub latent: usize,
    pub query: usize,
    pub rotated: usize,
    pub plain: usize,
    pub value: usize,
}

fn finish(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    let widths = Widths {
        latent: 512,
        query: 1536,
        rotated: 64,
        plain: 128,
        value: 128,
    };
    let pairs = match keys.flag_or("rope_interleave", true)? {
        true => RopePairs::Neighbours,
        false => RopePairs::Halves,
    };
    latent(keys, spec, widths, pairs)?;
    spec.decoder.experts = experts(keys, &spec.decoder)?;
    llama::biases(keys, spec)
}

/// Makes the decoder one with latent attention.
pub(super) fn latent(
    keys: &Keys,
    spec: &mut ModelSpec,
    widths: Widths,
    pairs: RopePairs,
) -> Result<(), String> {
    let latent = Latent {
        width: keys.size_or("kv_lora_rank", widths.latent)?,
        rotated: keys.size_or("qk_rope_head_dim", widths.rotated)?,
        plain: keys.size_or("qk_nope_head_dim", widths.plain)?,
        value: keys.size_or("v_head_dim", widths.value)?,
        query: match keys.is_null("q_lora_rank") {
            true => None,
            false => Some(keys.size_or("q_lora_rank", widths.query)?),
        },
        pairs,
    };
    let d = &mut spec.decoder;
    d.query_scale = rotary::score_scale(keys)?;
    (d.kv_heads, d.head_dim) = (1, latent.width.saturating_add(latent.rotated));
    spec.names.fused.push(Fused {
        part: "self_attn.kv_b_proj.",
        into: vec!["self_attn.k_b_proj.", "self_attn.v_b_proj."],
        rows: vec![latent.plain, latent.value],
    });
    d.latent = Some(latent);
    Ok(())
}

fn experts(keys: &Keys, decoder: &DecoderSpec) -> Result<Option<Experts>, String> {
    let dense_layers = keys.size_or("first_k_dense_replace", 3)?;
    if keys.is_null("n_routed_experts") || dense_layers >= decoder.layers {
        return Ok(None);
    }
    for (key, expected) in [("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")] {
        let found = keys.text_or(key, expected)?;
        if found != expected {
            return Err(format!(
                "{} is {found:?}, expected {expected}",
                keys.name(key)
            ));
        }
    }
    let every = keys.size_or("moe_layer_freq", 1)?;
    if every != 1 {
        return Err(format!(
            "{} is {every}, expected 1",
            keys.name("moe_layer_freq")
        ));
    }
    let ffn = keys.size_or("moe_intermediate_size", 2048)?;
    let shared = match keys.is_null("n_shared_experts") {
        true => 0,
        false => keys.size_or("n_shared_experts", 1)?,
    };
    Ok(Some(Experts {
        count: keys.size_or("n_routed_experts", 256)?,
        taken: keys.size_or("num_experts_per_tok", 8)?,
        ffn,
        shared_ffn: ffn.saturating_mul(shared),
        dense_layers,
        groups: keys.size_or("n_group", 8)?,
        taken_groups: keys.size_or("topk_group", 4)?,
        normalised: keys.flag_or("norm_topk_prob", true)?,
        scale: keys.number_or("routed_scaling_factor", 2.5)? as f32,
    }))
}
