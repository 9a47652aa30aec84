//! `/v1/chat/completions`.

use axum::http::StatusCode;
use engine::{Part, Role};
use serde_json::{Value as Json, json};
use server::app;

use crate::fake::{FakeChat, answer, answer_of, call, config, events, post, without_ids};

const PATH: &str = "/v1/chat/completions";

fn question(text: &str) -> Json {
    json!({"model": "any", "messages": [{"role": "user", "content": text}]})
}

fn with(mut body: Json, more: Json) -> Json {
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn a_whole_answer() {
    let body = with(question("hello there"), json!({"reasoning_effort": "low"}));
    let (status, json) = answer(PATH, &body);
    assert_eq!(status, StatusCode::OK);
    let text = without_ids(&serde_json::to_string_pretty(&json).unwrap());
    insta::assert_snapshot!(text);
}

#[test]
fn a_streamed_answer_with_thought_usage_and_progress() {
    let more = json!({"stream": true, "stream_options": {"include_usage": true}, "return_progress": true, "think": true});
    insta::assert_snapshot!(events(PATH, &with(question("hello"), more)));
}

#[test]
fn a_streamed_answer_without_extras_says_its_role_once() {
    let stream = events(PATH, &with(question("hello"), json!({"stream": true})));
    assert_eq!(stream.matches("\"role\":\"assistant\"").count(), 1);
    assert!(
        !stream.contains("\"usage\"") && !stream.contains("prompt_progress"),
        "{stream}"
    );
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
}

#[test]
fn a_stream_that_fails_ends_with_an_error_that_clients_raise() {
    let stream = events(
        PATH,
        &with(question("please break"), json!({"stream": true})),
    );
    let last = stream.trim_end().rsplit("\n\n").next().unwrap();
    assert!(
        last.starts_with("data: {\"error\":{\"message\":"),
        "{stream}"
    );
    assert!(!stream.contains("[DONE]"), "{stream}");
}

#[test]
fn an_answer_that_fails_is_a_500() {
    let (status, json) = answer(PATH, &question("break"));
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(json["error"]["type"], "server_error");
}

#[test]
fn settings_reach_the_engine() {
    let chat = FakeChat::new(9);
    let router = app(chat.clone(), config());
    let more = json!({"temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 3, "stop": ["x", "y"], "max_completion_tokens": 2, "thinking_budget": 16});
    let (status, json) = answer_of(&router, PATH, &with(question("one two three"), more));
    assert_eq!(
        (status, &json["choices"][0]["finish_reason"]),
        (StatusCode::OK, &json!("length"))
    );
    let request = chat.last();
    assert_eq!(
        (
            request.sampling.temperature,
            request.sampling.top_k,
            request.sampling.seed
        ),
        (0.5, 7, 3)
    );
    assert_eq!(request.stop, ["x", "y"]);
    assert_eq!(request.max_tokens, Some(2));
    assert_eq!(request.budget.tokens, Some(16));
}

#[test]
fn all_ways_to_write_a_conversation_are_read() {
    let chat = FakeChat::new(9);
    let messages = json!([
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "input_text", "text": "!"}]},
        {"role": "assistant", "content": null, "reasoning_content": "dropped"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "dropped"}, {"type": "output_text", "text": "Hello"}], "tool_calls": []},
        {"role": "user", "content": "Bye"}
    ]);
    let (status, json) = answer_of(
        &app(chat.clone(), config()),
        PATH,
        &json!({"messages": messages}),
    );
    assert_eq!(status, StatusCode::OK, "{json}");
    let said: Vec<(Role, Vec<Part>)> = chat
        .last()
        .messages
        .into_iter()
        .map(|message| (message.role, message.content))
        .collect();
    let text = |text: &str| Part::Text(text.into());
    assert_eq!(
        said,
        [
            (Role::System, vec![text("Be short.")]),
            (Role::User, vec![text("Hi"), text("!")]),
            (Role::Assistant, vec![]),
            (Role::Assistant, vec![text("Hello")]),
            (Role::User, vec![text("Bye")]),
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_all_four_keys() {
    let mut seen = String::new();
    for body in [
        json!({}),
        json!({"messages": "hi"}),
        json!({"messages": [5]}),
        json!({"messages": [{"role": "robot", "content": "hi"}]}),
        json!({"messages": [{"role": "user", "content": 5}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "video"}]}]}),
        json!({"messages": [{"role": "tool", "content": "x"}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}),
        with(question("hi"), json!({"stream": "yes"})),
        with(question("hi"), json!({"stop": 5})),
        with(question("hi"), json!({"tools": [{"type": "function"}]})),
        with(question("hi"), json!({"tools": [{"type": "web_search"}]})),
        with(question("hi"), json!({"tool_choice": "maybe"})),
        with(question("hi"), json!({"functions": []})),
        with(question("hi"), json!({"response_format": {"type": "xml"}})),
        with(
            question("hi"),
            json!({"response_format": {"type": "json_schema"}}),
        ),
        with(question("hi"), json!({"n": 2})),
        with(question("hi"), json!({"frobnicate": true})),
        question(&"word ".repeat(101)),
    ] {
        let (status, json) = answer(PATH, &body);
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {json}");
        let error = &json["error"];
        assert_eq!(error.as_object().unwrap().len(), 4, "{json}");
        seen += &format!(
            "{} | {} | {}\n",
            error["param"],
            error["code"],
            error["message"].as_str().unwrap()
        );
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn a_full_queue_is_a_429_that_says_when_to_come_back() {
    let router = app(FakeChat::new(0), config());
    for stream in [false, true] {
        let body = with(question("hi"), json!({"stream": stream}));
        let (response, text) = call(&router, post(PATH, body.to_string()));
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS, "{text}");
        assert_eq!(response.headers()["retry-after"], "2");
        assert!(text.contains("\"code\":\"queue_full\""), "{text}");
    }
}

#[test]
fn every_answer_has_an_id_of_its_own() {
    let router = app(FakeChat::new(9), config());
    let ids = [(), (), ()].map(|()| {
        call(&router, post(PATH, question("hi").to_string()))
            .0
            .headers()["x-request-id"]
            .clone()
    });
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2],
        "{ids:?}"
    );
}

#[test]
fn only_an_answer_under_way_can_be_told_to_stop_thinking() {
    let path = "/v1/chat/completions/control";
    let (status, json) = answer(
        path,
        &json!({"id": "chatcmpl-1", "action": "stop_thinking"}),
    );
    assert_eq!(
        (status, &json["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("completion_not_found"))
    );
    let (status, json) = answer(path, &json!({"id": "chatcmpl-1", "action": "explode"}));
    assert_eq!(
        (status, &json["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("action"))
    );
}
