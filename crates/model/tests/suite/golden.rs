//! Every intermediate against what transformers' layers computed (`scripts/make_golden.py`).

use crate::support::reference::{Case, Tensors, compare, first_wrong};
use crate::support::{golden, golden_model};
use model::{Checkpoint, Model};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

/// The cases of a folder by name: tensors are named CASE/TENSOR.
fn cases(folder: &str) -> BTreeMap<String, Case> {
    let bytes = std::fs::read(golden(folder).join("cases.safetensors")).unwrap();
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().iter() {
        let (case, name) = name.split_once('/').unwrap();
        let case = cases.entry(case.into()).or_insert_with(|| Case {
            ids: Vec::new(),
            pixels: Vec::new(),
            greedy: Vec::new(),
            expected: Tensors::new(),
        });
        let ids = || {
            let ids = tensor.data().as_chunks::<8>().0.iter();
            ids.map(|b| u32::try_from(i64::from_le_bytes(*b)).unwrap())
                .collect()
        };
        let numbers = || {
            assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
            let numbers = tensor.data().as_chunks::<4>().0.iter();
            numbers.map(|b| f32::from_le_bytes(*b)).collect()
        };
        match name {
            "ids" => case.ids = ids(),
            "greedy" => case.greedy = ids(),
            "pixels" => case.pixels = numbers(),
            name => {
                case.expected.insert(name.into(), numbers());
            }
        }
    }
    cases
}

fn assert_equal(folder: &str, case_count: usize) {
    let model = golden_model(folder);
    let cases = cases(folder);
    assert_eq!(cases.len(), case_count, "cases of {folder}");
    for (name, case) in &cases {
        let differences = compare(&model, case);
        assert_eq!(
            differences.len(),
            case.expected.len(),
            "tensors of {folder}, {name}"
        );
        if let Some(first) = first_wrong(&differences) {
            panic!(
                "{folder}, {name}: {} is the first that differs, by {:.1e}",
                first.name, first.relative
            );
        }
    }
}

#[test]
fn bluelm_v_takes_the_last_layer_but_one_without_its_norm() {
    assert_equal("bluelm_v", 4);
}

#[test]
fn bluelm_2_5_takes_the_last_layer_with_its_norm_and_a_qwen3_decoder() {
    assert_equal("bluelm_2_5", 4);
}

#[test]
fn bluelm_text_norms_text_embeddings_but_not_features() {
    assert_equal("bluelm_v_first_layers", 4);
}

#[test]
fn llama_with_biases_and_a_head_of_its_own() {
    assert_equal("llama", 1);
}

#[test]
fn qwen2_from_three_files_of_f16() {
    assert_equal("qwen2", 1);
}

#[test]
fn qwen3_with_rope_parameters_and_narrow_heads() {
    assert_equal("qwen3", 1);
}

/// Loads a golden folder's model with one number of one tensor changed.
fn changed(folder: &str, tensor: &str) -> Model {
    let folder = golden(folder);
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let mut bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let at = header + 8 + metadata.info(tensor).unwrap().data_offsets.0;
    // The highest bits of a little-endian bf16: its sign.
    bytes[at + 1] ^= 0x80;
    Model::load(&Checkpoint::from_memory(&config, bytes.into()).unwrap()).unwrap()
}

#[test]
fn a_changed_weight_is_found_where_it_first_matters() {
    let cases = cases("bluelm_v");
    for (tensor, first) in [
        (
            "vision_tower.vision_model.encoder.layers.1.mlp.fc2.bias",
            "vision_features",
        ),
        ("multi_modal_projector.norm.bias", "image_embeds"),
        (
            "language_model.model.layers.0.self_attn.o_proj.weight",
            "hidden.1",
        ),
        (
            "language_model.model.layers.1.mlp.down_proj.weight",
            "hidden.norm",
        ),
        ("language_model.lm_head.weight", "prefill_logits"),
    ] {
        let differences = compare(&changed("bluelm_v", tensor), &cases["tiles"]);
        let found = first_wrong(&differences).map(|difference| &*difference.name);
        assert_eq!(found, Some(first), "{tensor}");
    }
}

#[test]
fn layers_behind_the_chosen_one_do_not_matter() {
    let cases = cases("bluelm_v");
    for tensor in ["encoder.layers.2.mlp.fc2.bias", "post_layernorm.bias"] {
        let model = changed("bluelm_v", &format!("vision_tower.vision_model.{tensor}"));
        assert!(
            first_wrong(&compare(&model, &cases["tiles"])).is_none(),
            "{tensor}"
        );
    }
}
