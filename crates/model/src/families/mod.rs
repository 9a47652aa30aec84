//! Which config.json describes which network. A family is a mapping from its keys to a [`ModelSpec`]; nothing behind this
//! folder knows a family's name.

mod bluelm_v;
mod keys;
mod rotary;
mod text;

use crate::spec::ModelSpec;
use keys::Keys;
use serde_json::Value;

/// The network that a configuration describes, or what is wrong with it.
pub(crate) fn read(config: &str) -> Result<ModelSpec, String> {
    let value: Value = serde_json::from_str(config).map_err(|e| format!("not JSON: {e}"))?;
    let keys = Keys::new(&value, "")?;
    match keys.text("model_type")? {
        "bluelm_v" => bluelm_v::read(&keys),
        "llama" | "qwen2" | "qwen3" | "bluelm" | "BlueLM" => text::read_alone(&keys),
        other => Err(format!(
            "model_type is {other:?}, expected bluelm_v, llama, qwen2, qwen3 or bluelm"
        )),
    }
}
