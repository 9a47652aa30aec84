//! Models to test with.

pub mod random;
pub mod reference;

use model::{Checkpoint, Model};
use std::path::PathBuf;

/// A folder of `golden/`.
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden")).join(name)
}

/// The model in it.
pub fn golden_model(name: &str) -> Model {
    Model::load(&Checkpoint::open(&golden(name)).unwrap()).unwrap()
}
