//! What the tests of this crate share: real tokenizers and templates, made without files from outside.

use serde_json::{Map, Value as Json, json};

use crate::tokenizer::Tokenizer;

/// The native chat template, as the embedded model has it.
pub(crate) const NANO_TEMPLATE: &str = include_str!("../../../configs/nano/chat_template.jinja");
const NANO_TOKENIZER: &[u8] = include_bytes!("../../../configs/nano/tokenizer.json");

/// The byte-level tokenizer of the embedded model.
pub(crate) fn nano_tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(NANO_TOKENIZER).unwrap()
}

/// A tokenizer built as sentencepiece does: spaces are characters, one is put before the text and taken off again, and
/// characters that the vocabulary lacks are bytes.
pub(crate) fn sentencepiece_tokenizer() -> Tokenizer {
    let mut vocabulary = Map::new();
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    for token in ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁ab"]
        .into_iter()
        .map(String::from)
        .chain(bytes)
    {
        let id = vocabulary.len();
        vocabulary.insert(token, json!(id));
    }
    let added: Vec<Json> = (0..3)
        .zip(["<unk>", "<s>", "</s>"])
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                  "vocab": vocabulary, "merges": [["a", "b"], ["▁", "ab"]]}});
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap()
}
