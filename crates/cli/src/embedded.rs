//! The model inside the program. The only place that knows where its files lie.

use std::borrow::Cow;

use engine::ModelFiles;

/// Name of the model inside.
pub const NAME: &str = "bluelm-nano";

macro_rules! file {
    ($read:ident, $name:literal) => {
        Cow::Borrowed($read!(concat!("../model/bluelm-nano/", $name)))
    };
}

/// The files of the model inside.
pub fn embedded_model() -> ModelFiles {
    ModelFiles {
        config: file!(include_str, "config.json"),
        weights: Cow::Borrowed(include_bytes!("../model/bluelm-nano/model.safetensors")),
        tokenizer: Cow::Borrowed(include_bytes!("../model/bluelm-nano/tokenizer.json")),
        tokenizer_config: file!(include_str, "tokenizer_config.json"),
        template: file!(include_str, "chat_template.jinja"),
        preprocessor: file!(include_str, "preprocessor_config.json"),
        generation: file!(include_str, "generation_config.json"),
    }
}
