//! `engine::verify` on references of our own format and of other families: equal where it should be, and the first thing that
//! differs where a weight was changed.
//!
//! golden/families holds tiny random models of other families in their published layouts with some of what the reference
//! computed (scripts/make_family_golden.py).

use std::path::{Path, PathBuf};

use engine::verify::{Case, RELATIVE, verify_case};
use engine::{Cancel, Engine};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../golden")
        .join(name)
}

fn cases(model: &Path, cases: &Path) -> Vec<Case> {
    let engine = Engine::load(model).unwrap();
    let entries = std::fs::read_dir(cases).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let verify = |folder: &PathBuf| verify_case(&engine, folder, RELATIVE, &Cancel::new()).unwrap();
    folders.iter().map(verify).collect()
}

/// Every case of a folder is equal, down to the last pixel.
fn assert_equal(name: &str, count: usize) {
    let folder = golden(name);
    let cases = cases(&folder.join("model"), &folder.join("cases"));
    assert_eq!(cases.len(), count, "cases of {name}");
    for case in cases {
        let first = case.first_difference();
        assert!(first.is_none(), "{name}, {}: {first:?}", case.name);
        let pixels = case
            .compared
            .iter()
            .find(|compared| compared.name == "pixel_values");
        // The reference divides and subtracts in f32: an error of 2^-24 of numbers up to 3, some times over.
        assert!(
            pixels.is_none_or(|pixels| pixels.apart.unwrap() < 1e-6),
            "{pixels:?}"
        );
        // Every token was either chosen as in the reference or left open by it; at least one of them was not left open.
        assert!(case.tokens_equal > 0, "{name}, {}", case.name);
    }
}

#[test]
fn our_own_format_is_equal_to_its_reference() {
    assert_equal("engine_v", 6);
}

#[test]
fn internvl_with_internlm2_and_sentencepiece() {
    assert_equal("families/internvl_chat_internlm2", 2);
}

#[test]
fn qwen2_5_vl_with_windows_and_three_positions() {
    assert_equal("families/qwen2_5_vl", 2);
}

#[test]
fn llava_next_with_padding_cut_off_and_newlines() {
    assert_equal("families/llava_next", 2);
}

#[test]
fn qwen3_vl_with_rows_for_later_layers_and_positions_in_turns() {
    assert_equal("families/qwen3_vl", 2);
}

#[test]
fn gemma_3_with_windows_and_pictures_that_are_seen_whole() {
    assert_equal("families/gemma3", 2);
}

#[test]
fn smolvlm_with_tiles_under_their_places() {
    assert_equal("families/smolvlm", 2);
}

#[test]
fn minicpm3_with_latent_attention_and_a_factor_for_each_frequency() {
    assert_equal("families/minicpm3_longrope", 1);
}

#[test]
fn kimi_vl_with_resized_positions_latents_and_experts() {
    assert_equal("families/kimi_vl", 2);
}

#[test]
fn nvila_with_three_scales() {
    assert_equal("families/nvila", 2);
}

#[test]
fn bluelm_32k_with_normed_embeddings_and_sentencepiece() {
    assert_equal("families/bluelm_32k", 1);
}

#[test]
fn mistral_with_a_window() {
    assert_equal("families/mistral_window", 1);
}

#[test]
fn a_changed_weight_is_found_where_it_first_matters() {
    let folder = golden("families/qwen2_5_vl");
    for (tensor, first) in [
        ("visual.blocks.1.attn.qkv.weight", "image_embeds"),
        ("visual.merger.ln_q.weight", "image_embeds"),
        ("model.layers.1.self_attn.k_proj.bias", "hidden.2"),
        ("model.norm.weight", "hidden.norm"),
    ] {
        let changed = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder.join("model")).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            if path.ends_with("model.safetensors") {
                negate(&mut bytes, tensor);
            }
            std::fs::write(changed.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        let found = cases(changed.path(), &folder.join("cases"));
        let image = found
            .iter()
            .find(|case| case.name.starts_with("image"))
            .unwrap();
        let name = image
            .first_difference()
            .map(|compared| compared.name.as_str());
        assert_eq!(name, Some(first), "{tensor}");
    }
}

/// Turns the sign of a tensor's first 64 numbers, which are bf16.
fn negate(file: &mut [u8], tensor: &str) {
    let header = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
    let begin = json[tensor]["data_offsets"][0].as_u64().expect(tensor) as usize;
    let end = json[tensor]["data_offsets"][1].as_u64().unwrap() as usize;
    for at in (8 + header + begin..8 + header + end)
        .take(128)
        .skip(1)
        .step_by(2)
    {
        file[at] ^= 0x80;
    }
}
