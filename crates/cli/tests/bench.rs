//! `bluelm bench` from end to end, with a random model: figures of every part, and mistakes that are told before anything is measured.

#[allow(dead_code)] // it needs neither pictures nor files
mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use support::Place;

/// One short round of everything.
const SHORT: [&str; 12] = [
    "bench",
    "--model",
    "model",
    "--runs",
    "1",
    "--batches",
    "2",
    "--decoded",
    "2",
    "--depths",
    "0,8",
    "--json",
];

#[test]
fn every_part_has_figures_and_charts_are_drawn() {
    let place = Place::new();
    let outcome = place.run(
        &[
            &SHORT[..],
            &["--prompts", "16", "--chunks", "4", "--plot", "charts"],
        ]
        .concat(),
    );
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let figures = report["figures"].as_array().unwrap();
    let groups: BTreeSet<&str> = figures.iter().filter_map(|f| f["group"].as_str()).collect();
    // Only Linux tells how much memory a process had at most.
    let mut expected = vec![
        "decode",
        "decode of several",
        "encode",
        "first token",
        "gain",
        "image",
        "load",
        "prefill",
        "prefill in other chunks",
    ];
    if cfg!(target_os = "linux") {
        expected.push("memory");
    }
    assert_eq!(groups, expected.into_iter().collect());
    for figure in figures {
        let [least, median, most] =
            ["least", "median", "most"].map(|key| figure[key].as_f64().unwrap());
        assert!(0.0 < least && least <= median && median <= most, "{figure}");
    }
    for chart in ["encode", "image", "prefill", "chunks", "decode"] {
        let png = std::fs::read(place.path(&format!("charts/{chart}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{chart}");
    }
}

#[test]
fn only_what_is_wanted_is_measured() {
    let place = Place::new();
    let outcome = place.run(&[&SHORT[..], &["--only", "decode"]].concat());
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let figures = report["figures"].as_array().unwrap();
    let found: Vec<_> = figures
        .iter()
        .map(|f| (f["group"].as_str(), f["x"].as_u64()))
        .collect();
    assert_eq!(
        found,
        [(Some("decode"), Some(0)), (Some("decode"), Some(8))]
    );
}

#[test]
fn lengths_that_cannot_be_are_mistakes() {
    let place = Place::new();
    for (arguments, expected) in [
        (
            ["--depths", "1000000"],
            "expected at most the model's context",
        ),
        (
            ["--prompts", "0"],
            "--batches, --prompts or --streams hold a 0",
        ),
        (
            ["--batches", "0"],
            "--batches, --prompts or --streams hold a 0",
        ),
    ] {
        let outcome = place.run(
            &[
                &["bench", "--model", "model", "--runs", "1"],
                &arguments[..],
            ]
            .concat(),
        );
        assert_eq!(outcome.exit, Some(1), "{arguments:?}");
        assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
}

const THINKING: [&str; 9] = [
    "bench",
    "--thinking",
    "--model",
    "model",
    "--folder",
    "held",
    "--json",
    "--budgets",
    "0,3,unlimited",
];

/// A random model thinks without end, and writes whatever its tokenizer has: what a budget must hold against.
#[test]
fn no_thought_of_a_random_model_overruns_in_any_way_of_asking() {
    let place = Place::new();
    let template = std::fs::read_to_string(place.path("model/chat_template.jinja")).unwrap();
    assert!(template.contains("'[|BlueThink|]'"));
    // It would not begin a thought by itself.
    place.write(
        "model/chat_template.jinja",
        template.replace("'[|BlueThink|]'", "'<think>'"),
    );
    let more = ["--questions", "3", "--checked", "2", "--plot", "charts"];
    let outcome = place.run(&[&THINKING[..], &more].concat());
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    let lines: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let lines = lines.as_array().unwrap();
    let asked: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["way"].as_str().unwrap(),
                line["total"]["count"].as_u64(),
            )
        })
        .collect();
    let of_way = |way, count| [(way, Some(count)); 3];
    let ways = [
        of_way("plain", 3),
        of_way("schema", 2),
        of_way("speculation", 2),
        of_way("schema_and_speculation", 2),
    ];
    assert_eq!(asked, ways.concat());
    for line in lines {
        for promise in ["overruns", "miscounted", "streamed_otherwise"] {
            assert_eq!(line[promise], 0, "{promise}: {line}");
        }
        let guessed = line["way"].as_str().unwrap().contains("speculation");
        assert_eq!(
            line["other_tokens"].as_u64(),
            guessed.then_some(0),
            "{line}"
        );
    }
    // Otherwise nothing was put to the test.
    assert_eq!(lines[1]["longest_tokens"], 3, "{}", lines[1]);
    for name in ["thinking-budget", "thinking-budget-reasoning"] {
        let svg = std::fs::read_to_string(place.path(&format!("charts/{name}.svg"))).unwrap();
        assert_eq!(svg.matches("<rect x=").count(), 3);
    }

    // As a table it says how many were asked, and of those that have to be worked out a line for each way.
    let few = [
        &THINKING[..6],
        &["--questions", "3", "--checked", "0", "--budgets", "3"],
    ]
    .concat();
    let table = place.run(&few).stdout;
    let ends: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(ends[0], "3 answers, 0 broken promises", "{table}");
    assert!(
        ends[1].starts_with("plain of count, compare, sum: 3 "),
        "{table}"
    );
    assert_eq!(ends.len(), 2, "{table}");

    // The same again asks nothing: a model that is gone would be missed.
    let kept = std::fs::read(place.path("held/eval.results.jsonl")).unwrap();
    let again = place.run(&[&THINKING[..], &more].concat());
    assert_eq!(again.stdout, outcome.stdout);
    assert_eq!(
        std::fs::read(place.path("held/eval.results.jsonl")).unwrap(),
        kept
    );
    // And what a killed run has not written is asked anew.
    let most = kept
        .iter()
        .take(kept.len() - 100)
        .copied()
        .collect::<Vec<u8>>();
    place.write("held/eval.results.jsonl", most);
    let again = place.run(&[&THINKING[..], &more].concat());
    assert_eq!(again.stdout, outcome.stdout);
}

/// A random model goes in circles, where guesses come true.
#[test]
fn guesses_change_no_token_of_any_answer() {
    let place = Place::new();
    let outcome = place.run(&[
        "bench",
        "--guesses",
        "--model",
        "model",
        "--each",
        "2",
        "--runs",
        "1",
        "--json",
    ]);
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    let tasks: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let tasks = tasks.as_array().unwrap();
    let names: BTreeSet<&str> = tasks.iter().filter_map(|it| it["task"].as_str()).collect();
    assert_eq!(names, ["answer", "copy", "picture", "think"].into());
    for task in tasks {
        // Greedy and drawn.
        assert_eq!(
            (&task["answers"], &task["different"]),
            (&4.into(), &0.into()),
            "{task}"
        );
        assert!(task["speed"].as_f64().unwrap() > 0.0);
    }
    let accepted = |task: &Value| task["accepted_tokens"].as_u64().unwrap();
    assert!(tasks.iter().map(accepted).sum::<u64>() > 20, "{tasks:?}");
}
