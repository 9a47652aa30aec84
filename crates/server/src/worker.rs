//! The engine as a [`Chat`]: one thread that steps through several answers at once ([`engine::Scheduler`]), and a queue before it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{
    Activity, CacheCounts, Cancel, Capacity, Engine, EngineError, Event, FinishReason, Finished,
    ImageAhead, ImageInfo, Network, Piece, PreparedPrompt, Progress, Reply, Request, Scheduler,
    Task, Waker,
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

/// How long the thread sleeps while images are awaited, at most: it looks whether their clients are still there.
const NAP: Duration = Duration::from_millis(20);

/// What the thread and those who submit share.
struct Desk {
    queue: Mutex<Queue<Job>>,
    /// Woken by whoever submits, and by images that are encoded.
    waker: Waker,
    activity: Mutex<Activity>,
    ending: AtomicBool,
    /// The switches of the jobs being answered.
    current: Mutex<Vec<Cancel>>,
    /// Prompts of which somebody wants to know how much is remembered.
    inquiries: Mutex<Vec<(PreparedPrompt, Sender<usize>)>>,
    capacity: Capacity,
}

struct Job {
    request: Request,
    cancel: Cancel,
    events: UnboundedSender<Said>,
    room: Option<OwnedSemaphorePermit>,
}

/// What is left to do for a job once it is answered.
struct Seat {
    request: Arc<Request>,
    cancel: Cancel,
    events: UnboundedSender<Said>,
    _room: Option<OwnedSemaphorePermit>,
}

/// The scheduler of a worker's thread.
type Answering<'a, 'env, N> = Scheduler<'a, 'env, N, Seat>;

