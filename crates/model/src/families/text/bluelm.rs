//! BlueLM-7B: Llama with a LayerNorm on the embeddings; the long one stretches its rotary positions (`ntkmixed`).

use super::{LLAMA, Text, llama};
use crate::families::Keys;
use crate::spec::{Begin, EmbeddingNorm, ModelSpec};

pub(super) const TEXT: Text = Text {
    types: &["bluelm", "BlueLM"],
    defaults: LLAMA,
    finish,
};

/// `[|Human|]:` question `[|AI|]:` answer `</s>`, as the published code puts conversations together.
const TEMPLATE: &str = "{% for m in messages %}{% if m['role'] == 'user' %}[|Human|]:{{ m['content'] }}[|AI|]:\
    {% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}";

fn finish(keys: &Keys, spec: &mut ModelSpec) -> Result<(), String> {
    if keys.flag_or("use_stable_embedding", true)? {
        spec.decoder.embedding_norm = EmbeddingNorm::LayerNorm;
    }
    spec.prompt.begin = Begin::ByTokenizer;
    spec.prompt.template = Some(TEMPLATE.into());
    llama::biases(keys, spec)
}
