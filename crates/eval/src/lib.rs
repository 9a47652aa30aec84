//! Asks an engine the questions in task files and scores the answers.
//!
//! A [`Task`] is read whole and checked whole; [`evaluate`] asks one question after another through [`Answer`], appends
//! every reply to a [`ResultsFile`] and can therefore go on where a stopped run ended; a [`Report`] says how many replies
//! are right, by kind. What counts as right is in [`is_right`]. [`measure_thinking`] asks the same questions with more and more
//! thought, several at once, and watches whether a thought overruns.

mod answer;
mod error;
mod evaluate;
mod fingerprint;
mod report;
mod results;
mod scoring;
mod task;
mod thinking;
mod thought_count;
mod together;

pub use answer::{Answer, Ask, EngineAnswer};
pub use error::{EvalError, LineProblem};
pub use evaluate::{Answered, Options, Outcome, Progress, evaluate};
pub use fingerprint::Fingerprint;
pub use report::{Report, Score};
pub use results::ResultsFile;
pub use scoring::is_right;
pub use task::{Question, Task};
pub use thinking::{Asked, Course, Measured, Way, Worth, measure_thinking};
