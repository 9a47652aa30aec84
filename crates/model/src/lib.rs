//! The networks: described by data, computed with kernels, read from weight files.
//!
//! [`ModelSpec`] says what a model is, [`Checkpoint`] or [`Bundle`] where its numbers lie, [`Model`] computes. Everything is rows of
//! features, `[rows × width]`; heads are ranges of columns.

#[cfg(test)]
extern crate self as model; // what tests of the crate and tests inside of it share says so
#[cfg(test)]
#[path = "../tests/suite/support/bundled.rs"]
mod bundled;
#[cfg(test)]
#[allow(dead_code)] // tests inside of the crate need less of it
#[path = "../tests/suite/support/random.rs"]
mod random;

mod assembly;
mod block;
mod bundle;
mod cache;
mod checkpoint;
pub mod convert;
mod decoder;
mod encoder;
mod error;
mod families;
pub mod gguf;
mod layers;
mod mapped;
mod matrix;
mod names;
mod network;
mod rotary;
pub mod spec;
mod stored;
mod taps;
mod weights;
mod write;

pub use bundle::{Activations, Bundle, BundleTensor, Packed, Scales, Storage};
pub use cache::KvCache;
pub use checkpoint::{Checkpoint, Numbers, WEIGHT_FILES, folder_config, weight_paths};
pub use decoder::{Inputs, LogitRows, Segment};
pub use encoder::Patches;
pub use error::{ModelError, TensorProblems};
pub use names::{Fused, Names};
pub use network::Model;
pub use spec::{ModelSpec, Role, TensorSpec};
pub use taps::{NoTaps, Taps};
pub use write::{TensorData, write_safetensors};
