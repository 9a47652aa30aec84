//! What one asks of an engine, and what comes back.

use image_prep::Picture;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::error::EngineError;
use crate::message::{Message, Part, Role};
use crate::prompt::ImageInfo;
use crate::sample::Sampling;

/// A question with everything that bears on its answer.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The conversation; [`Part::Image`] counts in `images`.
    pub messages: Vec<Message>,
    /// Decoded pictures.
    pub images: Vec<Picture>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// At most so many tokens, thought included; `None` for as many as fit the context.
    pub max_tokens: Option<usize>,
    /// The answer ends before the first of these; thoughts do not.
    pub stop: Vec<String>,
    /// Whether to think; `None` leaves it to the template.
    pub thinking: Option<bool>,
    /// Further names for the chat template.
    pub template_kwargs: Map<String, Json>,
    /// What a token for the end of the answer does.
    pub at_end: AtEnd,
}

/// What a token for the end of the answer does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtEnd {
    /// Ends the answer.
    #[default]
    Stop,
    /// Nothing: for measurements and comparisons, which need a known number of tokens.
    Continue,
}

impl Request {
    /// One turn of a user: all images, then a text.
    pub fn question(images: Vec<Picture>, text: impl Into<String>) -> Self {
        let content = (0..images.len())
            .map(Part::Image)
            .chain([Part::Text(text.into())])
            .collect();
        Request {
            messages: vec![Message {
                role: Role::User,
                content,
            }],
            images,
            ..Request::default()
        }
    }

    /// Checks the numbers; messages and images are checked where the prompt is made.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let Sampling {
            temperature, top_p, ..
        } = self.sampling;
        if !temperature.is_finite() || temperature < 0.0 {
            return Err(EngineError::request(
                "temperature",
                format!("expected a number from 0 up, found {temperature}"),
            ));
        }
        if !(0.0..=1.0).contains(&top_p) {
            return Err(EngineError::request(
                "top_p",
                format!("expected a number from 0 to 1, found {top_p}"),
            ));
        }
        if self.max_tokens == Some(0) {
            return Err(EngineError::request(
                "max_tokens",
                "expected at least 1, found 0",
            ));
        }
        if self.messages.is_empty() {
            return Err(EngineError::request(
                "messages",
                "expected at least one, found none",
            ));
        }
        Ok(())
    }
}

/// Something that happens while an answer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// So many of the prompt's tokens are done.
    Prefill {
        /// Tokens done, those remembered from an earlier request included.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// More of the thought.
    Reasoning(&'a str),
    /// More of the answer.
    Text(&'a str),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string did.
    Stop,
    /// The tokens asked for, or the context, were used up.
    Length,
}

/// Tokens of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// All tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens for images.
    pub image_tokens: usize,
    /// Tokens that the model chose, thought and end included.
    pub completion_tokens: usize,
    /// Of these, tokens of the thought, its tags included.
    pub reasoning_tokens: usize,
}

/// Times of one request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timings {
    /// Loading the model, in milliseconds.
    pub load_ms: f64,
    /// Preparing and encoding images, on their own thread.
    pub image_ms: f64,
    /// The decoder's work on the prompt.
    pub prefill_ms: f64,
    /// From the request to the first token.
    pub first_token_ms: f64,
    /// Tokens after the first, by second; 0 if there was but one.
    pub decode_tokens_per_s: f64,
}

/// An answer. Serialized, it is the line that `bluelm run --json` writes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply {
    /// The answer.
    pub text: String,
    /// The thought before it, empty if there was none.
    pub reasoning: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens.
    pub usage: Usage,
    /// How each image was cut.
    pub images: Vec<ImageInfo>,
    /// Times.
    pub timings: Timings,
    /// The tokens that the model chose, the end token included.
    #[serde(skip)]
    pub output_ids: Vec<u32>,
}
