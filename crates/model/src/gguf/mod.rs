//! GGUF, the files of llama.cpp (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), versions 2 and 3: what they say
//! about a model, and where its tensors lie.
//!
//! They come from outside. [`Gguf::parse`] checks every length, count, place and overlap against the file before anything is
//! allocated by it, so that a tensor that is handed out is really there.

mod blocks;
mod config;
mod cursor;
mod encode;
mod header;
mod names;
mod value;
mod write;

use crate::mapped::map;
use crate::names::Part;
use crate::{ModelError, ModelSpec};
pub use blocks::Blocks;
use config::Architecture;
pub use encode::TensorType;
pub use header::{Gguf, GgufTensor};
use names::HeadRows;
use std::io::Read;
use std::path::{Path, PathBuf};
pub use value::{List, Value};
pub use write::{Export, Exported, Weights};

/// Begins every file.
const MAGIC: [u8; 4] = *b"GGUF";

/// An open file.
pub struct GgufFile {
    pub(crate) path: PathBuf,
    pub(crate) map: memmap2::Mmap,
    /// What it says.
    pub contents: Gguf,
}

impl GgufFile {
    /// Whether a file begins as GGUF does; its name does not matter.
    pub fn is_gguf(path: &Path) -> bool {
        let mut begin = [0; MAGIC.len()];
        let read = std::fs::File::open(path).and_then(|mut file| {
            // A pipe would lose what is read from it here.
            match file.metadata()?.is_file() {
                true => file.read_exact(&mut begin),
                false => Ok(()),
            }
        });
        read.is_ok() && begin == MAGIC
    }

    /// Maps a file and reads its header.
    pub fn open(path: &Path) -> Result<GgufFile, ModelError> {
        let map = map(path)?;
        let contents = Gguf::parse(&map).map_err(|problem| ModelError::WeightFile {
            path: path.into(),
            problem,
        })?;
        Ok(GgufFile {
            path: path.into(),
            map,
            contents,
        })
    }

    /// What is wrong with it.
    pub(crate) fn wrong(&self, problem: String) -> ModelError {
        ModelError::WeightFile {
            path: self.path.clone(),
            problem,
        }
    }

    /// The config.json that says what its keys say.
    pub fn config(&self) -> Result<String, ModelError> {
        let architecture = Architecture::of(&self.contents);
        let config = architecture.and_then(|known| known.config(&self.contents));
        let config = config.map_err(|problem| self.wrong(problem))?;
        Ok(serde_json::Value::Object(config).to_string())
    }

    /// Every tensor and what it is to the network; under its own name where it is nothing.
    pub(crate) fn parts(&self, spec: &ModelSpec) -> Vec<(&GgufTensor, Part)> {
        let known = Architecture::of(&self.contents);
        let rows = known.map_or(HeadRows::Halves, |known| known.rows);
        let tensors = self.contents.tensors.iter();
        let parts = tensors.map(|tensor| {
            let part = names::part(spec, rows, tensor);
            let own = || Part {
                name: tensor.name.clone(),
                rows: None,
                transposed: false,
            };
            (tensor, part.unwrap_or_else(own))
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests;
