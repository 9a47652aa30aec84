//! What can be wrong with a micro-batch or a network's description.

use thiserror::Error;

/// A batch that does not fit the network, a network that cannot be trained, or numbers that went wrong.
#[derive(Debug, Error, PartialEq)]
pub enum NetworkError {
    /// The description asks for something that the trainer does not compute.
    #[error("cannot train {what}: expected {expected}, found {found}")]
    Unsupported {
        /// The thing.
        what: &'static str,
        /// What is supported.
        expected: &'static str,
        /// What the description says.
        found: String,
    },
    /// The trainer's tensors are not those of the weight file.
    #[error("the trainer's tensors differ from the model's: missing {missing:?}, extra {extra:?}")]
    Tensors {
        /// Tensors of the model that the trainer lacks.
        missing: Vec<String>,
        /// Tensors of the trainer that the model lacks.
        extra: Vec<String>,
    },
    /// Vectors of one sequence disagree in length, or a value lies outside its range.
    #[error("sequence {sequence}: {what} expected {expected}, found {found}")]
    Sequence {
        /// Index in the micro-batch.
        sequence: usize,
        /// Which part.
        what: &'static str,
        /// The rule.
        expected: String,
        /// What was there.
        found: String,
    },
    /// A sequence without a single label teaches nothing: nearly always a masking mistake.
    #[error("sequence {sequence} has no supervised token among {tokens} tokens")]
    NoSupervisedTokens {
        /// Index in the micro-batch.
        sequence: usize,
        /// Its length.
        tokens: usize,
    },
    /// Pixels do not match the tiles that sequences name.
    #[error("pixels: expected {expected} values, found {found}")]
    Pixels {
        /// From the sequences' tiles and the tile size.
        expected: usize,
        /// What was there.
        found: usize,
    },
    /// Patch labels do not match the tiles or the auxiliary head.
    #[error("patch labels: {what} expected {expected}, found {found}")]
    PatchLabels {
        /// Which part.
        what: &'static str,
        /// The rule.
        expected: usize,
        /// What was there.
        found: i64,
    },
    /// What image tokens say does not match the tiles or the vocabulary.
    #[error("sight: {what} expected {expected}, found {found}")]
    Sight {
        /// Which part.
        what: &'static str,
        /// The rule.
        expected: usize,
        /// What was there.
        found: usize,
    },
    /// A loss or gradient is infinite or not a number.
    #[error("{what} is not finite: {value}")]
    NotFinite {
        /// Loss or gradient norm.
        what: &'static str,
        /// Its value.
        value: f64,
    },
}

impl NetworkError {
    /// Advice, if there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            NetworkError::NoSupervisedTokens { .. } => {
                Some("labels must mark the assistant's answer and its end token")
            }
            NetworkError::NotFinite { .. } => {
                Some("lower the learning rate or resume from an earlier checkpoint")
            }
            _ => None,
        }
    }
}
