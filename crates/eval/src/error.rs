//! What can go wrong in an evaluation, each with advice that a program can print apart.

use std::fmt;
use std::path::PathBuf;

use engine::EngineError;

/// Most problems of one file that a message lists.
const LISTED: usize = 20;

/// An evaluation error; [`EvalError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The results file could not be opened for writing, or not be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Lines of a task file that are no questions: all of them.
    #[error("{}", list(path, problems))]
    BadLines {
        /// The task file.
        path: PathBuf,
        /// Every bad line, in order.
        problems: Vec<LineProblem>,
    },
    /// A task file without a single question.
    #[error("{path}: expected a question on each line, found no line")]
    NoQuestions {
        /// The task file.
        path: PathBuf,
    },
    /// A file that was to take results holds something else; it was not touched.
    #[error("{path}, line {line}: expected the results of an evaluation, found something else")]
    NotResults {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: usize,
    },
    /// A question could not be answered.
    #[error("{path}, line {line}: {source}")]
    Answer {
        /// The task file.
        path: PathBuf,
        /// 1-based line of the question.
        line: usize,
        /// Why.
        source: Box<EngineError>,
    },
}

/// One bad line of a task file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// 1-based line.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for LineProblem {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "line {}: {}", self.line, self.message)
    }
}

fn list(path: &std::path::Path, problems: &[LineProblem]) -> String {
    if let [problem] = problems {
        return format!("{}, {problem}", path.display());
    }
    let mut text = format!("{}: {} bad lines", path.display(), problems.len());
    for problem in problems.iter().take(LISTED) {
        text.push_str(&format!("\n  {problem}"));
    }
    if problems.len() > LISTED {
        text.push_str(&format!("\n  and {} more", problems.len() - LISTED));
    }
    text
}

impl EvalError {
    /// What the user can do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            EvalError::BadLines { .. } | EvalError::NoQuestions { .. } => Some(
                "a line is {\"image\": \"FILE\", \"question\": \"…\", \"answer\": \"…\", \"kind\": \"read\"}; image paths begin \
                 at the folder of the task file"
                    .into(),
            ),
            EvalError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("check the spelling; a relative path begins at the current folder".into())
            }
            EvalError::Write { .. } => Some("--output FILE keeps the results somewhere else".into()),
            EvalError::NotResults { .. } => {
                Some("--output takes a new file, or one that an earlier evaluation wrote".into())
            }
            EvalError::Answer { source, .. } => source.hint(),
            EvalError::Read { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_bad_lines_are_counted_and_the_first_are_shown() {
        let problems = (1..=25).map(|line| LineProblem {
            line,
            message: "no answer".into(),
        });
        let error = EvalError::BadLines {
            path: "a.jsonl".into(),
            problems: problems.collect(),
        };
        let text = error.to_string();
        assert!(text.starts_with("a.jsonl: 25 bad lines\n  line 1: no answer\n"));
        assert!(text.ends_with("line 20: no answer\n  and 5 more"));
    }
}
