//! config.json: what is left out, and what cannot be.

use crate::support::WIDE;
use model::ModelSpec;
use model::spec::{Activation, EmbeddingNorm, QkNorm};
use serde_json::{Value, json};

/// The wide model's configuration with values put at these paths; null takes a key away.
fn edited(edits: &[(&str, Value)]) -> String {
    let mut config: Value = serde_json::from_str(WIDE).unwrap();
    for (path, value) in edits {
        let (place, key) = path.rsplit_once('/').unwrap();
        config.pointer_mut(place).unwrap()[key] = value.clone();
    }
    config.to_string()
}

#[test]
fn what_a_text_model_leaves_out_is_its_class_default() {
    let llama = ModelSpec::from_json(r#"{"model_type": "llama"}"#)
        .unwrap()
        .decoder;
    assert_eq!(
        (llama.hidden, llama.ffn, llama.layers, llama.heads),
        (4096, 11008, 32, 32)
    );
    assert_eq!(
        (llama.kv_heads, llama.head_dim, llama.vocabulary),
        (32, 128, 32000)
    );
    assert_eq!(
        (llama.norm_eps, llama.rope_base, llama.tied),
        (1e-6, 10000.0, false)
    );
    assert_eq!(
        (llama.qkv_bias, llama.output_bias, llama.qk_norm),
        (false, false, QkNorm::None)
    );
    let qwen2 = ModelSpec::from_json(r#"{"model_type": "qwen2"}"#)
        .unwrap()
        .decoder;
    assert_eq!(
        (
            qwen2.ffn,
            qwen2.vocabulary,
            qwen2.qkv_bias,
            qwen2.output_bias
        ),
        (22016, 151936, true, false)
    );
    let qwen3 = ModelSpec::from_json(r#"{"model_type": "qwen3", "hidden_size": 2560}"#)
        .unwrap()
        .decoder;
    assert_eq!(
        (qwen3.head_dim, qwen3.kv_heads, qwen3.qk_norm),
        (128, 32, QkNorm::PerHead)
    );
    let bluelm = ModelSpec::from_json(r#"{"model_type": "BlueLM"}"#)
        .unwrap()
        .decoder;
    assert_eq!(bluelm.embedding_norm, EmbeddingNorm::LayerNorm);
}

#[test]
fn what_an_encoder_leaves_out_is_siglips_default() {
    let keys = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "image_size",
        "patch_size",
    ];
    let edits: Vec<(String, Value)> = keys
        .iter()
        .map(|key| (format!("/vision_config/{key}"), Value::Null))
        .collect();
    let edits: Vec<(&str, Value)> = edits
        .iter()
        .map(|(path, value)| (&**path, value.clone()))
        .collect();
    let spec = ModelSpec::from_json(&edited(&edits)).unwrap();
    let vision = spec.vision.as_ref().unwrap();
    assert_eq!(
        (vision.hidden, vision.ffn, vision.layers, vision.heads),
        (768, 3072, 12, 12)
    );
    assert_eq!(
        (vision.image, vision.patch, vision.norm_eps),
        (224, 16, 1e-6)
    );
    assert_eq!(
        (vision.activation, spec.tokens_per_tile()),
        (Activation::GeluTanh, 49)
    );
}

#[test]
fn a_feature_layer_counts_from_the_end() {
    for (value, used_layers, post_norm) in [(-1, 2, true), (-2, 1, false), (-3, 0, false)] {
        let spec =
            ModelSpec::from_json(&edited(&[("/vision_feature_layer", json!(value))])).unwrap();
        let vision = spec.vision.unwrap();
        assert_eq!(
            (vision.used_layers, vision.post_norm),
            (used_layers, post_norm),
            "{value}"
        );
    }
    for value in [json!(0), json!(1), json!(-4), json!("-2"), json!([-2, -1])] {
        let error = ModelSpec::from_json(&edited(&[("/vision_feature_layer", value)])).unwrap_err();
        assert!(
            error.to_string().contains("vision_feature_layer is"),
            "{error}"
        );
    }
}

#[test]
fn the_rotary_base_is_read_in_both_spellings() {
    for (key, value, base) in [
        ("/text_config/rope_theta", json!(5e5), 5e5),
        (
            "/text_config/rope_parameters",
            json!({"rope_type": "default", "rope_theta": 1e6}),
            1e6,
        ),
        ("/text_config/rope_scaling", Value::Null, 1e4),
    ] {
        assert_eq!(
            ModelSpec::from_json(&edited(&[(key, value)]))
                .unwrap()
                .decoder
                .rope_base,
            base,
            "{key}"
        );
    }
}

#[test]
fn what_is_not_computed_is_refused_rather_than_ignored() {
    for (key, value) in [
        (
            "rope_scaling",
            json!({"type": "proportional", "factor": 2.0}),
        ),
        ("rope_scaling", json!({"type": "linear"})),
        ("rope_scaling", json!({"partial_rotary_factor": 0.75})),
        (
            "rope_parameters",
            json!({"rope_type": "llama3", "rope_theta": 1e6}),
        ),
        ("partial_rotary_factor", json!(0.5)),
        ("layer_types", json!(["chunked_attention"])),
        ("hidden_act", json!("gelu")),
        ("mlp_bias", json!(true)),
        ("model_type", json!("gemma2")),
    ] {
        let window = [
            ("/text_config/use_sliding_window", json!(true)),
            ("/text_config/sliding_window", json!(8)),
        ];
        let path = format!("/text_config/{key}");
        let edits = [&window[..], &[(&path, value)]].concat();
        let error = ModelSpec::from_json(&edited(&edits)).unwrap_err();
        assert!(
            error.to_string().contains(&format!("text_config.{key}")),
            "{error}"
        );
    }
    let head = edited(&[("/vision_config/vision_use_head", json!(true))]);
    assert!(
        ModelSpec::from_json(&head)
            .unwrap_err()
            .to_string()
            .contains("vision_use_head")
    );
}

#[test]
fn sizes_that_are_zero_huge_or_do_not_fit_together_are_refused() {
    for (path, value, told) in [
        ("/text_config/hidden_size", json!(0), "hidden_size is 0"),
        (
            "/text_config/num_hidden_layers",
            json!(0),
            "num_hidden_layers is 0",
        ),
        (
            "/text_config/num_attention_heads",
            json!(0),
            "num_attention_heads is 0",
        ),
        (
            "/text_config/num_key_value_heads",
            json!(0),
            "num_key_value_heads is 0",
        ),
        (
            "/text_config/num_key_value_heads",
            json!(4),
            "6 query heads do not share 4",
        ),
        ("/text_config/head_dim", json!(7), "head_dim is 7"),
        (
            "/text_config/vocab_size",
            json!(1e9 as u64),
            "vocab_size is 1000000000",
        ),
        (
            "/text_config/vocab_size",
            json!(u64::MAX),
            "vocab_size is 18446744073709551615",
        ),
        (
            "/text_config/hidden_size",
            json!(-64),
            "text_config.hidden_size is -64",
        ),
        (
            "/text_config/hidden_size",
            json!(64.5),
            "text_config.hidden_size is 64.5",
        ),
        (
            "/text_config/hidden_size",
            json!("64"),
            "text_config.hidden_size is \"64\"",
        ),
        (
            "/text_config/rms_norm_eps",
            json!(-1e-5),
            "text_config.rms_norm_eps is",
        ),
        (
            "/text_config/rope_theta",
            json!(0),
            "text_config.rope_theta is 0",
        ),
        ("/vision_config/num_attention_heads", json!(5), "5 heads"),
        ("/vision_config/patch_size", json!(41), "patch 41"),
        ("/vision_config/patch_size", json!(0), "patch_size is 0"),
        ("/vision_config/image_size", json!(0), "image_size is 0"),
        ("/projector_config/merge_size", json!(0), "merge 0"),
        ("/projector_config/merge_size", json!(6), "merge 6"),
        ("/image_token_id", json!(3700), "token id 3700"),
        ("/image_token_id", Value::Null, "image_token_id is missing"),
        ("/text_config", Value::Null, "text_config is missing"),
        (
            "/vision_config",
            json!([]),
            "vision_config is not an object",
        ),
    ] {
        let error = ModelSpec::from_json(&edited(&[(path, value.clone())])).err();
        let error = error
            .unwrap_or_else(|| panic!("{path} of {value} was taken"))
            .to_string();
        assert!(
            error.starts_with("config.json: ") && error.contains(told),
            "{path} of {value}: {error}"
        );
    }
    let uneven = r#"{"model_type": "llama", "hidden_size": 100, "num_attention_heads": 3}"#;
    let error = ModelSpec::from_json(uneven).unwrap_err().to_string();
    assert!(
        error.contains("hidden_size is 100, which 3 heads do not share evenly"),
        "{error}"
    );
}

#[test]
fn text_that_is_no_configuration_says_so() {
    for (text, told) in [
        ("", "not JSON"),
        ("[]", "is not an object"),
        ("{}", "model_type is missing"),
        (
            r#"{"model_type": "clip"}"#,
            "\"clip\", an encoder without a decoder, which cannot answer; expected one of bluelm_v",
        ),
        (
            r#"{"model_type": "phi9"}"#,
            "\"phi9\", a family that is not known; expected one of bluelm_v",
        ),
    ] {
        let error = ModelSpec::from_json(text).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn layers_with_a_window_are_told_in_four_ways() {
    let window = |config: Value| {
        let window = ModelSpec::from_json(&config.to_string()).unwrap();
        let window = window.decoder.window;
        window.map(|window| (window.tokens, window.full_layers, window.rope_base))
    };
    assert_eq!(
        window(json!({"model_type": "mistral", "num_hidden_layers": 3})),
        Some((4096, vec![], None))
    );
    assert_eq!(
        window(json!({"model_type": "mistral", "sliding_window": null})),
        None
    );
    let qwen = |asked: bool| {
        window(
            json!({"model_type": "qwen2", "num_hidden_layers": 4, "use_sliding_window": asked,
            "sliding_window": 9, "max_window_layers": 2}),
        )
    };
    assert_eq!(qwen(false), None);
    assert_eq!(qwen(true), Some((9, vec![0, 1], None)));
    let gemma = json!({"model_type": "gemma3_text", "num_hidden_layers": 7, "sliding_window": 5});
    assert_eq!(window(gemma.clone()), Some((5, vec![5], Some(10000.0))));
    let mut named = gemma;
    let (near, far) = ("sliding_attention", "full_attention");
    named["layer_types"] = json!([far, near, near, far, near, near, near]);
    named["rope_parameters"] = json!({(far): {"rope_theta": 2e6}, (near): {"rope_theta": 3e4}});
    assert_eq!(window(named), Some((5, vec![0, 3], Some(30000.0))));
}

#[test]
fn stretched_positions_that_cannot_be_are_refused() {
    for scaling in [
        json!({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}),
        json!({"type": "longrope", "short_factor": [0.0], "long_factor": [1.0]}),
        json!({"type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}),
        json!({"type": "yarn", "factor": 4.0, "beta_fast": 1.0, "beta_slow": 1e9}),
        json!({"type": "yarn", "factor": -1.0}),
    ] {
        let config = json!({"model_type": "llama", "rope_scaling": scaling});
        let error = ModelSpec::from_json(&config.to_string()).unwrap_err();
        assert!(error.to_string().contains("rope_scaling"), "{error}");
    }
}
