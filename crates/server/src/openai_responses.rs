//! `/v1/responses`: what it reads, what it answers, at once or as it grows.
//! <https://platform.openai.com/docs/api-reference/responses>
//!
//! Nothing is stored: `previous_response_id` is refused, and `store` has no effect.

use engine::tools::{CallBlock, CallPiece, CallSplitter};
use engine::{FinishReason, Message, Request, Role};
use serde_json::{Map, Value as Json, json};

use crate::body::short;
use crate::chat::{Answer, Measure, Said};
use crate::conversation;
use crate::error::ApiError;
use crate::pictures::Pictures;
use crate::settings;
use crate::writer::{Head, Writer, last_piece, named_event, pieces};

/// Keys that change nothing here, beside those of chat completions.
const WITHOUT_EFFECT: [&str; 4] = [
    "include",
    "truncation",
    "background",
    "prompt_cache_retention",
];

/// Settings by our names and by this API's.
const NAMES: [(&str, &str); 2] = [
    ("max_completion_tokens", "max_output_tokens"),
    ("response_format", "text.format"),
];

/// What a response repeats of its request.
pub fn echo(body: &Map<String, Json>) -> Json {
    let or = |key: &str, default: Json| match body.get(key) {
        None | Some(Json::Null) => default,
        Some(value) => value.clone(),
    };
    json!({
        "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
        "text": or("text", json!({"format": {"type": "text"}})),
        "tool_choice": or("tool_choice", json!("auto")),
        "tools": or("tools", json!([])),
    })
}

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
    let mut request = settings::request(body).map_err(|error| settings::renamed(error, &NAMES))?;
    settings::rename_format(&mut request, "response_format", "text.format");
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
    Ok(())
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
        "parallel_tool_calls": head.echo["parallel_tool_calls"],
        "previous_response_id": null,
        "store": false,
        "temperature": null,
        "top_p": null,
        "text": head.echo["text"],
        "tool_choice": head.echo["tool_choice"],
        "tools": head.echo["tools"],
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

