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
mod vision;
mod write;

use crate::mapped::map;
use crate::names::Part;
use crate::stored::Stored;
use crate::{ModelError, ModelSpec};
pub use blocks::Blocks;
use config::Architecture;
pub use encode::TensorType;
pub use header::{Gguf, GgufTensor};
use names::HeadRows;
use serde_json::{Map, Value as Json, json};
use std::io::Read;
use std::path::{Path, PathBuf};
pub use value::{List, Value};
pub use write::{Export, Exported, Weights};

/// Begins every file.
const MAGIC: [u8; 4] = *b"GGUF";

/// The tensor with a factor for each rotary frequency.
const ROPE_FACTORS: &str = "rope_freqs.weight";

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

    /// What of it is not read.
    pub(crate) fn wrong(&self, problem: String) -> ModelError {
        ModelError::Gguf {
            path: self.path.clone(),
            problem,
        }
    }

    /// The config.json that says what its keys say, and those of its image encoder's file.
    pub fn config(&self, projector: Option<&GgufFile>) -> Result<String, ModelError> {
        let architecture = Architecture::of(&self.contents);
        let config = architecture.and_then(|known| {
            let mut config = known.config(&self.contents)?;
            self.stretch_each(&mut config)?;
            Ok(config)
        });
        let config = config.map_err(|problem| self.wrong(problem))?;
        let Some(projector) = projector else {
            return Ok(serde_json::Value::Object(config).to_string());
        };
        let config = vision::config(&projector.contents, &self.contents, config);
        let config = config.map_err(|problem| projector.wrong(problem))?;
        Ok(config.to_string())
    }

    /// Llama 3.1 and later bring a factor for each rotary frequency as a tensor, which is part of what the file says.
    fn stretch_each(&self, config: &mut Map<String, Json>) -> Result<(), String> {
        let mut tensors = self.contents.tensors.iter();
        let Some(tensor) = tensors.find(|tensor| tensor.name == ROPE_FACTORS) else {
            return Ok(());
        };
        if tensor.stored != Stored::F32 {
            return Err(format!("tensor {ROPE_FACTORS}: expected type F32"));
        }
        let (numbers, _) = self.map[tensor.range.clone()].as_chunks::<4>();
        let factors: Vec<f32> = numbers.iter().copied().map(f32::from_le_bytes).collect();
        // The words that Hugging Face has for it.
        let each = json!({"rope_type": "longrope", "factor": 1.0, "short_factor": factors});
        match config.insert("rope_scaling".into(), each) {
            Some(_) => Err(format!(
                "tensor {ROPE_FACTORS} and rope.scaling: expected one of them"
            )),
            None => Ok(()),
        }
    }

    /// The preprocessor_config.json of an image encoder's file.
    pub fn preprocessor(&self) -> Result<String, ModelError> {
        let settings = vision::preprocessor(&self.contents);
        let settings = settings.map_err(|problem| self.wrong(problem))?;
        Ok(settings.to_string())
    }

    /// Every tensor and what it is to the network; under its own name where it is nothing.
    pub(crate) fn parts(&self, spec: &ModelSpec, of: Tensors) -> Vec<(&GgufTensor, Part)> {
        let known = Architecture::of(&self.contents);
        let rows = known.map_or(HeadRows::Halves, |known| known.rows);
        // What the configuration says already.
        let tensors = self.contents.tensors.iter();
        let tensors = tensors.filter(|tensor| of != Tensors::Text || tensor.name != ROPE_FACTORS);
        let parts = tensors.flat_map(|tensor| {
            let parts = match of {
                Tensors::Text => vec![names::part(spec, rows, tensor)],
                Tensors::Projector => vision::part(spec, &self.contents, tensor),
            };
            parts.into_iter().map(move |part| (tensor, part))
        });
        parts.collect()
    }

    /// The second half of a convolution over two pictures.
    pub(crate) fn second_patch(&self) -> Option<&GgufTensor> {
        let mut tensors = self.contents.tensors.iter();
        tensors.find(|tensor| tensor.name == vision::SECOND_PATCH)
    }
}

/// What a file has the tensors of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tensors {
    /// A text model.
    Text,
    /// An image encoder and its projector.
    Projector,
}

#[cfg(test)]
mod tests;