impl<N: Network + 'static> Worker<N>
where
    N::Cache: 'static,
{
    /// Starts the thread. `name` is the model's; at most `queue_limit` requests wait, beside those that `capacity` lets in.
    pub fn start(
        engine: Engine<N>,
        name: &str,
        cache_bytes_per_token: usize,
        queue_limit: usize,
        capacity: Capacity,
    ) -> Self {
        let engine = Arc::new(engine);
        let desk = Arc::new(Desk {
            queue: Mutex::new(Queue::new(queue_limit)),
            waker: Waker::new(),
            activity: Mutex::default(),
            ending: AtomicBool::new(false),
            current: Mutex::default(),
            inquiries: Mutex::default(),
            capacity,
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
        while !self.is_ending() {
            // A bug, whose message the panic hook has printed, ends a scheduler and all that it remembers: what it left behind
            // is not trusted. Then there is a new one.
            let worked = catch_unwind(AssertUnwindSafe(|| {
                std::thread::scope(|scope| {
                    let waker = self.waker.clone();
                    let mut scheduler = Scheduler::new(engine, scope, self.capacity, waker);
                    let worked = catch_unwind(AssertUnwindSafe(|| self.answer(&mut scheduler)));
                    for seat in scheduler.abandon() {
                        // Nobody may be listening any more, here and below.
                        let _ = seat.events.send(Said::Failed(match worked {
                            Ok(()) => ApiError::ending(),
                            Err(_) => ApiError::internal(),
                        }));
                    }
                });
            }));
            // The encoder's panics are told by those who wait for its images.
            drop(worked);
            lock(&self.current).clear();
            *lock(&self.activity) = Activity::default();
        }
    }

    /// Answers until the server ends.
    fn answer<N: Network>(&self, scheduler: &mut Answering<N>) {
        while !self.is_ending() {
            for (prompt, asker) in lock(&self.inquiries).drain(..) {
                // He may have gone away.
                let _ = asker.send(scheduler.remembered_tokens(&prompt));
            }
            while scheduler.has_room()
                && let Some(job) = self.next_job()
            {
                if let Some(finished) = scheduler.begin(task(job)) {
                    self.finish(scheduler.engine(), finished);
                }
            }
            let step = scheduler.step();
            let idle = !step.worked && step.finished.is_empty();
            let activity = scheduler.activity();
            // Before the answers: who has one and asks what runs finds himself gone.
            *lock(&self.activity) = activity;
            for finished in step.finished {
                self.finish(scheduler.engine(), finished);
            }
            if idle {
                self.waker.wait(match activity.requests {
                    0 => Duration::from_secs(3600),
                    _ => NAP,
                });
            }
        }
    }

    /// Says how a request ended.
    fn finish<N: Network>(&self, engine: &Engine<N>, finished: Finished<Seat>) {
        let seat = finished.tag;
        lock(&self.current).retain(|cancel| !cancel.is_same(&seat.cancel));
        let said = match finished.result {
            Ok(reply) => Said::Done(Box::new(Answer {
                stop_sequence: stop_sequence(engine, &seat.request, &reply),
                reply,
            })),
            Err(error) => Said::Failed(error.into()),
        };
        let _ = seat.events.send(said);
    }

    /// Tokens of a prompt that are remembered. What is remembered is the answering thread's own, so it is asked, between two steps.
    fn remembered(&self, prompt: PreparedPrompt) -> usize {
        let (asker, answer) = channel();
        lock(&self.inquiries).push((prompt, asker));
        self.waker.wake();
        // Once the thread has ended there is nobody to answer, and nothing to remember.
        if self.is_ending() {
            lock(&self.inquiries).clear();
        }
        answer.recv().unwrap_or(0)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Whose turn it is, if anybody waits.
    fn next_job(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        queue.retain(|job| !job.cancel.is_cancelled());
        let job = queue.pop()?;
        // Under the queue's lock, so that whoever ends the server finds it here or there.
        lock(&self.current).push(job.cancel.clone());
        lock(&self.activity).requests += 1;
        Some(job)
    }

    fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        lock(&self.queue).clear();
        lock(&self.inquiries).clear();
        lock(&self.current).iter().for_each(Cancel::cancel);
        self.waker.wake();
    }
}

fn task<'a>(job: Job) -> Task<'a, Seat> {
    let request = Arc::new(job.request);
    let (events, cancel) = (job.events.clone(), job.cancel.clone());
    Task {
        request: request.clone(),
        cancel: job.cancel.clone(),
        events: Box::new(move |event: Event| {
            let said = match event {
                Event::Prefill { done, total } => Said::Prefill { done, total },
                Event::Reasoning(text) => Said::Reasoning(text.to_owned()),
                Event::Text(text) => Said::Text(text.to_owned()),
                Event::Token(token) => Said::Token(token.clone()),
            };
            if events.send(said).is_err() {
                cancel.cancel();
            }
        }),
        tag: Seat {
            request,
            cancel: job.cancel,
            events: job.events,
            _room: job.room,
        },
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
        let remembered_tokens = self.desk.remembered(self.engine.prepared_prompt(request)?);
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
        if self.desk.is_ending() {
            return Err(ApiError::ending());
        }
        let (events, receiver) = unbounded_channel();
        let cancel = Cancel::new();
        let job = Job {
            request: submission.request,
            cancel: cancel.clone(),
            events,
            room: submission.room,
        };
        let mut queue = lock(&self.desk.queue);
        queue.retain(|job| !job.cancel.is_cancelled());
        let waiting = queue.len();
        queue
            .push(submission.client, job)
            .map_err(|_| ApiError::busy(waiting))?;
        drop(queue);
        self.desk.waker.wake();
        Ok(Ticket::new(receiver, cancel))
    }

    fn load(&self) -> Load {
        let mut queue = lock(&self.desk.queue);
        queue.retain(|job| !job.cancel.is_cancelled());
        let activity = *lock(&self.desk.activity);
        Load {
            waiting: queue.len(),
            running: activity.requests,
            reading: activity.reading,
            cache_tokens: activity.cache_tokens,
            places: self.desk.capacity.requests,
        }
    }

    fn encode_ahead(&self, picture: &Picture) -> Option<Box<dyn Ahead>> {
        // A model without eyes refuses a picture when it is asked about it.
        let ahead = self.engine.encode_ahead(picture.clone()).ok()?;
        Some(Box::new(ahead))
    }

    fn stop(&self) {
        self.desk.end();
    }
}

impl<N: Network> Drop for Worker<N> {
    fn drop(&mut self) {
        self.desk.end();
    }
}
