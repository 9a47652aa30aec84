//! The state of a run on disk: weights, optimizer moments and position, so that a resumed run continues with the same numbers.
//!
//! A checkpoint is a folder `checkpoint-STEP` that appears whole: it is written under a temporary name, synced and renamed.
//! The random state needs no room in it, because every batch is a function of the seed and the step.

use crate::TrainError;
use crate::config::{RunConfig, Stage};
use model::{TensorData, write_safetensors};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Index of the stage in progress.
    pub stage: usize,
    /// Steps done in that stage.
    pub stage_step: u64,
    /// Steps done in the whole run.
    pub step: u64,
    /// Updates that the moments have seen since they were last reset.
    pub updates: u64,
    /// Seconds of training.
    pub seconds: f64,
}

#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    seed: u64,
    position: Position,
    /// The stages up to the one in progress: those may not change under a run.
    stages: Vec<Stage>,
    /// Numbers in each of the three arrays.
    length: usize,
}

const FORMAT: u32 = 1;
const ARRAYS: [&str; 3] = ["parameters", "mean", "square"];

/// The numbers of a checkpoint: parameters, mean gradient and mean squared gradient, in the order of the parameter table.
pub struct Arrays {
    /// Weights, auxiliary ones included.
    pub parameters: Vec<f32>,
    /// AdamW's first moment.
    pub mean: Vec<f32>,
    /// AdamW's second moment.
    pub square: Vec<f32>,
}

/// Writes a checkpoint and removes the ones before the last two.
pub fn save(
    config: &RunConfig,
    position: &Position,
    arrays: [&[f32]; 3],
) -> Result<PathBuf, TrainError> {
    let output = &config.output;
    let folder = output.join(format!("checkpoint-{:08}", position.step));
    let temporary = output.join(".checkpoint.partial");
    match std::fs::remove_dir_all(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(TrainError::io("removing", &temporary)(e));
        }
        _ => {}
    }
    std::fs::create_dir_all(&temporary).map_err(TrainError::io("creating", &temporary))?;
    let tensors = ARRAYS.iter().zip(arrays).map(|(name, data)| {
        (
            name.to_string(),
            vec![data.len()],
            TensorData::F32(data.into()),
        )
    });
    write_safetensors(&temporary.join("state.safetensors"), tensors)?;
    let state = State {
        format: FORMAT,
        seed: config.seed,
        position: position.clone(),
        stages: config.stages[..=position.stage.min(config.stages.len() - 1)].to_vec(),
        length: arrays[0].len(),
    };
    let text = serde_json::to_string_pretty(&state).expect("a checkpoint state is plain data");
    let path = temporary.join("state.json");
    std::fs::write(&path, text)
        .and_then(|()| std::fs::File::open(&path)?.sync_all())
        .map_err(TrainError::io("writing", &path))?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(TrainError::io("removing", &folder))?;
    }
    std::fs::rename(&temporary, &folder).map_err(TrainError::io("renaming to", &folder))?;
    let all = list(output)?;
    for (_, old) in all.iter().rev().skip(2) {
        std::fs::remove_dir_all(old).map_err(TrainError::io("removing", old))?;
    }
    Ok(folder)
}

/// The newest checkpoint in the output folder of `config`, when there is one; `length` numbers are expected in each array.
pub fn load(config: &RunConfig, length: usize) -> Result<Option<(Position, Arrays)>, TrainError> {
    let Some((_, folder)) = list(&config.output)?.pop() else {
        return Ok(None);
    };
    let wrong = |problem: String| TrainError::Checkpoint {
        path: folder.clone(),
        problem,
    };
    let path = folder.join("state.json");
    let text = std::fs::read_to_string(&path).map_err(TrainError::io("reading", &path))?;
    let state: State =
        serde_json::from_str(&text).map_err(|e| wrong(format!("state.json: {e}")))?;
    if state.format != FORMAT {
        return Err(wrong(format!("format {}, expected {FORMAT}", state.format)));
    }
    if state.seed != config.seed {
        return Err(wrong(format!(
            "made with seed {}, the configuration says {}",
            state.seed, config.seed
        )));
    }
    if state.length != length {
        return Err(wrong(format!(
            "holds {} numbers, the network has {length}",
            state.length
        )));
    }
    for (at, stage) in state.stages.iter().enumerate() {
        if config.stages.get(at) != Some(stage) {
            return Err(wrong(format!(
                "stage {:?} was trained with other settings than the configuration has now",
                stage.name
            )));
        }
    }
    let arrays = read_arrays(&folder.join("state.safetensors"), length).map_err(wrong)?;
    Ok(Some((state.position, arrays)))
}

fn read_arrays(path: &Path, length: usize) -> Result<Arrays, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("state.safetensors: {e}"))?;
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .map_err(|e| format!("state.safetensors: {e}"))?;
    let array = |name: &str| -> Result<Vec<f32>, String> {
        let tensor = file
            .tensor(name)
            .map_err(|e| format!("state.safetensors: {name}: {e}"))?;
        if tensor.dtype() != safetensors::Dtype::F32 || tensor.shape() != [length] {
            return Err(format!(
                "state.safetensors: {name} is {:?} {:?}, expected F32 [{length}]",
                tensor.dtype(),
                tensor.shape()
            ));
        }
        Ok(tensor
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect())
    };
    Ok(Arrays {
        parameters: array(ARRAYS[0])?,
        mean: array(ARRAYS[1])?,
        square: array(ARRAYS[2])?,
    })
}

/// Removes a run's checkpoints and metrics, so that it begins again.
pub fn discard(config: &RunConfig) -> Result<(), TrainError> {
    for (_, folder) in list(&config.output)? {
        std::fs::remove_dir_all(&folder).map_err(TrainError::io("removing", &folder))?;
    }
    match std::fs::remove_file(config.output.join("metrics.jsonl")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(
            "removing",
            config.output.join("metrics.jsonl"),
        )(e)),
        _ => Ok(()),
    }
}

/// Checkpoint folders by step, oldest first.
fn list(output: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    let entries = match std::fs::read_dir(output) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(TrainError::io("reading", output)(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(TrainError::io("reading", output))?.path();
        let step = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("checkpoint-"))
            .and_then(|step| step.parse().ok());
        if let Some(step) = step {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}
