//! Choosing token after token, the thought watched, until the answer ends.
//!
//! A [`Writer`] computes nothing with the network: it is given logits, chooses, and says what the network is to read before
//! it can choose again ([`Then`]). So one that answers alone and many that share each reading of the weights are the same code.
//!
//! Whenever it is given logits, the cache holds the prompt and all tokens after it (and perhaps guesses, see
//! [`crate::speculation`]), and the logits are those after the last of these tokens.
//! A thought that must end is ended there: the tokens of a character that is not complete are taken back, out of the cache
//! too, and the stop text goes through the network like a piece of prompt.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::LogitRows;

use crate::answer::Answer;
use crate::budget::{Next, Thinking, ThoughtEnd, ThoughtNow, Watch};
use crate::cancel::Cancel;
use crate::error::EngineError;
use crate::files::PromptFiles;
use crate::grammar::{Guide, Thoughts};
use crate::logprobs::TokenLogprob;
use crate::prompt::Prompt;
use crate::request::{AtEnd, Event, FinishReason, RequestRef};
use crate::sample::Sampler;
use crate::speculation::{Guesser, Guesses, Speculation};

/// What an answer is written by.
pub(crate) struct Decoding<'a> {
    pub files: &'a PromptFiles,
    /// Ids that end an answer.
    pub eos: &'a [u32],
    pub request: RequestRef<'a>,
    pub cancel: Cancel,
    pub prompt_tokens: usize,
    /// Tokens that the completion may have, at least 1.
    pub max_tokens: usize,
}

/// What comes after a choice.
pub(crate) enum Then {
    /// The network reads these; their logits are wanted.
    Read(Reading),
    /// The answer ends.
    End(FinishReason),
}

/// What the network is to read.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Positions that the cache keeps; what it holds beyond them did not come true.
    pub kept: usize,
    /// Ids that follow there, at least one.
    pub ids: Vec<u32>,
    /// Of which rows logits are wanted: `All` only where the ids are a token and guesses after it.
    pub wanted: LogitRows,
}

/// What decoding gave.
pub(crate) struct Written {
    pub text: String,
    pub reasoning: String,
    /// Tokens of thoughts that the model chose.
    pub reasoning_tokens: usize,
    pub output_ids: Vec<u32>,
    pub finish_reason: FinishReason,
    pub first_token: Instant,
    /// Positions that the cache may keep: guesses lie beyond.
    pub read_tokens: usize,
    pub thinking: Thinking,
    pub guesses: Option<Guesses>,
    pub logprobs: Option<Vec<TokenLogprob>>,
}

impl<'a> Decoding<'a> {
    /// An answer to this prompt, nothing written yet, kept to its grammar by `guide`.
    pub fn begin(self, prompt: &Prompt, guide: Option<Guide>) -> Result<Writer<'a>, EngineError> {
        let (files, request) = (self.files, &self.request);
        let budget = request.effective_budget();
        let tags = files.generation.thinking.as_ref();
        let stop_thinking = request.stop_thinking.clone();
        let tokenizer = &files.tokenizer;
        Ok(Writer {
            answer: Answer::new(files, &prompt.text, &request.stop)?,
            sampler: Sampler::new(&request.sampling, &prompt.ids),
            guide,
            watch: Watch::new(tags, tokenizer, budget, stop_thinking, self.max_tokens)?,
            start_tag: tags.and_then(|tags| tokenizer.token_to_id(&tags.start)),
            output_ids: Vec::new(),
            thinking: Thinking {
                budget: budget.tokens,
                ..Thinking::default()
            },
            ended_thought: 0,
            thought_began: None,
            first_token: None,
            step_began: None,
            last_step: Duration::ZERO,
            guesser: match request.speculation {
                Speculation::Off => None,
                Speculation::Lookup => Some(Guesser::new(&prompt.ids)),
            },
            read_tokens: self.prompt_tokens,
            unread_guess: Vec::new(),
            ahead: VecDeque::new(),
            guess: (0, 0),
            logprobs: request.logprobs.map(|_| Vec::new()),
            decoding: self,
        })
    }
}

