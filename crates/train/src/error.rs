//! What can go wrong in a training run, said once.

use std::path::PathBuf;

/// Errors of configurations, data and checkpoints; each names the thing, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The run's TOML does not parse or does not fit together.
    #[error("configuration {path}: {problem}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder to start from, or its model, cannot be used.
    #[error("start folder {path}: {problem}")]
    Start {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A training example that cannot teach anything or cannot be built.
    #[error("example {name}: {problem}")]
    Example {
        /// Which one: its stage and index, or its id in the data file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A checkpoint that does not belong to this run or is damaged.
    #[error("checkpoint {path}: {problem}")]
    Checkpoint {
        /// The checkpoint folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The loss stopped being a number.
    #[error("stage {stage}, step {step}: the loss is {loss}, expected a finite number")]
    Diverged {
        /// Stage name.
        stage: String,
        /// Step in the stage.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// Reading or writing a file failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done, as in "writing".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The network's files or numbers.
    #[error(transparent)]
    Model(#[from] model::ModelError),
    /// A batch that does not fit the network, or numbers that went wrong.
    #[error(transparent)]
    Network(#[from] crate::network::NetworkError),
    /// What the pictures shall show.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// The preprocessor of the start folder.
    #[error(transparent)]
    Image(#[from] image_prep::ImageError),
}

impl TrainError {
    /// Advice for the person who sees the error, where there is some.
    pub fn hint(&self) -> Option<String> {
        match self {
            TrainError::Diverged { .. } | TrainError::Network(crate::network::NetworkError::NotFinite { .. }) => Some("lower learning_rate, lengthen warmup_ratio or lower clip_norm; the last checkpoint is intact".into()),
            TrainError::Checkpoint { .. } => Some("give another output folder, or remove this one to start again".into()),
            TrainError::Config { .. } => Some("configs/ holds working examples of every setting".into()),
            _ => None,
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> TrainError {
        let path = path.into();
        move |source| TrainError::Io {
            action,
            path,
            source,
        }
    }
}
