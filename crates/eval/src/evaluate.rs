//! Asking all questions of a task, one after another.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use engine::{EngineError, MAX_PICTURE_BYTES};

use crate::answer::{Answer, Ask};
use crate::error::EvalError;
use crate::fingerprint::Fingerprint;
use crate::report::Report;
use crate::results::{Line, ResultsFile};
use crate::scoring::is_right;
use crate::task::{Question, Task};

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the answers depend on beside the questions and these options: program and model.
    pub answerer: Fingerprint,
    /// Whether to think, where the question does not say.
    pub think: bool,
    /// Tokens that an answer may have, thought included; it is part of what answers depend on.
    pub max_tokens: usize,
    /// Ask only so many questions, the first ones.
    pub limit: Option<usize>,
}

/// A question with the reply it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<'a> {
    /// The question.
    pub question: &'a Question,
    /// The reply.
    pub reply: String,
    /// Whether it is right.
    pub right: bool,
}

/// What is known after each question.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Questions done.
    pub done: usize,
    /// Questions to do in all.
    pub count: usize,
    /// Of the questions done, those whose reply was taken over from an earlier run.
    pub reused: usize,
    /// Scores so far.
    pub report: &'a Report,
    /// The question just done.
    pub last: &'a Answered<'a>,
}

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The scores.
    pub report: Report,
    /// Every question done, in order.
    pub answered: Vec<Answered<'a>>,
    /// How many replies were taken over from an earlier run.
    pub reused: usize,
    /// Whether all questions were done; otherwise the answerer was cancelled.
    pub finished: bool,
}

/// Asks the questions of a task in order and scores the replies. Replies that `results` has already are not asked for
/// again, new ones are appended to it at once.
///
/// Errors: a picture that cannot be read, a question that cannot be answered, results that cannot be written. What was
/// answered until then is in the results file.
pub fn evaluate<'a>(
    answerer: &mut dyn Answer,
    task: &'a Task,
    options: &Options,
    results: &mut ResultsFile,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome<'a>, EvalError> {
    let count = options.limit.map_or(task.questions.len(), |limit| {
        limit.min(task.questions.len())
    });
    let mut outcome = Outcome {
        report: Report::default(),
        answered: Vec::with_capacity(count),
        reused: 0,
        finished: false,
    };
    let mut pictures = Pictures::default();
    for question in &task.questions[..count] {
        let failed = |source: EngineError| EvalError::Answer {
            path: task.path.clone(),
            line: question.line,
            source: Box::new(source),
        };
        let (picture, of_picture) = pictures.read(&question.image_path).map_err(failed)?;
        let think = question.think.unwrap_or(options.think);
        let key = key(question, of_picture, think, options);
        let (reply, reused) = match results.reply(&key) {
            Some(reply) => (reply.to_owned(), true),
            None => {
                let ask = Ask {
                    question,
                    picture,
                    think,
                };
                match answerer.answer(ask) {
                    Ok(reply) => (reply, false),
                    Err(EngineError::Cancelled) => return Ok(outcome),
                    Err(error) => return Err(failed(error)),
                }
            }
        };
        let right = is_right(&reply, &question.answer);
        if !reused {
            results.append(&Line {
                key: &key,
                image: &question.image,
                kind: &question.kind,
                question: &question.question,
                expected: &question.answer,
                reply: &reply,
                right,
                thought: None,
            })?;
        }
        outcome.reused += usize::from(reused);
        outcome.report.add(&question.kind, right);
        let answered = Answered {
            question,
            reply,
            right,
        };
        progress(Progress {
            done: outcome.answered.len() + 1,
            count,
            reused: outcome.reused,
            report: &outcome.report,
            last: &answered,
        });
        outcome.answered.push(answered);
    }
    outcome.finished = true;
    Ok(outcome)
}

/// Names all that a reply depends on.
fn key(question: &Question, picture: Fingerprint, think: bool, options: &Options) -> String {
    options
        .answerer
        .with(&[u8::from(think)])
        .with(&options.max_tokens.to_le_bytes())
        .with(picture.to_string().as_bytes())
        .with(question.question.as_bytes())
        .to_string()
}

/// The last picture file read: questions about one picture mostly follow one another.
#[derive(Default)]
pub(crate) struct Pictures {
    path: PathBuf,
    bytes: Vec<u8>,
    fingerprint: Fingerprint,
}

impl Pictures {
    /// A picture file's bytes, and their name.
    pub(crate) fn read(&mut self, path: &Path) -> Result<(&[u8], Fingerprint), EngineError> {
        if self.path != path {
            self.path = PathBuf::new();
            self.bytes.clear();
            // One byte more than allowed is enough for the error of the one who decodes it.
            File::open(path)
                .and_then(|file| {
                    file.take(MAX_PICTURE_BYTES + 1)
                        .read_to_end(&mut self.bytes)
                })
                .map_err(|source| EngineError::Read {
                    path: path.into(),
                    source,
                })?;
            self.fingerprint = Fingerprint::default().with(&self.bytes);
            self.path = path.to_owned();
        }
        Ok((&self.bytes, self.fingerprint))
    }
}

#[cfg(test)]
mod tests;
