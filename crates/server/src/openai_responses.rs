//! `/v1/responses`: what it reads, what it answers, at once or as it grows.
//! <https://platform.openai.com/docs/api-reference/responses>
//!
//! Nothing is stored: `previous_response_id` is refused, and `store` has no effect.

use engine::{FinishReason, Message, Request, Role};
use serde_json::{Map, Value as Json, json};

use crate::body::short;
use crate::chat::{Answer, Measure, Said};
use crate::conversation;
use crate::error::ApiError;
use crate::pictures::Pictures;
use crate::settings;
use crate::writer::{Head, Writer, named_event};

/// Keys that change nothing here, beside those of chat completions.
const WITHOUT_EFFECT: [&str; 5] = [
    "include",
    "truncation",
    "background",
    "prompt_cache_retention",
    "tool_choice",
];

/// Reads a body.
pub fn read(mut body: Map<String, Json>, pictures: &mut Pictures) -> Result<Request, ApiError> {
    refuse(&body)?;
    for key in WITHOUT_EFFECT {
        body.remove(key);
    }
    let input = body.remove("input");
    let instructions = body.remove("instructions");
    if let Some(most) = body.remove("max_output_tokens") {
        body.insert("max_completion_tokens".into(), most);
    }
    if let Some(format) = body
        .remove("text")
        .and_then(|text| text.get("format").cloned())
    {
        body.insert("response_format".into(), format);
    }
    let mut request = settings::request(body).map_err(own_names)?;
    match instructions {
        None | Some(Json::Null) => {}
        Some(Json::String(text)) => request.messages.push(Message::text(Role::System, text)),
        Some(other) => {
            return Err(ApiError::invalid(
                "instructions",
                format!("expected a text, found {}", short(&other)),
            ));
        }
    }
    match input {
        Some(Json::String(text)) => request.messages.push(Message::text(Role::User, text)),
        Some(Json::Array(items)) => request
            .messages
            .extend(conversation::messages("input", &items, pictures)?),
        other => {
            let found = other.as_ref().map_or("nothing".into(), short);
            return Err(ApiError::invalid(
                "input",
                format!("expected a text or a list of messages, found {found}"),
            ));
        }
    }
    pictures.hand_over(&mut request);
    Ok(request)
}

/// What would change the answer and is not there.
fn refuse(body: &Map<String, Json>) -> Result<(), ApiError> {
    for key in ["previous_response_id", "conversation", "prompt"] {
        if body.get(key).is_some_and(|value| !value.is_null()) {
            return Err(ApiError::unsupported(key));
        }
    }
    if body.get("background") == Some(&Json::Bool(true)) {
        return Err(ApiError::unsupported("background"));
    }
    match body.get("tool_choice").and_then(Json::as_str) {
        Some("required") => Err(ApiError::unsupported("tool_choice")),
        _ => Ok(()),
    }
}

/// An error of a setting that has another name in this API.
fn own_names(mut error: ApiError) -> ApiError {
    for (chat, responses) in [
        ("max_completion_tokens", "max_output_tokens"),
        ("response_format", "text.format"),
    ] {
        if error.param.as_deref() == Some(chat) {
            error.param = Some(responses.into());
            error.message = error.message.replace(chat, responses);
        }
    }
    error
}

fn usage(answer: &Answer) -> Json {
    let usage = &answer.reply.usage;
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens(), "image_tokens": usage.image_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

/// A response with so much of its output.
fn response(head: &Head, status: &str, output: Vec<Json>, answer: Option<&Answer>) -> Json {
    let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
    json!({
        "id": head.id,
        "object": "response",
        "created_at": head.created_s,
        "status": status,
        "error": null,
        "incomplete_details": incomplete,
        "instructions": null,
        "metadata": {},
        "model": head.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "store": false,
        "temperature": null,
        "top_p": null,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
        "usage": answer.map(usage),
    })
}

fn status(answer: &Answer) -> &'static str {
    match answer.reply.finish_reason {
        FinishReason::Stop => "completed",
        FinishReason::Length => "incomplete",
    }
}

fn text_part(text: &str) -> Json {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn reasoning_part(text: &str) -> Json {
    json!({"type": "reasoning_text", "text": text})
}

fn message_item(id: &str, status: &str, content: Vec<Json>) -> Json {
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
}

fn reasoning_item(id: &str, status: &str, content: Vec<Json>) -> Json {
    json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content})
}

/// The whole answer.
pub fn reply(head: &Head, answer: &Answer) -> Json {
    let mut output = Vec::new();
    if !answer.reply.reasoning.is_empty() {
        output.push(reasoning_item(
            &item_id(head, "rs"),
            "completed",
            vec![reasoning_part(&answer.reply.reasoning)],
        ));
    }
    output.push(message_item(
        &item_id(head, "msg"),
        status(answer),
        vec![text_part(&answer.reply.text)],
    ));
    response(head, status(answer), output, Some(answer))
}

