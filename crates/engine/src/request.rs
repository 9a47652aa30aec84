//! What one asks of an engine, and what comes back.

use std::ops::Deref;
use std::sync::Arc;

use image_prep::Picture;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::budget::{StopThinking, Thinking, ThinkingBudget};
use crate::error::EngineError;
use crate::grammar::Grammar;
use crate::logprobs::TokenLogprob;
use crate::message::{Message, Part, Role};
use crate::prompt::ImageInfo;
use crate::sample::Sampling;
use crate::speculation::{Guesses, Speculation};
use crate::template::ChatTemplate;
use crate::tools::Tools;
use crate::vision::Vision;

/// A question with everything that bears on its answer.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The conversation; [`Part::Image`] counts in `images`.
    pub messages: Vec<Message>,
    /// Decoded pictures.
    pub images: Vec<Picture>,
    /// How closely pictures are looked at.
    pub vision: Vision,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// At most so many tokens, thought included; `None` for as many as fit the context.
    pub max_tokens: Option<usize>,
    /// The answer ends before the first of these; thoughts do not.
    pub stop: Vec<String>,
    /// Whether to think; `None` leaves it to the budget, and without one to the template. `Some(false)` is a promise: a
    /// thought that the model begins all the same is ended at once.
    pub thinking: Option<bool>,
    /// How much to think.
    pub budget: ThinkingBudget,
    /// Ends the thought while it runs. Clones of a request share the switch: give each request its own.
    pub stop_thinking: StopThinking,
    /// Whether to guess tokens ahead. The answer does not depend on it.
    pub speculation: Speculation,
    /// Report the log-probability of each token of the answer, and of so many likeliest tokens beside it.
    pub logprobs: Option<usize>,
    /// What the answer must look like.
    pub format: Option<Grammar>,
    /// What the model may ask to be called. Its calls stand in the answer's text: [`crate::tools::CallSplitter`].
    pub tools: Tools,
    /// Further names for the chat template.
    pub template_kwargs: Map<String, Json>,
    /// What a token for the end of the answer does.
    pub at_end: AtEnd,
}

/// A request that somebody else holds, or several hold together.
#[derive(Clone, Debug)]
pub(crate) enum RequestRef<'a> {
    Borrowed(&'a Request),
    Shared(Arc<Request>),
}

impl Deref for RequestRef<'_> {
    type Target = Request;

    fn deref(&self) -> &Request {
        match self {
            RequestRef::Borrowed(request) => request,
            RequestRef::Shared(request) => request,
        }
    }
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

    /// Whether to think, as the template is told. No thought at all is the template's other mode, where it has one: what a
    /// model was trained to do, while a thought that ends before it begins is something that it has never seen.
    pub(crate) fn effective_thinking(&self, template: &ChatTemplate) -> Option<bool> {
        if self.budget.allows_none() && template.knows_thinking() {
            return Some(false);
        }
        let by_budget = self.budget.wants_thought() && template.knows_thinking();
        self.thinking.or(by_budget.then_some(true))
    }

    /// How much may be thought.
    pub(crate) fn effective_budget(&self) -> ThinkingBudget {
        match self.thinking {
            Some(false) => ThinkingBudget::of_tokens(0),
            _ => self.budget,
        }
    }

    /// Checks the numbers; messages and images are checked where the prompt is made.
    pub(crate) fn check(&self, vocabulary: usize) -> Result<(), EngineError> {
        self.sampling.check(vocabulary)?;
        self.tools.check()?;
        if let Some(count) = self.logprobs.filter(|&count| count > MAX_TOP_LOGPROBS) {
            return Err(EngineError::request(
                "top_logprobs",
                format!("expected at most {MAX_TOP_LOGPROBS}, found {count}"),
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

/// Most likeliest tokens that are reported beside each token, as in the OpenAI API.
pub const MAX_TOP_LOGPROBS: usize = 20;

/// Something that happens while an answer is made.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// A token of the answer, if the request asks for log-probabilities; the text that it makes certain comes after it.
    Token(&'a TokenLogprob),
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
    /// Of the prompt's, tokens that were remembered from an earlier request and not read again.
    pub cached_tokens: usize,
    /// Tokens after the prompt: thought, answer and end, forced ones included.
    pub completion_tokens: usize,
    /// Of these, tokens of thoughts that the model chose, tags apart; never more than the budget.
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
    /// How the thought ended.
    pub thinking: Thinking,
    /// How each image was cut.
    pub images: Vec<ImageInfo>,
    /// Times.
    pub timings: Timings,
    /// Where an answer in JSON was cut, for one that is only the beginning of its schema's: a path, `$.items[2].name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_inside: Option<String>,
    /// How guesses went, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculation: Option<Guesses>,
    /// Tokens of the answer with their log-probabilities, if asked for; the end token is not among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// The tokens after the prompt as the cache saw them, forced ones and the end token included.
    #[serde(skip)]
    pub output_ids: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::nano_files;

    #[test]
    fn a_budget_of_nothing_is_the_mode_without_thoughts_where_there_is_one() {
        let template = nano_files().template;
        let of_time = |time| ThinkingBudget {
            time: Some(time),
            ..ThinkingBudget::default()
        };
        for (thinking, budget, expected) in [
            (Some(true), ThinkingBudget::of_tokens(0), Some(false)),
            (None, ThinkingBudget::of_tokens(0), Some(false)),
            (Some(true), of_time(Duration::ZERO), Some(false)),
            (None, of_time(Duration::from_secs(1)), Some(true)),
            (Some(true), ThinkingBudget::of_tokens(1), Some(true)),
            (None, ThinkingBudget::default(), None),
        ] {
            let request = Request {
                thinking,
                budget,
                ..Request::default()
            };
            assert_eq!(
                request.effective_thinking(&template),
                expected,
                "{budget:?}"
            );
        }
    }
}
