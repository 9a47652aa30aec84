//! InternLM2: Llama under other names, queries, keys and values packed by key head.

use super::{Defaults, LLAMA, Text};
use crate::families::Keys;
use crate::names::{Fused, Names};
use crate::spec::{Begin, ModelSpec};

pub(super) const TEXT: Text = Text {
    types: &["internlm2"],
    defaults: Defaults {
        vocabulary: 103168,
        ..LLAMA
    },
    finish,
};

fn finish(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    let d = &mut spec.decoder;
    let bias = keys.flag_or("bias", true)?;
    (d.qkv_bias, d.output_bias) = (bias, bias);
    spec.names = Names {
        replaced: vec![
            ("model.tok_embeddings.", "model.embed_tokens."),
            ("attention_norm.", "input_layernorm."),
            ("ffn_norm.", "post_attention_layernorm."),
            ("attention.wo.", "self_attn.o_proj."),
            ("attention.wqkv.", "self_attn.wqkv."),
            ("feed_forward.w1.", "mlp.gate_proj."),
            ("feed_forward.w3.", "mlp.up_proj."),
            ("feed_forward.w2.", "mlp.down_proj."),
            ("^output.", "lm_head."),
            ("^language_model.output.", "language_model.lm_head."),
        ],
        fused: vec![Fused {
            part: "self_attn.wqkv.",
            into: vec![
                "self_attn.q_proj.",
                "self_attn.k_proj.",
                "self_attn.v_proj.",
            ],
            rows: vec![
                d.heads / d.kv_heads.max(1) * d.head_dim,
                d.head_dim,
                d.head_dim,
            ],
        }],
        ..Names::default()
    };
    spec.prompt.begin = Begin::ByTokenizer;
    Ok(())
}
