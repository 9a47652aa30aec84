//! `/v1/chat/completions`: what it reads, what it answers, at once or as it grows.
//! <https://platform.openai.com/docs/api-reference/chat>

use engine::tools::{CallPiece, CallSplitter, WrittenCall};
use engine::{FinishReason, Logprob, Request, TokenLogprob};
use serde_json::{Map, Value as Json, json};

use crate::body::short;
use crate::chat::{Answer, Measure, Said};
use crate::conversation;
use crate::error::{ApiError, Shape};
use crate::pictures::Pictures;
use crate::settings;
use crate::writer::{Head, Writer, data_line, last_piece, pieces};

/// What a stream carries beside the answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOptions {
    include_usage: bool,
    return_progress: bool,
}

/// Reads a body.
pub fn read(
    mut body: Map<String, Json>,
    pictures: &mut Pictures,
) -> Result<(Request, StreamOptions), ApiError> {
    let options = StreamOptions {
        include_usage: flag(
            body.get("stream_options")
                .and_then(|options| options.get("include_usage")),
            "stream_options.include_usage",
        )?,
        return_progress: flag(body.remove("return_progress").as_ref(), "return_progress")?,
    };
    let messages = body.remove("messages");
    let mut request = settings::request(body)?;
    let Some(Json::Array(messages)) = messages else {
        let found = messages.as_ref().map_or("nothing".into(), short);
        return Err(ApiError::invalid(
            "messages",
            format!("expected a list of messages, found {found}"),
        ));
    };
    request.messages = conversation::messages("messages", &messages, pictures)?;
    pictures.hand_over(&mut request);
    Ok((request, options))
}

/// A setting that is on or off.
pub fn flag(value: Option<&Json>, name: &str) -> Result<bool, ApiError> {
    match value {
        None | Some(Json::Null) => Ok(false),
        Some(Json::Bool(flag)) => Ok(*flag),
        Some(other) => Err(ApiError::invalid(
            name,
            format!("expected true or false, found {}", short(other)),
        )),
    }
}

/// `calls` are those that the answer has.
fn finish_reason(answer: &Answer, calls: usize) -> &'static str {
    match (answer.reply.finish_reason, calls) {
        (FinishReason::Stop, 0) => "stop",
        (FinishReason::Stop, _) => "tool_calls",
        (FinishReason::Length, _) => "length",
    }
}

fn usage(answer: &Answer) -> Json {
    let usage = &answer.reply.usage;
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": answer.cached_tokens(),
            "image_tokens": usage.image_tokens,
            "text_tokens": usage.prompt_tokens - usage.image_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

/// Times by the names that llama-server's clients read.
fn timings(answer: &Answer) -> Json {
    let (usage, timings) = (&answer.reply.usage, &answer.reply.timings);
    let rate = timings.decode_tokens_per_s;
    let predicted_ms = match rate > 0.0 {
        true => (usage.completion_tokens - 1) as f64 / rate * 1e3,
        false => 0.0,
    };
    let mut json = json!({
        "cache_n": answer.cached_tokens(),
        "prompt_n": usage.prompt_tokens - answer.cached_tokens(),
        "prompt_ms": timings.prefill_ms,
        "image_ms": timings.image_ms,
        "first_token_ms": timings.first_token_ms,
        "predicted_n": usage.completion_tokens,
        "predicted_ms": (predicted_ms * 1e3).round() / 1e3,
        "predicted_per_second": rate,
    });
    if let Some(guesses) = answer.reply.speculation {
        json["draft_n"] = json!(guesses.guessed_tokens);
        json["draft_n_accepted"] = json!(guesses.accepted_tokens);
    }
    json
}

/// The whole answer.
pub fn reply(head: &Head, answer: &Answer) -> Json {
    let (text, calls) = match head.splitter {
        Some(_) => CallSplitter::split(&answer.reply.text),
        None => (answer.reply.text.clone(), Vec::new()),
    };
    let mut message = Map::new();
    message.insert("role".into(), json!("assistant"));
    let says_nothing = text.is_empty() && !calls.is_empty();
    let content = (!says_nothing).then_some(text);
    message.insert("content".into(), json!(content));
    message.insert("refusal".into(), Json::Null);
    if !calls.is_empty() {
        let call = |(index, call)| tool_call(head, index, call);
        let calls: Json = calls.iter().enumerate().map(call).collect();
        message.insert("tool_calls".into(), calls);
    }
    if !answer.reply.reasoning.is_empty() {
        message.insert("reasoning_content".into(), json!(answer.reply.reasoning));
        message.insert("reasoning".into(), json!(answer.reply.reasoning));
    }
    let logprobs = answer.reply.logprobs.as_deref().map(self::logprobs);
    json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created_s,
        "model": head.model,
        "choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason(answer, calls.len())}],
        "usage": usage(answer),
        "timings": timings(answer),
        "bluelm": extras(answer),
    })
}

fn tool_call(head: &Head, index: usize, call: &WrittenCall) -> Json {
    let function = json!({"name": call.name, "arguments": call.arguments});
    json!({"id": head.name("call", index), "type": "function", "function": function})
}

