//! `/v1/messages`: what it reads, what it answers, at once or as it grows. <https://docs.anthropic.com/en/api/messages>

use engine::tools::{CallBlock, CallPiece, CallSplitter};
use engine::{FinishReason, Message, Request, Role};
use serde_json::{Map, Value as Json, json};

use crate::body::short;
use crate::chat::{Answer, Measure, Said};
use crate::conversation;
use crate::error::{ApiError, Shape};
use crate::pictures::Pictures;
use crate::settings;
use crate::writer::{Head, Writer, last_piece, named_event, pieces};

/// Whether `max_tokens` must be there: counting needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxTokens {
    /// As for an answer.
    Required,
    /// As for counting.
    Optional,
}

/// Reads a body.
pub fn read(
    mut body: Map<String, Json>,
    max_tokens: MaxTokens,
    pictures: &mut Pictures,
) -> Result<Request, ApiError> {
    if max_tokens == MaxTokens::Required && body.get("max_tokens").is_none_or(Json::is_null) {
        return Err(ApiError::invalid(
            "max_tokens",
            "expected a whole number, found nothing",
        ));
    }
    let system = body.remove("system");
    let messages = body.remove("messages");
    if let Some(stop) = body.remove("stop_sequences") {
        body.insert("stop".into(), stop);
    }
    for key in [
        "container",
        "context_management",
        "cache_control",
        "inference_geo",
    ] {
        body.remove(key);
    }
    take_output_config(&mut body)?;
    let mut request = settings::request(body).map_err(|error| settings::renamed(error, &NAMES))?;
    settings::rename_format(&mut request, "response_format", "output_config.format");
    if let Some(system) = system.filter(|system| !system.is_null()) {
        let content = conversation::content("system", Role::System, Some(&system), pictures)?;
        request.messages.push(Message {
            role: Role::System,
            content,
        });
    }
    let Some(Json::Array(messages)) = messages else {
        let found = messages.as_ref().map_or("nothing".into(), short);
        return Err(ApiError::invalid(
            "messages",
            format!("expected a list of messages, found {found}"),
        ));
    };
    request
        .messages
        .extend(conversation::messages("messages", &messages, pictures)?);
    pictures.hand_over(&mut request);
    Ok(request)
}

/// Settings by our names and by this API's.
const NAMES: [(&str, &str); 2] = [
    ("stop", "stop_sequences"),
    ("response_format", "output_config.format"),
];

/// `output_config` has an effort and what the answer must look like; `output_format` is an older name of the latter.
fn take_output_config(body: &mut Map<String, Json>) -> Result<(), ApiError> {
    let mut format = body.remove("output_format");
    match body.remove("output_config") {
        None | Some(Json::Null) => {}
        Some(Json::Object(config)) => {
            for (key, value) in config {
                match key.as_str() {
                    "format" => format = Some(value),
                    "effort" => {
                        body.insert("reasoning_effort".into(), value);
                    }
                    _ => return Err(ApiError::unsupported(format!("output_config.{key}"))),
                }
            }
        }
        Some(other) => {
            let message = format!("expected an object, found {}", short(&other));
            return Err(ApiError::invalid("output_config", message));
        }
    }
    if let Some(format) = format {
        body.insert("response_format".into(), format);
    }
    Ok(())
}

/// `calls` are those that the answer has.
fn stop_reason(answer: &Answer, calls: usize) -> &'static str {
    match (answer.reply.finish_reason, &answer.stop_sequence) {
        (FinishReason::Length, _) => "max_tokens",
        (FinishReason::Stop, Some(_)) => "stop_sequence",
        (FinishReason::Stop, None) if calls > 0 => "tool_use",
        (FinishReason::Stop, None) => "end_turn",
    }
}

/// `input_tokens` are those that were read now; remembered ones are counted apart.
fn usage(prompt_tokens: usize, cached_tokens: usize, output_tokens: usize) -> Json {
    json!({
        "input_tokens": prompt_tokens - cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached_tokens,
        "output_tokens": output_tokens,
    })
}

fn message(head: &Head, content: Vec<Json>, usage: Json) -> Json {
    json!({
        "id": head.id,
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage,
    })
}

