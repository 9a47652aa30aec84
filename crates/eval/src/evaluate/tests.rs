//! A fake answerer stands for the engine.

use super::*;

/// Answers with the question's first word and remembers what it was asked.
#[derive(Default)]
struct Parrot {
    asked: Vec<(usize, bool)>,
    cancelled_at: Option<usize>,
    fails_at: Option<usize>,
}

impl Answer for Parrot {
    fn answer(&mut self, ask: Ask) -> Result<String, EngineError> {
        let line = ask.question.line;
        if self.cancelled_at == Some(line) {
            return Err(EngineError::Cancelled);
        }
        if self.fails_at == Some(line) {
            return Err(EngineError::NotFinite { position: 7 });
        }
        self.asked.push((line, ask.think));
        let word = ask.question.question.split(' ').next().unwrap_or_default();
        Ok(word.to_owned())
    }
}

/// A folder with a task of three questions, about two pictures, of which the second gets a wrong answer.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        place.write("a.png", "picture a");
        place.write("b.png", "picture b");
        place.write_task("3.50");
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn write_task(&self, first_answer: &str) {
        let lines = [
            format!(
                r#"{{"image":"a.png","question":"3.5 please","answer":"{first_answer}","kind":"sum"}}"#
            ),
            r#"{"image":"a.png","question":"tea or coffee","answer":"Coffee","kind":"read"}"#
                .into(),
            r#"{"image":"b.png","question":"EXIT","answer":"Exit","kind":"read","think":true}"#
                .into(),
        ];
        self.write("task.jsonl", &lines.join("\n"));
    }

    fn task(&self) -> Task {
        Task::read(&self.0.path().join("task.jsonl")).unwrap()
    }

    fn results(&self) -> ResultsFile {
        ResultsFile::open(&self.0.path().join("task.results.jsonl")).unwrap()
    }

    /// Runs the task; gives the lines asked and what came of it.
    fn run(&self, parrot: Parrot, options: &Options) -> (Vec<(usize, bool)>, Report, bool) {
        let mut parrot = parrot;
        let task = self.task();
        let outcome = evaluate(
            &mut parrot,
            &task,
            options,
            &mut self.results(),
            &mut |_| {},
        )
        .unwrap();
        assert_eq!(outcome.reused, outcome.answered.len() - parrot.asked.len());
        (parrot.asked, outcome.report, outcome.finished)
    }
}

fn options() -> Options {
    Options {
        answerer: Fingerprint::default(),
        think: false,
        max_tokens: 10,
        limit: None,
    }
}

fn counts(report: &Report) -> [(usize, usize); 3] {
    let of = |score: crate::Score| (score.correct, score.count);
    [
        of(report.total),
        of(report.kind("sum").unwrap_or_default()),
        of(report.kind("read").unwrap_or_default()),
    ]
}

#[test]
fn every_question_is_asked_in_order_and_scored_by_kind() {
    let place = Place::new();
    let (task, mut seen) = (place.task(), Vec::new());
    let outcome = evaluate(
        &mut Parrot::default(),
        &task,
        &options(),
        &mut place.results(),
        &mut |progress| {
            seen.push((
                progress.done,
                progress.count,
                progress.report.total.correct,
                progress.last.right,
            ));
        },
    )
    .unwrap();
    assert_eq!(seen, [(1, 3, 1, true), (2, 3, 1, false), (3, 3, 2, true)]);
    assert_eq!(counts(&outcome.report), [(2, 3), (1, 1), (1, 2)]);
    assert!(outcome.finished);
    let wrong: Vec<&Answered> = outcome
        .answered
        .iter()
        .filter(|answered| !answered.right)
        .collect();
    assert_eq!((wrong.len(), wrong[0].reply.as_str()), (1, "tea"));
}

#[test]
fn a_stopped_run_goes_on_where_it_was() {
    let place = Place::new();
    let stopped = Parrot {
        cancelled_at: Some(2),
        ..Parrot::default()
    };
    let (asked, report, finished) = place.run(stopped, &options());
    assert_eq!((asked, finished), (vec![(1, false)], false));
    assert_eq!(counts(&report), [(1, 1), (1, 1), (0, 0)]);
    let (asked, report, finished) = place.run(Parrot::default(), &options());
    assert_eq!((asked, finished), (vec![(2, false), (3, true)], true));
    assert_eq!(counts(&report), [(2, 3), (1, 1), (1, 2)]);
    let (asked, again, _) = place.run(Parrot::default(), &options());
    assert_eq!((asked, again), (vec![], report));
}

#[test]
fn a_failure_names_the_line_and_keeps_what_was_answered() {
    let place = Place::new();
    let task = place.task();
    let mut failing = Parrot {
        fails_at: Some(2),
        ..Parrot::default()
    };
    let error = evaluate(
        &mut failing,
        &task,
        &options(),
        &mut place.results(),
        &mut |_| {},
    )
    .unwrap_err();
    let expected = format!(
        "{}, line 2: the network's output is not a number at position 7",
        task.path.display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        place.run(Parrot::default(), &options()).0,
        [(2, false), (3, true)]
    );
}

#[test]
fn whatever_answers_depend_on_asks_again() {
    let place = Place::new();
    let everything = [(1, false), (2, false), (3, true)];
    assert_eq!(place.run(Parrot::default(), &options()).0, everything);
    let other_model = Options {
        answerer: Fingerprint::default().with(b"another"),
        ..options()
    };
    assert_eq!(place.run(Parrot::default(), &other_model).0, everything);
    let more_tokens = Options {
        max_tokens: 11,
        ..options()
    };
    assert_eq!(place.run(Parrot::default(), &more_tokens).0, everything);
    // The third question asks for a thought itself: nothing changes for it.
    let thinking = Options {
        think: true,
        ..options()
    };
    assert_eq!(
        place.run(Parrot::default(), &thinking).0,
        [(1, true), (2, true)]
    );
    place.write("a.png", "another picture");
    assert_eq!(
        place.run(Parrot::default(), &options()).0,
        [(1, false), (2, false)]
    );
    assert_eq!(place.run(Parrot::default(), &options()).0, []);
}

#[test]
fn a_corrected_answer_is_scored_anew_without_asking() {
    let place = Place::new();
    place.run(Parrot::default(), &options());
    place.write_task("4");
    let (asked, report, _) = place.run(Parrot::default(), &options());
    assert_eq!((asked, counts(&report)), (vec![], [(1, 3), (0, 1), (1, 2)]));
}

#[test]
fn a_limit_asks_the_first_questions_only() {
    let place = Place::new();
    for (limit, count) in [(0, 0), (2, 2), (9, 3)] {
        let limited = Options {
            limit: Some(limit),
            ..options()
        };
        let (_, report, finished) = place.run(Parrot::default(), &limited);
        assert_eq!((report.total.count, finished), (count, true));
    }
}

#[test]
fn a_picture_that_went_away_is_an_error_with_its_line() {
    let place = Place::new();
    let task = place.task();
    std::fs::remove_file(place.0.path().join("b.png")).unwrap();
    let error = evaluate(
        &mut Parrot::default(),
        &task,
        &options(),
        &mut place.results(),
        &mut |_| {},
    )
    .unwrap_err();
    assert!(
        matches!(error, EvalError::Answer { line: 3, .. }),
        "{error}"
    );
}
