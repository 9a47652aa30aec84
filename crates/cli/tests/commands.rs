//! Commands from end to end, with a random model: what they say is nonsense, how they say it is not.

mod support;

use std::io::Read;
use std::process::Stdio;

use support::Place;

fn ask<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [
        ["run", "--model", "model", "--max-tokens", "5"].as_slice(),
        more,
    ]
    .concat()
}

/// Numbers that differ from run to run become 0.
fn without_times(mut reply: serde_json::Value) -> String {
    for (_, time) in reply["timings"].as_object_mut().unwrap() {
        assert!(time.is_number());
        *time = 0.into();
    }
    for text in ["text", "reasoning"] {
        assert!(reply[text].is_string());
        reply[text] = "...".into();
    }
    serde_json::to_string(&reply).unwrap()
}

#[test]
fn the_answer_goes_to_standard_output_and_one_line_of_numbers_to_standard_error() {
    let place = Place::new();
    place.fixture("checks.png");
    let outcome = place.run(&ask(&["--image", "checks.png", "hi"]));
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.ends_with('\n'));
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(
        outcome.stderr.starts_with("model | image 40x30: "),
        "{}",
        outcome.stderr
    );
}

#[test]
fn json_is_one_line_with_the_keys_of_the_contract_and_nothing_else() {
    let place = Place::new();
    place.fixture("checks.png");
    let outcome = place.run(&ask(&["--json", "--image", "checks.png", "hi"]));
    assert_eq!((outcome.exit, outcome.stderr.as_str()), (Some(0), ""));
    assert_eq!(outcome.stdout.lines().count(), 1);
    insta::assert_snapshot!(without_times(
        serde_json::from_str(&outcome.stdout).unwrap()
    ));
}

/// The model inside, which thinks in some dozens of tokens.
#[test]
fn a_thought_is_cut_at_its_budget_and_the_line_of_numbers_says_so() {
    let place = Place::new();
    let image = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/receipt.png");
    let run = |more: &[&str]| {
        let question = [
            "--image",
            image.to_str().unwrap(),
            "What do all items cost together?",
        ];
        place.run(&[&["run"], more, &question].concat())
    };
    let outcome = run(&["--thinking-budget", "3"]);
    assert!(
        outcome
            .stderr
            .contains("(3 of them thought, all that its budget allows)"),
        "{}",
        outcome.stderr
    );
    let outcome = run(&["--thinking-budget", "3", "--json"]);
    let reply: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(reply["usage"]["reasoning_tokens"], 3);
    assert_eq!(
        (&reply["thinking"]["ended"], &reply["thinking"]["budget"]),
        (&"budget".into(), &3.into())
    );
    // No time at all is the mode without thoughts, as no token at all is: there is nothing to be cut.
    for none in ["--thinking-time=0", "--thinking-budget=0"] {
        let outcome = run(&[none, "--json"]);
        let reply: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(
            (
                &reply["thinking"]["ended"],
                &reply["usage"]["reasoning_tokens"]
            ),
            (&serde_json::Value::Null, &0.into())
        );
        let without = run(&["--no-think", "--json"]);
        let without: serde_json::Value = serde_json::from_str(&without.stdout).unwrap();
        assert_eq!(reply["text"], without["text"], "{none}");
    }
}

#[test]
fn a_request_file_gives_the_answer_of_the_same_command_line() {
    let place = Place::new();
    place.fixture("checks.png");
    let body = r#"{"model": "x", "max_tokens": 5, "chat_template_kwargs": {"enable_thinking": true}, "messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "checks.png"}}, {"type": "text", "text": "hi"}]}]}"#;
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    place.fixture("checks.png");
    place.write(
        "elsewhere/request.json",
        body.replace("checks.png", "../checks.png"),
    );
    let by_file = place.run(&[
        "run",
        "--model",
        "model",
        "--json",
        "--request",
        "elsewhere/request.json",
    ]);
    let by_line = place.run(&ask(&["--json", "--think", "--image", "checks.png", "hi"]));
    assert_eq!(by_file.exit, Some(0), "{}", by_file.stderr);
    let text = |outcome: &support::Outcome| {
        serde_json::from_str::<serde_json::Value>(&outcome.stdout).unwrap()["text"].clone()
    };
    assert_eq!(text(&by_file), text(&by_line));
}