/// Tokens with their log-probabilities.
fn logprobs(tokens: &[TokenLogprob]) -> Json {
    // A token may be a part of a character only, and has no text then.
    let bytes = |text: &str| (!text.contains('\u{FFFD}')).then(|| text.as_bytes().to_vec());
    let one = |token: &Logprob| json!({"token": token.token, "logprob": token.logprob, "bytes": bytes(&token.token)});
    let all = tokens.iter().map(|token| {
        let mut json = one(&token.chosen);
        json["top_logprobs"] = token.top_logprobs.iter().map(one).collect();
        json
    });
    json!({"content": all.collect::<Vec<Json>>(), "refusal": null})
}

/// What no other server has, under one name.
fn extras(answer: &Answer) -> Json {
    let mut extras = json!({"images": answer.reply.images, "thinking": answer.reply.thinking});
    if let Some(path) = &answer.reply.cut_inside {
        extras["cut_inside"] = json!(path);
    }
    extras
}

/// Writes `chat.completion.chunk`s.
pub struct ChunkWriter {
    head: Head,
    options: StreamOptions,
    splitter: Option<CallSplitter>,
    /// Calls begun so far.
    calls: usize,
    /// Tokens whose text has not been written yet.
    tokens: Vec<TokenLogprob>,
}

impl ChunkWriter {
    /// A writer at the beginning.
    pub fn new(head: Head, options: StreamOptions) -> Self {
        ChunkWriter {
            splitter: head.splitter.clone(),
            calls: 0,
            head,
            options,
            tokens: Vec::new(),
        }
    }

    fn chunk(&mut self, delta: Json, finish_reason: Option<&str>) -> Map<String, Json> {
        let mut chunk = self.frame();
        let tokens = std::mem::take(&mut self.tokens);
        let logprobs = (!tokens.is_empty()).then(|| self::logprobs(&tokens));
        chunk.insert(
            "choices".into(),
            json!([{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}]),
        );
        if self.options.include_usage {
            chunk.insert("usage".into(), Json::Null);
        }
        chunk
    }

    fn call_piece(&mut self, piece: CallPiece) -> String {
        let delta = match piece {
            CallPiece::Text(text) => json!({"content": text}),
            CallPiece::Begin(name) => {
                let index = self.calls;
                self.calls += 1;
                let id = self.head.name("call", index);
                let function = json!({"name": name, "arguments": ""});
                json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
            }
            CallPiece::Arguments(more) => {
                json!({"tool_calls": [{"index": self.calls - 1, "function": {"arguments": more}}]})
            }
            CallPiece::End => return String::new(),
        };
        data_line(&Json::Object(self.chunk(delta, None)))
    }

    fn frame(&self) -> Map<String, Json> {
        let mut chunk = Map::new();
        chunk.insert("id".into(), json!(self.head.id));
        chunk.insert("object".into(), json!("chat.completion.chunk"));
        chunk.insert("created".into(), json!(self.head.created_s));
        chunk.insert("model".into(), json!(self.head.model));
        chunk
    }
}

impl Writer for ChunkWriter {
    fn begin(&mut self, _: &Measure) -> String {
        data_line(&Json::Object(
            self.chunk(json!({"role": "assistant", "content": ""}), None),
        ))
    }

    fn piece(&mut self, said: &Said) -> String {
        let delta = match said {
            Said::Text(text) => {
                let pieces = pieces(&mut self.splitter, text).into_iter();
                return pieces.map(|piece| self.call_piece(piece)).collect();
            }
            Said::Reasoning(text) => json!({"reasoning_content": text, "reasoning": text}),
            Said::Prefill { done, total } if self.options.return_progress => {
                let mut chunk = self.chunk(json!({}), None);
                let time_ms = self.head.started.elapsed().as_millis() as u64;
                let progress = json!({"total": total, "processed": done, "time_ms": time_ms});
                chunk.insert("prompt_progress".into(), progress);
                return data_line(&Json::Object(chunk));
            }
            Said::Token(token) => {
                self.tokens.push(token.clone());
                return String::new();
            }
            _ => return String::new(),
        };
        data_line(&Json::Object(self.chunk(delta, None)))
    }

    fn end(&mut self, answer: &Answer) -> String {
        let held = last_piece(&mut self.splitter);
        let mut lines = held.map_or_else(String::new, |piece| self.call_piece(piece));
        let mut last = self.chunk(json!({}), Some(finish_reason(answer, self.calls)));
        last.insert("timings".into(), timings(answer));
        last.insert("bluelm".into(), extras(answer));
        lines += &data_line(&Json::Object(last));
        if self.options.include_usage {
            let mut chunk = self.frame();
            chunk.insert("choices".into(), json!([]));
            chunk.insert("usage".into(), usage(answer));
            lines.push_str(&data_line(&Json::Object(chunk)));
        }
        lines + "data: [DONE]\n\n"
    }

    fn fail(&mut self, error: &ApiError) -> String {
        data_line(&error.json(Shape::OpenAi))
    }
}
