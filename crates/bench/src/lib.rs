//! Measures a loaded model on this machine, beside what the machine could do at best.
//!
//! ```text
//! Ceilings (reading, multiply-adds) ─┐
//! Network ── Measurements ───────────┴─► Report: a table, one JSON line, figures
//! ```
//!
//! Every time is a median of repeated runs with its smallest and largest; every speed stands beside its share of a ceiling
//! that was measured in the same minute, because machines are shared and change their speed.

mod ceilings;
mod error;
mod figure;
mod measure;
mod memory;
mod plot;
mod scenario;
pub mod shapes;
mod work;

pub use ceilings::Ceilings;
pub use error::BenchError;
pub use figure::{Figure, Report, Unit};
pub use measure::{Bound, Plan, measure};
pub use memory::peak_bytes;
pub use plot::{Chart, chart, charts};
pub use scenario::{Scenario, play};
pub use work::Work;
