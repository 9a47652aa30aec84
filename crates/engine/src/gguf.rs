//! A GGUF file as a model folder: what it says between a question and the network, as the small files of a folder; and the
//! other way round.

use std::path::Path;

use model::gguf::{Gguf, GgufFile, Value};
use model::{Checkpoint, ModelSpec};
use serde_json::{Map, Value as Json, json};

use crate::error::EngineError;
use crate::files::PromptFiles;
use crate::tokenizer::{gguf, gguf_keys};

/// A model that a GGUF file holds.
pub struct GgufModel {
    /// Its weights, and its config.json.
    pub checkpoint: Checkpoint,
    /// Names and contents of the small files that a folder of the same model has.
    pub files: Vec<(String, Vec<u8>)>,
}

impl GgufModel {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<GgufModel, EngineError> {
        let file = GgufFile::open(path)?;
        let files = small_files(&file)?;
        Ok(GgufModel {
            checkpoint: Checkpoint::from_gguf(file)?,
            files,
        })
    }

    /// Tokenizer, template and settings.
    pub fn prompt_files(&self) -> Result<PromptFiles, EngineError> {
        PromptFiles::from_small(&self.files, "the GGUF file does not say it")
    }
}

fn small_files(file: &GgufFile) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
    let gguf = &file.contents;
    let mut files = vec![
        ("config.json", file.config()?.into_bytes()),
        ("tokenizer.json", gguf::json(gguf)?.to_string().into_bytes()),
        (
            "tokenizer_config.json",
            names(gguf)?.to_string().into_bytes(),
        ),
    ];
    let template = gguf.text("tokenizer.chat_template");
    if let Some(template) = template.map_err(EngineError::Tokenizer)? {
        files.push(("chat_template.jinja", template.as_bytes().to_vec()));
    }
    let files = files.into_iter();
    Ok(files
        .map(|(name, bytes)| (name.to_string(), bytes))
        .collect())
}

/// The tokens that begin and end a text.
fn names(gguf: &Gguf) -> Result<Json, EngineError> {
    let mut names = Map::new();
    for (name, key) in [("bos", "bos_token"), ("eos", "eos_token")] {
        if let Some(text) = gguf::named(gguf, name)? {
            names.insert(key.into(), json!(text));
        }
    }
    Ok(Json::Object(names))
}

/// The keys of a GGUF file that say what a model's small files say.
///
/// # Errors
/// When llama.cpp has no such tokenizer.
pub fn gguf_keys(
    files: &PromptFiles,
    spec: &ModelSpec,
) -> Result<Vec<(String, Value)>, EngineError> {
    let tokenizer = &files.tokenizer;
    let mut keys = gguf_keys::keys(tokenizer, spec.decoder.vocabulary)?;
    let mut put = |key: &str, value| keys.push((format!("tokenizer.{key}"), value));
    let bos = tokenizer.token_to_id(files.template.bos());
    if let Some(bos) = bos.or(files.begin.first().copied()) {
        put("ggml.bos_token_id", Value::Whole(bos.into()));
    }
    put("ggml.add_bos_token", Value::Flag(!files.begin.is_empty()));
    let named = files.eos_token.as_deref();
    let eos = named.and_then(|eos| tokenizer.token_to_id(eos));
    let stops = spec.stop_token_ids.iter();
    let mut stops: Vec<u32> = stops
        .chain(&files.generation.eos_token_ids)
        .copied()
        .collect();
    stops.retain(|id| Some(*id) != eos);
    for (name, id) in ["eos", "eot", "eom"]
        .iter()
        .zip(eos.into_iter().chain(stops))
    {
        put(&format!("ggml.{name}_token_id"), Value::Whole(id.into()));
    }
    put("chat_template", Value::Text(files.template.source()));
    Ok(keys)
}