/// One answer being written.
pub(crate) struct Writer<'a> {
    decoding: Decoding<'a>,
    answer: Answer<'a>,
    sampler: Sampler,
    guide: Option<Guide>,
    watch: Watch,
    /// The token that begins a thought, where it is one token.
    start_tag: Option<u32>,
    output_ids: Vec<u32>,
    thinking: Thinking,
    /// Number of the last thought, from 1, that the engine ended; 0 for none.
    ended_thought: usize,
    thought_began: Option<Instant>,
    first_token: Option<Instant>,
    /// When the last choice was made.
    step_began: Option<Instant>,
    last_step: Duration,
    /// Positions of prompt and completion that the network has read; a guess lies beyond them.
    read_tokens: usize,
    guesser: Option<Guesser>,
    /// Guessed tokens that the network is reading.
    unread_guess: Vec<u32>,
    /// Guessed tokens that the network has read, with the logits after each. The cache holds them beyond the completion.
    ahead: VecDeque<(u32, Vec<f32>)>,
    /// Tokens of the last guess, and those that came true.
    guess: (usize, usize),
    logprobs: Option<Vec<TokenLogprob>>,
}

/// What comes next.
enum Choice {
    /// A token of the model's.
    Token(u32),
    /// The model's token for the end of the answer.
    End(u32),
    /// The thought is to end.
    Close(ThoughtEnd),
}

