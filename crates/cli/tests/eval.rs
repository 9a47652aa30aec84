//! `bluelm eval` from end to end, with a random model: one answer is made right by asking for it first.

mod support;

use support::{Outcome, Place};

const EVAL: [&str; 7] = [
    "eval",
    "--model",
    "model",
    "--max-tokens",
    "5",
    "--task",
    "task.jsonl",
];

/// A task of two questions; the second answer is wrong.
fn place() -> Place {
    let place = Place::new();
    place.fixture("checks.png");
    let answer = place.run(&[
        "run",
        "--model",
        "model",
        "--max-tokens",
        "5",
        "--json",
        "--image",
        "checks.png",
        "hi",
    ]);
    let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let line = |question: &str, answer: &serde_json::Value, kind: &str| {
        serde_json::json!({"image": "checks.png", "question": question, "answer": answer, "kind": kind}).to_string()
    };
    let wrong = "not even a random model says this".into();
    place.write(
        "task.jsonl",
        [
            line("hi", &answer["text"], "read"),
            line("ho", &wrong, "count"),
        ]
        .join("\n"),
    );
    place
}

fn eval(place: &Place, more: &[&str]) -> Outcome {
    let outcome = place.run(&[EVAL.as_slice(), more].concat());
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    outcome
}

#[test]
fn json_is_the_line_of_the_contract() {
    assert_eq!(
        eval(&place(), &["--json"]).stdout,
        concat!(
            r#"{"total":{"correct":1,"count":2,"accuracy":0.5},"kinds":{"read":{"correct":1,"count":1,"accuracy":1.0},"#,
            r#""count":{"correct":0,"count":1,"accuracy":0.0}}}"#,
            "\n"
        )
    );
}

#[test]
fn a_second_run_asks_nothing_again_unless_something_changed() {
    let place = place();
    let first = eval(&place, &["--limit", "1"]);
    assert_eq!(first.stderr, "");
    let reused = |more: &[&str]| {
        let stderr = eval(&place, more).stderr;
        stderr.lines().find_map(|line| {
            Some(
                line.split_once(" answers are from an earlier run")?
                    .0
                    .to_owned(),
            )
        })
    };
    assert_eq!(reused(&[]).as_deref(), Some("1 of 2"));
    assert_eq!(reused(&[]).as_deref(), Some("2 of 2"));
    assert_eq!(reused(&["--max-grid", "1x1"]), None);
    assert_eq!(reused(&["--max-grid", "1x1"]).as_deref(), Some("2 of 2"));
    assert_eq!(reused(&["--think"]), None);
    assert_eq!(reused(&["--fresh"]), None);
    assert_eq!(reused(&["--output", "elsewhere.jsonl"]), None);
    assert!(place.path("elsewhere.jsonl").is_file());
}

#[test]
fn what_went_wrong_is_shown_on_request() {
    let outcome = eval(&place(), &["--wrong", "5"]);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0]
            .starts_with("checks.png: ho — expected \"not even a random model says this\", found ")
    );
    assert!(outcome.stdout.starts_with("kind "), "{}", outcome.stdout);
}

#[test]
fn each_budget_is_a_line_and_a_bar() {
    let place = place();
    let more = ["--budgets", "0,2,unlimited", "--chart", "budgets.svg"];
    let table = eval(&place, &more).stdout;
    let budgets: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("plain ")?.split_whitespace().next())
        .collect();
    assert_eq!(budgets, ["0", "2", "unlimited"]);
    assert!(
        table.ends_with("\n6 answers, 0 broken promises\n"),
        "{table}"
    );
    let chart = std::fs::read_to_string(place.path("budgets.svg")).unwrap();
    assert_eq!(chart.matches("<rect x=").count(), 3);
    assert!(chart.contains(">unlimited<"), "{chart}");
    let json = eval(&place, &["--budgets", "0", "--json"]).stdout;
    let lines: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&lines[0]["budget"], &lines[0]["overruns"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn bad_lines_are_all_named_before_the_model_is_loaded() {
    let place = Place::new();
    place.write("task.jsonl", "{}\n\nhello\n");
    let outcome = place.run(&["eval", "--model", "nowhere", "--task", "task.jsonl"]);
    assert_eq!(outcome.exit, Some(1));
    insta::assert_snapshot!(outcome.stderr);
}

/// The model inside, on pictures that its generator did not draw. Answers are the same bits everywhere, so what README.md shows
/// as right stays right until the model changes.
#[test]
fn the_model_inside_answers_as_the_readme_says() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let place = Place::new();
    for (image, question, expected) in [
        ("receipt.png", "What is the total?", "26.50"),
        ("receipt.png", "How much is the coffee?", "3.20"),
        ("receipt.png", "What is the name of the shop?", "Blue Door"),
        ("form.png", "What is the email?", "ines@post.org"),
        ("table.png", "What is the title?", "Departures"),
        ("banner.png", "What is the first line?", "Summer Market"),
        ("table.png", "What is in row 5, column City?", "Ostend"),
        ("list.png", "How much is the curry?", "11.90"),
        ("shapes.png", "Are there more circles or stars?", "circles"),
        ("chart.png", "What is the value of March?", "35"),
    ] {
        let image = examples.join(image);
        let outcome = place.run(&["run", "--image", image.to_str().unwrap(), question]);
        assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
        assert_eq!(outcome.stdout.trim(), expected, "{question}");
    }
}
