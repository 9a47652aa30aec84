//! How closely pictures are looked at, what is kept of them, and what they will cost, on the command line.

mod support;

use support::Place;

fn run(place: &Place, more: &[&str]) -> support::Outcome {
    let arguments = [
        &["run", "--model", "model", "--max-tokens", "3"],
        more,
        &["--image", "checks.png", "hi"],
    ];
    let outcome = place.run(&arguments.concat());
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    outcome
}

#[test]
fn what_a_picture_loses_is_told_with_the_reason() {
    let place = Place::new();
    place.fixture("checks.png");
    for (arguments, told) in [
        (&[][..], ": 2x1 grid, 3 tiles, 12 tokens"),
        (
            &["--max-tiles", "2"],
            ": 1x1 grid, 1 tiles instead of 3 (--max-tiles), 4 tokens",
        ),
        (
            &["--max-image-tokens", "11"],
            ": 1x1 grid, 1 tiles instead of 3 (--max-image-tokens), 4 tokens",
        ),
        (
            &["--detail", "low"],
            ": 1x1 grid, 1 tiles instead of 3 (--detail low), 4 tokens",
        ),
        (&["--detail", "high"], ": 2x1 grid, 3 tiles, 12 tokens"),
    ] {
        let stderr = run(&place, arguments).stderr;
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
    }
    let many = ["--image", "checks.png"].repeat(39);
    let stderr = run(&place, &many).stderr;
    assert!(
        stderr.contains("1 tiles instead of 3 (the context is full)"),
        "{stderr}"
    );
}

#[test]
fn what_a_picture_was_encoded_to_is_taken_from_the_folder_by_later_runs() {
    let place = Place::new();
    place.fixture("checks.png");
    let first = run(&place, &["--image-cache", "kept"]);
    let files = || -> Vec<_> {
        let entries = std::fs::read_dir(place.path("kept")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let [file] = &files()[..] else {
        panic!("one file: {:?}", files())
    };
    let written = std::fs::metadata(file).unwrap().len();
    assert_eq!(run(&place, &["--image-cache", "kept"]).stdout, first.stdout);
    let explained = place.run(&[
        "explain",
        "--model",
        "model",
        "--image-cache",
        "kept",
        "checks.png",
    ]);
    assert!(
        explained.stdout.contains("encoded     already"),
        "{}",
        explained.stdout
    );
    // A damaged file is as good as none, and is written anew.
    std::fs::write(file, "damaged").unwrap();
    assert_eq!(run(&place, &["--image-cache", "kept"]).stdout, first.stdout);
    assert_eq!(std::fs::metadata(file).unwrap().len(), written);
}

#[test]
fn times_are_predicted_when_they_were_measured() {
    let place = Place::new();
    place.fixture("checks.png");
    let explain = || {
        let outcome = place.run(&["explain", "--model", "model", "checks.png"]);
        assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
        outcome.stdout
    };
    assert!(explain().contains("time        not known: `bluelm tune`"));
    let tuned = place.run(&["tune", "--model", "model", "--runs", "1"]);
    assert_eq!(tuned.exit, Some(0), "{}", tuned.stderr);
    assert!(
        tuned.stdout.contains("a tile, by tiles at once     ms"),
        "{}",
        tuned.stdout
    );
    let explained = explain();
    for part in [
        "time        first token after ",
        "memory      at most ",
        "cheaper     --max-tiles 2: 4 image tokens, first token after ",
    ] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    // Measured with other threads, it does not count.
    let other = place.run(&[
        "explain",
        "--model",
        "model",
        "--threads",
        "7",
        "checks.png",
    ]);
    assert!(
        other.stdout.contains("time        not known"),
        "{}",
        other.stdout
    );
}

#[test]
fn a_conversation_is_saved_and_gone_on_with() {
    let place = Place::new();
    place.fixture("checks.png");
    let chat = |script: &str| {
        let arguments = ["chat", "--model", "model", "--max-tokens", "3"];
        let outcome = place.run_with_input(&arguments, script.as_bytes());
        assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
        outcome
    };
    let whole = chat("/image checks.png\nwhat?\nand now?\n").stdout;
    let first = chat("/image checks.png\nwhat?\n/save talk.json\n");
    assert!(first.stderr.contains("saved"), "{}", first.stderr);
    let second = chat("/load talk.json\nand now?\n");
    assert!(second.stderr.contains("2 messages\n"), "{}", second.stderr);
    assert_eq!(first.stdout + &second.stdout, whole);
    // What the next turn would cost is known before it is asked.
    let explained = place.run(&[
        "explain",
        "--model",
        "model",
        "--after",
        "talk.json",
        "checks.png",
    ]);
    assert!(
        explained
            .stdout
            .contains("tokens of the prompt are remembered and not read again"),
        "{}{}",
        explained.stdout,
        explained.stderr
    );
    // Without what the model remembers it is read again, and the answer is the same.
    std::fs::remove_file(place.path("talk.json.session")).unwrap();
    let again = chat("/load talk.json\nand now?\n");
    assert!(
        again
            .stderr
            .contains("2 messages; it has to be read again ("),
        "{}",
        again.stderr
    );
    assert_eq!(again.stdout, second.stdout);
    // The file is a request that others can read.
    let request = place.run(&[
        "run",
        "--model",
        "model",
        "--max-tokens",
        "1",
        "--request",
        "talk.json",
    ]);
    assert_eq!(request.exit, Some(0), "{}", request.stderr);
    let missing = chat("/load nothing.json\n/save nowhere/x.json\n").stderr;
    assert!(
        missing.contains("nothing.json") && missing.contains("nowhere/x.json"),
        "{missing}"
    );
}
