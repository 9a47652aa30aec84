//! Bodies as clients send them, and as they should not.

use serde_json::{Map, json};

use base64::Engine as _;

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
fn guesses_are_made_unless_they_are_not_wanted() {
    let read_with = |value| read(with("speculation", value)).map(|request| request.speculation);
    assert_eq!(read_with(Json::Null).unwrap(), Speculation::Lookup);
    assert_eq!(read_with(json!(true)).unwrap(), Speculation::Lookup);
    assert_eq!(read_with(json!(false)).unwrap(), Speculation::Off);
    let error = read_with(json!("off")).unwrap_err().to_string();
    assert_eq!(error, "speculation: expected true or false, found \"off\"");
}

#[test]
fn a_grammar_of_llama_server_is_a_format() {
    let gbnf = "root ::= \"yes\" | \"no\"";
    let beside = read(with("grammar", json!(gbnf))).unwrap().format.unwrap();
    let named = json!({"type": "grammar", "syntax": "gbnf", "definition": gbnf});
    let inside = read(with("response_format", named.clone())).unwrap();
    assert_eq!(beside, inside.format.unwrap().named("grammar"));
    assert_eq!(read(with("grammar", json!(""))).unwrap().format, None);
    assert_eq!(
        error(with("grammar", json!("root ::= x"))),
        "grammar: line 1, column 10: there is no rule x"
    );
    let wrong = json!({"type": "grammar", "syntax": "gbnf", "definition": "x"});
    assert_eq!(
        error(with("response_format", wrong)),
        "response_format.definition: line 1, column 2: expected ::= after the name of a rule, found the end"
    );
    assert_eq!(
        error(with("grammar", json!(3))),
        "grammar: expected a text in GBNF, found 3"
    );
    let mut both = with("grammar", json!(gbnf));
    both["response_format"] = named;
    assert_eq!(
        error(both),
        "grammar: expected it or response_format, found both"
    );
}

