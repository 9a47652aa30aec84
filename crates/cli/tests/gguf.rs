//! GGUF files from the outside: run, converted both ways, and what is told of those that are not read.

#[allow(dead_code)] // less of it is needed here
mod support;

use std::fs::read;
use std::path::Path;

use insta::assert_snapshot;
use support::{Outcome, Place};

/// A place with a file of golden/gguf under this name.
fn place_with(file: &str, golden: &str) -> Place {
    let place = Place::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/gguf");
    place.write(file, read(folder.join(golden).join("model.gguf")).unwrap());
    place
}

fn answer(place: &Place, model: &str) -> String {
    let question = "How many pears?";
    let outcome = place.run(&["run", "--model", model, "--max-tokens", "8", question]);
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    outcome.stdout
}

fn told(outcome: &Outcome) -> String {
    assert_eq!(outcome.stdout, "", "a failed run says nothing there");
    format!("exit {}\n{}", outcome.exit.unwrap(), outcome.stderr)
}

#[test]
fn a_file_answers_whatever_its_name_is_and_so_does_what_is_made_of_it() {
    let place = place_with("some file", "qwen3_q8_0");
    let expected = answer(&place, "some file");
    let to_bundle = ["convert", "some file", "x.bluelm", "--recipe", "paper"];
    let outcome = place.run(&to_bundle);
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    let kept = "15 of 15 matrices keep their numbers";
    assert!(outcome.stderr.contains(kept), "{}", outcome.stderr);
    let outcome = place.run(&["convert", "x.bluelm", "back.gguf"]);
    let same = "15 of 15 matrices are the very numbers of the source";
    assert!(outcome.stderr.contains(same), "{}", outcome.stderr);
    assert_eq!(answer(&place, "back.gguf"), expected);
}

#[test]
fn what_is_not_read_or_written_is_told() {
    let place = place_with("x.gguf", "llama_q4_0");
    let bytes = read(place.path("x.gguf")).unwrap();
    place.write("cut.gguf", &bytes[..2000]);
    let run = |model: &str| told(&place.run(&["run", "--model", model, "?"]));
    assert_snapshot!("a_gguf_file_cut_off", run("cut.gguf"));
    let mut other = bytes.clone();
    let name = b"general.architecture";
    let at = other
        .windows(name.len())
        .position(|part| part == name)
        .unwrap()
        + name.len()
        + 12;
    other[at..at + 5].copy_from_slice(b"bloom");
    place.write("other.gguf", &other);
    assert_snapshot!("a_gguf_file_of_another_architecture", run("other.gguf"));
    let written = place.run(&["convert", "bluelm-nano", "nano.gguf"]);
    assert_snapshot!("a_tokenizer_without_a_name", told(&written));
    let same = place.run(&["convert", "x.gguf", "cut.gguf"]);
    assert_snapshot!("a_gguf_file_that_is_there", told(&same));
}
