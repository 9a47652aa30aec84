//! The engine as a [`Chat`]: one thread that answers, and a queue before it.
//!
//! One request is computed at a time; all cores work on it. Interleaving others' prefill with its decoding, and decoding
//! several answers in one reading of the weights, is the engine's to offer and not there yet.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use engine::{
    CacheCounts, Cancel, Engine, EngineError, Event, FinishReason, ImageAhead, ImageInfo, Memory,
    Network, Piece, Progress, Reply, Request,
};
use image_prep::{Picture, TilePlan};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::chat::{
    Ahead, Answer, Chat, Explained, Load, Measure, ModelCard, Said, Sees, Submission, Thinks,
    Ticket,
};
use crate::error::ApiError;
use crate::queue::Queue;

/// An engine with its thread. Dropping it cancels its work.
pub struct Worker<N: Network> {
    engine: Arc<Engine<N>>,
    desk: Arc<Desk>,
    card: ModelCard,
}

/// What the thread and those who submit share.
struct Desk {
    queue: Mutex<Queue<Job>>,
    arrived: Condvar,
    running: AtomicUsize,
    ending: AtomicBool,
    /// The switch of the job being answered.
    current: Mutex<Cancel>,
}

struct Job {
    request: Request,
    cancel: Cancel,
    events: UnboundedSender<Said>,
    _room: Option<OwnedSemaphorePermit>,
}

impl<N: Network + 'static> Worker<N>
where
    N::Cache: 'static,
{
    /// Starts the thread. `name` is the model's; at most `queue_limit` requests wait.
    pub fn start(
        engine: Engine<N>,
        name: &str,
        cache_bytes_per_token: usize,
        queue_limit: usize,
    ) -> Self {
        let engine = Arc::new(engine);
        let desk = Arc::new(Desk {
            queue: Mutex::new(Queue::new(queue_limit)),
            arrived: Condvar::new(),
            running: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            current: Mutex::default(),
        });
        let card = card(&engine, name, cache_bytes_per_token);
        let (its_engine, its_desk) = (engine.clone(), desk.clone());
        std::thread::spawn(move || its_desk.work(&its_engine));
        Worker { engine, desk, card }
    }
}

fn card<N: Network>(engine: &Engine<N>, name: &str, cache_bytes_per_token: usize) -> ModelCard {
    let shape = engine.network().shape();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    ModelCard {
        id: name.to_owned(),
        created_s: since_1970.map_or(0, |time| time.as_secs()),
        context_tokens: shape.context_tokens,
        tile_side: shape.tile_side,
        sees: match shape.image_ids {
            Some(_) => Sees::Pictures,
            None => Sees::Nothing,
        },
        thinks: match engine.files().template.knows_thinking() {
            true => Thinks::OnRequest,
            false => Thinks::NotOnRequest,
        },
        cache_bytes_per_token,
    }
}

