//! Messages as clients write them, of all three APIs, as the engine takes them.
//!
//! Parts of one meaning have three names (`text`, `input_text`, `output_text`; `image_url`, `input_image`, `image`); each API
//! takes all of them, because clients mix them. Thoughts in the history are dropped: models are trained without them.
//!
//! Calls of tools are parts of the model's turn (`tool_calls`, items `function_call`, parts `tool_use`), their results turns
//! of their own (role `tool`, items `function_call_output`, parts `tool_result`).

use engine::request_json::{past_call, result_of, tool_calls};
use engine::{Detail, Message, Part, Role};
use serde_json::{Map, Value as Json};

use crate::body::short;
use crate::error::ApiError;
use crate::pictures::Pictures;

/// The messages in a list; their pictures go to `pictures`. `place` is the list's name in the request.
pub fn messages(
    place: &str,
    list: &[Json],
    pictures: &mut Pictures,
) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::new();
    for (index, json) in list.iter().enumerate() {
        let place = format!("{place}[{index}]");
        let Json::Object(object) = json else {
            return Err(ApiError::invalid(
                place,
                format!("expected an object, found {}", short(json)),
            ));
        };
        match object.get("type").and_then(Json::as_str) {
            None | Some("message") => {
                let mut turn = message(&place, object, pictures)?;
                if turn.role == Role::Tool {
                    let id = text(&place, object, "tool_call_id")?;
                    turn.content.push(result_of(&id, &messages));
                }
                let results = tool_results(&place, object, &messages, pictures)?;
                let is_empty = turn.content.is_empty() && !results.is_empty();
                messages.extend(results);
                if !is_empty {
                    messages.push(turn);
                }
            }
            // Items of the Responses API: a thought of an earlier answer, a call, its result.
            Some("reasoning") => {}
            Some("function_call") => {
                let call = function_call(&place, object)?;
                match messages
                    .last_mut()
                    .filter(|last| last.role == Role::Assistant)
                {
                    Some(turn) => turn.content.push(call),
                    None => messages.push(Message {
                        role: Role::Assistant,
                        content: vec![call],
                    }),
                }
            }
            Some("function_call_output") => {
                let id = text(&place, object, "call_id")?;
                let output = object.get("output");
                let result = result(&format!("{place}.output"), &id, output, &messages, pictures)?;
                messages.push(result);
            }
            Some(other) => {
                let message = format!(
                    "expected `message`, `function_call` or `function_call_output`, found `{}`",
                    cut(other)
                );
                return Err(ApiError::invalid(format!("{place}.type"), message));
            }
        }
    }
    Ok(messages)
}

fn message(
    place: &str,
    object: &Map<String, Json>,
    pictures: &mut Pictures,
) -> Result<Message, ApiError> {
    let role = match object.get("role").and_then(Json::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        Some("function") => return Err(ApiError::unsupported(format!("{place}.role"))),
        _ => {
            let found = object.get("role").map_or("nothing".into(), short);
            let message =
                format!("expected system, developer, user, assistant or tool, found {found}");
            return Err(ApiError::invalid(format!("{place}.role"), message));
        }
    };
    let calls = tool_calls(&format!("{place}.tool_calls"), object.get("tool_calls"))?;
    let place = format!("{place}.content");
    let mut content = match object.get("content") {
        // An assistant's turn may have had a thought, a refusal or calls only.
        None | Some(Json::Null) if role == Role::Assistant => Vec::new(),
        content => self::content(&place, role, content, pictures)?,
    };
    content.extend(calls);
    Ok(Message { role, content })
}

fn text(place: &str, object: &Map<String, Json>, key: &str) -> Result<String, ApiError> {
    match object.get(key).and_then(Json::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => Err(ApiError::invalid(
            format!("{place}.{key}"),
            "expected a text",
        )),
    }
}

/// An item `function_call` of the Responses API.
fn function_call(place: &str, item: &Map<String, Json>) -> Result<Part, ApiError> {
    let id = text(place, item, "call_id")?;
    let name = text(place, item, "name")?;
    Ok(past_call(id, name, item.get("arguments")))
}

/// A turn of a tool: what the call `id` gave.
fn result(
    place: &str,
    id: &str,
    output: Option<&Json>,
    before: &[Message],
    pictures: &mut Pictures,
) -> Result<Message, ApiError> {
    let mut content = match output {
        None | Some(Json::Null) => Vec::new(),
        output => content(place, Role::Tool, output, pictures)?,
    };
    content.push(result_of(id, before));
    Ok(Message {
        role: Role::Tool,
        content,
    })
}

/// Anthropic's parts `tool_result` of a user's turn, which come before what the user says in it.
fn tool_results(
    place: &str,
    object: &Map<String, Json>,
    before: &[Message],
    pictures: &mut Pictures,
) -> Result<Vec<Message>, ApiError> {
    let Some(Json::Array(parts)) = object.get("content") else {
        return Ok(Vec::new());
    };
    let mut results = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        if let Json::Object(part) = part
            && part.get("type").and_then(Json::as_str) == Some("tool_result")
        {
            let place = format!("{place}.content[{index}]");
            let id = text(&place, part, "tool_use_id")?;
            let output = part.get("content");
            results.push(result(
                &format!("{place}.content"),
                &id,
                output,
                before,
                pictures,
            )?);
        }
    }
    Ok(results)
}

