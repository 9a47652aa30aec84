//! The body of an OpenAI chat completion as a [`Request`].
//!
//! Read: `messages` (roles system, developer, user, assistant, tool; texts, and parts `text` and `image_url`; `tool_calls`),
//! `tools`, `tool_choice`, `parallel_tool_calls`, `response_format`,
//! `max_tokens` or `max_completion_tokens`, `stop`, how tokens are chosen (`temperature`, `top_p`, `top_k`, `min_p`,
//! `repetition_penalty`, `presence_penalty`, `frequency_penalty`, `logit_bias`, `seed`, `logprobs`, `top_logprobs`), how
//! closely pictures are looked at (`detail`, `vision`), and how much to think (`enable_thinking`, `reasoning_effort`, `thinking_budget` and its other names: docs/thinking.md).
//! Accepted without effect: names and bookkeeping (`model`, `user`, `metadata`, ...), `stream`, and settings that ask for what
//! happens anyway (`n: 1`). Anything else is an error that names it: a setting silently ignored is worse than refused.
//! Pictures come as data URLs or, where the caller allows it, as paths. Nothing is ever fetched from the network.

use std::path::{Path, PathBuf};

use image_prep::{Limits, Picture};
use serde_json::Value as Json;

use crate::budget::StopThinking;
use crate::data_url::{DataUrlError, decode_data_url};
use crate::error::EngineError;
use crate::files::read_capped;
use crate::message::{Message, Part, Role};
use crate::request::Request;
use crate::speculation::Speculation;
use crate::vision::Detail;

mod format;
mod sampling;
mod thinking;
mod tools;
mod vision;

pub use tools::{past_call, result_of, tool_calls};

/// Where pictures may come from.
#[derive(Clone, Debug)]
pub enum Pictures {
    /// Only from the body itself, as data URLs.
    DataUrls,
    /// Also from files: a relative path begins at this folder.
    Folder(PathBuf),
}

/// What a body may ask for.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Where pictures may come from.
    pub pictures: Pictures,
    /// Longest body in bytes.
    pub max_body_bytes: usize,
    /// Longest picture file in bytes, before it is decoded.
    pub max_picture_bytes: usize,
    /// Most pictures.
    pub max_pictures: usize,
    /// Bounds for decoding a picture.
    pub limits: Limits,
}

impl Rules {
    /// Generous bounds for one's own machine.
    pub fn new(pictures: Pictures) -> Self {
        Rules {
            pictures,
            max_body_bytes: 256 << 20,
            max_picture_bytes: 64 << 20,
            max_pictures: 64,
            limits: Limits::default(),
        }
    }
}

/// Parameters that change nothing here, whatever their value.
const WITHOUT_EFFECT: [&str; 10] = [
    "model",
    "user",
    "metadata",
    "store",
    "stream",
    "stream_options",
    "service_tier",
    "prompt_cache_key",
    "safety_identifier",
    "verbosity",
];

/// Reads a file that holds a body.
pub fn read_body(path: &Path, rules: &Rules) -> Result<Vec<u8>, EngineError> {
    read_capped(path, rules.max_body_bytes as u64)
}

/// Reads a body. Whatever it leaves open keeps the value it has in `defaults`, whose messages and images are not used.
pub fn parse(body: &[u8], defaults: &Request, rules: &Rules) -> Result<Request, EngineError> {
    if body.len() > rules.max_body_bytes {
        let message = format!(
            "{} bytes, at most {} are read",
            body.len(),
            rules.max_body_bytes
        );
        return Err(EngineError::request("the request", message));
    }
    let body: Json = serde_json::from_slice(body)
        .map_err(|error| EngineError::request("the request", format!("not valid JSON: {error}")))?;
    let Json::Object(body) = body else {
        return Err(EngineError::request(
            "the request",
            "expected a JSON object",
        ));
    };
    let mut request = Request {
        messages: Vec::new(),
        images: Vec::new(),
        // The defaults may serve many requests; their switch must not stop them all.
        stop_thinking: StopThinking::new(),
        ..defaults.clone()
    };
    for (name, value) in &body {
        parameter(&mut request, name, value)?;
    }
    thinking::read(&mut request, &body)?;
    tools::read(&mut request, &body)?;
    vision::read(&mut request, &body)?;
    sampling::top_logprobs(&mut request, &body)?;
    format::grammar(&mut request, &body)?;
    let Some(Json::Array(messages)) = body.get("messages") else {
        return Err(EngineError::request(
            "messages",
            "expected a list of messages",
        ));
    };
    let mut reader = Reader {
        rules,
        images: Vec::new(),
        details: Vec::new(),
    };
    for (index, message) in messages.iter().enumerate() {
        let message = reader.message(&format!("messages[{index}]"), message, &request.messages)?;
        request.messages.push(message);
    }
    request.images = reader.images;
    request.vision.details = reader.details;
    Ok(request)
}

