//! The model inside, asked about pictures that its generator did not draw. Greedy answers are the same bits everywhere.

mod support;

use std::path::{Path, PathBuf};
use support::Place;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn answer(image: &str, question: &str, more: &[&str]) -> String {
    let image = examples().join(image);
    let arguments = ["run", "--image", image.to_str().unwrap(), question];
    let outcome = Place::new().run(&[&arguments, more].concat());
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    outcome.stdout.trim().to_owned()
}

#[test]
fn the_first_command_of_the_readme_reads_the_total_of_the_receipt() {
    assert_eq!(answer("receipt.png", "What is the total?", &[]), "26.50");
}
