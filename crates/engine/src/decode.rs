//! The generation loop: token after token, the thought watched, until the answer ends.
//!
//! At the top of the loop the cache holds the prompt and all tokens after it (and perhaps guesses, see
//! [`crate::speculation`]), and the logits are those after the last of these tokens.
//! A thought that must end is ended there: the tokens of a character that is not complete are taken back, out of the cache
//! too, and the stop text goes through the network like a piece of prompt.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::{LogitRows, NoTaps};

use crate::answer::Answer;
use crate::budget::{Next, Thinking, ThoughtEnd, ThoughtNow, Watch};
use crate::cancel::Cancel;
use crate::error::EngineError;
use crate::files::PromptFiles;
use crate::grammar::{Guide, Thoughts};
use crate::logprobs::TokenLogprob;
use crate::network::{Cache, Network};
use crate::prompt::Prompt;
use crate::request::{AtEnd, Event, FinishReason, Request};
use crate::sample::Sampler;
use crate::speculation::{Guesser, Guesses, Speculation};
use crate::threads::Threads;

/// What the loop works with.
pub(crate) struct Decoding<'a, N: Network> {
    pub network: &'a N,
    /// Where the network computes.
    pub threads: &'a Threads,
    pub files: &'a PromptFiles,
    /// Ids that end an answer.
    pub eos: &'a [u32],
    pub request: &'a Request,
    pub prompt: &'a Prompt,
    pub cancel: &'a Cancel,
    /// Tokens that the completion may have, at least 1.
    pub max_tokens: usize,
    /// Rows of one forward call.
    pub step_tokens: usize,
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
    pub thinking: Thinking,
    pub guesses: Option<Guesses>,
    pub logprobs: Option<Vec<TokenLogprob>>,
}

impl<N: Network> Decoding<'_, N> {
    /// Writes the answer, kept to its grammar by `guide`; `logits` are those after the prompt, which the cache holds.
    pub fn run(
        &self,
        logits: Vec<f32>,
        guide: Option<Guide>,
        cache: &mut N::Cache,
        events: &mut dyn FnMut(Event),
    ) -> Result<Written, EngineError> {
        let budget = self.request.effective_budget();
        let tags = self.files.generation.thinking.as_ref();
        let stop_thinking = self.request.stop_thinking.clone();
        let tokenizer = &self.files.tokenizer;
        let writer = Writer {
            decoding: self,
            cache,
            answer: Answer::new(self.files, &self.prompt.text, &self.request.stop)?,
            sampler: Sampler::new(&self.request.sampling, &self.prompt.ids),
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
            last_step: Duration::ZERO,
            guesser: match self.request.speculation {
                Speculation::Off => None,
                Speculation::Lookup => Some(Guesser::new(&self.prompt.ids)),
            },
            read_tokens: self.prompt.ids.len(),
            ahead: VecDeque::new(),
            guess: (0, 0),
            logprobs: self.request.logprobs.map(|_| Vec::new()),
        };
        writer.run(logits, events)
    }
}

/// One answer being written.
struct Writer<'a, N: Network> {
    decoding: &'a Decoding<'a, N>,
    cache: &'a mut N::Cache,
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
    last_step: Duration,
    /// Positions of prompt and completion that the network has read; a guess lies beyond them.
    read_tokens: usize,
    guesser: Option<Guesser>,
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

