//! `bluelm convert` and what runs a bundle, from the outside.

mod support;

use std::fs::{read, read_dir, write};
use std::process::Command;
use std::time::Duration;

use insta::assert_snapshot;
use support::{Outcome, Place};

const QUESTION: &str = "What is the total?";

/// A place with a bundle `x.bluelm` of the random model.
fn place_with_bundle(options: &[&str]) -> Place {
    let place = Place::new();
    let mut arguments = vec!["convert", "model", "x.bluelm"];
    arguments.extend(options);
    let outcome = place.run(&arguments);
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    place
}

fn told(outcome: &Outcome) -> String {
    assert_eq!(outcome.stdout, "", "a failed run says nothing there");
    format!("exit {}\n{}", outcome.exit.unwrap(), outcome.stderr)
}

/// Asks a bundle with these bytes.
fn ask(place: &Place, bytes: &[u8]) -> Outcome {
    // No name that would tell.
    place.write("some file", bytes);
    place.run(&["run", "--model", "some file", "--max-tokens", "3", QUESTION])
}

fn names(place: &Place) -> Vec<String> {
    let entries = read_dir(place.path("")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into())
        .collect();
    names.sort();
    names
}

#[test]
fn a_bf16_bundle_answers_as_its_folder_does_whatever_its_name_is() {
    let place = place_with_bundle(&["--recipe", "bf16"]);
    place.fixture("checks.png");
    let bytes = read(place.path("x.bluelm")).unwrap();
    place.write("some file", bytes);
    let answer = |model: &str| {
        let image = ["--image", "checks.png", "--max-tokens", "8", QUESTION];
        let outcome = place.run(&[&["run", "--model", model], &image[..]].concat());
        assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
        outcome.stdout
    };
    assert_eq!(answer("model"), answer("some file"));
}

#[test]
fn every_recipe_and_rounding_makes_a_bundle_that_is_whole_and_answers() {
    for options in [
        ["--recipe", "fast", "--rounding", "compensated"],
        ["--recipe", "paper", "--rounding", "search"],
        ["--recipe", "paper", "--group", "128"],
    ] {
        let place = place_with_bundle(&options);
        let checked = place.run(&["convert", "--check", "x.bluelm"]);
        assert_eq!(checked.exit, Some(0), "{}", checked.stderr);
        assert!(
            checked.stdout.starts_with("x.bluelm: whole, "),
            "{}",
            checked.stdout
        );
        let outcome = place.run(&["run", "--model", "x.bluelm", "--max-tokens", "3", QUESTION]);
        assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    }
}

#[test]
fn a_report_is_one_json_line_for_programs() {
    let place = Place::new();
    let report = [
        "--report",
        "--questions",
        "5",
        "--json",
        "--rounding",
        "search",
    ];
    let outcome = place.run(&[&["convert", "model", "x.bluelm"], &report[..]].concat());
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["questions"], 5);
    assert!(report["kl"].as_f64().unwrap() >= 0.0);
    let first = &report["cosines"][0];
    assert_eq!(first[0], "vision_features");
    assert!(first[1].as_f64().unwrap() > 0.99, "{first}");
}

#[test]
fn a_file_that_is_there_is_not_replaced_unless_asked() {
    let place = place_with_bundle(&["--recipe", "bf16"]);
    let before = read(place.path("x.bluelm")).unwrap();
    let again = ["convert", "model", "x.bluelm", "--rounding", "nearest"];
    assert_snapshot!(told(&place.run(&again)));
    assert_eq!(read(place.path("x.bluelm")).unwrap(), before);
    let outcome = place.run(&[&again[..], &["--force"]].concat());
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    assert!(read(place.path("x.bluelm")).unwrap().len() < before.len());
    assert_eq!(names(&place), ["model", "x.bluelm"]);
}

#[test]
fn a_damaged_bundle() {
    let place = place_with_bundle(&["--rounding", "nearest"]);
    let whole = read(place.path("x.bluelm")).unwrap();
    let mut told_of = String::new();
    let mut add =
        |what: &str, outcome: Outcome| told_of.push_str(&format!("{what}: {}\n", told(&outcome)));
    add("cut off", ask(&place, &whole[..whole.len() - 100]));
    add("cut off early", ask(&place, &whole[..40]));
    let mut bytes = whole.clone();
    bytes[8] = 7;
    add("another version", ask(&place, &bytes));
    let mut bytes = whole.clone();
    bytes[100] ^= 4;
    add("a flipped bit of the header", ask(&place, &bytes));
    add("no bundle", ask(&place, b"Dear Sir or Madam,"));
    add("nothing", ask(&place, b""));
    let mut bytes = whole.clone();
    let last = bytes.len() - 200;
    bytes[last] ^= 4;
    place.write("some file", &bytes);
    add(
        "a flipped bit of the data",
        place.run(&["convert", "--check", "some file"]),
    );
    // A checksum depends on the random weights; its place in the text does not.
    assert_snapshot!(told_of);
}

#[test]
fn a_source_that_is_no_model() {
    let place = Place::new();
    assert_snapshot!(told(&place.run(&["convert", "nowhere", "x.bluelm"])));
    assert_eq!(names(&place), ["model"]);
}

#[test]
fn a_group_that_there_is_not() {
    let place = Place::new();
    assert_snapshot!(told(
        &place.run(&["convert", "model", "x.bluelm", "--group", "48"])
    ));
}

#[test]
#[cfg(unix)]
fn a_disk_that_is_full_leaves_no_half_file() {
    let place = Place::new();
    // The system refuses to let a file grow past 16 blocks of 512 or 1024 bytes.
    let limited =
        "trap '' XFSZ; ulimit -f 16; exec \"$0\" convert model x.bluelm --rounding nearest";
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_bluelm")])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.starts_with("error: writing x.bluelm.partial: "),
        "{told}"
    );
    assert_eq!(names(&place), ["model"]);
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_no_half_file() {
    let place = Place::new();
    // The model inside takes seconds.
    let mut child = place
        .program(&["convert", "bluelm-nano", "x.bluelm"])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(400));
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(&place), ["model"]);
}

#[test]
fn a_bundle_is_explained_and_evaluated_as_a_folder_is() {
    let place = place_with_bundle(&["--rounding", "nearest"]);
    place.fixture("checks.png");
    let outcome = place.run(&["explain", "--model", "x.bluelm", "checks.png"]);
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    assert!(
        outcome.stdout.contains(" in the bundle"),
        "{}",
        outcome.stdout
    );
    let line =
        r#"{"image": "checks.png", "question": "What is it?", "answer": "x", "kind": "read"}"#;
    write(place.path("task.jsonl"), line).unwrap();
    let task = ["eval", "--task", "task.jsonl", "--max-tokens", "2"];
    let outcome = place.run(&[&task[..], &["--model", "x.bluelm"]].concat());
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
}
