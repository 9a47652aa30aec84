//! What can go wrong while measuring.

use engine::EngineError;

/// A benchmark that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The network failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A depth or a prompt does not fit the model.
    #[error("{what} needs {needed} positions, expected at most the model's context of {context}")]
    TooLong {
        /// Which measurement.
        what: String,
        /// Positions it takes.
        needed: usize,
        /// Positions there are.
        context: usize,
    },
}

impl BenchError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            BenchError::Engine(error) => error.hint(),
            BenchError::TooLong { .. } => {
                Some("leave this measurement out, or ask for fewer tokens".into())
            }
        }
    }
}