fn item_id(head: &Head, kind: &str) -> String {
    let (_, name) = head.id.split_once('_').unwrap_or(("", &head.id));
    format!("{kind}_{name}")
}

/// The item that a stream is writing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
}

/// Writes the events of a response.
pub struct EventWriter {
    head: Head,
    sequence: u64,
    output: Vec<Json>,
    open: Option<(Kind, String)>,
}

impl EventWriter {
    /// A writer at the beginning.
    pub fn new(head: Head) -> Self {
        EventWriter {
            head,
            sequence: 0,
            output: Vec::new(),
            open: None,
        }
    }

    fn event(&mut self, kind: &str, fields: Json) -> String {
        let mut event = Map::new();
        event.insert("type".into(), json!(kind));
        event.insert("sequence_number".into(), json!(self.sequence));
        self.sequence += 1;
        if let Json::Object(fields) = fields {
            event.extend(fields);
        }
        named_event(&Json::Object(event))
    }

    fn open_item(&mut self, kind: Kind) -> String {
        let (index, id) = (self.output.len(), self.id(kind));
        let (item, part) = match kind {
            Kind::Reasoning => (
                reasoning_item(&id, "in_progress", Vec::new()),
                reasoning_part(""),
            ),
            Kind::Message => (message_item(&id, "in_progress", Vec::new()), text_part("")),
        };
        self.open = Some((kind, String::new()));
        let added = self.event(
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        );
        let part = json!({"item_id": id, "output_index": index, "content_index": 0, "part": part});
        added + &self.event("response.content_part.added", part)
    }

    fn close_item(&mut self, status: &str) -> String {
        let Some((kind, text)) = self.open.take() else {
            return String::new();
        };
        let (index, id) = (self.output.len(), self.id(kind));
        let (name, part, item) = match kind {
            Kind::Reasoning => (
                "response.reasoning_text.done",
                reasoning_part(&text),
                reasoning_item(&id, status, vec![reasoning_part(&text)]),
            ),
            Kind::Message => (
                "response.output_text.done",
                text_part(&text),
                message_item(&id, status, vec![text_part(&text)]),
            ),
        };
        let mut done =
            json!({"item_id": id, "output_index": index, "content_index": 0, "text": text});
        if kind == Kind::Message {
            done["logprobs"] = json!([]);
        }
        let mut events = self.event(name, done);
        let part = json!({"item_id": id, "output_index": index, "content_index": 0, "part": part});
        events += &self.event("response.content_part.done", part);
        events += &self.event(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        );
        self.output.push(item);
        events
    }

    fn id(&self, kind: Kind) -> String {
        match kind {
            Kind::Reasoning => item_id(&self.head, "rs"),
            Kind::Message => item_id(&self.head, "msg"),
        }
    }

    fn text(&mut self, kind: Kind, text: &str) -> String {
        let mut events = String::new();
        if self.open.as_ref().is_none_or(|(open, _)| *open != kind) {
            events += &self.close_item("completed");
            events += &self.open_item(kind);
        }
        if let Some((_, all)) = &mut self.open {
            all.push_str(text);
        }
        let mut delta = json!({"item_id": self.id(kind), "output_index": self.output.len(), "content_index": 0, "delta": text});
        let name = match kind {
            Kind::Reasoning => "response.reasoning_text.delta",
            Kind::Message => {
                delta["logprobs"] = json!([]);
                "response.output_text.delta"
            }
        };
        events + &self.event(name, delta)
    }
}

impl Writer for EventWriter {
    fn begin(&mut self, _: &Measure) -> String {
        let begun = response(&self.head, "in_progress", Vec::new(), None);
        let created = self.event("response.created", json!({"response": begun}));
        created + &self.event("response.in_progress", json!({"response": begun}))
    }

    fn piece(&mut self, said: &Said) -> String {
        match said {
            Said::Reasoning(text) => self.text(Kind::Reasoning, text),
            Said::Text(text) => self.text(Kind::Message, text),
            _ => String::new(),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let mut events = String::new();
        // An answer without a word is a message all the same.
        if !matches!(self.open, Some((Kind::Message, _))) {
            events += &self.close_item("completed");
            events += &self.open_item(Kind::Message);
        }
        let status = status(answer);
        events += &self.close_item(status);
        let whole = response(
            &self.head,
            status,
            std::mem::take(&mut self.output),
            Some(answer),
        );
        events + &self.event(&format!("response.{status}"), json!({"response": whole}))
    }

    fn fail(&mut self, error: &ApiError) -> String {
        let mut failed = response(&self.head, "failed", std::mem::take(&mut self.output), None);
        failed["error"] =
            json!({"code": error.code.unwrap_or("server_error"), "message": error.message});
        self.event("response.failed", json!({"response": failed}))
    }
}
