//! What thinking is worth: the same questions with more and more thought, and in ways that must not let a thought overrun.
//!
//! Every answer is looked at twice: whether it is right, and whether the engine kept its promises (docs/thinking.md). The
//! tokens of its thought are counted from its ids, not taken from what the engine reports.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

use engine::{
    Cancel, Capacity, Engine, Grammar, Network, Reply, Request, Speculation, ThinkingBudget,
    ThoughtEnd, read_picture_stream,
};
use image_prep::{Limits, Picture};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::error::EvalError;
use crate::evaluate::{Options, Pictures};
use crate::fingerprint::Fingerprint;
use crate::report::Report;
use crate::results::{Line, ResultsFile};
use crate::scoring::is_right;
use crate::task::{Question, Task};
use crate::thought_count::{self, Completion};
use crate::together::{Ended, Streamed, ask_all};

/// A way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// As it is.
    Plain,
    /// The answer as JSON of a schema.
    Schema,
    /// With guessed tokens.
    Speculation,
    /// Both.
    SchemaAndSpeculation,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 4] = [
        Way::Plain,
        Way::Schema,
        Way::Speculation,
        Way::SchemaAndSpeculation,
    ];

    /// The same way without guesses, whose tokens it must give.
    fn without_guesses(self) -> Way {
        match self {
            Way::Plain | Way::Speculation => Way::Plain,
            Way::Schema | Way::SchemaAndSpeculation => Way::Schema,
        }
    }

    fn guesses(self) -> bool {
        self != self.without_guesses()
    }

    fn has_schema(self) -> bool {
        self.without_guesses() == Way::Schema
    }
}

/// What to measure.
pub struct Course<'a> {
    /// The questions.
    pub task: &'a Task,
    /// How to ask; `think` is not looked at.
    pub options: Options,
    /// Tokens that a thought may have; `None` for no bound.
    pub budgets: &'a [Option<usize>],
    /// Ways to ask, each with how many of the questions are asked so.
    pub ways: &'a [(Way, usize)],
    /// How many are asked at once.
    pub capacity: Capacity,
}

/// How far a measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Answers there are.
    pub done: usize,
    /// Answers there will be.
    pub count: usize,
    /// Answers taken over from an earlier run.
    pub reused: usize,
}

/// What a budget came to, asked in one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worth {
    /// How it was asked.
    pub way: Way,
    /// Tokens that a thought might have; none for no bound.
    pub budget: Option<usize>,
    /// Share of right answers.
    pub accuracy: f64,
    /// Tokens of thought, by their ids.
    pub mean_tokens: f64,
    /// Of the longest.
    pub longest_tokens: usize,
    /// Thoughts that the model did not end itself.
    pub cut_thoughts: usize,
    /// Answers whose thought had more tokens than its budget, by their ids.
    pub overruns: usize,
    /// Answers whose reported count is not that of their ids.
    pub miscounted: usize,
    /// Answers whose streamed pieces are not what was given at the end.
    pub streamed_otherwise: usize,
    /// Answers with other tokens than the same question has without guesses; none where nothing was guessed.
    pub other_tokens: Option<usize>,
    /// Right answers by kind.
    #[serde(flatten)]
    pub report: Report,
}

impl Worth {
    /// Answers that break a promise.
    pub fn broken(&self) -> usize {
        let others = self.other_tokens.unwrap_or(0);
        self.overruns + self.miscounted + self.streamed_otherwise + others
    }
}

/// What came of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// A line for each way and budget, of the answers that there are.
    pub lines: Vec<Worth>,
    /// Whether all were answered; otherwise it was cancelled.
    pub finished: bool,
}

/// What is kept of an answer beside its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Thought {
    tokens: usize,
    reported_tokens: usize,
    cut: bool,
    streamed_otherwise: bool,
    ids: String,
}

/// One question with one budget in one way.
#[derive(Clone, Debug)]
struct Trial {
    question: usize,
    way: Way,
    budget: Option<usize>,
    key: String,
}

/// Asks everything that `results` does not have yet, and appends it.
///
/// Errors as [`crate::evaluate`]: what was answered until then is in the results file.
pub fn measure_thinking<N: Network>(
    engine: &Engine<N>,
    course: &Course,
    results: &mut ResultsFile,
    cancel: &Cancel,
    progress: &mut dyn FnMut(Asked),
) -> Result<Measured, EvalError> {
    let trials = trials(course)?;
    let mut groups: Vec<VecDeque<Trial>> = Vec::new();
    let mut last = None;
    let missing = |trial: &&Trial| results.thought(&trial.key).is_none();
    for trial in trials.iter().filter(missing) {
        let image = &course.task.questions[trial.question].image_path;
        if last.replace(image) != Some(image) {
            groups.push(VecDeque::new());
        }
        groups
            .last_mut()
            .expect("one was pushed")
            .push_back(trial.clone());
    }
    let to_ask = groups.iter().map(VecDeque::len).sum::<usize>();
    let mut asked = Asked {
        done: trials.len() - to_ask,
        count: trials.len(),
        reused: trials.len() - to_ask,
    };
    progress(asked);
    let mut questions = Questions {
        course,
        pictures: vec![None; course.capacity.requests],
    };
    let mut answers = Answers {
        engine,
        course,
        results,
    };
    let ask = &mut |trial: &Trial, lane| questions.request(trial, lane);
    let take = &mut |ended| {
        answers.take(ended)?;
        asked.done += 1;
        progress(asked);
        Ok(())
    };
    let finished = ask_all(engine, course.capacity, groups, (ask, take), cancel)?;
    Ok(Measured {
        lines: lines(course, &trials, results),
        finished,
    })
}

