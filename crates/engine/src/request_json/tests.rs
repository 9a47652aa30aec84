//! Bodies as clients send them, and as they should not.

use serde_json::{Map, json};

use super::*;
use crate::sample::Sampling;

/// A red pixel.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

fn rules() -> Rules {
    Rules::new(Pictures::DataUrls)
}

fn read(body: Json) -> Result<Request, EngineError> {
    parse(body.to_string().as_bytes(), &Request::default(), &rules())
}

fn with(name: &str, value: Json) -> Json {
    let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
    body[name] = value;
    body
}

fn error(body: Json) -> String {
    read(body).unwrap_err().to_string()
}

fn with_part(part: Json) -> Json {
    json!({"messages": [{"role": "user", "content": [part]}]})
}

fn with_url(url: &str) -> Json {
    with_part(json!({"type": "image_url", "image_url": {"url": url}}))
}

#[test]
fn a_body_as_the_usual_client_sends_it() {
    let request = read(json!({
        "model": "bluelm-nano", "stream": true, "user": "me", "n": 1, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "seed": 7,
        "max_completion_tokens": 99, "stop": ["a", "b"], "logprobs": false, "frequency_penalty": 0,
        "response_format": {"type": "text"}, "chat_template_kwargs": {"enable_thinking": true, "mood": "good"},
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "name": "me", "content": [
                {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{PNG}"), "detail": "auto"}},
                {"type": "text", "text": "What is this?"}]},
            {"role": "assistant", "content": "Red.", "reasoning_content": "I see red."},
            {"role": "user", "content": "Sure?"}]}))
    .unwrap();
    assert_eq!(
        request.sampling,
        Sampling {
            temperature: 0.7,
            top_p: 0.9,
            top_k: 40,
            seed: 7,
            ..Sampling::default()
        }
    );
    assert_eq!(
        (request.max_tokens, request.thinking),
        (Some(99), Some(true))
    );
    assert_eq!(request.stop, ["a", "b"]);
    assert_eq!(
        request.template_kwargs,
        Map::from_iter([("mood".to_owned(), json!("good"))])
    );
    assert_eq!(
        request.images[0],
        Picture {
            width: 1,
            height: 1,
            rgb: vec![255, 0, 0]
        }
    );
    let picture = Message {
        role: Role::User,
        content: vec![Part::Image(0), Part::Text("What is this?".into())],
    };
    assert_eq!(
        request.messages,
        [
            Message::text(Role::System, "Be brief."),
            picture,
            Message::text(Role::Assistant, "Red."),
            Message::text(Role::User, "Sure?")
        ]
    );
}

#[test]
fn what_a_body_leaves_open_keeps_its_default() {
    let defaults = Request {
        max_tokens: Some(5),
        thinking: Some(true),
        ..Request::default()
    };
    let body = with("temperature", Json::Null).to_string();
    let request = parse(body.as_bytes(), &defaults, &rules()).unwrap();
    assert_eq!(
        (request.max_tokens, request.thinking, request.sampling),
        (Some(5), Some(true), Sampling::default())
    );
}

#[test]
fn a_picture_may_be_a_plain_string_without_media_type_or_padding() {
    for url in [
        format!("data:;base64,{PNG}"),
        format!("data:;base64,{}", PNG.trim_end_matches('=')),
    ] {
        let request = read(with_part(json!({"type": "image_url", "image_url": url}))).unwrap();
        assert_eq!(request.images[0].width, 1);
    }
}

#[test]
fn a_path_begins_at_the_folder_of_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(PNG)
        .unwrap();
    std::fs::write(folder.path().join("red.png"), bytes).unwrap();
    let local = Rules::new(Pictures::Folder(folder.path().into()));
    let read = |path: &str| {
        parse(
            with_url(path).to_string().as_bytes(),
            &Request::default(),
            &local,
        )
    };
    assert_eq!(read("red.png").unwrap().images[0].rgb, [255, 0, 0]);
    assert!(
        read("blue.png")
            .unwrap_err()
            .to_string()
            .contains("blue.png: ")
    );
    assert_eq!(
        error(with_url("red.png")),
        "messages[0].content[0].image_url: expected a data URL; paths are not read here"
    );
}

