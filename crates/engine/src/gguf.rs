//! A GGUF file as a model folder: what it says between a question and the network, as the small files of a folder.

use std::path::Path;

use model::Checkpoint;
use model::gguf::{Gguf, GgufFile};
use serde_json::{Map, Value as Json, json};

use crate::error::EngineError;
use crate::files::PromptFiles;
use crate::tokenizer::gguf;

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