/// All that is to be asked, questions of a picture together.
fn trials(course: &Course) -> Result<Vec<Trial>, EvalError> {
    let mut trials = Vec::new();
    let mut pictures = Pictures::default();
    let most = course.ways.iter().map(|(_, count)| *count).max();
    let questions = course.task.questions.iter().take(most.unwrap_or(0));
    for (index, question) in questions.enumerate() {
        let read = pictures.read(&question.image_path);
        let (_, picture) = read.map_err(|source| course.failed(question, source))?;
        for (way, _) in course.ways.iter().filter(|(_, count)| index < *count) {
            for &budget in course.budgets {
                trials.push(Trial {
                    question: index,
                    way: *way,
                    budget,
                    key: course.key(question, picture, *way, budget),
                });
            }
        }
    }
    Ok(trials)
}

impl Course<'_> {
    fn failed(&self, question: &Question, source: engine::EngineError) -> EvalError {
        EvalError::Answer {
            path: self.task.path.clone(),
            line: question.line,
            source: Box::new(source),
        }
    }

    /// Names all that an answer depends on.
    fn key(
        &self,
        question: &Question,
        picture: Fingerprint,
        way: Way,
        budget: Option<usize>,
    ) -> String {
        self.options
            .answerer
            .with(format!("{way:?} {budget:?} {:?}", question.think).as_bytes())
            .with(&self.options.max_tokens.to_le_bytes())
            .with(picture.to_string().as_bytes())
            .with(question.question.as_bytes())
            .to_string()
    }
}

/// The questions with their pictures.
struct Questions<'a> {
    course: &'a Course<'a>,
    /// The last picture of each lane.
    pictures: Vec<Option<(PathBuf, Picture)>>,
}

impl Questions<'_> {
    fn picture(&mut self, question: &Question, lane: usize) -> Result<Picture, EvalError> {
        let path = &question.image_path;
        if let Some((last, picture)) = &self.pictures[lane]
            && last == path
        {
            return Ok(picture.clone());
        }
        let failed = |source| self.course.failed(question, source);
        let mut files = Pictures::default();
        let (bytes, _) = files.read(path).map_err(failed)?;
        let name = path.display().to_string();
        let picture = read_picture_stream(&name, bytes, &Limits::default()).map_err(failed)?;
        self.pictures[lane] = Some((path.clone(), picture.clone()));
        Ok(picture)
    }

    fn request(&mut self, trial: &Trial, lane: usize) -> Result<Request, EvalError> {
        let course = self.course;
        let question = &course.task.questions[trial.question];
        let picture = self.picture(question, lane)?;
        let mut request = Request::question(vec![picture], &question.question);
        request.thinking = Some(question.think.unwrap_or(true));
        request.budget = ThinkingBudget {
            tokens: trial.budget,
            ..ThinkingBudget::default()
        };
        request.max_tokens = Some(course.options.max_tokens);
        request.speculation = match trial.way.guesses() {
            true => Speculation::Lookup,
            false => Speculation::Off,
        };
        if trial.way.has_schema() {
            let grammar = Grammar::json_schema(&schema());
            request.format = Some(grammar.map_err(|source| course.failed(question, source))?);
        }
        Ok(request)
    }
}

/// The answers, looked at and kept.
struct Answers<'a, 'r, N: Network> {
    engine: &'a Engine<N>,
    course: &'a Course<'a>,
    results: &'r mut ResultsFile,
}

impl<N: Network> Answers<'_, '_, N> {
    fn thought(
        &self,
        request: &Request,
        reply: &Reply,
        streamed: &Streamed,
    ) -> Result<Thought, engine::EngineError> {
        let files = self.engine.files();
        let completion = Completion {
            prompt: &self.engine.prompt(request)?.text,
            ids: &reply.output_ids,
            forced: reply.thinking.forced_tokens > 0,
        };
        let tokens = match &files.generation.thinking {
            Some(tags) => thought_count::count(&completion, tags, &files.tokenizer)?,
            None => 0,
        };
        let ids: Vec<u8> = reply
            .output_ids
            .iter()
            .flat_map(|id| id.to_le_bytes())
            .collect();
        Ok(Thought {
            tokens,
            reported_tokens: reply.usage.reasoning_tokens,
            cut: !matches!(reply.thinking.ended, None | Some(ThoughtEnd::Stop)),
            streamed_otherwise: streamed.text != reply.text
                || streamed.reasoning != reply.reasoning,
            ids: Fingerprint::default().with(&ids).to_string(),
        })
    }

