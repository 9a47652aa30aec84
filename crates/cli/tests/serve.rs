//! `bluelm serve` from end to end: the model inside the program answers through a real socket.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value as Json, json};

use support::Place;

/// A server on a free port; ends when dropped.
struct Server {
    child: Child,
    /// Kept open: a closed pipe would end the program at its next word.
    _stderr: BufReader<ChildStderr>,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bluelm"))
            .args(["serve", "--port", "0"])
            .args(arguments)
            .env_remove("BLUELM_API_KEY")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("http://") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the server ended");
        }
        let (_, address) = line.trim_end().split_once("http://").unwrap();
        let address: String = address
            .chars()
            .take_while(|letter| letter.is_ascii_digit() || ".:".contains(*letter))
            .collect();
        Server {
            child,
            _stderr: stderr,
            address,
        }
    }

    /// The body of an answer, which is expected to have this status.
    fn ask(&self, path: &str, body: &Json, status: u16) -> String {
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn json(&self, path: &str, body: &Json) -> Json {
        serde_json::from_str(&self.ask(path, body, 200)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn receipt() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/receipt.png");
    format!(
        "data:image/png;base64,{}",
        base64(&std::fs::read(path).unwrap())
    )
}

/// Base64 by its definition, RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [
            chunk[0],
            chunk.get(1).copied().unwrap_or(0),
            chunk.get(2).copied().unwrap_or(0),
        ];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

/// The answer of `bluelm run --json` to the same question.
fn run_json(more: &[&str]) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/receipt.png");
    let output = Command::new(env!("CARGO_BIN_EXE_bluelm"))
        .args(["run", "--json", "--max-tokens", "64", "--image"])
        .arg(path)
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

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
    let place = Place::new();
    let outcome = place.run(&["serve", "--host", "0.0.0.0", "--port", "0"]);
    assert_eq!(outcome.exit, Some(1));
    insta::assert_snapshot!(outcome.stderr, @r"
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
