//! Asks an engine the questions in task files and scores the answers.
//!
//! A [`Task`] is read whole and checked whole; [`evaluate`] asks one question after another through [`Answer`], appends
//! every reply to a [`ResultsFile`] and can therefore go on where a stopped run ended; a [`Report`] says how many replies
//! are right, by kind. What counts as right is in [`is_right`].

mod answer;
mod error;
mod evaluate;
mod fingerprint;
mod report;
mod results;
mod scoring;
mod task;

pub use answer::{Answer, Ask, EngineAnswer, Thoughts};
pub use error::{EvalError, LineProblem};
pub use evaluate::{Answered, Options, Outcome, Progress, evaluate};
pub use fingerprint::Fingerprint;
pub use report::{Report, Score};
pub use results::ResultsFile;
pub use scoring::is_right;
pub use task::{Question, Task};
