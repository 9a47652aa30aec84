//! Models to test with.

pub mod bundled;
pub mod random;
pub mod reference;

use model::{Checkpoint, Model};
use std::path::PathBuf;

/// A folder of `golden/`.
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden")).join(name)
}

/// The model in it.
pub fn golden_model(name: &str) -> Model {
    Model::load(&Checkpoint::open(&golden(name)).unwrap()).unwrap()
}

/// Wide enough that threads split the work of a few dozen rows, and the columns of the head for one; heads share keys.
pub const WIDE: &str = r#"{"model_type": "bluelm_v",
  "vision_config": {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 40, "patch_size": 8, "hidden_act": "gelu_pytorch_tanh"},
  "vision_feature_layer": -1, "projector_config": {"merge_size": 2},
  "text_config": {"model_type": "qwen3", "vocab_size": 3700, "hidden_size": 72, "intermediate_size": 200,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 40,
    "max_position_embeddings": 512, "tie_word_embeddings": true},
  "image_token_id": 60, "image_start_token_id": 61, "image_end_token_id": 62}"#;
