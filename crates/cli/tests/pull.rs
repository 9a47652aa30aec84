//! Models of a hub on the command line, from a hub inside the tests.

#[allow(dead_code)] // it needs no fixtures
mod support;

#[allow(dead_code)] // its worse manners are tried in its own crate
#[path = "../../fetch/tests/fake/mod.rs"]
mod fake;

use std::process::Command;

use fake::{FakeHub, File};
use support::{Outcome, Place};

/// The random model's files.
fn model(place: &Place) -> Vec<File> {
    let files = std::fs::read_dir(place.path("model")).unwrap();
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        match name.ends_with(".safetensors") {
            true => File::large(name, &bytes),
            false => File::small(name, &bytes),
        }
    };
    files.map(file).collect()
}

fn with(hub: &FakeHub, program: &mut Command) -> Outcome {
    program.env("HF_ENDPOINT", hub.address());
    for name in [
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_OFFLINE",
    ] {
        program.env_remove(name);
    }
    let output = program.output().unwrap();
    Outcome {
        exit: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

const NAME: &str = "owner/small-model";

#[test]
fn a_model_is_pulled_shown_asked_and_removed() {
    let place = Place::new();
    let hub = FakeHub::new(model(&place));
    let run = |arguments: &[&str]| with(&hub, &mut place.program(arguments));
    let none = run(&["ls"]);
    assert!(
        none.stdout.is_empty() && none.stderr.contains("bluelm pull owner/name"),
        "{}",
        none.stderr
    );
    let pulled = run(&["pull", NAME]);
    assert_eq!(pulled.exit, Some(0), "{}", pulled.stderr);
    assert!(
        pulled.stdout.trim().ends_with("01234567"),
        "{}",
        pulled.stdout
    );
    let listed = run(&["ls"]);
    assert!(
        listed.stdout.contains(NAME) && listed.stdout.ends_with("now\n"),
        "{}",
        listed.stdout
    );
    let shown = run(&["show", NAME]);
    assert!(
        shown
            .stdout
            .contains("2 layers of 32, context 512 tokens, takes pictures"),
        "{}",
        shown.stdout
    );
    // From here on nobody is asked.
    let asked = hub.asked().len();
    let question = ["run", "--model", NAME, "--max-tokens", "3", "What is this?"];
    let answered = run(&question);
    assert_eq!(answered.exit, Some(0), "{}", answered.stderr);
    let own = place.path("model");
    let own = run(&[
        "run",
        "--model",
        own.to_str().unwrap(),
        "--max-tokens",
        "3",
        "What is this?",
    ]);
    assert_eq!(answered.stdout, own.stdout);
    let short = run(&["run", "--max-tokens", "3", NAME, "What is this?"]);
    assert_eq!(short.stdout, own.stdout, "{}", short.stderr);
    let kept = run(&["rm", NAME]);
    assert!(
        kept.exit == Some(1) && kept.stderr.contains("--yes"),
        "{}",
        kept.stderr
    );
    assert_eq!(hub.asked().len(), asked);
    assert_eq!(run(&["rm", "--yes", NAME]).exit, Some(0));
    assert!(run(&["ls"]).stdout.is_empty());
}

#[test]
fn a_model_that_is_not_here_is_fetched_by_the_question_that_names_it() {
    let place = Place::new();
    let hub = FakeHub::new(model(&place));
    let question = ["run", "--model", NAME, "--max-tokens", "3", "What is this?"];
    let answered = with(&hub, &mut place.program(&question));
    assert_eq!(answered.exit, Some(0), "{}", answered.stderr);
    assert!(
        answered.stderr.contains("owner/small-model: "),
        "{}",
        answered.stderr
    );
    // A folder of that name comes first, whatever the hub has.
    std::fs::create_dir_all(place.path("owner")).unwrap();
    std::fs::rename(place.path("model"), place.path(NAME)).unwrap();
    let asked = hub.asked().len();
    let answered = with(&hub, &mut place.program(&question));
    assert_eq!(answered.exit, Some(0), "{}", answered.stderr);
    assert_eq!(hub.asked().len(), asked);
}

#[test]
fn large_models_are_not_fetched_without_a_yes() {
    let place = Place::new();
    let hub = FakeHub::new(model(&place));
    hub.lie_about_sizes(1_500_000_000);
    for arguments in [
        &["pull", NAME][..],
        &["run", "--model", NAME, "What is this?"],
    ] {
        let outcome = with(&hub, &mut place.program(arguments));
        assert_eq!(outcome.exit, Some(1));
        assert!(
            outcome.stderr.contains("no terminal to ask at"),
            "{}",
            outcome.stderr
        );
        assert!(
            outcome
                .stderr
                .contains("hint: bluelm pull --yes owner/small-model"),
            "{}",
            outcome.stderr
        );
    }
    // The list alone was asked for.
    assert!(
        hub.asked()
            .iter()
            .all(|asked| asked.path.starts_with("/api/"))
    );
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let place = Place::new();
    let hub = FakeHub::new(model(&place));
    let stderr = |arguments: &[&str]| with(&hub, &mut place.program(arguments)).stderr;
    let wrong = stderr(&["pull", "no-owner"]);
    assert!(wrong.contains("expected owner/name"), "{wrong}");
    hub.answer_with(404);
    let unknown = stderr(&["run", "--model", "some/model", "hi"]);
    assert!(unknown.contains("no such file or folder"), "{unknown}");
    assert!(unknown.contains("has no such model"), "{unknown}");
    let gone = hub.address();
    drop(hub);
    let mut program = place.program(&["pull", NAME]);
    let outcome = program.env("HF_ENDPOINT", gone).output().unwrap();
    let stderr = String::from_utf8(outcome.stderr).unwrap();
    assert!(
        stderr.contains("cannot be reached") && stderr.contains("bluelm ls"),
        "{stderr}"
    );
    let mut program = place.program(&["run", "--model", NAME, "hi"]);
    let outcome = program.env("HF_HUB_OFFLINE", "1").output().unwrap();
    let stderr = String::from_utf8(outcome.stderr).unwrap();
    assert!(
        stderr.contains("HF_HUB_OFFLINE says not to look elsewhere"),
        "{stderr}"
    );
}