impl<N: Network> Writer<'_, N> {
    fn run(
        mut self,
        mut logits: Vec<f32>,
        events: &mut dyn FnMut(Event),
    ) -> Result<Written, EngineError> {
        let mut first_token = None;
        let finish_reason = loop {
            if self.decoding.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let step = Instant::now();
            let now = self.thought_now();
            let choice = match self.watch.next(now) {
                Next::Close(end) => Choice::Close(end),
                next => self.choose(&mut logits, next, now)?,
            };
            first_token.get_or_insert_with(Instant::now);
            let ids = match choice {
                Choice::End(id) => {
                    self.output_ids.push(id);
                    break FinishReason::Stop;
                }
                Choice::Token(id) => {
                    self.take(id, &logits, events)?;
                    vec![id]
                }
                Choice::Close(end) => self.close(end, now, events)?,
            };
            if self.answer.is_stopped() || self.is_complete() {
                break FinishReason::Stop;
            }
            if ids.is_empty() || self.output_ids.len() == self.decoding.max_tokens {
                break FinishReason::Length;
            }
            logits = self.forward(&ids)?;
            // A guess that came true took no time, and the next token may.
            self.last_step = step.elapsed().max(self.last_step / 2);
        };
        self.forget_guess(self.read_tokens);
        self.thinking.ended = self.thought_end(finish_reason);
        self.answer.finish(events)?;
        Ok(Written {
            reasoning_tokens: self.answer.thought.reasoning_tokens(),
            text: self.answer.text,
            reasoning: self.answer.reasoning,
            output_ids: self.output_ids,
            finish_reason,
            first_token: first_token.unwrap_or_else(Instant::now),
            thinking: self.thinking,
            guesses: self.guesser.map(|guesser| guesser.guesses),
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
        let request = self.decoding.request;
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
        self.forget_guess(self.context_tokens());
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
        self.decoding.prompt.ids.len() + self.output_ids.len()
    }

    /// Leaves at most so many positions in the cache, and nothing read ahead.
    fn forget_guess(&mut self, tokens: usize) {
        self.cache.truncate(tokens);
        self.ahead.clear();
        if let (Some(guesser), (guessed @ 1.., accepted)) = (&mut self.guesser, self.guess) {
            guesser.learn(guessed, accepted);
        }
        self.guess = (0, 0);
    }

    /// Reads the last ids of the completion; gives the logits after the last.
    fn forward(&mut self, ids: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.read_tokens = self.context_tokens();
        let position = self.read_tokens - ids.len();
        if let Some(guesser) = &mut self.guesser {
            guesser.read(position, ids);
        }
        if let ([id], Some((guess, _))) = (ids, self.ahead.front())
            && id == guess
            && let Some((_, logits)) = self.ahead.pop_front()
        {
            self.guess.1 += 1;
            return Ok(logits);
        }
        self.forget_guess(position);
        let most = (self.decoding.max_tokens - self.output_ids.len()).saturating_sub(1);
        let guess = match (&mut self.guesser, ids) {
            (Some(guesser), [_]) => {
                let tokenizer = &self.decoding.files.tokenizer;
                let guide = self.guide.as_mut();
                let forced = guide.and_then(|guide| guide.forced(tokenizer, most));
                forced.unwrap_or_else(|| guesser.guess(most))
            }
            _ => Vec::new(),
        };
        if guess.is_empty() {
            return self.read(ids, LogitRows::Last);
        }
        self.guess = (guess.len(), 0);
        let mut rows = self.read(&[ids, &guess].concat(), LogitRows::All)?;
        let vocabulary = self.decoding.network.shape().vocabulary;
        let after = rows.split_off(vocabulary);
        let after = after.chunks_exact(vocabulary).map(<[f32]>::to_vec);
        self.ahead = guess.into_iter().zip(after).collect();
        Ok(rows)
    }

    /// Takes ids through the network, `wanted` of the last step of rows.
    fn read(&mut self, ids: &[u32], wanted: LogitRows) -> Result<Vec<f32>, EngineError> {
        let Decoding {
            network,
            threads,
            cancel,
            step_tokens,
            ..
        } = self.decoding;
        let cache = &mut *self.cache;
        let mut logits = Vec::new();
        let steps = ids.chunks(match wanted {
            LogitRows::All => ids.len(),
            _ => *step_tokens,
        });
        let count = steps.len();
        for (step, ids) in steps.enumerate() {
            let wanted = match step + 1 == count {
                true => wanted,
                false => LogitRows::None,
            };
            let inputs = network.embed(ids);
            let forward = || network.forward(&inputs, cache, wanted, cancel, &mut NoTaps);
            logits = threads.run(forward)?;
        }
        Ok(logits)
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
