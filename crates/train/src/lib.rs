//! Fits weights: explicit layers with hand-written backward, schedules, checkpoints.
//!
//! [`run`] takes a [`RunConfig`] through its stages. Below it, [`network`] computes losses and gradients of one micro-batch,
//! [`optimizer`] moves the [`parameters`], and `batch` turns drawn examples into rows.

mod batch;
mod checkpoint;
mod config;
mod error;
mod labels;
pub mod losses;
mod metrics;
mod muon;
pub mod network;
pub mod optimizer;
pub mod parameters;
mod plot;
mod run;
mod start;
mod starts;
mod step;

pub use checkpoint::{Position, discard};
pub use config::{LossWeight, MatrixRule, OptimizerConfig, Part, RunConfig, Stage};
pub use error::TrainError;
pub use metrics::{Line, Right};
pub use run::{Outcome, Progress, run};
pub use start::rate_table;
