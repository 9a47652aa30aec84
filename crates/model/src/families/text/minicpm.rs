//! MiniCPM-2B: Llama with scaled embeddings, residual sums and logits.

use super::{LLAMA, Text, llama};
use crate::families::Keys;
use crate::spec::{Begin, ModelSpec};

pub(super) const TEXT: Text = Text {
    types: &["minicpm"],
    defaults: super::Defaults {
        tied: true,
        ..LLAMA
    },
    finish,
};

const TEMPLATE: &str = "{% for m in messages %}{% if m['role'] == 'user' %}<用户>{{ m['content'] }}<AI>\
    {% else %}{{ m['content'] }}{% endif %}{% endfor %}";

pub(super) fn finish(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    let d = &mut spec.decoder;
    d.input_scale = keys.number_or("scale_emb", 1.0)? as f32;
    let depth = keys.number_or("scale_depth", 1.0)?;
    if keys.get("scale_depth").is_some() {
        d.residual_scale = (depth / (d.layers as f64).sqrt()) as f32;
    }
    let base = keys.number_or("dim_model_base", d.hidden as f64)?;
    d.logit_divisor = (d.hidden as f64 / base) as f32;
    spec.prompt.begin = Begin::ByTokenizer;
    spec.prompt.template = Some(TEMPLATE.into());
    llama::biases(keys, spec)
}
