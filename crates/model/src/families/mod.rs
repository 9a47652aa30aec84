//! Which config.json describes which network. A family is a mapping from its keys to a [`ModelSpec`], and from those of its
//! preprocessor_config.json to a recipe for pictures; nothing behind this folder knows a family's name.

mod bluelm_v;
mod gemma;
mod internvl;
mod kimi_vl;
mod llava;
mod minicpmv;
mod qwen3_vl;
mod qwen_vl;
mod shared;
mod smolvlm;
mod text;
mod vila;

use crate::spec::ModelSpec;
use image_prep::Preprocessor;
use serde_json::Value;
use shared::keys::Keys;
use shared::{conversations, pictures, towers};

/// Reads config.json and preprocessor_config.json.
type Pictures = fn(&Keys, &Keys) -> Result<Preprocessor, String>;

/// One family: what it is called, and how its files are read.
struct Family {
    /// `model_type` of config.json.
    types: &'static [&'static str],
    read: fn(&Keys) -> Result<ModelSpec, String>,
    /// How pictures are prepared; none for a family that sees nothing or has the native preprocessor.
    pictures: Option<Pictures>,
}

/// All of them. A line here and a file beside it are a new family.
const FAMILIES: [&[Family]; 11] = [
    &[bluelm_v::FAMILY],
    &[text::FAMILY],
    &llava::FAMILIES,
    &internvl::FAMILIES,
    &[minicpmv::FAMILY],
    &qwen_vl::FAMILIES,
    &[qwen3_vl::FAMILY],
    &[kimi_vl::FAMILY],
    &[vila::FAMILY],
    &[smolvlm::FAMILY],
    &[gemma::FAMILY],
];

/// Encoders of pictures and texts that people have as folders of their own, too: they give numbers, and nobody an answer.
const ENCODERS: [&str; 4] = ["clip", "siglip", "siglip2", "siglip_vision_model"];

fn find(keys: &Keys) -> Result<&'static Family, String> {
    let name = keys.text("model_type")?;
    let mut all = FAMILIES.iter().copied().flatten();
    all.find(|family| family.types.contains(&name))
        .ok_or_else(|| {
            let known = FAMILIES.iter().copied().flatten();
            let known: Vec<&str> = known.flat_map(|family| family.types).copied().collect();
            let what = match ENCODERS.contains(&name) {
                true => "an encoder without a decoder, which cannot answer",
                false => "a family that is not known",
            };
            format!(
                "model_type is {name:?}, {what}; expected one of {}",
                known.join(", ")
            )
        })
}

/// The network that a configuration describes, or what is wrong with it.
pub(crate) fn read(config: &str) -> Result<ModelSpec, String> {
    let value = parse(config)?;
    let keys = Keys::new(&value, "")?;
    (find(&keys)?.read)(&keys)
}

/// How pictures are prepared for it; none where preprocessor_config.json says it in its own words.
pub(crate) fn pictures(config: &str, preprocessor: &str) -> Result<Option<Preprocessor>, String> {
    let config = parse(config)?;
    let keys = Keys::new(&config, "")?;
    let Some(pictures) = find(&keys)?.pictures else {
        return Ok(None);
    };
    let preprocessor = match preprocessor {
        "" => Value::Object(Default::default()),
        text => parse(text).map_err(|problem| format!("preprocessor_config.json: {problem}"))?,
    };
    let preprocessor = Keys::new(&preprocessor, "preprocessor_config.json")?;
    pictures(&keys, &preprocessor).map(Some)
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))
}
