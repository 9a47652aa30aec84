//! `/v1/messages`.

use axum::http::StatusCode;
use engine::Role;
use serde_json::json;
use server::app;

use crate::fake::{FakeChat, answer, answer_of, config, data_url, events, without_ids};

const PATH: &str = "/v1/messages";

#[test]
fn a_whole_message() {
    let body = json!({"model": "any", "max_tokens": 100, "system": "Be short.", "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [{"role": "user", "content": "hello there"}], "stop_sequences": ["STOP"]});
    let (status, json) = answer(PATH, &body);
    assert_eq!(status, StatusCode::OK, "{json}");
    insta::assert_snapshot!(without_ids(&serde_json::to_string_pretty(&json).unwrap()));
}

#[test]
fn a_streamed_message() {
    let body = json!({"max_tokens": 100, "stream": true, "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [{"role": "user", "content": "hello"}]});
    insta::assert_snapshot!(events(PATH, &body));
}

#[test]
fn pictures_come_as_base64_with_a_system_text_in_blocks() {
    let chat = FakeChat::new(9);
    let data = data_url(9, 9).split_once(',').unwrap().1.to_owned();
    let body = json!({"max_tokens": 100, "system": [{"type": "text", "text": "Be short."}], "messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "text", "text": "What?"}]}]});
    let (status, json) = answer_of(&app(chat.clone(), config()), PATH, &body);
    assert_eq!(status, StatusCode::OK, "{json}");
    let request = chat.last();
    assert_eq!(request.messages[0].role, Role::System);
    assert_eq!(
        (request.images[0].width, request.images[0].rgb[0]),
        (9, 200)
    );
}

#[test]
fn errors_have_anthropics_shape() {
    let (status, json) = answer(
        PATH,
        &json!({"messages": [{"role": "user", "content": "hi"}]}),
    );
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        json,
        json!({"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: expected a whole number, found nothing"}})
    );
    let stream = events(
        PATH,
        &json!({"max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "break"}]}),
    );
    assert!(
        stream.contains("event: error\ndata: {\"type\":\"error\""),
        "{stream}"
    );
    let full = app(FakeChat::new(0), config());
    let (status, json) = answer_of(
        &full,
        PATH,
        &json!({"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
    );
    assert_eq!(
        (status, &json["error"]["type"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limit_error"))
    );
}

#[test]
fn an_answer_cut_off_says_max_tokens() {
    let (_, json) = answer(
        PATH,
        &json!({"max_tokens": 2, "messages": [{"role": "user", "content": "one two"}]}),
    );
    assert_eq!(json["stop_reason"], "max_tokens");
}

#[test]
fn tokens_are_counted_without_an_answer() {
    let (status, json) = answer(
        "/v1/messages/count_tokens",
        &json!({"model": "any", "messages": [{"role": "user", "content": "one two"}]}),
    );
    assert_eq!((status, json), (StatusCode::OK, json!({"input_tokens": 2})));
}
