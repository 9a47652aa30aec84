//! Phi-3: Llama with queries, keys and values in one matrix, and gate and up in another.

use super::{Defaults, LLAMA, Text, llama, windows};
use crate::families::Keys;
use crate::names::Fused;
use crate::spec::ModelSpec;

pub(super) const TEXT: Text = Text {
    types: &["phi3"],
    defaults: Defaults {
        hidden: 3072,
        ffn: 8192,
        vocabulary: 32064,
        context: 4096,
        norm_eps: 1e-5,
        ..LLAMA
    },
    finish,
};

fn finish(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    let d = &mut spec.decoder;
    let [queries, values] = [d.heads, d.kv_heads].map(|heads| heads.saturating_mul(d.head_dim));
    spec.names.fused.extend([
        Fused {
            part: "self_attn.qkv_proj.",
            into: vec![
                "self_attn.q_proj.",
                "self_attn.k_proj.",
                "self_attn.v_proj.",
            ],
            rows: vec![queries, values, values],
        },
        Fused {
            part: "mlp.gate_up_proj.",
            into: vec!["mlp.gate_proj.", "mlp.up_proj."],
            rows: vec![d.ffn; 2],
        },
    ]);
    if keys.get("sliding_window").is_some() {
        let tokens = keys.size("sliding_window")?;
        d.window = Some(windows::read(keys, d.layers, tokens, |_| false)?);
    }
    llama::biases(keys, spec)
}
