//! The networks: described by data, computed with kernels, read from weight files.

mod checkpoint;
mod error;
mod families;
pub mod spec;
mod write;

pub use checkpoint::{Checkpoint, Numbers};
pub use error::{ModelError, TensorProblems};
pub use spec::{ModelSpec, TensorSpec};
pub use write::{TensorData, write_safetensors};
