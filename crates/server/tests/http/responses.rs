//! `/v1/responses`.

use axum::http::StatusCode;
use engine::Role;
use serde_json::{Value as Json, json};
use server::app;

use crate::fake::{FakeChat, answer, answer_of, config, data_url, events, without_ids};

const PATH: &str = "/v1/responses";

#[test]
fn a_whole_response() {
    let body = json!({"model": "any", "input": "hello there", "instructions": "Be short.", "reasoning": {"effort": "low"}});
    let (status, json) = answer(PATH, &body);
    assert_eq!(status, StatusCode::OK, "{json}");
    let text = without_ids(&serde_json::to_string_pretty(&json).unwrap());
    insta::assert_snapshot!(text);
}

#[test]
fn a_streamed_response_counts_its_events() {
    let stream = events(
        PATH,
        &json!({"input": "hello", "stream": true, "reasoning": {"effort": "high"}}),
    );
    let numbers: Vec<u64> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| {
            serde_json::from_str::<Json>(data).unwrap()["sequence_number"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    insta::assert_snapshot!(stream);
}

#[test]
fn an_answer_cut_off_is_incomplete() {
    let body = json!({"input": "one two three", "max_output_tokens": 2});
    let (_, json) = answer(PATH, &body);
    assert_eq!(json["status"], "incomplete");
    assert_eq!(json["incomplete_details"]["reason"], "max_output_tokens");
    let stream = events(
        PATH,
        &json!({"input": "one two three", "max_output_tokens": 2, "stream": true}),
    );
    assert!(stream.contains("event: response.incomplete\n"), "{stream}");
}

#[test]
fn a_stream_that_fails_says_so() {
    let stream = events(PATH, &json!({"input": "break", "stream": true}));
    assert!(stream.contains("event: response.failed\n"), "{stream}");
}

#[test]
fn items_of_earlier_responses_and_pictures_are_read() {
    let chat = FakeChat::new(9);
    let input = json!([
        {"role": "user", "content": [{"type": "input_image", "image_url": data_url(9, 9), "detail": "auto"}, {"type": "input_text", "text": "What?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "dropped"}]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [{"type": "output_text", "text": "This.", "annotations": []}]},
        {"role": "user", "content": "Sure?"}
    ]);
    let (status, json) = answer_of(&app(chat.clone(), config()), PATH, &json!({"input": input}));
    assert_eq!(status, StatusCode::OK, "{json}");
    assert_eq!(json["usage"]["input_tokens_details"]["image_tokens"], 16);
    let roles: Vec<Role> = chat
        .last()
        .messages
        .iter()
        .map(|message| message.role)
        .collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
}

#[test]
fn what_is_not_there_is_refused_by_its_own_name() {
    for (more, param) in [
        (
            json!({"previous_response_id": "resp_1"}),
            "previous_response_id",
        ),
        (json!({"background": true}), "background"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (
            json!({"text": {"format": {"type": "json_schema"}}}),
            "text.format.schema",
        ),
        (json!({"max_output_tokens": "many"}), "max_output_tokens"),
        (json!({"input": 5}), "input"),
    ] {
        let mut body = json!({"input": "hi"});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let (status, json) = answer(PATH, &body);
        assert_eq!(status, StatusCode::BAD_REQUEST, "{json}");
        assert_eq!(json["error"]["param"], param, "{json}");
    }
}

#[test]
fn input_tokens_are_counted_without_an_answer() {
    let chat = FakeChat::new(9);
    let router = app(chat.clone(), config());
    let (status, json) = answer_of(
        &router,
        "/v1/responses/input_tokens",
        &json!({"input": "one two three"}),
    );
    assert_eq!(
        (status, json),
        (
            StatusCode::OK,
            json!({"object": "response.input_tokens", "input_tokens": 3})
        )
    );
    assert!(chat.asked.lock().unwrap().is_empty());
}