/// What a message says: a text, or a list of parts.
pub fn content(
    place: &str,
    role: Role,
    content: Option<&Json>,
    pictures: &mut Pictures,
) -> Result<Vec<Part>, ApiError> {
    match content {
        Some(Json::String(text)) => Ok(vec![Part::Text(text.clone())]),
        Some(Json::Array(parts)) => {
            let mut found = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                found.extend(self::part(
                    &format!("{place}[{index}]"),
                    role,
                    part,
                    pictures,
                )?);
            }
            Ok(found)
        }
        other => {
            let found = other.map_or("nothing".into(), short);
            Err(ApiError::invalid(
                place,
                format!("expected a text or a list of parts, found {found}"),
            ))
        }
    }
}

fn part(
    place: &str,
    role: Role,
    part: &Json,
    pictures: &mut Pictures,
) -> Result<Option<Part>, ApiError> {
    let text = |key: &str| match part.get(key).and_then(Json::as_str) {
        Some(text) => Ok(Some(Part::Text(text.to_owned()))),
        None => Err(ApiError::invalid(
            format!("{place}.{key}"),
            "expected a text",
        )),
    };
    let kind = part.get("type").and_then(Json::as_str);
    match kind {
        Some("text" | "input_text" | "output_text") => text("text"),
        Some("refusal") if role == Role::Assistant => text("refusal"),
        Some("thinking" | "redacted_thinking" | "reasoning") if role == Role::Assistant => Ok(None),
        Some("tool_use") if role == Role::Assistant => {
            let [id, name] = ["id", "name"].map(|key| part.get(key).and_then(Json::as_str));
            match (id, name) {
                (Some(id), Some(name)) => {
                    let call = past_call(id.to_owned(), name.to_owned(), part.get("input"));
                    Ok(Some(call))
                }
                _ => Err(ApiError::invalid(place, "expected `id` and `name`")),
            }
        }
        // These are read beside the turn that they stand in.
        Some("tool_result") if role == Role::User => Ok(None),
        Some("image_url" | "input_image" | "image") if !matches!(role, Role::User | Role::Tool) => {
            Err(ApiError::invalid(
                place,
                format!("a picture in a turn of the {}", role.name()),
            ))
        }
        Some("image_url" | "input_image") => {
            openai_picture(place, part, pictures).map(|index| Some(Part::Image(index)))
        }
        Some("image") => {
            anthropic_picture(place, part, pictures).map(|index| Some(Part::Image(index)))
        }
        other => {
            let found = other.map_or("nothing".into(), |other| format!("`{}`", cut(other)));
            let message = format!(
                "expected `text` or a picture (`image_url`, `input_image`, `image`), found {found}"
            );
            Err(ApiError::invalid(format!("{place}.type"), message))
        }
    }
}

/// `image_url`: an address or an object with `url` and `detail`; or `file_id` beside it or in it.
fn openai_picture(place: &str, part: &Json, pictures: &mut Pictures) -> Result<usize, ApiError> {
    let inner = part.get("image_url").unwrap_or(&Json::Null);
    let detail = detail(place, inner.get("detail").or_else(|| part.get("detail")))?;
    if let Some(id) = part
        .get("file_id")
        .or_else(|| inner.get("file_id"))
        .and_then(Json::as_str)
    {
        return pictures.kept(&format!("{place}.file_id"), id, detail);
    }
    let place = format!("{place}.image_url");
    match inner.as_str().or_else(|| inner.get("url")?.as_str()) {
        Some(address) => pictures.address(&place, address, detail),
        None => Err(ApiError::invalid(
            place,
            "expected an address, or an object with `url`",
        )),
    }
}

/// `source`: `base64` with `data`, `url` with `url`, or `file` with `file_id`.
fn anthropic_picture(place: &str, part: &Json, pictures: &mut Pictures) -> Result<usize, ApiError> {
    // Anthropic has no such setting; here it is OpenAI's.
    let detail = detail(place, part.get("detail"))?;
    let place = format!("{place}.source");
    let source = part.get("source").unwrap_or(&Json::Null);
    let text = |key: &str| match source.get(key).and_then(Json::as_str) {
        Some(text) => Ok(text),
        None => Err(ApiError::invalid(
            format!("{place}.{key}"),
            "expected a text",
        )),
    };
    match source.get("type").and_then(Json::as_str) {
        Some("base64") => pictures.base64(&format!("{place}.data"), text("data")?, detail),
        Some("url") => pictures.address(&format!("{place}.url"), text("url")?, detail),
        Some("file") => pictures.kept(&format!("{place}.file_id"), text("file_id")?, detail),
        _ => Err(ApiError::invalid(
            format!("{place}.type"),
            "expected `base64`, `url` or `file`",
        )),
    }
}

fn detail(place: &str, detail: Option<&Json>) -> Result<Detail, ApiError> {
    let Some(detail) = detail.filter(|detail| !detail.is_null()) else {
        return Ok(Detail::Auto);
    };
    let known = detail.as_str().and_then(Detail::of_name);
    known.ok_or_else(|| {
        let message = format!(
            "expected low, auto, high or original, found {}",
            short(detail)
        );
        ApiError::invalid(format!("{place}.detail"), message)
    })
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}