fn parameter(request: &mut Request, name: &str, value: &Json) -> Result<(), EngineError> {
    if value.is_null() || sampling::parameter(request, name, value)? {
        return Ok(());
    }
    match name {
        // These are read together.
        "messages" | "top_logprobs" | "vision" | "grammar" => {}
        _ if thinking::NAMES.contains(&name) || tools::NAMES.contains(&name) => {}
        "speculation" => match value.as_bool() {
            Some(true) => request.speculation = Speculation::Lookup,
            Some(false) => request.speculation = Speculation::Off,
            None => return Err(wrong(name, "true or false", value)),
        },
        "response_format" => request.format = format::read(value)?,
        "max_tokens" | "max_completion_tokens" => match value.as_u64() {
            Some(number) => {
                request.max_tokens = Some(usize::try_from(number).unwrap_or(usize::MAX))
            }
            None => return Err(wrong(name, "a whole number", value)),
        },
        "stop" => {
            let stops: Option<Vec<String>> = match value {
                Json::String(stop) => Some(vec![stop.clone()]),
                Json::Array(stops) => stops
                    .iter()
                    .map(|stop| stop.as_str().map(str::to_owned))
                    .collect(),
                _ => None,
            };
            request.stop = stops.ok_or_else(|| wrong(name, "a text or a list of texts", value))?;
        }
        _ if WITHOUT_EFFECT.contains(&name) || asks_for_nothing(name, value) => {}
        _ => return Err(EngineError::request(name, "not supported")),
    }
    Ok(())
}

fn wrong(name: &str, expected: &str, value: &Json) -> EngineError {
    EngineError::request(name, format!("expected {expected}, found {}", short(value)))
}

/// Settings with the value that means "as always".
fn asks_for_nothing(name: &str, value: &Json) -> bool {
    name == "n" && value.as_u64() == Some(1)
}

/// Reads messages and gathers their pictures.
struct Reader<'a> {
    rules: &'a Rules,
    images: Vec<Picture>,
    details: Vec<Detail>,
}

