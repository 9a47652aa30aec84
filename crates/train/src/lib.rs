//! Fits weights: explicit layers with hand-written backward, schedules, checkpoints.

pub mod losses;
pub mod network;
pub mod optimizer;
pub mod parameters;
