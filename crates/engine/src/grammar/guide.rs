//! One answer kept to its grammar: which tokens may come next.
//!
//! Before the answer there may be a thought, so the first tokens have more than one meaning. Where no answer has begun,
//! allowed are: the grammar's first tokens; the tag that opens a thought, token by token; between a thought and its answer a
//! little white space, which is part of neither. Inside a thought everything is. The tag and the answer may begin with the
//! same token; both are then followed until one of them cannot go on.

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use super::compile::of_matching;
use crate::error::EngineError;
use crate::speculation::LONGEST_GUESS;
use crate::thought::ThoughtSplitter;
use crate::tokenizer::Tokenizer;

/// Tokens of white space that may stand between a thought and its answer.
const MOST_BLANKS: usize = 2;

/// Whether the next token may begin a thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thoughts {
    Allowed,
    /// Where nobody asked: only if it is what the model would say without a grammar. One whose answer the grammar does not
    /// allow would else say it in a thought.
    IfLikeliest,
    Forbidden,
}

/// What may stand before an answer.
#[derive(Clone, Debug, Default)]
struct Before {
    /// The tag that opens a thought.
    tag: Vec<u32>,
    /// Tokens of white space.
    blanks: Vec<u32>,
}

/// Keeps one answer to its grammar. For each token that the model chooses: [`Guide::mask`], then [`Guide::take`].
pub(crate) struct Guide {
    name: String,
    /// At the grammar's beginning.
    fresh: Matcher,
    matcher: Matcher,
    before: Before,
    /// Whether the tokens so far can be the answer's beginning.
    alive: bool,
    /// Whether any token has been taken for the answer's.
    begun: bool,
    /// Tokens of the opening tag that have come; none where it can no longer be one.
    tag: Option<usize>,
    blanks: usize,
    /// What the last mask allowed; none where all was.
    last: Option<Last>,
}

struct Last {
    allowed: Option<SimpleVob>,
    tag: Option<u32>,
    blank: bool,
}

impl Guide {
    /// A guide before the answer's first token. `start` is the tag that opens a thought, where there are thoughts.
    pub fn new(
        name: &str,
        matcher: Matcher,
        tokenizer: &Tokenizer,
        start: Option<&str>,
    ) -> Result<Self, EngineError> {
        let before = match start {
            None => Before::default(),
            Some(start) => Before {
                tag: tokenizer.encode(start)?,
                blanks: [" ", "\n", "\n\n"]
                    .iter()
                    .filter_map(|blank| match tokenizer.encode(blank).as_deref() {
                        Ok([id]) => Some(*id),
                        _ => None,
                    })
                    .collect(),
            },
        };
        Ok(Guide {
            name: name.to_owned(),
            fresh: matcher.clone(),
            matcher,
            before,
            alive: true,
            begun: false,
            tag: Some(0),
            blanks: 0,
            last: None,
        })
    }

    /// The logits with minus infinity for what may not come next; none where everything may. The given ones stay as they are:
    /// log-probabilities are the network's own.
    pub fn mask(
        &mut self,
        logits: &[f32],
        thought: &ThoughtSplitter,
        thoughts: Thoughts,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        self.last = None;
        if thought.is_open() {
            self.restart();
            return Ok(None);
        }
        let tag = self
            .tag
            .filter(|_| thoughts != Thoughts::Forbidden && !thought.is_answer())
            .and_then(|at| self.before.tag.get(at).copied())
            .filter(|&id| thoughts == Thoughts::Allowed || self.begun || is_likeliest(logits, id));
        let untouched = !self.begun && self.tag == Some(0);
        let blank = untouched && thought.is_between() && self.blanks < MOST_BLANKS;
        let allowed = match self.alive {
            true => Some(self.allowed()?),
            false => None,
        };
        let mut masked = vec![f32::NEG_INFINITY; logits.len()];
        let mut allow = |id: u32| {
            if let (Some(to), Some(from)) = (masked.get_mut(id as usize), logits.get(id as usize)) {
                *to = *from;
            }
        };
        if let Some(allowed) = &allowed {
            allowed.iter_set_entries(|id| allow(id as u32));
        }
        tag.into_iter().for_each(&mut allow);
        if blank {
            self.before.blanks.iter().copied().for_each(&mut allow);
        }
        self.last = Some(Last {
            allowed,
            tag,
            blank,
        });
        Ok(Some(masked))
    }

    /// Takes the token that was chosen after the last mask. Tokens that the engine puts in are not taken: they belong to
    /// thoughts.
    pub fn take(&mut self, id: u32) -> Result<(), EngineError> {
        let Some(last) = self.last.take() else {
            return Ok(());
        };
        if last.blank && self.before.blanks.contains(&id) {
            self.blanks += 1;
            return Ok(());
        }
        self.tag = match (last.tag, self.tag) {
            (Some(tag), Some(at)) if tag == id => Some(at + 1),
            _ => None,
        };
        self.begun = true;
        self.alive = last
            .allowed
            .is_some_and(|allowed| (id as usize) < allowed.len() && allowed.is_allowed(id));
        if self.alive {
            let taken = self.matcher.consume_token(id);
            taken.map_err(|error| self.wrong(&error.to_string()))?;
        }
        Ok(())
    }

    /// Whether the answer is whole and nothing may come after it.
    pub fn is_complete(&self) -> bool {
        self.alive && self.begun && self.matcher.is_stopped() && !self.matcher.is_error()
    }

    /// At most so many tokens of the text that the grammar leaves no choice about, for guessing ahead: the model may spell it
    /// otherwise. None where there is a choice, and before the answer has begun.
    pub fn forced(&mut self, tokenizer: &Tokenizer, most: usize) -> Option<Vec<u32>> {
        if !self.alive || !self.begun || self.matcher.is_stopped() {
            return None;
        }
        // A character may be forced in part.
        let bytes = self.matcher.compute_ff_bytes();
        let whole = match str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        };
        let mut ids = tokenizer.encode_literal(whole).ok()?;
        ids.truncate(most.min(LONGEST_GUESS));
        (!ids.is_empty()).then_some(ids)
    }

    /// Forgets what has been taken: a thought has begun, and the answer comes after it.
    fn restart(&mut self) {
        if self.begun {
            self.matcher = self.fresh.clone();
        }
        (self.alive, self.begun, self.tag, self.blanks) = (true, false, Some(0), 0);
    }

    fn allowed(&mut self) -> Result<SimpleVob, EngineError> {
        let mask = self.matcher.compute_mask_or_eos();
        mask.map_err(|error| self.wrong(&error.to_string()))
    }

    fn wrong(&self, message: &str) -> EngineError {
        EngineError::request(&self.name, of_matching(message))
    }
}

fn is_likeliest(logits: &[f32], id: u32) -> bool {
    let logit = logits.get(id as usize);
    logit.is_some_and(|logit| logits.iter().all(|other| other <= logit))
}
