//! A model folder with random weights: the real networks, tokenizer and template, small enough for every test.

use std::path::Path;

use model::{ModelSpec, TensorData, TensorSpec, write_safetensors};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// config.json of a network with two encoder and two decoder layers, tiles of 32 pixels, 4 tokens a tile.
pub const TINY_CONFIG: &str = r#"{
  "architectures": ["BlueLMVForConditionalGeneration"], "model_type": "bluelm_v", "torch_dtype": "bfloat16",
  "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
    "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "vision_use_head": false},
  "vision_feature_layer": -1,
  "projector_config": {"merge_size": 2, "norm_eps": 1e-5, "hidden_act": "gelu"},
  "text_config": {"model_type": "llama", "vocab_size": 528, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 512, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "attention_bias": false, "tie_word_embeddings": true},
  "image_token_id": 4, "image_start_token_id": 3, "image_end_token_id": 5, "think_token_id": 8
}
"#;
/// Small files that go with it.
const FILES: [(&str, &str); 4] = [
    (
        "tokenizer.json",
        include_str!("../../../../configs/nano/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_str!("../../../../configs/nano/tokenizer_config.json"),
    ),
    (
        "chat_template.jinja",
        include_str!("../../../../configs/nano/chat_template.jinja"),
    ),
    (
        // No stop text of its own: thoughts are ended with the usual sentence.
        "generation_config.json",
        r#"{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "thinking": {"start": "<think>", "end": "</think>"}}"#,
    ),
];

/// A tensor to be written: name, shape, bf16 bits.
pub type Tensor = (String, Vec<usize>, Vec<u16>);

/// Writes the folder, which need not exist.
pub fn write_random_model(folder: &Path, seed: u64) {
    write_changed_model(folder, seed, |_| {});
}

/// Writes the folder with tensors that somebody meddled with.
pub fn write_changed_model(folder: &Path, seed: u64, change: impl FnOnce(&mut Vec<Tensor>)) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::fs::write(folder.join("config.json"), TINY_CONFIG).unwrap();
    let preprocessor = include_str!("../../../../configs/nano/preprocessor_config.json");
    let preprocessor = preprocessor
        .replace("\"tile_size\": 256", "\"tile_size\": 32")
        .replace("2,\n  2\n", "4,\n  4\n");
    std::fs::write(folder.join("preprocessor_config.json"), preprocessor).unwrap();
    let spec = ModelSpec::from_json(TINY_CONFIG).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut tensors: Vec<Tensor> = spec
        .tensors()
        .into_iter()
        .map(|tensor| {
            (
                tensor.name.clone(),
                tensor.shape.clone(),
                random_values(&tensor, &mut random),
            )
        })
        .collect();
    change(&mut tensors);
    let tensors = tensors
        .into_iter()
        .map(|(name, shape, values)| (name, shape, TensorData::Bf16(values.into())));
    write_safetensors(&folder.join("model.safetensors"), tensors).unwrap();
}

/// bf16 bits around 1 for norms and around 0, with a spread that keeps rows at their size, for all else.
fn random_values(tensor: &TensorSpec, random: &mut ChaCha8Rng) -> Vec<u16> {
    let inputs: usize = tensor.shape.iter().skip(1).product();
    let is_norm = tensor.shape.len() == 1 && tensor.name.ends_with("weight");
    let (middle, spread) = if is_norm {
        (1.0, 0.2)
    } else {
        (0.0, (3.0 / inputs as f32).sqrt())
    };
    let mut draw = || (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
    let bf16 = |value: f32| (value.to_bits() >> 16) as u16;
    (0..tensor.shape.iter().product())
        .map(|_| bf16(middle + spread * draw()))
        .collect()
}
