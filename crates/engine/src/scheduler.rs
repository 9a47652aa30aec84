//! Several requests answered at once (continuous batching): one reading of the weights serves all of them.
//!
//! Each step takes, in one call of the network, the next token of every answer that is being written (with its guesses, where it
//! speculates) and one chunk of one prompt. So:
//! - an answer goes on in every step, whoever comes: the gap between two of its tokens is one step, at most one chunk of
//!   [`Capacity::chunk_tokens`] rows and a row for each other answer;
//! - prompts take turns, chunk by chunk, newcomers first: of `k` prompts that are read each has every `k`th chunk;
//! - nobody starves: a request that has begun is in no queue any more, and what waits to begin does so in its order.
//!
//! Images are encoded on a thread of their own, one image at a time, and share the threads that compute with the steps: others
//! go on meanwhile, more slowly. A request that waits for its images takes no part in a step.
//!
//! The answers are those that each request has alone, bit for bit, because the bits of a row do not depend on the rows computed
//! with it.

use std::sync::Arc;
use std::thread::Scope;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::engine::{Engine, Prepared, PreparedPrompt};
use crate::error::EngineError;
use crate::memories::{self, Memories};
use crate::network::{Cache, Network, Segment};
use crate::prefill::Patience;
use crate::request::{Event, Reply, Request, RequestRef};
use crate::sequence::{Begin, Sequence, Wants};
use crate::wake::Waker;

/// How much a scheduler takes on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Requests answered at once, at least 1.
    pub requests: usize,
    /// Positions of key-value cache, those of requests being answered and those remembered of earlier ones together. One request
    /// alone may take the model's whole context whatever this says.
    pub cache_tokens: usize,
    /// Rows of a prompt that are read in one step beside others' tokens: the longest that an answer is held up by a newcomer.
    pub chunk_tokens: usize,
}

/// Rows of a prompt beside others' tokens: half a step of [`crate::STEP_TOKENS`] costs an eighth of the prefill's speed and halves the
/// gaps of others (docs/numbers.md).
pub const CHUNK_TOKENS: usize = 64;

/// A request for a [`Scheduler`].
pub struct Task<'a, T> {
    /// The request.
    pub request: Arc<Request>,
    /// Ends its work, and no other's, within one step.
    pub cancel: Cancel,
    /// Sees the answer as it grows.
    pub events: Box<dyn FnMut(Event) + 'a>,
    /// Whatever tells whose it is.
    pub tag: T,
}

/// The end of a request.
pub struct Finished<T> {
    /// Whose it is.
    pub tag: T,
    /// Its answer.
    pub result: Result<Reply, EngineError>,
}

/// What a scheduler is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Requests being answered.
    pub requests: usize,
    /// Of these, requests whose prompt is being read, or whose images are encoded.
    pub reading: usize,
    /// Positions of key-value cache that are in use or remembered.
    pub cache_tokens: usize,
}

/// Answers several requests at once.
pub struct Scheduler<'a, 'env, N: Network, T> {
    engine: &'a Engine<N>,
    scope: &'a Scope<'a, 'env>,
    capacity: Capacity,
    waker: Waker,
    memories: Memories<N::Cache>,
    running: Vec<Running<'a, N, T>>,
    /// One that waits for memory, and so do all that come after it.
    waiting: Option<(Task<'a, T>, Prepared, Instant)>,
    steps: u64,
}

struct Running<'a, N: Network, T> {
    sequence: Sequence<'a, N>,
    tag: T,
    /// The number of the step that last read a chunk of its prompt; 0 for none.
    last_chunk: u64,
    error: Option<EngineError>,
    /// Whether the step being taken has rows of it.
    in_step: bool,
}

impl<'a, 'env, N: Network, T> Scheduler<'a, 'env, N, T> {
    /// A scheduler with nothing to do. Its threads, which encode images, end with the scope; `waker` is woken when an image that
    /// was awaited is there.
    pub fn new(
        engine: &'a Engine<N>,
        scope: &'a Scope<'a, 'env>,
        capacity: Capacity,
        waker: Waker,
    ) -> Self {
        Scheduler {
            engine,
            scope,
            capacity,
            waker,
            memories: Memories::default(),
            running: Vec::new(),
            waiting: None,
            steps: 0,
        }
    }

