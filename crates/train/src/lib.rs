//! Fits weights: explicit layers with hand-written backward, schedules, checkpoints.