impl Writer<'_> {
    /// Tokens of the answer so far.
    pub fn output_ids(&self) -> &[u32] {
        &self.output_ids
    }

    /// Takes the logits that were wanted, `[rows, vocabulary]`, and chooses as far as they reach.
    pub fn next(
        &mut self,
        rows: Vec<f32>,
        events: &mut dyn FnMut(Event),
    ) -> Result<Then, EngineError> {
        let mut logits = self.take_guess(rows);
        loop {
            self.decoding.cancel.check()?;
            if let Some(began) = self.step_began.replace(Instant::now()) {
                // A guess that came true took no time, and the next token may.
                self.last_step = began.elapsed().max(self.last_step / 2);
            }
            let now = self.thought_now();
            let choice = match self.watch.next(now) {
                Next::Close(end) => Choice::Close(end),
                next => self.choose(&mut logits, next, now)?,
            };
            self.first_token.get_or_insert_with(Instant::now);
            let ids = match choice {
                Choice::End(id) => {
                    self.output_ids.push(id);
                    return Ok(Then::End(FinishReason::Stop));
                }
                Choice::Token(id) => {
                    self.take(id, &logits, events)?;
                    vec![id]
                }
                Choice::Close(end) => self.close(end, now, events)?,
            };
            if self.answer.is_stopped() || self.is_complete() {
                return Ok(Then::End(FinishReason::Stop));
            }
            if ids.is_empty() || self.output_ids.len() == self.decoding.max_tokens {
                return Ok(Then::End(FinishReason::Length));
            }
            match self.guessed(&ids) {
                Some(known) => logits = known,
                None => return Ok(Then::Read(self.reading(ids))),
            }
        }
    }

    /// Ends the answer.
    pub fn finish(
        mut self,
        finish_reason: FinishReason,
        events: &mut dyn FnMut(Event),
    ) -> Result<Written, EngineError> {
        self.forget_guess();
        self.thinking.ended = self.thought_end(finish_reason);
        self.answer.finish(events)?;
        Ok(Written {
            reasoning_tokens: self.answer.thought.reasoning_tokens(),
            text: self.answer.text,
            reasoning: self.answer.reasoning,
            output_ids: self.output_ids,
            finish_reason,
            first_token: self.first_token.unwrap_or_else(Instant::now),
            read_tokens: self.read_tokens,
            thinking: self.thinking,
            guesses: (self.guesser.map(|guesser| guesser.guesses))
                .filter(|guesses| guesses.guessed_tokens > 0),
            logprobs: self.logprobs,
        })
    }

    fn thought_now(&mut self) -> ThoughtNow {
        let thought = &self.answer.thought;
        if thought.thoughts() > 0 {
            self.thought_began.get_or_insert_with(Instant::now);
        }
        ThoughtNow {
            open: thought.is_open(),
            tokens: thought.reasoning_tokens(),
            at_line_end: thought.at_line_end(),
            elapsed: self.thought_began.map_or(Duration::ZERO, |at| at.elapsed()),
            last_step: self.last_step,
            room: self.decoding.max_tokens - self.output_ids.len(),
        }
    }

    /// Lets the model choose.
    fn choose(
        &mut self,
        logits: &mut [f32],
        next: Next,
        now: ThoughtNow,
    ) -> Result<Choice, EngineError> {
        let position = self.context_tokens().saturating_sub(1);
        if let Some(id) = self.start_tag.filter(|_| self.may_not_think_again()) {
            logits[id as usize] = f32::NEG_INFINITY;
        }
        let request = &self.decoding.request;
        let thoughts = match request.thinking {
            Some(false) => Thoughts::Forbidden,
            _ if self.may_not_think_again() => Thoughts::Forbidden,
            Some(true) => Thoughts::Allowed,
            None if request.budget.wants_thought() => Thoughts::Allowed,
            None => Thoughts::IfLikeliest,
        };
        let masked = match &mut self.guide {
            Some(guide) => guide.mask(logits, &self.answer.thought, thoughts)?,
            None => None,
        };
        let id = self
            .sampler
            .choose(masked.as_deref().unwrap_or(logits))
            .map_err(|_| EngineError::NotFinite { position })?;
        let ends = self.decoding.eos.contains(&id) && self.decoding.request.at_end == AtEnd::Stop;
        if ends && now.open && !self.watch.closing(now, ThoughtEnd::Stop).is_empty() {
            // A model that says goodbye in its thoughts has not answered yet.
            return Ok(Choice::Close(ThoughtEnd::Stop));
        }
        if next == Next::LastChance {
            return Ok(
                match self.watch.is_end_tag(id) && !self.answer.is_unfinished() {
                    true => Choice::Token(id),
                    false => Choice::Close(ThoughtEnd::Budget),
                },
            );
        }
        Ok(match ends {
            true => Choice::End(id),
            false => Choice::Token(id),
        })
    }

    /// Whether the next token stands right after a thought and may not open another one: then it would be ended before
    /// its first word, again and again.
    fn may_not_think_again(&self) -> bool {
        let thought = &self.answer.thought;
        let spent = |budget| thought.reasoning_tokens() >= budget;
        thought.is_between() && (self.ended_thought > 0 || self.thinking.budget.is_some_and(spent))
    }

    fn take(
        &mut self,
        id: u32,
        logits: &[f32],
        events: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        self.output_ids.push(id);
        self.sampler.observe(id);
        let split = self.answer.push(id)?;
        if let Some(guide) = &mut self.guide {
            guide.take(id)?;
        }
        if let (Some(logprobs), Some(count), true) = (
            &mut self.logprobs,
            self.decoding.request.logprobs,
            self.answer.thought.is_answer(),
        ) {
            let tokenizer = &self.decoding.files.tokenizer;
            let token = TokenLogprob::new(logits, id, count, tokenizer)?;
            events(Event::Token(&token));
            logprobs.push(token);
        }
        self.answer.show(split, events);
        Ok(())
    }

    /// Whether the grammar allows nothing more. The end token is then certain, and the network is not asked for it.
    fn is_complete(&mut self) -> bool {
        let complete = self.guide.as_ref().is_some_and(Guide::is_complete);
        let has_room = self.output_ids.len() < self.decoding.max_tokens;
        if complete && has_room {
            self.output_ids.extend(self.decoding.eos.first());
        }
        complete
    }

    /// Ends the thought; gives the ids that the network has yet to read, none if they have no room.
    fn close(
        &mut self,
        end: ThoughtEnd,
        now: ThoughtNow,
        events: &mut dyn FnMut(Event),
    ) -> Result<Vec<u32>, EngineError> {
        let ids = self.watch.closing(now, end).to_vec();
        if ids.is_empty() {
            return Ok(ids);
        }
        let kept = self.output_ids.len() - self.answer.forget_unfinished();
        for id in self.output_ids.drain(kept..) {
            self.sampler.forget(id);
        }
        self.forget_guess();
        for &id in &ids {
            self.output_ids.push(id);
            self.sampler.observe(id);
            let split = self.answer.push_forced(id)?;
            self.answer.show(split, events);
        }
        // A tokenizer that does not give the tag's very spelling back must not leave the thought open.
        let split = self.answer.thought.close();
        self.answer.show(split, events);
        self.thinking.ended = Some(end);
        self.thinking.forced_tokens += ids.len();
        self.ended_thought = self.answer.thought.thoughts();
        Ok(ids)
    }

    /// Positions of the prompt and the completion.
    fn context_tokens(&self) -> usize {
        self.decoding.prompt_tokens + self.output_ids.len()
    }

    /// What was read ahead did not come true, or is not asked for any more.
    fn forget_guess(&mut self) {
        self.ahead.clear();
        if let (Some(guesser), (guessed @ 1.., accepted)) = (&mut self.guesser, self.guess) {
            guesser.learn(guessed, accepted);
        }
        self.guess = (0, 0);
    }

    /// The logits after the last ids of the completion, where they were guessed and so are known.
    fn guessed(&mut self, ids: &[u32]) -> Option<Vec<f32>> {
        self.read_tokens = self.context_tokens();
        if let Some(guesser) = &mut self.guesser {
            guesser.read(self.read_tokens - ids.len(), ids);
        }
        let ([id], Some((guess, _))) = (ids, self.ahead.front()) else {
            return None;
        };
        if id != guess {
            return None;
        }
        let (_, logits) = self.ahead.pop_front()?;
        self.guess.1 += 1;
        Some(logits)
    }

    /// What the network is to read: the last ids of the completion, and perhaps a guess after them.
    fn reading(&mut self, mut ids: Vec<u32>) -> Reading {
        let kept = self.read_tokens - ids.len();
        self.forget_guess();
        let most = (self.decoding.max_tokens - self.output_ids.len()).saturating_sub(1);
        if let (Some(guesser), [_]) = (&mut self.guesser, &ids[..]) {
            let tokenizer = &self.decoding.files.tokenizer;
            let guide = self.guide.as_mut();
            let forced = guide.and_then(|guide| guide.forced(tokenizer, most));
            self.unread_guess = forced.unwrap_or_else(|| guesser.guess(most));
        }
        self.guess = (self.unread_guess.len(), 0);
        ids.extend(&self.unread_guess);
        let wanted = match self.unread_guess.is_empty() {
            true => LogitRows::Last,
            false => LogitRows::All,
        };
        Reading { kept, ids, wanted }
    }

    /// Keeps the rows after guesses for later; gives the one after the last token of the answer.
    fn take_guess(&mut self, mut rows: Vec<f32>) -> Vec<f32> {
        let guess = std::mem::take(&mut self.unread_guess);
        let vocabulary = rows.len() / (guess.len() + 1);
        let after = rows.split_off(vocabulary);
        let after = after.chunks_exact(vocabulary).map(<[f32]>::to_vec);
        self.ahead = guess.into_iter().zip(after).collect();
        rows
    }

    fn thought_end(&self, finish_reason: FinishReason) -> Option<ThoughtEnd> {
        let thought = &self.answer.thought;
        match (thought.thoughts(), thought.is_open(), finish_reason) {
            (0, ..) => None,
            (_, true, FinishReason::Length) => Some(ThoughtEnd::Length),
            (_, true, FinishReason::Stop) => Some(ThoughtEnd::Stop),
            (count, false, _) if count == self.ended_thought => self.thinking.ended,
            (_, false, _) => Some(ThoughtEnd::Stop),
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
