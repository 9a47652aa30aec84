//! The thinking budget: how long a thought may be, and what ends it.
//!
//! The promise is a hard one: of the tokens that begin inside a thought, the model chooses at most as many as the budget
//! says, whatever it writes. A model that does not come to an end by itself is given one: the engine puts the model's own
//! stop text into the context, token by token as if the model had written it, and the answer follows from there.
//! docs/thinking.md has the whole contract. This module decides; [`crate::decode`] does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::error::EngineError;
use crate::tags::ThinkingTags;
use crate::tokenizer::Tokenizer;

/// How much a request may think. The default is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThinkingBudget {
    /// At most so many tokens of thought; 0 lets the model answer at once.
    pub tokens: Option<usize>,
    /// At most so long, from the beginning of the thought.
    pub time: Option<Duration>,
    /// Soft landing: within so many tokens of the budget's end, a thought is ended where a line ends. `None` is a tenth
    /// of the budget, 0 is no landing.
    pub grace_tokens: Option<usize>,
}

impl ThinkingBudget {
    /// So many tokens, in any time.
    pub fn of_tokens(tokens: usize) -> Self {
        ThinkingBudget {
            tokens: Some(tokens),
            ..Self::default()
        }
    }

    /// Whether no token may be thought.
    pub(crate) fn allows_none(&self) -> bool {
        self.tokens == Some(0) || self.time.is_some_and(|time| time.is_zero())
    }

    /// Whether it asks for some thought, and not for none.
    pub(crate) fn wants_thought(&self) -> bool {
        match (self.tokens, self.time) {
            (Some(0), _) => false,
            (Some(_), _) => true,
            (None, time) => time.is_some_and(|time| !time.is_zero()),
        }
    }
}

/// "Stop thinking now and answer", from another thread while a request runs. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct StopThinking(Arc<AtomicBool>);

impl StopThinking {
    /// A switch not thrown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the thought before its next token; without effect on an answer that has begun.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Makes the switch fit for the next request.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it was thrown.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a thought ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThoughtEnd {
    /// The model ended it.
    Stop,
    /// Its tokens were used up.
    Budget,
    /// Its time was used up.
    Time,
    /// Somebody threw [`StopThinking`].
    User,
    /// `max_tokens` or the context was used up, or so nearly that an answer would not have had room.
    Length,
}

/// What came of the thinking of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Thinking {
    /// How the (last) thought ended; none if there was no thought.
    pub ended: Option<ThoughtEnd>,
    /// Tokens that it might have had; none for no bound.
    pub budget: Option<usize>,
    /// Tokens that the engine put in to end thoughts. They are part of the completion, not of the reasoning tokens.
    pub forced_tokens: usize,
}

/// What the thought looks like before the next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThoughtNow {
    /// Whether there is an open thought.
    pub open: bool,
    /// Tokens of all thoughts so far that count.
    pub tokens: usize,
    /// Whether the last of them ended a line.
    pub at_line_end: bool,
    /// Since the first thought began; zero before.
    pub elapsed: Duration,
    /// What the last token took.
    pub last_step: Duration,
    /// Tokens that the completion may still have.
    pub room: usize,
}

/// What to do about the next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Let the model choose it.
    Choose,
    /// Let the model choose, but nothing than the end of the thought.
    LastChance,
    /// End the thought.
    Close(ThoughtEnd),
}

/// Tokens that an answer is to have at least after a thought that is ended for want of room.
const ANSWER_ROOM_TOKENS: usize = 32;

/// Watches the thoughts of one request.
pub(crate) struct Watch {
    budget: ThinkingBudget,
    stop: StopThinking,
    closing: Option<Closing>,
    answer_room: usize,
}

/// Token ids that end a thought.
struct Closing {
    /// The whole stop text, if an answer has room after it.
    whole: Vec<u32>,
    /// The end tag alone.
    bare: Vec<u32>,
    /// The end tag as the model itself begins it.
    tag: Vec<u32>,
}

impl Watch {
    /// `max_tokens` is what the completion may have. Without tags nothing is watched.
    pub fn new(
        tags: Option<&ThinkingTags>,
        tokenizer: &Tokenizer,
        budget: ThinkingBudget,
        stop: StopThinking,
        max_tokens: usize,
    ) -> Result<Self, EngineError> {
        let closing = match tags {
            None => None,
            Some(tags) => Some(Closing {
                whole: tokenizer.encode(&tags.stop_text)?,
                bare: tokenizer.encode(tags.bare_end())?,
                tag: tokenizer.encode(&tags.end)?,
            }),
        };
        Ok(Watch {
            budget,
            stop,
            closing,
            answer_room: ANSWER_ROOM_TOKENS.min(max_tokens / 4),
        })
    }

    /// Whether anything bounds the thought.
    fn is_bounded(&self) -> bool {
        self.budget.tokens.is_some() || self.budget.time.is_some()
    }

    /// What to do about the next token.
    pub fn next(&self, now: ThoughtNow) -> Next {
        let Some(closing) = self.closing.as_ref().filter(|_| now.open) else {
            return Next::Choose;
        };
        if self.stop.is_stopped() {
            return Next::Close(ThoughtEnd::User);
        }
        // A token takes about as long as the last one: one that would end too late is not begun.
        let late = |time| now.elapsed + now.last_step >= time;
        if self.budget.time.is_some_and(late) {
            return Next::Close(ThoughtEnd::Time);
        }
        if let Some(budget) = self.budget.tokens {
            if now.tokens >= budget {
                return Next::LastChance;
            }
            let grace = self.budget.grace_tokens.unwrap_or(budget / 10);
            if now.at_line_end && now.tokens + grace >= budget {
                return Next::Close(ThoughtEnd::Budget);
            }
        }
        let needed = closing.ids(now).len() + self.answer_room;
        let fits = closing.bare.len() < now.room;
        if self.is_bounded() && fits && now.room <= needed {
            return Next::Close(ThoughtEnd::Length);
        }
        Next::Choose
    }

    /// The ids that end the thought. Empty where not even the tag has room.
    pub fn closing(&self, now: ThoughtNow, end: ThoughtEnd) -> &[u32] {
        let Some(closing) = &self.closing else {
            return &[];
        };
        let ids = match end {
            ThoughtEnd::Stop => &closing.bare,
            _ => closing.ids(now),
        };
        match (ids.len() < now.room, closing.bare.len() < now.room) {
            (true, _) => ids,
            (false, true) => &closing.bare,
            (false, false) => &[],
        }
    }

    /// Whether the model, by choosing this id, ends its thought itself.
    pub fn is_end_tag(&self, id: u32) -> bool {
        let tag = self.closing.as_ref().map(|closing| closing.tag.as_slice());
        matches!(tag, Some([only]) if *only == id)
    }
}

impl Closing {
    /// The stop text concludes from a thought; where there was none, or where it would take more than half the room that is
    /// left, the tag alone must do.
    fn ids(&self, now: ThoughtNow) -> &[u32] {
        match now.tokens > 0 && self.whole.len() * 2 <= now.room {
            true => &self.whole,
            false => &self.bare,
        }
    }
}
