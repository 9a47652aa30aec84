//! Models of real size that exist in shape only, to measure speed on random weights. A shape is the `config.json` that people have on
//! disk, and what of the other files makes a difference to speed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

macro_rules! shapes {
    ($($name:literal),*) => {
        /// Every shape.
        pub const NAMES: &[&str] = &[$($name),*];

        fn text(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("../shapes/", $name, ".json"))),)*
                _ => None,
            }
        }
    };
}

shapes!(
    "bluelm-v-3b",
    "qwen3-4b",
    "qwen2.5-vl-3b",
    "internvl2-8b",
    "minicpm-v-2.6",
    "kimi-vl-a3b",
    "llava-next-7b"
);

/// A model of real size without its weights.
#[derive(Clone, Debug, Deserialize)]
pub struct Shape {
    /// What it is.
    pub about: String,
    /// Its `config.json`.
    pub config: Json,
    /// Its `preprocessor_config.json`; none for our own format, where it follows from the configuration, and for text.
    pub preprocessor: Option<Json>,
    /// Tokens that its prompts need, and their ids.
    #[serde(default)]
    pub tokens: BTreeMap<String, u32>,
    /// What its template writes where a picture is; none for our own format and for text.
    pub picture: Option<String>,
}

/// The shape of this name.
pub fn find(name: &str) -> Option<Shape> {
    Some(serde_json::from_str(text(name)?).expect("a shape of our own is well formed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ModelSpec;

    #[test]
    fn every_shape_is_a_model_that_can_be_read() {
        for name in NAMES {
            let shape = find(name).unwrap();
            let spec = ModelSpec::from_json(&shape.config.to_string()).unwrap();
            let sees = spec.vision.is_some();
            assert_eq!(sees, *name != "qwen3-4b", "{name}");
            let most = shape.tokens.values().max().copied().unwrap_or(0);
            assert!((most as usize) < spec.vocab_size(), "{name}");
        }
        assert!(find("bluelm").is_none());
    }

    #[test]
    fn shapes_have_the_size_that_their_names_say() {
        // Billions of weights as published, decoder, head, embedding and encoder together.
        let published = [
            ("bluelm-v-3b", 3.2),
            ("qwen3-4b", 4.0),
            ("qwen2.5-vl-3b", 3.75),
            ("internvl2-8b", 8.1),
            ("minicpm-v-2.6", 8.1),
            ("kimi-vl-a3b", 16.4),
            ("llava-next-7b", 7.6),
        ];
        for (name, billions) in published {
            let spec = ModelSpec::from_json(&find(name).unwrap().config.to_string()).unwrap();
            let weights = |shape: &[usize]| shape.iter().product::<usize>();
            let all: usize = spec.tensors().iter().map(|it| weights(&it.shape)).sum();
            let found = all as f64 / 1e9;
            assert!((found / billions - 1.0).abs() < 0.03, "{name}: {found}");
        }
    }
}