#[test]
fn a_picture_can_come_from_standard_input() {
    let place = Place::new();
    let bytes = place.fixture("checks.png");
    let piped = place.run_with_input(&ask(&["--image", "-", "hi"]), &bytes);
    assert_eq!(piped.exit, Some(0), "{}", piped.stderr);
    assert_eq!(
        piped.stdout,
        place.run(&ask(&["--image", "checks.png", "hi"])).stdout
    );
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_seed_another() {
    let place = Place::new();
    let answer = |seed| {
        place
            .run(&ask(&["--temperature", "2", "--seed", seed, "hi"]))
            .stdout
    };
    assert_eq!(answer("1"), answer("1"));
    assert_ne!(answer("1"), answer("2"));
}

#[test]
fn taps_hold_all_that_the_contract_names() {
    let place = Place::new();
    place.fixture("checks.png");
    let outcome = place.run(&ask(&[
        "--taps",
        "taps.safetensors",
        "--image",
        "checks.png",
        "hi",
    ]));
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    let bytes = std::fs::read(place.path("taps.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors: Vec<String> = header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, tensor)| format!("{name} {} {}", tensor["dtype"], tensor["shape"]))
        .collect();
    let mut tensors = tensors;
    tensors.sort();
    insta::assert_snapshot!(tensors.join("\n"));
}

#[test]
fn the_model_inside_answers_too() {
    let place = Place::new();
    let outcome = place.run(&["run", "--max-tokens", "1", "hi"]);
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    assert!(
        outcome.stderr.starts_with("bluelm-nano | "),
        "{}",
        outcome.stderr
    );
}

#[test]
fn explain_multiplies_only_where_every_tile_has_as_many_tokens() {
    let place = Place::new();
    place.fixture("checks.png");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/families/");
    for (family, tokens) in [("gemma3", "1 tiles x 16 = 16"), ("qwen3_vl", "6")] {
        let model = format!("{golden}{family}/model");
        let told = place
            .run(&["explain", "--model", &model, "checks.png"])
            .stdout;
        let line = told.lines().find(|line| line.starts_with("tokens"));
        assert_eq!(line, Some(&*format!("tokens      {tokens}")), "{family}");
    }
}

#[test]
fn explain_says_what_the_model_sees() {
    let place = Place::new();
    place.fixture("checks.png");
    let outcome = place.run(&["explain", "--model", "model", "checks.png"]);
    assert_eq!((outcome.exit, outcome.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(outcome.stdout);
}

#[test]
fn a_chat_goes_on_after_mistakes() {
    let place = Place::new();
    place.fixture("checks.png");
    let script = b"hi\n/image nowhere.png\n/image checks.png\nwhat?\n/think maybe\n/fly\n/think on\n/reset\n/quit\nnever\n";
    let outcome = place.run_with_input(&["chat", "--model", "model", "--max-tokens", "3"], script);
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    insta::assert_snapshot!(outcome.stderr);
}

#[test]
fn completions_are_made_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = place.run(&["completions", shell]);
        assert!(
            outcome.exit == Some(0) && outcome.stdout.contains("max-tokens"),
            "{shell}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    for arguments in [
        vec!["run", "--model", "model", "--max-tokens", "400", "hi"],
        vec!["completions", "bash"],
    ] {
        let mut child = place.program(&arguments).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert_eq!(
            (child.wait().unwrap().code(), stderr.as_str()),
            (Some(0), "")
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_ends_the_program_at_once() {
    let place = Place::new();
    let mut child = place
        .program(&ask(&["--image", "-", "hi"]))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // The program waits for its picture. Interrupted before its handler is in place, it would end in another way.
    let status = format!("/proc/{}/status", child.id());
    let catches_interrupts = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0
    };
    while !catches_interrupts() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    // Held open: waiting would close it, and the program would find an empty picture.
    let _input = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