    /// The engine that answers.
    pub fn engine(&self) -> &'a Engine<N> {
        self.engine
    }

    /// Whether another request can begin.
    pub fn has_room(&self) -> bool {
        self.waiting.is_none() && self.running.len() < self.capacity.requests.max(1)
    }

    /// What it is doing.
    pub fn activity(&self) -> Activity {
        let decoding = |running: &&Running<'a, N, T>| !running.sequence.is_decoding();
        Activity {
            requests: self.running.len() + usize::from(self.waiting.is_some()),
            reading: self.running.iter().filter(decoding).count(),
            cache_tokens: self.memories.tokens() + self.tokens_in_use(),
        }
    }

    /// Tokens of a prompt that a request with it would not read if it began now, because earlier requests or those being answered
    /// have read them.
    pub fn remembered_tokens(&self, prompt: &PreparedPrompt) -> usize {
        let PreparedPrompt(prepared) = prompt;
        let kept = self.memories.best(prepared).map_or(0, |(_, shared)| shared);
        let running = self.running.iter();
        let of_running = running.map(|running| running.sequence.shared(prepared));
        of_running.fold(kept, usize::max)
    }

    /// Begins with a request, or has it wait until there is memory for it. Gives it back with its error where it cannot be
    /// answered at all. To be called when [`Scheduler::has_room`].
    pub fn begin(&mut self, task: Task<'a, T>) -> Option<Finished<T>> {
        let started = Instant::now();
        match self.engine.prepare_rows(&task.request) {
            Ok(prepared) => {
                self.waiting = Some((task, prepared, started));
                self.admit();
                None
            }
            Err(error) => Some(Finished {
                tag: task.tag,
                result: Err(error),
            }),
        }
    }

    /// Takes one step, and gives those that have come to their end. Whether anything was computed is [`Step::worked`]: where not,
    /// images are awaited, or there is nothing to do.
    pub fn step(&mut self) -> Step<T> {
        self.steps += 1;
        self.admit();
        let chunk = self.choose_chunk();
        let worked = self.compute(chunk);
        Step {
            worked,
            finished: self.finished(),
        }
    }

    /// Gives up all requests, for a scheduler that is not trusted any more.
    pub fn abandon(self) -> impl Iterator<Item = T> {
        for running in &self.running {
            running.sequence.cancel().cancel();
        }
        let waiting = self.waiting.map(|(task, ..)| task.tag);
        let running = self.running.into_iter().map(|running| running.tag);
        running.chain(waiting)
    }

    fn tokens_in_use(&self) -> usize {
        let most = |running: &Running<'a, N, T>| running.sequence.most_tokens();
        self.running.iter().map(most).sum()
    }

    /// Begins with the one that waits, if there is memory for it: as much as it may come to need.
    fn admit(&mut self) {
        let Some((task, prepared, _)) = &self.waiting else {
            return;
        };
        let free = self.capacity.cache_tokens.checked_sub(self.tokens_in_use());
        let room = free.and_then(|free| free.checked_sub(prepared.most_tokens()));
        // One alone is always let in: it has the whole memory, and a context is bounded.
        if room.is_none() && !self.running.is_empty() && !task.cancel.is_cancelled() {
            return;
        }
        let Some((task, prepared, started)) = self.waiting.take() else {
            return;
        };
        let cache = self.cache_for(&prepared);
        self.memories.shrink(room.unwrap_or(0));
        let begin = Begin {
            request: RequestRef::Shared(task.request),
            cancel: task.cancel,
            events: task.events,
            record: None,
            waker: self.waker.clone(),
            started,
        };
        let sequence = Sequence::begin(self.scope, self.engine, (prepared, cache), begin);
        self.running.push(Running {
            sequence,
            tag: task.tag,
            last_chunk: 0,
            error: None,
            in_step: false,
        });
    }

    /// A cache with as much of a prompt as anybody has: what earlier requests left, or what those being answered have read.
    fn cache_for(&mut self, prepared: &Prepared) -> N::Cache {
        let kept = self.memories.best(prepared);
        let of_running = |running: &Running<'a, N, T>| running.sequence.shared(prepared);
        let others = self.running.iter().map(of_running).enumerate();
        let other = others.max_by_key(|(_, shared)| *shared);
        if let Some((at, shared)) = other
            && shared > kept.map_or(0, |(_, shared)| shared)
            && let Some(copy) = self.running[at].sequence.cache().copy(shared)
        {
            return copy;
        }
        match kept {
            Some((at, shared)) => self.memories.take(at, shared),
            None => memories::empty(&*self.engine.network),
        }
    }

    /// Rows of a prompt in the next step.
    fn chunk_tokens(&self) -> usize {
        let decoding = self.running.iter().any(|r| r.sequence.is_decoding());
        match decoding {
            true => self.capacity.chunk_tokens.clamp(1, self.engine.step_tokens),
            false => self.engine.step_tokens,
        }
    }

    /// Whose chunk of prompt the next step reads: of those that have one, whoever had none for longest.
    fn choose_chunk(&mut self) -> Option<usize> {
        let chunk_tokens = self.chunk_tokens();
        let mut chosen: Option<usize> = None;
        for at in 0..self.running.len() {
            let last = chosen.map(|at| self.running[at].last_chunk);
            let running = &mut self.running[at];
            if running.sequence.is_decoding() || last.is_some_and(|last| last <= running.last_chunk)
            {
                continue;
            }
            match running.sequence.has_chunk(chunk_tokens) {
                Ok(true) => chosen = Some(at),
                Ok(false) => {}
                Err(error) => running.error = Some(error),
            }
        }
        chosen
    }

    /// One call of the network for all answers and one chunk. Whether there was anything to compute.
    fn compute(&mut self, chunk: Option<usize>) -> bool {
        let chunk_tokens = self.chunk_tokens();
        let (mut batch, mut cancels) = (Vec::new(), Vec::new());
        for (at, running) in self.running.iter_mut().enumerate() {
            running.in_step = false;
            if running.error.is_some() || !(running.sequence.is_decoding() || chunk == Some(at)) {
                continue;
            }
            let cancel = running.sequence.cancel().clone();
            match running.sequence.next(chunk_tokens, Patience::None) {
                Ok(Wants::Read(segment, _)) => {
                    batch.push(segment);
                    cancels.push(cancel);
                    running.in_step = true;
                }
                Ok(Wants::Image) => {}
                Err(error) => running.error = Some(error),
            }
        }
        if batch.is_empty() {
            return false;
        }
        let started = Instant::now();
        let result = forward(self.engine, &mut batch, &cancels);
        drop(batch);
        self.take(chunk, result, started.elapsed());
        true
    }

    fn take(
        &mut self,
        chunk: Option<usize>,
        result: Result<Vec<Vec<f32>>, EngineError>,
        time: Duration,
    ) {
        let steps = self.steps;
        let in_step = self.running.iter_mut().enumerate();
        let in_step = in_step.filter(|(_, running)| running.in_step);
        match result {
            Ok(logits) => {
                for ((at, running), logits) in in_step.zip(logits) {
                    if chunk == Some(at) {
                        running.last_chunk = steps;
                    }
                    running.error = running.sequence.take(logits, time).err();
                }
            }
            Err(error) => {
                // Whoever is in the step has been cancelled, or has nothing to go on with.
                let mut error = Some(error);
                for (_, running) in in_step {
                    running.error = error.take().or(Some(EngineError::Cancelled));
                }
            }
        }
    }

    /// Takes out those that are at their end, and remembers what they have read.
    fn finished(&mut self) -> Vec<Finished<T>> {
        let mut finished = Vec::new();
        let mut at = 0;
        while at < self.running.len() {
            let running = &self.running[at];
            if !running.sequence.is_done() && running.error.is_none() {
                at += 1;
                continue;
            }
            let running = self.running.remove(at);
            let (reply, rows, cache) = running.sequence.finish();
            self.memories.keep(rows, cache);
            finished.push(Finished {
                tag: running.tag,
                result: reply.ok_or(running.error.unwrap_or(EngineError::Cancelled)),
            });
        }
        let in_use = self.tokens_in_use();
        self.memories
            .shrink(self.capacity.cache_tokens.saturating_sub(in_use));
        finished
    }
}

/// What a step did.
pub struct Step<T> {
    /// Whether anything was computed.
    pub worked: bool,
    /// Those that have come to their end.
    pub finished: Vec<Finished<T>>,
}

/// The network reads what all want. It stops when nobody in the batch is wanted any more.
fn forward<N: Network>(
    engine: &Engine<N>,
    batch: &mut [Segment<N::Cache>],
    cancels: &[Cancel],
) -> Result<Vec<Vec<f32>>, EngineError> {
    let stop = || cancels.iter().all(Cancel::is_cancelled);
    let forward = || engine.network.forward_batch(batch, &stop);
    engine.encoder.threads.run(forward)
}

#[cfg(test)]
mod tests;
