//! What the configurations of VILA and NVILA may say, and what is refused because nothing here computes it.

use model::ModelSpec;
use model::spec::{Assembly, ProjectorKind};
use serde_json::{Value, json};

/// A small NVILA as the folders of its parts are read, after a change.
fn read(change: impl FnOnce(&mut Value)) -> Result<ModelSpec, String> {
    let mut config = json!({"model_type": "llava_llama", "image_aspect_ratio": "dynamic_s2", "s2_scales": "70, 140,210",
        "mm_vision_select_layer": -2, "mm_vision_select_feature": "cls_patch",
        "llm_config": {"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 32, "num_hidden_layers": 3,
            "num_attention_heads": 4, "image_size": 70, "patch_size": 14},
        "projector_config": {"mm_projector_type": "mlp_downsample"}});
    change(&mut config);
    ModelSpec::from_json(&config.to_string()).map_err(|error| error.to_string())
}

#[test]
fn three_scales_lie_side_by_side_before_the_projector() {
    let spec = read(|_| {}).unwrap();
    assert_eq!(spec.assembly, Assembly::Scales);
    let tensors = spec.tensors();
    let first = tensors
        .iter()
        .find(|tensor| tensor.name == "multi_modal_projector.linear_1.weight");
    assert_eq!(first.unwrap().shape, [64, 3 * 32 * 2 * 2]);
}

#[test]
fn both_spellings_of_the_merge_of_four_patches_are_one_projector() {
    let other = |config: &mut Value| {
        config["projector_config"]["mm_projector_type"] = "mlp_downsample_2x2_fix".into();
    };
    let projector = read(other).unwrap().projector.unwrap();
    assert_eq!(
        (projector.merge, projector.kind),
        (2, ProjectorKind::Linears)
    );
    assert_eq!(Some(projector), read(|_| {}).unwrap().projector);
}

#[test]
fn settings_that_would_change_the_result_are_refused() {
    for (key, value, expected) in [
        (
            "s2_scales",
            "70,140",
            "s2_scales is \"70,140\", expected \"70,140,210\"",
        ),
        (
            "mm_vision_select_feature",
            "patch",
            "mm_vision_select_feature is \"patch\", expected \"cls_patch\"",
        ),
        (
            "image_aspect_ratio",
            "pad",
            "image_aspect_ratio is \"pad\", expected resize, dynamic or dynamic_s2",
        ),
    ] {
        let error = read(|config| config[key] = value.into()).unwrap_err();
        assert_eq!(error, format!("config.json: {expected}"));
    }
}
