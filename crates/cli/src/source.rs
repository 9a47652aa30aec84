//! Where models and pictures come from on the command line.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use engine::{Engine, read_picture, read_picture_stream};
use image_prep::{Limits, Picture};

use crate::embedded;

/// Which model answers.
#[derive(Args, Debug)]
pub struct ModelArgument {
    /// Another model than the one inside: a folder (config.json, model.safetensors, tokenizer.json, ...), a bundle or a GGUF file
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// The image encoder of a GGUF model [default: mmproj*.gguf beside it]
    #[arg(long, value_name = "FILE", requires = "model")]
    pub mmproj: Option<PathBuf>,
}

impl ModelArgument {
    /// Loads the model.
    pub fn load(&self) -> anyhow::Result<Engine> {
        match (&self.model, &self.mmproj) {
            (Some(file), Some(projector)) => Ok(Engine::load_gguf(file, Some(projector))?),
            (Some(folder), None) => Ok(Engine::load(folder)?),
            (None, _) => Engine::from_files(embedded::embedded_model())
                .context("the model inside the program"),
        }
    }

    /// What to call it.
    pub fn name(&self) -> String {
        match &self.model {
            Some(folder) => folder.file_name().map_or_else(
                || folder.display().to_string(),
                |name| name.to_string_lossy().into(),
            ),
            None => embedded::NAME.into(),
        }
    }
}

/// Reads a picture; `-` is standard input.
pub fn picture(path: &Path) -> anyhow::Result<Picture> {
    let limits = Limits::default();
    Ok(if path == Path::new("-") {
        read_picture_stream("standard input", std::io::stdin().lock(), &limits)?
    } else {
        read_picture(path, &limits)?
    })
}
