//! `/v1/messages`: what it reads, what it answers, at once or as it grows. <https://docs.anthropic.com/en/api/messages>

use engine::{FinishReason, Message, Request, Role};
use serde_json::{Map, Value as Json, json};

use crate::body::short;
use crate::chat::{Answer, Measure, Said};
use crate::conversation;
use crate::error::{ApiError, Shape};
use crate::pictures::Pictures;
use crate::settings;
use crate::writer::{Head, Writer, named_event};

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
        "tool_choice",
    ] {
        body.remove(key);
    }
    let mut request = settings::request(body).map_err(|mut error| {
        if error.param.as_deref() == Some("stop") {
            error.param = Some("stop_sequences".into());
            error.message = error.message.replace("stop:", "stop_sequences:");
        }
        error
    })?;
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

fn stop_reason(answer: &Answer) -> &'static str {
    match (answer.reply.finish_reason, &answer.stop_sequence) {
        (FinishReason::Length, _) => "max_tokens",
        (FinishReason::Stop, Some(_)) => "stop_sequence",
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
    content.push(json!({"type": "text", "text": answer.reply.text}));
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
    message["stop_reason"] = json!(stop_reason(answer));
    message["stop_sequence"] = json!(answer.stop_sequence);
    message
}

/// The block that a stream is writing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
}

/// Writes the events of a message.
pub struct EventWriter {
    head: Head,
    /// Blocks begun so far.
    blocks: usize,
    open: Option<Block>,
}

impl EventWriter {
    /// A writer at the beginning.
    pub fn new(head: Head) -> Self {
        EventWriter {
            head,
            blocks: 0,
            open: None,
        }
    }

    fn open_block(&mut self, block: Block) -> String {
        let content = match block {
            Block::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::Text => json!({"type": "text", "text": ""}),
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
        if self.open != Some(block) {
            events += &self.close_block();
            events += &self.open_block(block);
        }
        events
            + &named_event(
                &json!({"type": "content_block_delta", "index": self.blocks - 1, "delta": delta}),
            )
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
                self.delta(Block::Text, json!({"type": "text_delta", "text": text}))
            }
            _ => String::new(),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let mut events = String::new();
        if self.open != Some(Block::Text) {
            events += &self.close_block();
            events += &self.open_block(Block::Text);
        }
        events += &self.close_block();
        let delta =
            json!({"stop_reason": stop_reason(answer), "stop_sequence": answer.stop_sequence});
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
