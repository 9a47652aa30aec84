//! Parameters of a body that name tools, and the calls that stand in its messages, in the shapes of all three APIs: a
//! function may stand in `function` (chat completions) or beside its `type` (responses, Anthropic's messages), and its schema
//! is `parameters` or `input_schema`.

use serde_json::{Map, Value as Json, json};

use super::{short, wrong};
use crate::error::EngineError;
use crate::message::{Message, Part};
use crate::request::Request;
use crate::tools::{Calls, Tool, ToolCall, ToolChoice};

/// Parameters that [`read`] reads.
pub(super) const NAMES: [&str; 3] = ["tools", "tool_choice", "parallel_tool_calls"];

/// Reads all that a body says about tools.
pub(super) fn read(request: &mut Request, body: &Map<String, Json>) -> Result<(), EngineError> {
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    let tools = &mut request.tools;
    if let Some(list) = given("tools") {
        let Json::Array(list) = list else {
            return Err(wrong("tools", "a list", list));
        };
        let tool = |(index, json)| tool(&format!("tools[{index}]"), json);
        tools.list = list
            .iter()
            .enumerate()
            .map(tool)
            .collect::<Result<_, _>>()?;
    }
    if let Some(choice) = given("tool_choice") {
        tools.choice = tool_choice(choice)?;
        if choice.get("disable_parallel_tool_use") == Some(&Json::Bool(true)) {
            tools.calls = Calls::One;
        }
    }
    match given("parallel_tool_calls") {
        None => {}
        Some(Json::Bool(true)) => tools.calls = Calls::Several,
        Some(Json::Bool(false)) => tools.calls = Calls::One,
        Some(other) => return Err(wrong("parallel_tool_calls", "true or false", other)),
    }
    Ok(())
}

fn tool(place: &str, json: &Json) -> Result<Tool, EngineError> {
    match json.get("type").and_then(Json::as_str) {
        None | Some("function" | "custom") if json.is_object() => {}
        Some(_) => {
            return Err(EngineError::request(
                format!("{place}.type"),
                "not supported",
            ));
        }
        None => return Err(wrong(place, "an object", json)),
    }
    let (place, function) = match json.get("function") {
        Some(function) => (format!("{place}.function"), function),
        None => (place.to_owned(), json),
    };
    let Some(name) = function.get("name").and_then(Json::as_str) else {
        let found = function.get("name").unwrap_or(&Json::Null);
        return Err(wrong(&format!("{place}.name"), "a text", found));
    };
    let description = match function.get("description") {
        None | Some(Json::Null) => None,
        Some(Json::String(text)) => Some(text.clone()),
        Some(other) => return Err(wrong(&format!("{place}.description"), "a text", other)),
    };
    let [parameters, input_schema] = ["parameters", "input_schema"].map(|name| function.get(name));
    let parameters = match parameters.or(input_schema) {
        // A function without parameters, as the OpenAI API says.
        None | Some(Json::Null) => Map::from_iter([
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), json!({})),
            ("additionalProperties".to_owned(), json!(false)),
        ]),
        Some(Json::Object(schema)) => schema.clone(),
        Some(other) => return Err(wrong(&format!("{place}.parameters"), "a schema", other)),
    };
    Ok(Tool {
        name: name.to_owned(),
        description,
        parameters,
    })
}

/// A word, or an object with `type`; a tool's name stands in it or in its `function`.
fn tool_choice(choice: &Json) -> Result<ToolChoice, EngineError> {
    let kind = choice.as_str().or_else(|| choice.get("type")?.as_str());
    let name = choice
        .get("name")
        .or_else(|| choice.get("function")?.get("name"));
    match (kind, name.and_then(Json::as_str)) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("required" | "any"), _) => Ok(ToolChoice::Required),
        (Some("function" | "tool"), Some(name)) => Ok(ToolChoice::Named(name.to_owned())),
        _ => {
            let expected = "auto, none, required or a function with its name";
            Err(wrong("tool_choice", expected, choice))
        }
    }
}

/// The `tool_calls` of an assistant's message in chat completions; `place` is theirs in the request.
pub fn tool_calls(place: &str, calls: Option<&Json>) -> Result<Vec<Part>, EngineError> {
    match calls {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(calls)) => {
            let call = |(index, call): (usize, &Json)| {
                let function = call.get("function").unwrap_or(call);
                let text = |json: &Json, key: &str| {
                    json.get(key).and_then(Json::as_str).map(str::to_owned)
                };
                let id = text(call, "id").unwrap_or_default();
                match text(function, "name") {
                    Some(name) => Ok(past_call(id, name, function.get("arguments"))),
                    None => Err(EngineError::request(
                        format!("{place}[{index}].function.name"),
                        "expected a text",
                    )),
                }
            };
            calls.iter().enumerate().map(call).collect()
        }
        Some(other) => Err(EngineError::request(
            place,
            format!("expected a list, found {}", short(other)),
        )),
    }
}

/// A call of an earlier turn. Its arguments are JSON, or a text that holds JSON; a text that does not stays a text.
pub fn past_call(id: String, name: String, arguments: Option<&Json>) -> Part {
    let arguments = match arguments {
        None | Some(Json::Null) => json!({}),
        Some(Json::String(text)) if text.trim().is_empty() => json!({}),
        Some(Json::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone()))
        }
        Some(other) => other.clone(),
    };
    Part::Call(ToolCall {
        id,
        name,
        arguments,
    })
}

/// What a tool's turn is the result of, with the function's name from the calls before it.
pub fn result_of(id: &str, before: &[Message]) -> Part {
    let parts = before.iter().rev().flat_map(|message| &message.content);
    let mut calls = parts.filter_map(|part| match part {
        Part::Call(call) if call.id == id => Some(call.name.clone()),
        _ => None,
    });
    Part::ResultOf {
        id: id.to_owned(),
        name: calls.next(),
    }
}
