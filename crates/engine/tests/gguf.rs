//! GGUF files against transformers on their dequantized weights: golden/gguf, made by scripts/make_gguf_golden.py. One has
//! sentencepiece's tokens and rows pair by pair, the other tokens of bytes and one matrix for embedding and head.

use engine::verify::{RELATIVE, verify_case};
use engine::{Cancel, Engine, GgufModel};
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/gguf");
    PathBuf::from(golden).join(name)
}

#[test]
fn ids_logits_and_tokens_of_gguf_files_are_those_of_the_reference() {
    for name in ["llama_q4_0", "qwen3_q8_0"] {
        let engine = Engine::load(&golden(name).join("model.gguf")).unwrap();
        let folder = golden(name).join("cases/text");
        let case = verify_case(&engine, &folder, RELATIVE, &Cancel::default()).unwrap();
        assert!(case.first_difference().is_none(), "{name}: {case:?}");
        assert_eq!(case.tokens_equal, 12, "{name}");
    }
}

#[test]
fn a_gguf_file_is_a_folder_of_small_files() {
    let model = GgufModel::open(&golden("llama_q4_0").join("model.gguf"), None).unwrap();
    let names: Vec<&str> = model.files.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ];
    assert_eq!(names, expected);
    let files = model.prompt_files().unwrap();
    assert_eq!(files.eos_token.as_deref(), Some("</s>"));
    let control: Vec<&str> = (files.tokenizer.control_tokens().iter())
        .map(|(text, _)| text.as_str())
        .collect();
    let expected = ["<|model|>", "<|user|>", "<|end|>", "<unk>", "</s>", "<s>"];
    assert_eq!(control, expected);
}