fn call_item(head: &Head, index: usize, status: &str, call: (&str, &str)) -> Json {
    let (name, arguments) = call;
    let (id, call_id) = (head.name("fc", index), head.name("call", index));
    json!({"id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name, "arguments": arguments})
}

/// The whole answer.
pub fn reply(head: &Head, answer: &Answer) -> Json {
    let mut output = Vec::new();
    if !answer.reply.reasoning.is_empty() {
        output.push(reasoning_item(
            &head.name("rs", 0),
            "completed",
            vec![reasoning_part(&answer.reply.reasoning)],
        ));
    }
    let (mut messages, mut calls) = (0, 0);
    let blocks = head.blocks(&answer.reply.text);
    for (at, block) in blocks.iter().enumerate() {
        let status = match at + 1 == blocks.len() {
            true => status(answer),
            false => "completed",
        };
        match block {
            CallBlock::Text(text) => {
                let id = head.name("msg", messages);
                output.push(message_item(&id, status, vec![text_part(text)]));
                messages += 1;
            }
            CallBlock::Call(call) => {
                let status = if call.is_whole { "completed" } else { status };
                let written = (call.name.as_str(), call.arguments.as_str());
                output.push(call_item(head, calls, status, written));
                calls += 1;
            }
        }
    }
    response(head, status(answer), output, Some(answer))
}

/// The item that a stream is writing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    /// A call of this function.
    Call(String),
}

/// Writes the events of a response.
pub struct EventWriter {
    head: Head,
    splitter: Option<CallSplitter>,
    sequence: u64,
    output: Vec<Json>,
    /// Messages and calls that are whole.
    messages: usize,
    calls: usize,
    open: Option<(Kind, String)>,
}

impl EventWriter {
    /// A writer at the beginning.
    pub fn new(head: Head) -> Self {
        EventWriter {
            splitter: head.splitter.clone(),
            head,
            sequence: 0,
            output: Vec::new(),
            messages: 0,
            calls: 0,
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

    /// An item with so much of its text, and the part that the text is, if it is one.
    fn item(&self, kind: &Kind, status: &str, text: Option<&str>) -> (Json, Option<Json>) {
        let id = self.id(kind);
        let words = text.unwrap_or_default();
        match kind {
            Kind::Reasoning => {
                let part = reasoning_part(words);
                let content = text.map(|_| part.clone()).into_iter().collect();
                (reasoning_item(&id, status, content), Some(part))
            }
            Kind::Message => {
                let part = text_part(words);
                let content = text.map(|_| part.clone()).into_iter().collect();
                (message_item(&id, status, content), Some(part))
            }
            Kind::Call(name) => {
                let item = call_item(&self.head, self.calls, status, (name.as_str(), words));
                (item, None)
            }
        }
    }

    fn open_item(&mut self, kind: Kind) -> String {
        let (index, id) = (self.output.len(), self.id(&kind));
        let (item, part) = self.item(&kind, "in_progress", None);
        self.open = Some((kind, String::new()));
        let added = self.event(
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        );
        let Some(part) = part else {
            return added;
        };
        let part = json!({"item_id": id, "output_index": index, "content_index": 0, "part": part});
        added + &self.event("response.content_part.added", part)
    }

    fn close_item(&mut self, status: &str) -> String {
        let Some((kind, text)) = self.open.take() else {
            return String::new();
        };
        let (index, id) = (self.output.len(), self.id(&kind));
        let (item, part) = self.item(&kind, status, Some(&text));
        let mut events = match part {
            None => {
                let done = json!({"item_id": id, "output_index": index, "name": item["name"], "arguments": text});
                self.event("response.function_call_arguments.done", done)
            }
            Some(part) => {
                let place = json!({"item_id": id, "output_index": index, "content_index": 0});
                let mut done = place.clone();
                done["text"] = json!(text);
                let name = match kind {
                    Kind::Reasoning => "response.reasoning_text.done",
                    _ => {
                        done["logprobs"] = json!([]);
                        "response.output_text.done"
                    }
                };
                let mut part_done = place;
                part_done["part"] = part;
                self.event(name, done) + &self.event("response.content_part.done", part_done)
            }
        };
        events += &self.event(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        );
        match kind {
            Kind::Reasoning => {}
            Kind::Message => self.messages += 1,
            Kind::Call(_) => self.calls += 1,
        }
        self.output.push(item);
        events
    }

    fn id(&self, kind: &Kind) -> String {
        match kind {
            Kind::Reasoning => self.head.name("rs", 0),
            Kind::Message => self.head.name("msg", self.messages),
            Kind::Call(_) => self.head.name("fc", self.calls),
        }
    }

    fn call_piece(&mut self, piece: CallPiece) -> String {
        match piece {
            CallPiece::Text(text) => self.text(Kind::Message, &text),
            CallPiece::Begin(name) => {
                let closed = self.close_item("completed");
                closed + &self.open_item(Kind::Call(name))
            }
            CallPiece::Arguments(more) => match self.open.clone() {
                Some((kind @ Kind::Call(_), _)) => self.text(kind, &more),
                _ => String::new(),
            },
            CallPiece::End => self.close_item("completed"),
        }
    }

    fn text(&mut self, kind: Kind, text: &str) -> String {
        let mut events = String::new();
        if self.open.as_ref().is_none_or(|(open, _)| *open != kind) {
            events += &self.close_item("completed");
            events += &self.open_item(kind.clone());
        }
        if let Some((_, all)) = &mut self.open {
            all.push_str(text);
        }
        let (id, index) = (self.id(&kind), self.output.len());
        let (name, delta) = match kind {
            Kind::Reasoning => (
                "response.reasoning_text.delta",
                json!({"item_id": id, "output_index": index, "content_index": 0, "delta": text}),
            ),
            Kind::Message => (
                "response.output_text.delta",
                json!({"item_id": id, "output_index": index, "content_index": 0, "delta": text, "logprobs": []}),
            ),
            Kind::Call(_) => (
                "response.function_call_arguments.delta",
                json!({"item_id": id, "output_index": index, "delta": text}),
            ),
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
            Said::Text(text) => {
                let pieces = pieces(&mut self.splitter, text).into_iter();
                pieces.map(|piece| self.call_piece(piece)).collect()
            }
            _ => String::new(),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let held = last_piece(&mut self.splitter);
        let mut events = held.map_or_else(String::new, |piece| self.call_piece(piece));
        // An answer without a word is a message all the same.
        let is_answered = matches!(self.open, Some((Kind::Message | Kind::Call(_), _)));
        if !is_answered && self.messages + self.calls == 0 {
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
