//! MiniCPM3: latent attention, and MiniCPM's scaled embeddings, residual sums and logits.

use super::{Defaults, LLAMA, Text, deepseek, llama};
use crate::families::Keys;
use crate::spec::{ModelSpec, RopePairs};

pub(super) const TEXT: Text = Text {
    types: &["minicpm3"],
    defaults: Defaults {
        hidden: 2560,
        ffn: 6400,
        layers: 62,
        heads: 40,
        head_dim: Some(32),
        vocabulary: 73448,
        context: 32768,
        norm_eps: 1e-5,
        tied: true,
        ..LLAMA
    },
    finish,
};

fn finish(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    let d = &spec.decoder;
    let widths = deepseek::Widths {
        latent: 256,
        query: 768,
        rotated: 32,
        plain: 64,
        value: d.hidden / d.heads.max(1),
    };
    deepseek::latent(keys, spec, widths, RopePairs::Halves)?;
    let d = &mut spec.decoder;
    d.embedding_scale = keys.number_or("scale_emb", 12.0)? as f32;
    // Null stands for no scaling of either, what is missing for the class's numbers.
    if !keys.is_null("scale_depth") {
        let depth = keys.number_or("scale_depth", 1.4)?;
        d.residual_scale = (depth / (d.layers as f64).sqrt()) as f32;
    }
    if !keys.is_null("dim_model_base") {
        d.logit_divisor = (d.hidden as f64 / keys.number_or("dim_model_base", 256.0)?) as f32;
    }
    llama::biases(keys, spec)
}
