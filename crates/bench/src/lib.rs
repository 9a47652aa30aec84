//! Measures a loaded model on this machine, beside what the machine could do at best.
//!
//! ```text
//! Ceilings (reading, multiply-adds) ─┐
//! Network, Engine ── Measurements ───┴─► Report: a table, one JSON line, figures
//! ```
//!
//! Every time is a median of repeated runs with its smallest and largest; every speed stands beside its share of a ceiling
//! that was measured in the same minute, because machines are shared and change their speed.

mod ceilings;
mod error;
mod figure;
mod guesses;
mod images;
mod measure;
mod memory;
mod plot;
pub mod shapes;
mod start;
mod work;

pub use ceilings::Ceilings;
pub use error::BenchError;
pub use figure::{Figure, Report, Unit};
pub use guesses::{Guessed, Worth, measure_guesses};
pub use images::{ImagePlan, measure_images, noisy_picture, question};
pub use measure::{Bound, Plan, STREAM_DEPTH, measure};
pub use memory::{peak_bytes, resident_bytes};
pub use plot::{Chart, chart, charts};
pub use start::first_token;
pub use work::Work;