/// The whole answer.
pub fn reply(head: &Head, answer: &Answer) -> Json {
    let mut content = Vec::new();
    if !answer.reply.reasoning.is_empty() {
        content
            .push(json!({"type": "thinking", "thinking": answer.reply.reasoning, "signature": ""}));
    }
    let mut calls = 0;
    for block in head.blocks(&answer.reply.text) {
        match block {
            CallBlock::Text(text) => content.push(json!({"type": "text", "text": text})),
            CallBlock::Call(call) => {
                // The input of a call that was cut is no object, and half a call is not to be made.
                if let Ok(input @ Json::Object(_)) = serde_json::from_str(&call.arguments) {
                    let id = head.name("toolu", calls);
                    content.push(
                        json!({"type": "tool_use", "id": id, "name": call.name, "input": input}),
                    );
                }
                calls += 1;
            }
        }
    }
    let tokens = &answer.reply.usage;
    let mut message = message(
        head,
        content,
        usage(
            tokens.prompt_tokens,
            answer.cached_tokens(),
            tokens.completion_tokens,
        ),
    );
    message["stop_reason"] = json!(stop_reason(answer, calls));
    message["stop_sequence"] = json!(answer.stop_sequence);
    message
}

/// The block that a stream is writing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    /// A call of this function.
    ToolUse(String),
}

/// Writes the events of a message.
pub struct EventWriter {
    head: Head,
    splitter: Option<CallSplitter>,
    /// Blocks begun so far, and calls among them.
    blocks: usize,
    calls: usize,
    open: Option<Block>,
}

impl EventWriter {
    /// A writer at the beginning.
    pub fn new(head: Head) -> Self {
        EventWriter {
            splitter: head.splitter.clone(),
            head,
            blocks: 0,
            calls: 0,
            open: None,
        }
    }

    fn open_block(&mut self, block: Block) -> String {
        let content = match &block {
            Block::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::Text => json!({"type": "text", "text": ""}),
            Block::ToolUse(name) => {
                let id = self.head.name("toolu", self.calls);
                self.calls += 1;
                json!({"type": "tool_use", "id": id, "name": name, "input": {}})
            }
        };
        let index = self.blocks;
        self.blocks += 1;
        self.open = Some(block);
        named_event(
            &json!({"type": "content_block_start", "index": index, "content_block": content}),
        )
    }

    fn close_block(&mut self) -> String {
        match self.open.take() {
            Some(_) => {
                named_event(&json!({"type": "content_block_stop", "index": self.blocks - 1}))
            }
            None => String::new(),
        }
    }

    fn delta(&mut self, block: Block, delta: Json) -> String {
        let mut events = String::new();
        if self.open.as_ref() != Some(&block) {
            events += &self.close_block();
            events += &self.open_block(block);
        }
        events
            + &named_event(
                &json!({"type": "content_block_delta", "index": self.blocks - 1, "delta": delta}),
            )
    }

    fn call_piece(&mut self, piece: CallPiece) -> String {
        match piece {
            CallPiece::Text(text) => {
                self.delta(Block::Text, json!({"type": "text_delta", "text": text}))
            }
            CallPiece::Begin(name) => {
                let closed = self.close_block();
                closed + &self.open_block(Block::ToolUse(name))
            }
            CallPiece::Arguments(more) => match self.open.clone() {
                Some(block @ Block::ToolUse(_)) => {
                    let delta = json!({"type": "input_json_delta", "partial_json": more});
                    self.delta(block, delta)
                }
                _ => String::new(),
            },
            CallPiece::End => self.close_block(),
        }
    }
}

impl Writer for EventWriter {
    fn begin(&mut self, measure: &Measure) -> String {
        let begun = message(&self.head, Vec::new(), usage(measure.prompt_tokens, 0, 0));
        named_event(&json!({"type": "message_start", "message": begun}))
    }

    fn piece(&mut self, said: &Said) -> String {
        match said {
            Said::Reasoning(text) => self.delta(
                Block::Thinking,
                json!({"type": "thinking_delta", "thinking": text}),
            ),
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
        let is_answered = matches!(self.open, Some(Block::Text | Block::ToolUse(_)));
        if !is_answered && self.blocks == usize::from(self.open.is_some()) {
            events += &self.close_block();
            events += &self.open_block(Block::Text);
        }
        events += &self.close_block();
        let delta = json!({"stop_reason": stop_reason(answer, self.calls), "stop_sequence": answer.stop_sequence});
        let tokens = &answer.reply.usage;
        let usage = usage(
            tokens.prompt_tokens,
            answer.cached_tokens(),
            tokens.completion_tokens,
        );
        events += &named_event(&json!({"type": "message_delta", "delta": delta, "usage": usage}));
        events + &named_event(&json!({"type": "message_stop"}))
    }

    fn fail(&mut self, error: &ApiError) -> String {
        named_event(&error.json(Shape::Anthropic))
    }
}