    fn take(&mut self, ended: Ended<Trial>) -> Result<(), EvalError> {
        let trial = &ended.question;
        let question = &self.course.task.questions[trial.question];
        let failed = |source| self.course.failed(question, source);
        let reply = ended.result.map_err(failed)?;
        let thought = self
            .thought(&ended.request, &reply, &ended.streamed)
            .map_err(failed)?;
        self.results.append(&Line {
            key: &trial.key,
            image: &question.image,
            kind: &question.kind,
            question: &question.question,
            expected: &question.answer,
            reply: &reply.text,
            right: right(trial.way, &reply.text, question),
            thought: Some(&thought),
        })?;
        Ok(())
    }
}

/// What an answer in JSON looks like. The bound is far above every answer: a model that does not come to an end is cut here.
fn schema() -> Json {
    json!({
        "type": "object",
        "properties": {"answer": {"type": "string", "maxLength": 400}},
        "required": ["answer"],
        "additionalProperties": false,
    })
}

fn right(way: Way, reply: &str, question: &Question) -> bool {
    if !way.has_schema() {
        return is_right(reply, &question.answer);
    }
    let reply: Json = serde_json::from_str(reply).unwrap_or_default();
    reply["answer"]
        .as_str()
        .is_some_and(|reply| is_right(reply, &question.answer))
}

fn lines(course: &Course, trials: &[Trial], results: &ResultsFile) -> Vec<Worth> {
    let place = |trial: &Trial, way| (trial.question, trial.budget, way);
    let of_place: HashMap<_, _> = trials
        .iter()
        .filter_map(|trial| Some((place(trial, trial.way), results.thought(&trial.key)?)))
        .collect();
    let mut lines = Vec::new();
    for (way, _) in course.ways {
        for &budget in course.budgets {
            let mut line = Worth::none(*way, budget);
            let mut tokens = 0;
            let here = |trial: &&Trial| trial.way == *way && trial.budget == budget;
            for trial in trials.iter().filter(here) {
                let question = &course.task.questions[trial.question];
                let (Some(thought), Some(reply)) =
                    (results.thought(&trial.key), results.reply(&trial.key))
                else {
                    continue;
                };
                tokens += thought.tokens;
                line.add(thought);
                line.report
                    .add(&question.kind, right(*way, reply, question));
                let twin = of_place.get(&place(trial, way.without_guesses()));
                if let (true, Some(twin)) = (way.guesses(), twin) {
                    *line.other_tokens.get_or_insert(0) += usize::from(twin.ids != thought.ids);
                }
            }
            line.accuracy = line.report.total.accuracy();
            line.mean_tokens = tokens as f64 / line.report.total.count.max(1) as f64;
            lines.push(line);
        }
    }
    lines
}

impl Worth {
    fn none(way: Way, budget: Option<usize>) -> Self {
        Worth {
            way,
            budget,
            accuracy: 0.0,
            mean_tokens: 0.0,
            longest_tokens: 0,
            cut_thoughts: 0,
            overruns: 0,
            miscounted: 0,
            streamed_otherwise: 0,
            other_tokens: None,
            report: Report::default(),
        }
    }

    fn add(&mut self, thought: &Thought) {
        self.longest_tokens = self.longest_tokens.max(thought.tokens);
        self.cut_thoughts += usize::from(thought.cut);
        self.overruns += usize::from(self.budget.is_some_and(|budget| thought.tokens > budget));
        self.miscounted += usize::from(thought.tokens != thought.reported_tokens);
        self.streamed_otherwise += usize::from(thought.streamed_otherwise);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thought(tokens: usize, reported_tokens: usize) -> Thought {
        Thought {
            tokens,
            reported_tokens,
            cut: false,
            streamed_otherwise: false,
            ids: String::new(),
        }
    }

    #[test]
    fn an_overrun_is_what_the_ids_say_and_the_reported_count_is_only_compared() {
        let mut line = Worth::none(Way::Plain, Some(8));
        for (tokens, reported) in [(8, 8), (9, 8), (3, 4)] {
            line.add(&thought(tokens, reported));
        }
        assert_eq!(
            (line.overruns, line.miscounted, line.longest_tokens),
            (1, 2, 9)
        );
        assert_eq!(line.broken(), 3);
        let mut unbounded = Worth::none(Way::Plain, None);
        unbounded.add(&thought(1000, 1000));
        assert_eq!(unbounded.broken(), 0);
    }

    #[test]
    fn an_answer_in_json_is_right_by_what_it_says() {
        let question = Question {
            line: 1,
            image: "a.png".into(),
            image_path: "a.png".into(),
            question: "Q?".into(),
            answer: "3.50".into(),
            kind: "sum".into(),
            think: None,
        };
        for (way, reply, expected) in [
            (Way::Plain, "3.5", true),
            (Way::Schema, r#"{"answer": "3.5"}"#, true),
            (Way::SchemaAndSpeculation, r#"{"answer": "4"}"#, false),
            (Way::Schema, r#"{"answer": "3.5"#, false),
            (Way::Speculation, "", false),
        ] {
            assert_eq!(right(way, reply, &question), expected, "{reply}");
        }
    }
}
