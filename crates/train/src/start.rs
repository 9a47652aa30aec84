//! The folder a run starts from: its shape, prompt files and, where it has them, weights; and the finished model's folder.

use crate::TrainError;
use crate::batch::Encoding;
use crate::config::RunConfig;
use crate::labels;
use crate::network::{AuxSpec, Network};
use crate::parameters::Parameters;
use crate::step::stage_rates;
use engine::PromptFiles;
use model::{Checkpoint, ModelSpec, TensorData, write_safetensors};
use std::path::{Path, PathBuf};

/// Files of the native format that a trained model shares with the folder it started from.
const COPIED: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "generation_config.json",
];

/// An opened start folder.
pub struct Start {
    folder: PathBuf,
    /// The network's shape.
    pub spec: ModelSpec,
    /// How text and pictures become rows.
    pub encoding: Encoding,
}

impl Start {
    /// Reads everything but the weights.
    pub fn open(folder: &Path) -> Result<Start, TrainError> {
        let wrong = |problem: String| TrainError::Start {
            path: folder.into(),
            problem,
        };
        let path = folder.join("config.json");
        let config = std::fs::read_to_string(&path).map_err(TrainError::io("reading", &path))?;
        let spec = ModelSpec::from_json(&config)?;
        let files = PromptFiles::open(folder)?;
        let vision = spec.vision.as_ref().ok_or_else(|| {
            wrong(
                "config.json describes no vision encoder; only multimodal models are trained"
                    .into(),
            )
        })?;
        let end_token = match files.generation.eos_token_ids.first() {
            Some(id) => *id,
            None => files.eos_token.as_deref().and_then(|name| files.tokenizer.token_to_id(name)).ok_or_else(|| wrong("neither generation_config.json nor tokenizer_config.json names the token that ends an answer".into()))?,
        };
        let thought = files
            .generation
            .thinking
            .map_or(("<think>".into(), "</think>".into()), |tags| {
                (tags.start, tags.end)
            });
        let image_token = spec
            .image_token_id
            .ok_or_else(|| wrong("no image_token_id in config.json".into()))?;
        let encoding = Encoding {
            patch: vision.patch,
            merge: spec.projector.as_ref().map_or(1, |p| p.merge),
            tokens_per_tile: spec.tokens_per_tile(),
            tokenizer: files.tokenizer,
            template: files.template,
            preprocessor: files.preprocessor,
            image_token,
            end_token,
            thought,
        };
        Ok(Start {
            folder: folder.into(),
            spec,
            encoding,
        })
    }

    /// The folder's weights, when it holds any, copied over the drawn ones.
    pub fn load_weights(&self, parameters: &mut Parameters) -> Result<bool, TrainError> {
        if !self.folder.join("model.safetensors").exists()
            && !self.folder.join("model.safetensors.index.json").exists()
        {
            return Ok(false);
        }
        let checkpoint = Checkpoint::open(&self.folder)?;
        checkpoint.check(&self.spec)?;
        let names: Vec<String> = parameters
            .exported()
            .map(|(tensor, _)| tensor.name.clone())
            .collect();
        for name in names {
            let values = checkpoint.tensor_f32(&name)?;
            parameters
                .tensor_mut(&name)
                .expect("the name comes from this table")
                .copy_from_slice(&values);
        }
        Ok(true)
    }

    /// Writes `folder` in the native format with bf16 weights; it appears whole or not at all.
    pub fn export(&self, parameters: &Parameters, folder: &Path) -> Result<(), TrainError> {
        let partial = folder.with_extension("partial");
        std::fs::create_dir_all(&partial).map_err(TrainError::io("creating", &partial))?;
        for name in COPIED {
            let from = self.folder.join(name);
            if from.exists() {
                std::fs::copy(&from, partial.join(name))
                    .map_err(TrainError::io("copying", from))?;
            }
        }
        let mut tensors: Vec<(String, Vec<usize>, TensorData)> = parameters
            .exported()
            .map(|(tensor, values)| {
                let rounded: Vec<u16> = values
                    .iter()
                    .map(|v| half::bf16::from_f32(*v).to_bits())
                    .collect();
                (
                    tensor.name.clone(),
                    tensor.shape.clone(),
                    TensorData::Bf16(rounded.into()),
                )
            })
            .collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        write_safetensors(&partial.join("model.safetensors"), tensors)?;
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(TrainError::io("removing", folder))?;
        }
        std::fs::rename(&partial, folder).map_err(TrainError::io("renaming to", folder))
    }
}

/// Each tensor's learning rate in every stage, as a table.
pub fn rate_table(config: &RunConfig) -> Result<String, TrainError> {
    let start = Start::open(&config.start)?;
    let network = Network::new(
        &start.spec,
        AuxSpec {
            patch_classes: labels::CLASSES,
            patch_slots: labels::SLOTS,
        },
    )?;
    let mut table = String::new();
    for stage in &config.stages {
        let rates = stage_rates(stage).for_layout(network.layout());
        for (tensor, rate) in network.layout().tensors().iter().zip(rates) {
            table.push_str(&format!(
                "{:<12} {:<72} {:.3e}\n",
                stage.name,
                tensor.name,
                rate * stage.learning_rate
            ));
        }
    }
    Ok(table)
}