#[test]
fn addresses_are_never_fetched() {
    for (url, scheme) in [
        ("http://x/a.png", "http"),
        ("HTTPS://x/a.png", "https"),
        ("file:///etc/passwd", "file"),
        ("s3://bucket/a.png", "s3"),
    ] {
        assert_eq!(
            error(with_url(url)),
            format!(
                "messages[0].content[0].image_url: pictures are not fetched from {scheme}: addresses; send a data URL or a path"
            )
        );
    }
    assert_eq!(split_scheme("c:\\a.png"), None);
    assert_eq!(split_scheme("12:30.png"), None);
}

#[test]
fn mistakes_are_named_where_they_are() {
    let part = "messages[0].content[0]";
    assert_eq!(error(with("tools", json!([{}]))), "tools: not supported");
    assert_eq!(error(with("n", json!(2))), "n: not supported");
    assert_eq!(
        error(with("temprature", json!(1))),
        "temprature: not supported"
    );
    assert_eq!(
        error(with("temperature", json!("hot"))),
        "temperature: expected a number, found \"hot\""
    );
    assert_eq!(
        error(with("max_tokens", json!(-1))),
        "max_tokens: expected a whole number, found -1"
    );
    assert_eq!(
        error(with("stop", json!([1]))),
        "stop: expected a text or a list of texts, found [1]"
    );
    assert_eq!(
        error(with(
            "chat_template_kwargs",
            json!({"enable_thinking": "yes"})
        )),
        "chat_template_kwargs.enable_thinking: expected true or false, found \"yes\""
    );
    assert_eq!(
        error(json!({"messages": {}})),
        "messages: expected a list of messages"
    );
    assert_eq!(error(json!([])), "the request: expected a JSON object");
    assert_eq!(
        error(json!({"messages": [{"role": "tool", "content": "x"}]})),
        "messages[0].role: expected system, developer, user or assistant, found \"tool\""
    );
    assert_eq!(
        error(json!({"messages": [{"role": "user"}]})),
        "messages[0].content: expected a text or a list of parts, found nothing"
    );
    assert_eq!(
        error(with_part(json!({"type": "input_audio"}))),
        format!("{part}.type: expected `text` or `image_url`, found `input_audio`")
    );
    assert_eq!(
        error(with_url("data:image/png,x")),
        format!("{part}.image_url: a data URL without `;base64`")
    );
    assert!(error(with_url("data:;base64,@@@@")).starts_with(&format!(
        "{part}.image_url: a data URL that is not base64: "
    )));
    assert!(error(with_url("data:;base64,aGVsbG8=")).starts_with(&format!("{part}.image_url: ")));
    let low = json!({"type": "image_url", "image_url": {"url": "x", "detail": "low"}});
    assert_eq!(
        error(with_part(low)),
        format!("{part}.image_url.detail: expected auto or high, found \"low\"")
    );
}

#[test]
fn sizes_are_bounded_before_memory_is_spent() {
    let small = Rules {
        max_picture_bytes: 10,
        max_pictures: 1,
        ..rules()
    };
    let read = |body: Json| {
        parse(body.to_string().as_bytes(), &Request::default(), &small)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        read(with_url(&format!("data:;base64,{PNG}"))),
        "messages[0].content[0].image_url: a picture of more than 10 bytes"
    );
    let bounded = Rules {
        max_pictures: 1,
        ..rules()
    };
    let picture = json!({"type": "image_url", "image_url": {"url": format!("data:;base64,{PNG}")}});
    let two = json!({"messages": [{"role": "user", "content": [picture, picture]}]});
    let error = parse(two.to_string().as_bytes(), &Request::default(), &bounded).unwrap_err();
    assert_eq!(
        error.to_string(),
        "messages[0].content[1]: more than 1 pictures"
    );
    let tiny = Rules {
        max_body_bytes: 3,
        ..rules()
    };
    let error = parse(b"{   }", &Request::default(), &tiny).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the request: 5 bytes, at most 3 are read"
    );
}
