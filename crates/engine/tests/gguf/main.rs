//! GGUF files against transformers on their dequantized weights: golden/gguf, made by scripts/make_gguf_golden.py. One has
//! sentencepiece's tokens and rows pair by pair, one the same with a factor for each rotary frequency, one tokens of bytes and one matrix
//! for embedding and head.

mod file;
mod vision;

use engine::verify::{RELATIVE, verify_case};
use engine::{Cancel, Engine, GgufModel, PromptFiles, gguf_keys};
use model::ModelSpec;
use model::gguf::{List, Value};
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/gguf");
    PathBuf::from(golden).join(name)
}

#[test]
fn ids_logits_and_tokens_of_gguf_files_are_those_of_the_reference() {
    for name in ["llama_q4_0", "llama3_q8_0", "qwen3_q8_0"] {
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

#[test]
fn the_tokens_of_a_file_come_back_into_another_file() {
    for (name, model, pre) in [
        ("llama_q4_0", "llama", "default"),
        ("qwen3_q8_0", "gpt2", "qwen2"),
    ] {
        let path = golden(name).join("model.gguf");
        let source = model::gguf::GgufFile::open(&path).unwrap().contents;
        let files = GgufModel::open(&path, None).unwrap();
        let spec = ModelSpec::from_json(files.checkpoint.config()).unwrap();
        let keys = gguf_keys(&files.prompt_files().unwrap(), &spec).unwrap();
        let key = |name: &str| {
            let found = keys.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(key("tokenizer.ggml.model"), Some(Value::Text(model.into())));
        assert_eq!(key("tokenizer.ggml.pre"), Some(Value::Text(pre.into())));
        for same in [
            "ggml.tokens",
            "ggml.token_type",
            "ggml.merges",
            "ggml.eos_token_id",
            "chat_template",
        ] {
            let same = format!("tokenizer.{same}");
            assert_eq!(key(&same), source.value(&same).cloned(), "{name} {same}");
        }
        let Some(Value::List(List::Numbers(scores))) = key("tokenizer.ggml.scores") else {
            assert_eq!(model, "gpt2");
            continue;
        };
        // Only the order of scores has a meaning.
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let expected = source.numbers("tokenizer.ggml.scores").unwrap().unwrap();
        let sorted = order
            .windows(2)
            .all(|pair| expected[pair[0]] <= expected[pair[1]]);
        assert!(sorted, "{name}");
    }
}

#[test]
fn a_tokenizer_that_llama_cpp_has_no_name_for_is_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/nano");
    let files = PromptFiles::open(folder.as_ref()).unwrap();
    let config = std::fs::read_to_string(format!("{folder}/config.json")).unwrap();
    let error = gguf_keys(&files, &ModelSpec::from_json(&config).unwrap())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "GGUF: the tokenizer cannot be written: texts are split by nothing, which llama.cpp has no name for"
    );
}

#[test]
fn what_is_wrong_with_the_tokens_of_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let texts = |texts: &[&str]| {
        let texts = texts.iter().map(|text| text.to_string());
        Value::List(List::Texts(texts.collect()))
    };
    let whole = |number: i128| Value::Whole(number);
    let told = |changed: &[(&str, Value)]| {
        let tokens = texts(&["<unk>", "a", "b", "ab"]);
        let mut keys = vec![
            ("general.architecture", Value::Text("llama".into())),
            ("llama.context_length", whole(8)),
            ("llama.embedding_length", whole(4)),
            ("llama.block_count", whole(1)),
            ("llama.feed_forward_length", whole(4)),
            ("llama.attention.head_count", whole(1)),
            ("tokenizer.ggml.model", Value::Text("gpt2".into())),
            ("tokenizer.ggml.tokens", tokens),
            ("tokenizer.ggml.merges", texts(&["a b"])),
        ];
        for (key, value) in changed {
            keys.retain(|(known, _)| known != key);
            keys.push((key, value.clone()));
        }
        let keys: Vec<_> = keys
            .into_iter()
            .map(|(key, value)| (key.to_string(), value))
            .collect();
        let table = ("token_embd.weight".to_string(), vec![4, 4], vec![0.0; 16]);
        std::fs::write(&path, file::file(&keys, &[table])).unwrap();
        GgufModel::open(&path, None)
            .and_then(|model| model.prompt_files().map(|_| ()))
            .unwrap_err()
            .to_string()
    };
    let flag = Value::Flag(true);
    let cases = [
        (
            "tokenizer.ggml.model",
            Value::Text("bert".into()),
            "tokenizer.ggml.model is \"bert\", expected llama or gpt2",
        ),
        (
            "tokenizer.ggml.model",
            Value::Text("llama".into()),
            "tokenizer.ggml.scores has 0 values, expected 4",
        ),
        (
            "tokenizer.ggml.tokens",
            flag.clone(),
            "tokenizer.ggml.tokens is a flag, expected a list of texts",
        ),
        (
            "tokenizer.ggml.tokens",
            texts(&[]),
            "tokenizer.ggml.tokens is missing",
        ),
        (
            "tokenizer.ggml.merges",
            texts(&["ab"]),
            "tokenizer.ggml.merges has \"ab\", expected two tokens and a space",
        ),
        (
            "tokenizer.ggml.token_type",
            Value::List(List::Whole(vec![1])),
            "tokenizer.ggml.token_type has 1 values, expected 4",
        ),
        (
            "tokenizer.ggml.eos_token_id",
            whole(4),
            "tokenizer.ggml.eos_token_id is 4, expected one below 4",
        ),
    ];
    for (key, value, problem) in cases {
        assert_eq!(told(&[(key, value)]), format!("GGUF: {problem}"));
    }
    let pre = told(&[("tokenizer.ggml.pre", Value::Text("x".into()))]);
    assert!(
        pre.starts_with("GGUF: tokenizer.ggml.pre is \"x\", expected one of default, "),
        "{pre}"
    );
    let merge = told(&[("tokenizer.ggml.merges", texts(&["a c"]))]);
    assert!(
        merge.starts_with("tokenizer: tokenizer.json is broken: "),
        "{merge}"
    );
    // All in order but for what a conversation looks like.
    assert_eq!(
        told(&[]),
        "chat_template.jinja: the GGUF file does not say it"
    );
}
