//! Schemas and tools over the real networks with random weights, pictures and remembered conversations included.

#[path = "support/random_model.rs"]
mod support;

use engine::tools::{CallSplitter, ToolChoice};
use engine::{
    Cancel, Engine, FinishReason, Memory, Reply, Request, Speculation, ThinkingBudget, request_json,
};
use image_prep::Picture;
use model::Model;
use serde_json::{Value as Json, json};
use support::{TINY_CONFIG, write_random_model};

fn load(seed: u64) -> Engine {
    let folder = tempfile::tempdir().unwrap();
    write_random_model(folder.path(), seed);
    // The description of a tool is long in letters.
    let config = TINY_CONFIG.replace(": 512, \"hidden_act\"", ": 1024, \"hidden_act\"");
    assert_ne!(config, TINY_CONFIG);
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    Engine::load(folder.path()).unwrap()
}

/// A request as clients write it.
fn request(more: Json) -> Request {
    let mut body = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 160});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let rules = request_json::Rules::new(request_json::Pictures::DataUrls);
    request_json::parse(body.to_string().as_bytes(), &Request::default(), &rules).unwrap()
}

fn ask(engine: &Engine, memory: &mut Memory<Model>, request: &Request) -> Reply {
    let ignore = &mut |_: engine::Event| {};
    engine
        .generate_in(memory, request, &Cancel::new(), ignore)
        .unwrap()
}

#[test]
fn an_answer_by_a_schema_is_the_same_with_guesses_and_after_a_conversation() {
    let schema = json!({"type": "object", "properties": {"shop": {"type": "string", "maxLength": 4}, "items": {"type": "array", "items": {"enum": ["tea", "milk"]}, "minItems": 1, "maxItems": 2}},
        "required": ["shop", "items"], "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "receipt", "schema": schema}});
    for seed in 0..4 {
        let engine = load(seed);
        let mut plain =
            request(json!({"response_format": format, "temperature": 0.8, "seed": seed}));
        plain.budget = ThinkingBudget::of_tokens(6);
        plain.speculation = Speculation::Off;
        let question = Request::question(vec![Picture::filled(40, 30, [9, 200, 90])], "What?");
        (plain.images, plain.messages) = (question.images, question.messages);
        let alone = ask(&engine, &mut Memory::new(), &plain);
        assert_eq!(alone.finish_reason, FinishReason::Stop, "{}", alone.text);
        assert!(alone.usage.reasoning_tokens <= 6);
        let answer: Json = serde_json::from_str(&alone.text).unwrap();
        assert!(answer["shop"].as_str().unwrap().chars().count() <= 4);
        let items = answer["items"].as_array().unwrap();
        assert!(
            (1..=2).contains(&items.len())
                && items.iter().all(|item| item == "tea" || item == "milk")
        );
        let mut memory = Memory::new();
        ask(&engine, &mut memory, &request(json!({"max_tokens": 5})));
        let guessing = Request {
            speculation: Speculation::Lookup,
            ..plain
        };
        let guessed = ask(&engine, &mut memory, &guessing);
        assert_eq!(
            (guessed.output_ids, guessed.text),
            (alone.output_ids, alone.text)
        );
    }
}

#[test]
fn a_required_call_is_valid_whatever_the_weights() {
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"enum": ["Rome", "Paris"]}}, "required": ["city"], "additionalProperties": false}}}]);
    for seed in 0..4 {
        let engine = load(seed);
        let request = request(
            json!({"tools": tools, "tool_choice": "required", "parallel_tool_calls": false}),
        );
        assert_eq!(request.tools.choice, ToolChoice::Required);
        let reply = ask(&engine, &mut Memory::new(), &request);
        let (text, calls) = CallSplitter::split(&reply.text);
        assert_eq!((text.as_str(), calls.len()), ("", 1), "{}", reply.text);
        assert_eq!(
            (calls[0].name.as_str(), calls[0].is_whole),
            ("get_weather", true)
        );
        let arguments: Json = serde_json::from_str(&calls[0].arguments).unwrap();
        assert!(
            arguments == json!({"city": "Rome"}) || arguments == json!({"city": "Paris"}),
            "{arguments}"
        );
    }
}
