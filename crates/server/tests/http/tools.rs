//! Tools and formats in the words of all three APIs. The fake says what it is asked, so a question that spells a call is
//! answered with that call.

use axum::http::StatusCode;
use engine::tools::{Calls, ToolChoice};
use engine::{Part, Role};
use serde_json::{Value as Json, json};
use server::app;

use crate::fake::{FakeChat, answer, answer_of, config, events, without_ids};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// Two calls, as a model writes them. The fake sends it word by word, so tags come in pieces.
const CALLS: &str = "please\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": \"x </tool_call> y\"}}\n</tool_call>\n\
                     <tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>";
/// One that `max_tokens` cuts.
const CUT: &str =
    "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}\n</tool_call>";

fn schema() -> Json {
    json!({"type": "object", "properties": {"a": {"type": "integer"}}})
}

fn asking(path: &str, text: &str, more: Json) -> Json {
    let mut body = match path {
        CHAT => json!({"messages": [{"role": "user", "content": text}],
            "tools": [{"type": "function", "function": {"name": "add", "parameters": schema()}}, {"type": "function", "function": {"name": "get"}}]}),
        RESPONSES => json!({"input": text,
            "tools": [{"type": "function", "name": "add", "parameters": schema()}, {"type": "function", "name": "get", "parameters": null}]}),
        _ => json!({"max_tokens": 100, "messages": [{"role": "user", "content": text}],
            "tools": [{"name": "add", "description": "Adds.", "input_schema": schema()}, {"name": "get", "input_schema": {"type": "object"}}]}),
    };
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn pretty(path: &str, body: &Json) -> String {
    let (status, json) = answer(path, body);
    assert_eq!(status, StatusCode::OK, "{json}");
    without_ids(&serde_json::to_string_pretty(&json).unwrap())
}

#[test]
fn calls_in_a_completion() {
    insta::assert_snapshot!(pretty(CHAT, &asking(CHAT, CALLS, json!({}))));
}

#[test]
fn calls_in_a_streamed_completion() {
    insta::assert_snapshot!(events(CHAT, &asking(CHAT, CALLS, json!({"stream": true}))));
}

#[test]
fn calls_in_a_response() {
    insta::assert_snapshot!(pretty(
        RESPONSES,
        &asking(RESPONSES, CALLS, json!({"tool_choice": "required"}))
    ));
}

#[test]
fn calls_in_a_streamed_response() {
    insta::assert_snapshot!(events(
        RESPONSES,
        &asking(RESPONSES, CALLS, json!({"stream": true}))
    ));
}

#[test]
fn calls_in_a_message() {
    insta::assert_snapshot!(pretty(MESSAGES, &asking(MESSAGES, CALLS, json!({}))));
}

#[test]
fn calls_in_a_streamed_message() {
    insta::assert_snapshot!(events(
        MESSAGES,
        &asking(MESSAGES, CALLS, json!({"stream": true}))
    ));
}

/// The deltas of a stream are the whole answer: text, names, arguments.
#[test]
fn a_streamed_response_ends_with_what_the_whole_one_says() {
    for text in [CALLS, CUT, "no call at all"] {
        for (path, most) in [(RESPONSES, "max_output_tokens"), (RESPONSES, "user")] {
            // As "user" it is no bound.
            let more = |stream: bool| match most {
                "user" => json!({"stream": stream}),
                most => json!({"stream": stream, most: 8}),
            };
            let (_, whole) = answer(path, &asking(path, text, more(false)));
            let whole = without_ids(&whole["output"].to_string());
            let stream = events(path, &asking(path, text, more(true)));
            let last = stream.rsplit("data: ").next().unwrap();
            let last: Json = serde_json::from_str(last).unwrap();
            assert_eq!(last["response"]["output"].to_string(), whole, "{text}");
        }
    }
}

#[test]
fn a_call_that_is_cut_says_so() {
    let (_, json) = answer(CHAT, &asking(CHAT, CUT, json!({"max_tokens": 7})));
    let choice = &json["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(
        choice["message"]["tool_calls"][0]["function"]["arguments"],
        "{\"a\": 1, "
    );
    let (_, json) = answer(
        RESPONSES,
        &asking(RESPONSES, CUT, json!({"max_output_tokens": 7})),
    );
    assert_eq!(json["output"][1]["status"], "incomplete", "{json}");
    // An input that is no object cannot be told; half a call is not to be made.
    let (_, json) = answer(MESSAGES, &asking(MESSAGES, CUT, json!({"max_tokens": 7})));
    assert_eq!(
        (
            json["stop_reason"].as_str(),
            json["content"].as_array().unwrap().len()
        ),
        (Some("max_tokens"), 1)
    );
}

#[test]
fn without_tools_a_call_is_text() {
    for more in [json!({"tools": []}), json!({"tool_choice": "none"})] {
        let (_, json) = answer(CHAT, &asking(CHAT, CUT, more));
        assert_eq!(
            json["choices"][0]["message"]["content"],
            format!("You said: {CUT}")
        );
        assert_eq!(json["choices"][0]["finish_reason"], "stop");
    }
}

#[test]
fn choices_reach_the_engine_from_all_apis() {
    let named = || ToolChoice::Named("add".into());
    for (path, more, choice, calls) in [
        (
            CHAT,
            json!({"tool_choice": "required", "parallel_tool_calls": false}),
            ToolChoice::Required,
            Calls::One,
        ),
        (
            CHAT,
            json!({"tool_choice": {"type": "function", "function": {"name": "add"}}}),
            named(),
            Calls::Several,
        ),
        (
            CHAT,
            json!({"tool_choice": "auto"}),
            ToolChoice::Auto,
            Calls::Several,
        ),
        (
            RESPONSES,
            json!({"tool_choice": {"type": "function", "name": "add"}, "parallel_tool_calls": true}),
            named(),
            Calls::Several,
        ),
        (
            RESPONSES,
            json!({"tool_choice": "none"}),
            ToolChoice::None,
            Calls::Several,
        ),
        (
            MESSAGES,
            json!({"tool_choice": {"type": "any", "disable_parallel_tool_use": true}}),
            ToolChoice::Required,
            Calls::One,
        ),
        (
            MESSAGES,
            json!({"tool_choice": {"type": "tool", "name": "add"}}),
            named(),
            Calls::Several,
        ),
        (
            MESSAGES,
            json!({"tool_choice": {"type": "none"}}),
            ToolChoice::None,
            Calls::Several,
        ),
    ] {
        let chat = FakeChat::new(9);
        let (status, json) = answer_of(
            &app(chat.clone(), config()),
            path,
            &asking(path, "hi", more),
        );
        assert_eq!(status, StatusCode::OK, "{json}");
        let tools = chat.last().tools;
        assert_eq!((&tools.choice, tools.calls), (&choice, calls), "{path}");
        assert_eq!(
            tools.list[0].parameters["properties"]["a"]["type"],
            "integer"
        );
        assert_eq!(tools.list[1].parameters["type"], "object");
    }
}

#[test]
fn calls_and_results_in_the_history_reach_the_engine_from_all_apis() {
    let arguments = json!({"a": 1});
    let chat = json!({"messages": [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "two"},
        {"role": "user", "content": "three"}]});
    let responses = json!({"input": [
        {"role": "user", "content": "one"},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{\"a\": 1}"},
        {"type": "function_call_output", "call_id": "c1", "output": "two"},
        {"role": "user", "content": "three"}]});
    let messages = json!({"max_tokens": 100, "messages": [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "two"}]}, {"type": "text", "text": "three"}]}]});
    for (path, body) in [(CHAT, chat), (RESPONSES, responses), (MESSAGES, messages)] {
        let chat = FakeChat::new(9);
        let (status, json) = answer_of(&app(chat.clone(), config()), path, &body);
        assert_eq!(status, StatusCode::OK, "{json}");
        let turns = chat.last().messages;
        let roles: Vec<Role> = turns.iter().map(|turn| turn.role).collect();
        assert_eq!(
            roles,
            [Role::User, Role::Assistant, Role::Tool, Role::User],
            "{path}"
        );
        let Part::Call(call) = &turns[1].content[0] else {
            panic!("{path}: {turns:?}")
        };
        assert_eq!(
            (call.id.as_str(), call.name.as_str(), &call.arguments),
            ("c1", "add", &arguments)
        );
        let result = Part::ResultOf {
            id: "c1".into(),
            name: Some("add".into()),
        };
        assert_eq!(
            turns[2].content,
            [Part::Text("two".into()), result],
            "{path}"
        );
    }
}