#[test]
fn mistakes_are_named_where_they_are() {
    let part = "messages[0].content[0]";
    assert_eq!(
        error(with("tools", json!([{}]))),
        "tools[0].name: expected a text, found null"
    );
    assert_eq!(
        error(with("response_format", json!({"type": "xml"}))),
        "response_format: expected an object of type text, json_object, json_schema or grammar, found {\"type\":\"xml\"}"
    );
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
        error(json!({"messages": [{"role": "robot", "content": "x"}]})),
        "messages[0].role: expected system, developer, user, assistant or tool, found \"robot\""
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
    let huge = json!({"type": "image_url", "image_url": {"url": "x", "detail": "huge"}});
    assert_eq!(
        error(with_part(huge)),
        format!("{part}.image_url.detail: expected low, auto, high or original, found \"huge\"")
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

/// Whether to think, and the budget in tokens.
fn thinking(body: Json) -> (Option<bool>, Option<usize>) {
    let request = read(body).unwrap();
    (request.thinking, request.budget.tokens)
}

fn with_all(parameters: Json) -> Json {
    let mut body = with("model", json!("m"));
    for (name, value) in parameters.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn a_budget_has_many_names() {
    for name in [
        "thinking_budget",
        "thinking_budget_tokens",
        "thinking_token_budget",
        "reasoning_budget",
    ] {
        assert_eq!(thinking(with(name, json!(7))), (None, Some(7)), "{name}");
        assert_eq!(thinking(with(name, json!(0))), (None, Some(0)), "{name}");
        assert_eq!(thinking(with(name, json!(-1))), (None, None), "{name}");
        assert_eq!(
            error(with(name, json!(-2))),
            format!("{name}: expected a whole number, found -2")
        );
    }
    let kwargs = json!({"enable_thinking": true, "thinking_budget": 5});
    assert_eq!(
        thinking(with("chat_template_kwargs", kwargs)),
        (Some(true), Some(5))
    );
    let anthropic = json!({"type": "enabled", "budget_tokens": 1024});
    assert_eq!(
        thinking(with("thinking", anthropic)),
        (Some(true), Some(1024))
    );
    assert_eq!(
        thinking(with("thinking", json!({"type": "disabled"}))),
        (Some(false), None)
    );
    let reasoning = json!({"max_tokens": 9, "enabled": true, "exclude": false});
    assert_eq!(
        thinking(with("reasoning", reasoning)),
        (Some(true), Some(9))
    );
}

#[test]
fn an_effort_is_a_budget_unless_a_budget_is_given() {
    let effort = |word: &str| thinking(with("reasoning_effort", json!(word)));
    assert_eq!(effort("none"), (Some(false), Some(0)));
    assert_eq!(effort("minimal"), (Some(true), Some(128)));
    assert_eq!(effort("medium"), (Some(true), Some(2048)));
    assert_eq!(effort("max"), (Some(true), None));
    assert_eq!(
        thinking(with("think", json!("low"))),
        (Some(true), Some(512))
    );
    assert_eq!(thinking(with("think", json!(false))), (Some(false), None));
    let both = json!({"thinking_budget": 3, "reasoning_effort": "high"});
    assert_eq!(thinking(with_all(both)), (Some(true), Some(3)));
    let off = json!({"reasoning_effort": "high", "enable_thinking": false});
    assert_eq!(thinking(with_all(off)).0, Some(false));
    assert_eq!(
        error(with("reasoning_effort", json!("huge"))),
        "reasoning_effort: expected one of none, minimal, low, medium, high, xhigh, max, found \"huge\""
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    let budgets = json!({"thinking_budget": 3, "reasoning_budget": 4});
    assert_eq!(
        error(with_all(budgets)),
        "reasoning_budget: says something else than `thinking_budget`"
    );
    let switches = json!({"think": true, "chat_template_kwargs": {"enable_thinking": false}});
    assert_eq!(
        error(with_all(switches)),
        "chat_template_kwargs.enable_thinking: says something else than `think`"
    );
    let twice = json!({"thinking_budget": 3, "thinking_budget_tokens": 3});
    assert_eq!(thinking(with_all(twice)), (None, Some(3)));
    for (name, value, message) in [
        (
            "thinking",
            json!({"type": "on"}),
            "thinking.type: expected enabled, adaptive or disabled, found \"on\"",
        ),
        (
            "reasoning",
            json!("low"),
            "reasoning: expected an object, found \"low\"",
        ),
        (
            "reasoning",
            json!({"depth": 3}),
            "reasoning.depth: not supported",
        ),
        (
            "enable_thinking",
            json!("yes"),
            "enable_thinking: expected true or false, found \"yes\"",
        ),
        (
            "thinking_time_ms",
            json!(1.5),
            "thinking_time_ms: expected a whole number, found 1.5",
        ),
    ] {
        assert_eq!(error(with(name, value)), message);
    }
}

#[test]
fn time_and_grace_are_read() {
    let body = json!({"thinking_time_ms": 1500, "thinking_grace_tokens": 4});
    let request = read(with_all(body)).unwrap();
    assert_eq!(
        request.budget.time,
        Some(std::time::Duration::from_millis(1500))
    );
    assert_eq!(request.budget.grace_tokens, Some(4));
}

#[test]
fn each_request_has_its_own_switch_to_stop_thinking() {
    let defaults = Request::default();
    let body = with("model", json!("m")).to_string();
    let read = || parse(body.as_bytes(), &defaults, &rules()).unwrap();
    let (first, second) = (read(), read());
    first.stop_thinking.stop();
    assert!(!second.stop_thinking.is_stopped() && !defaults.stop_thinking.is_stopped());
}

#[test]
fn all_of_sampling_is_read() {
    let body = json!({
        "min_p": 0.1, "presence_penalty": -0.5, "frequency_penalty": 0.25, "repetition_penalty": 1.25,
        "logit_bias": {"7": -100, "9": 1.5}, "top_logprobs": 3, "logprobs": true});
    let request = read(with_all(body)).unwrap();
    assert_eq!(
        request.sampling,
        Sampling {
            min_p: 0.1,
            presence_penalty: -0.5,
            frequency_penalty: 0.25,
            repetition_penalty: 1.25,
            logit_bias: vec![(7, -100.0), (9, 1.5)],
            ..Sampling::default()
        }
    );
    assert_eq!(request.logprobs, Some(3));
    assert_eq!(
        read(with("logprobs", json!(true))).unwrap().logprobs,
        Some(0)
    );
    assert_eq!(
        error(with("top_logprobs", json!(2))),
        "top_logprobs: `logprobs` must be true as well"
    );
    assert_eq!(
        error(with("logit_bias", json!({"x": 1}))),
        "logit_bias: expected token ids and numbers, found \"x\": 1"
    );
}