impl Reader<'_> {
    fn message(
        &mut self,
        place: &str,
        message: &Json,
        before: &[Message],
    ) -> Result<Message, EngineError> {
        let role = match message.get("role").and_then(Json::as_str) {
            Some("system" | "developer") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("tool") => Role::Tool,
            _ => {
                let found = message.get("role").map_or("nothing".into(), short);
                let message =
                    format!("expected system, developer, user, assistant or tool, found {found}");
                return Err(EngineError::request(format!("{place}.role"), message));
            }
        };
        let calls = tool_calls(&format!("{place}.tool_calls"), message.get("tool_calls"))?;
        let id = message.get("tool_call_id").and_then(Json::as_str);
        let result = id.filter(|_| role == Role::Tool);
        let place = format!("{place}.content");
        let mut content: Vec<Part> = match message.get("content") {
            Some(Json::String(text)) => vec![Part::Text(text.clone())],
            Some(Json::Array(parts)) => parts
                .iter()
                .enumerate()
                .map(|(index, part)| self.part(&format!("{place}[{index}]"), role, part))
                .collect::<Result<_, _>>()?,
            // An assistant's turn may have had a thought or a refusal only.
            None | Some(Json::Null) if role == Role::Assistant => Vec::new(),
            other => {
                let message = format!(
                    "expected a text or a list of parts, found {}",
                    other.map_or("nothing".into(), short)
                );
                return Err(EngineError::request(place, message));
            }
        };
        content.extend(calls);
        content.extend(result.map(|id| result_of(id, before)));
        Ok(Message { role, content })
    }

    fn part(&mut self, place: &str, role: Role, part: &Json) -> Result<Part, EngineError> {
        match part.get("type").and_then(Json::as_str) {
            Some("text") => match part.get("text").and_then(Json::as_str) {
                Some(text) => Ok(Part::Text(text.to_owned())),
                None => Err(EngineError::request(
                    format!("{place}.text"),
                    "expected a text",
                )),
            },
            Some("image_url") if role != Role::User => Err(EngineError::request(
                place,
                format!("a picture in a turn of the {}", role.name()),
            )),
            Some("image_url") => {
                if self.images.len() == self.rules.max_pictures {
                    let message = format!("more than {} pictures", self.rules.max_pictures);
                    return Err(EngineError::request(place, message));
                }
                let picture = self.picture(&format!("{place}.image_url"), &part["image_url"])?;
                self.images.push(picture);
                Ok(Part::Image(self.images.len() - 1))
            }
            Some(other) => {
                let message = format!("expected `text` or `image_url`, found `{other}`");
                Err(EngineError::request(format!("{place}.type"), message))
            }
            None => Err(EngineError::request(
                format!("{place}.type"),
                "expected `text` or `image_url`, found nothing",
            )),
        }
    }

    fn picture(&mut self, place: &str, value: &Json) -> Result<Picture, EngineError> {
        let mut detail = Detail::Auto;
        let url = match value {
            Json::String(url) => url,
            Json::Object(object) => {
                detail = vision::detail(place, object.get("detail"))?;
                match object.get("url") {
                    Some(Json::String(url)) => url,
                    _ => {
                        return Err(EngineError::request(
                            format!("{place}.url"),
                            "expected a data URL or a path",
                        ));
                    }
                }
            }
            _ => return Err(EngineError::request(place, "expected an object with `url`")),
        };
        let (name, bytes) = match split_scheme(url) {
            Some(("data", rest)) => {
                let bytes = decode_data_url(rest, self.rules.max_picture_bytes);
                let wrong = |error: DataUrlError| {
                    EngineError::request(
                        place,
                        match error {
                            DataUrlError::NotBase64(_) => format!("a data URL that is {error}"),
                            _ => error.to_string(),
                        },
                    )
                };
                (place.to_owned(), bytes.map_err(wrong)?)
            }
            Some((scheme, _)) => {
                let message = format!(
                    "pictures are not fetched from {scheme}: addresses; send a data URL or a path"
                );
                return Err(EngineError::request(place, message));
            }
            None => (url.clone(), self.file(place, url)?),
        };
        self.details.push(detail);
        image_prep::decode(&bytes, &self.rules.limits)
            .map_err(|source| EngineError::Image { name, source })
    }

    fn file(&self, place: &str, path: &str) -> Result<Vec<u8>, EngineError> {
        match &self.rules.pictures {
            Pictures::Folder(folder) => read_capped(
                &folder.join(Path::new(path)),
                self.rules.max_picture_bytes as u64,
            ),
            Pictures::DataUrls => Err(EngineError::request(
                place,
                "expected a data URL; paths are not read here",
            )),
        }
    }
}

/// The scheme of an address such as `https://…` or `data:…`, in lower case; a path has none, nor has a drive letter.
fn split_scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let named = scheme.len() > 1
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let known = ["data", "http", "https", "file", "ftp"]
        .iter()
        .find(|known| scheme.eq_ignore_ascii_case(known));
    match known {
        Some(known) => Some((known, rest)),
        None => (named && rest.starts_with("//")).then_some((scheme, rest)),
    }
}

/// A value for an error message: never a whole picture.
fn short(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
