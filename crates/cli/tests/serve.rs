//! `bluelm serve` from end to end: the model inside the program answers through real sockets, one client or many.

#[path = "serve/load.rs"]
mod load;
#[path = "serve/page.rs"]
mod page;
#[path = "serve/server.rs"]
mod server;

use std::process::Command;

use serde_json::{Value as Json, json};

use server::{Server, receipt, run_json};

#[test]
fn the_model_inside_says_the_same_in_every_api_as_on_the_command_line() {
    let question = "What is the total?";
    let expected = run_json(&[question]);
    let text = expected["text"].as_str().unwrap();
    assert!(!text.is_empty());
    let server = Server::start(&[]);
    let image = json!({"type": "image_url", "image_url": {"url": receipt()}});
    let messages =
        json!([{"role": "user", "content": [image, {"type": "text", "text": question}]}]);
    let body = json!({"messages": messages, "max_tokens": 64});

    let chat = server.json("/v1/chat/completions", &body);
    assert_eq!(chat["choices"][0]["message"]["content"], text);
    assert_eq!(
        chat["usage"]["prompt_tokens"],
        expected["usage"]["prompt_tokens"]
    );
    assert_eq!(
        chat["usage"]["completion_tokens"],
        expected["usage"]["completion_tokens"]
    );
    assert_eq!(chat["bluelm"]["images"], expected["images"]);

    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let stream = server.ask("/v1/chat/completions", &streamed, 200);
    assert_eq!(content_of(&stream), text);

    let response = server.json(
        "/v1/responses",
        &json!({"input": messages, "max_output_tokens": 64}),
    );
    assert_eq!(response["output"][0]["content"][0]["text"], text);
    let message = server.json("/v1/messages", &body);
    assert_eq!(message["content"][0]["text"], text);

    let explained = server.json("/v1/explain", &json!({"messages": messages}));
    assert_eq!(
        explained["prompt_tokens"],
        expected["usage"]["prompt_tokens"]
    );

    let kept = server.json("/v1/images", &json!({"image": receipt()}));
    assert_eq!(kept["tokens"], expected["usage"]["image_tokens"]);
    // It is encoded without any question about it; a minute is far more than that takes.
    let place = format!("/v1/images/{}", kept["id"].as_str().unwrap());
    let encoded = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        server.get(&place)["encoding"] == "done"
    });
    assert!(encoded, "nobody asked, and it was not encoded");
    let image = json!({"type": "input_image", "file_id": kept["id"]});
    let messages =
        json!([{"role": "user", "content": [image, {"type": "text", "text": question}]}]);
    let chat = server.json(
        "/v1/chat/completions",
        &json!({"messages": messages, "max_tokens": 64}),
    );
    assert_eq!(chat["choices"][0]["message"]["content"], text);
}

/// The deltas of a stream, put together; chunks may stand among the lines of HTTP's chunked coding.
fn content_of(stream: &str) -> String {
    let chunks = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"));
    chunks
        .map(|chunk| serde_json::from_str::<Json>(&format!("{{{chunk}")).unwrap())
        .filter_map(|chunk| {
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect()
}

#[test]
fn a_thought_comes_apart_from_its_answer_and_is_counted() {
    let expected = run_json(&["--think", "What do all items cost together?"]);
    let server = Server::start(&[]);
    let messages = json!([{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": receipt()}},
        {"type": "text", "text": "What do all items cost together?"}]}]);
    let chat = server.json(
        "/v1/chat/completions",
        &json!({"messages": messages, "max_tokens": 64, "think": true}),
    );
    let message = &chat["choices"][0]["message"];
    assert!(!expected["reasoning"].as_str().unwrap().is_empty());
    assert_eq!(message["reasoning_content"], expected["reasoning"]);
    assert_eq!(message["reasoning"], expected["reasoning"]);
    assert_eq!(message["content"], expected["text"]);
    assert_eq!(
        chat["usage"]["completion_tokens_details"]["reasoning_tokens"],
        expected["usage"]["reasoning_tokens"]
    );
}

#[test]
fn an_address_that_others_reach_needs_a_key() {
    let refused = Command::new(env!("CARGO_BIN_EXE_bluelm"))
        .args(["serve", "--host", "0.0.0.0", "--port", "0"])
        .env_remove("BLUELM_API_KEY")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8(refused.stderr).unwrap(), @r"
    error: 0.0.0.0 can be reached by other machines, and no key is set
    hint: set BLUELM_API_KEY or give --api-key, or say --allow-without-key if that is what you want
    ");
    let mut server = Server::start(&["--host", "0.0.0.0", "--api-key", "secret"]);
    server.address = server.address.replace("0.0.0.0", "127.0.0.1");
    server.ask("/tokenize", &json!({"content": "hi"}), 401);
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_sigterm_end_it_in_order() {
    for signal in ["-INT", "-TERM"] {
        let mut server = Server::start(&[]);
        server.json("/tokenize", &json!({"content": "hi"}));
        let id = server.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn settings_come_from_flags_environment_and_a_file_and_what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serve.toml");
    let run = |file: &str, arguments: &[&str]| {
        std::fs::write(&path, file).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_bluelm"))
            .args(["serve", "--config"])
            .arg(&path)
            .args(arguments)
            .env_remove("BLUELM_API_KEY")
            .env("BLUELM_MAX_PICTURES", "few")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        text.replace(&path.display().to_string(), "FILE")
    };
    insta::assert_snapshot!(run("ports = 1\nmax_body_mb = 0", &["--tile-batch", "99999"]), @r#"
    error: FILE: max_body_mb: expected a whole number from 1 to 4000, found 0
    FILE: ports: there is no such setting; is `port` meant?
    BLUELM_MAX_PICTURES: expected a whole number from 1 to 10000, found "few"
    --tile-batch: expected a whole number from 1 to 4096, found 99999
    hint: `bluelm serve --help` has all settings; docs/server.md has a file with each of them
    "#);
}

/// Whatever the model would say, most of this answer is certain, and so is guessed right.
#[test]
fn guesses_are_told_and_change_nothing() {
    let server = Server::start(&[]);
    let schema = json!({"type": "object", "properties": {"kind_of_paper": {"const": "receipt of a shop"}},
        "required": ["kind_of_paper"], "additionalProperties": false});
    let ask = |speculation: bool| {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let body = json!({"messages": [{"role": "user", "content": "What is this?"}], "response_format": format,
            "reasoning_effort": "none", "speculation": speculation});
        server.json("/v1/chat/completions", &body)
    };
    let (plain, guessed) = (ask(false), ask(true));
    assert_eq!(
        plain["choices"][0]["message"],
        guessed["choices"][0]["message"]
    );
    let drafts = |answer: &Json| {
        ["draft_n", "draft_n_accepted"].map(|name| answer["timings"][name].as_u64())
    };
    assert_eq!(drafts(&plain), [None, None]);
    let [Some(guesses), Some(accepted)] = drafts(&guessed) else {
        panic!("nothing was guessed: {guessed}")
    };
    assert!(
        accepted > 0 && accepted <= guesses,
        "{accepted} of {guesses}"
    );
}