/// A lock whose holder panicked is as good as before: nothing here is left half done under one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    fn work<N: Network>(&self, engine: &Engine<N>) {
        let mut memory = Memory::new();
        while let Some(job) = self.next_job() {
            let answered = catch_unwind(AssertUnwindSafe(|| answer(engine, &mut memory, &job)));
            let said = answered.unwrap_or_else(|_| {
                // A bug, whose message the panic hook has printed. What it left behind is not trusted.
                memory = Memory::new();
                Said::Failed(ApiError::internal())
            });
            self.running.store(0, Ordering::SeqCst);
            // Nobody may be listening any more.
            let _ = job.events.send(said);
        }
    }

    /// Waits for work; none when the server ends.
    fn next_job(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if self.ending.load(Ordering::SeqCst) {
                return None;
            }
            queue.retain(|job| !job.cancel.is_cancelled());
            if let Some(job) = queue.pop() {
                self.running.store(1, Ordering::SeqCst);
                *lock(&self.current) = job.cancel.clone();
                return Some(job);
            }
            queue = self
                .arrived
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn answer<N: Network>(engine: &Engine<N>, memory: &mut Memory<N>, job: &Job) -> Said {
    let mut say = |event: Event| {
        let said = match event {
            Event::Prefill { done, total } => Said::Prefill { done, total },
            Event::Reasoning(text) => Said::Reasoning(text.to_owned()),
            Event::Text(text) => Said::Text(text.to_owned()),
            Event::Token(token) => Said::Token(token.clone()),
        };
        if job.events.send(said).is_err() {
            job.cancel.cancel();
        }
    };
    match engine.generate_in(memory, &job.request, &job.cancel, &mut say) {
        Ok(reply) => Said::Done(Box::new(Answer {
            stop_sequence: stop_sequence(engine, &job.request, &reply),
            reply,
        })),
        Err(error) => Said::Failed(error.into()),
    }
}

/// Which stop string ended an answer, which is told from a token for the end by the last token.
fn stop_sequence<N: Network>(
    engine: &Engine<N>,
    request: &Request,
    reply: &Reply,
) -> Option<String> {
    let tokenizer = &engine.files().tokenizer;
    let last = reply.output_ids.last()?;
    let ended_itself = tokenizer.control_tokens().iter().any(|(_, id)| id == last);
    if reply.finish_reason != FinishReason::Stop || ended_itself {
        return None;
    }
    let raw = tokenizer.decode(&reply.output_ids).ok()?;
    let end = |stop: &&String| raw.rfind(stop.as_str()).map(|start| start + stop.len());
    request.stop.iter().max_by_key(end).cloned()
}

impl Ahead for ImageAhead {
    fn is_done(&self) -> bool {
        ImageAhead::is_done(self)
    }

    fn has_failed(&self) -> bool {
        ImageAhead::has_failed(self)
    }

    fn progress(&self) -> Progress {
        ImageAhead::progress(self)
    }
}

impl<N: Network + 'static> Chat for Worker<N> {
    fn model(&self) -> &ModelCard {
        &self.card
    }

    fn measure(&self, request: &Request) -> Result<Measure, EngineError> {
        let look = self.engine.look(request)?;
        let of_images = |piece: &Piece| match piece {
            Piece::Image { places, .. } => places.len(),
            Piece::Text(_) => 0,
        };
        Ok(Measure {
            prompt_tokens: look.prompt.ids.len(),
            image_tokens: look.prompt.pieces.iter().map(of_images).sum(),
            images: look.images,
            plans: look.plans,
        })
    }

    fn explain(&self, request: &Request) -> Result<Option<Explained>, EngineError> {
        // What the thread that answers remembers is its own.
        let remembered_tokens = 0;
        Ok(Some(Explained {
            cost: self.engine.cost(request, remembered_tokens)?,
            cheaper: self.engine.cheaper(request, remembered_tokens)?,
        }))
    }

    fn image_cache(&self) -> Option<CacheCounts> {
        self.engine.image_cache_counts()
    }

    fn plan(&self, width: u32, height: u32) -> (TilePlan, ImageInfo) {
        let plan = self.engine.files().preprocessor.plan(width, height);
        (plan, self.engine.plan(width, height))
    }

    fn tokenize(&self, text: &str) -> Result<Vec<(u32, String)>, EngineError> {
        let tokenizer = &self.engine.files().tokenizer;
        let ids = tokenizer.encode_literal(text)?;
        let spell = |&id: &u32| (id, tokenizer.id_to_token(id).unwrap_or_default());
        Ok(ids.iter().map(spell).collect())
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, EngineError> {
        self.engine.files().tokenizer.decode(ids)
    }

    fn submit(&self, submission: Submission) -> Result<Ticket, ApiError> {
        if self.desk.ending.load(Ordering::SeqCst) {
            return Err(ApiError::ending());
        }
        let (events, receiver) = unbounded_channel();
        let cancel = Cancel::new();
        let job = Job {
            request: submission.request,
            cancel: cancel.clone(),
            events,
            _room: submission.room,
        };
        let mut queue = lock(&self.desk.queue);
        queue.retain(|job| !job.cancel.is_cancelled());
        let waiting = queue.len();
        queue
            .push(submission.client, job)
            .map_err(|_| ApiError::busy(waiting))?;
        drop(queue);
        self.desk.arrived.notify_one();
        Ok(Ticket::new(receiver, cancel))
    }

    fn load(&self) -> Load {
        let mut queue = lock(&self.desk.queue);
        queue.retain(|job| !job.cancel.is_cancelled());
        Load {
            waiting: queue.len(),
            running: self.desk.running.load(Ordering::SeqCst),
        }
    }

    fn encode_ahead(&self, picture: &Picture) -> Option<Box<dyn Ahead>> {
        // A model without eyes refuses a picture when it is asked about it.
        let ahead = self.engine.encode_ahead(picture.clone()).ok()?;
        Some(Box::new(ahead))
    }

    fn stop(&self) {
        self.desk.ending.store(true, Ordering::SeqCst);
        lock(&self.desk.queue).clear();
        lock(&self.desk.current).cancel();
        self.desk.arrived.notify_all();
    }
}

impl<N: Network> Drop for Worker<N> {
    fn drop(&mut self) {
        self.desk.ending.store(true, Ordering::SeqCst);
        lock(&self.desk.queue).clear();
        lock(&self.desk.current).cancel();
        self.desk.arrived.notify_all();
    }
}