#[test]
fn formats_reach_the_engine_from_all_apis() {
    let schema = json!({"type": "object"});
    for (path, more, name) in [
        (
            CHAT,
            json!({"response_format": {"type": "json_object"}}),
            "response_format",
        ),
        (
            CHAT,
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}}}),
            "response_format.json_schema.schema",
        ),
        (
            CHAT,
            json!({"response_format": {"type": "grammar", "syntax": "regex", "definition": "a+"}}),
            "response_format.definition",
        ),
        (
            RESPONSES,
            json!({"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}),
            "text.format.schema",
        ),
        (
            MESSAGES,
            json!({"output_config": {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}}),
            "output_config.format.schema",
        ),
        (
            MESSAGES,
            json!({"output_format": {"type": "json_schema", "schema": schema}}),
            "output_config.format.schema",
        ),
    ] {
        let chat = FakeChat::new(9);
        let (status, json) = answer_of(
            &app(chat.clone(), config()),
            path,
            &asking(path, "hi", more),
        );
        assert_eq!(status, StatusCode::OK, "{json}");
        assert_eq!(chat.last().format.unwrap().name(), name);
    }
}

#[test]
fn what_is_wrong_with_a_format_is_told_by_its_own_name() {
    let mut seen = String::new();
    for (path, more) in [
        (
            CHAT,
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": []}}}),
        ),
        (
            CHAT,
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"x-guidance": {}}}}}),
        ),
        (
            RESPONSES,
            json!({"text": {"format": {"type": "json_schema", "schema": 5}}}),
        ),
        (RESPONSES, json!({"tools": [{"type": "web_search"}]})),
        (
            RESPONSES,
            json!({"input": [{"type": "function_call", "name": "x"}]}),
        ),
        (
            MESSAGES,
            json!({"output_config": {"format": {"type": "json_schema"}}}),
        ),
        (MESSAGES, json!({"output_config": {"task_budget": 3}})),
        (MESSAGES, json!({"tool_choice": {"type": "tool"}})),
        (
            MESSAGES,
            json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}),
        ),
        (
            MESSAGES,
            json!({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}),
        ),
    ] {
        let (status, json) = answer(path, &asking(path, "hi", more));
        assert_eq!(status, StatusCode::BAD_REQUEST, "{json}");
        let error = &json["error"];
        seen += &format!(
            "{} | {}\n",
            error["param"],
            error["message"].as_str().unwrap()
        );
    }
    insta::assert_snapshot!(seen);
}
