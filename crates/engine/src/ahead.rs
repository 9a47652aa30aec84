//! Images encoded before the question about them is known.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use image_prep::{Picture, Preprocessor, Views};

use crate::cancel::Cancel;
use crate::encoding::{Batch, ImageEncoder, Pixels, Subject, Wanted};
use crate::image_cache::ImageCache;
use crate::network::Network;

/// How long whoever waits for a batch goes without asking whether it should still wait; a layer takes as long.
const PATIENCE: Duration = Duration::from_millis(5);

/// An image that [`crate::Engine::encode_ahead`] encodes, or has encoded. As long as a copy of it lives, every request to that
/// engine with the same picture takes its rows from here. When the last one is dropped, the work stops and the rows go.
#[derive(Clone)]
pub struct ImageAhead(Arc<Held>);

impl ImageAhead {
    /// Whether all of its rows are there.
    pub fn is_done(&self) -> bool {
        self.0.job.lock().end == Some(End::Done)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            tiles_done: self.0.job.lock().tiles,
            tiles: self.0.tiles,
        }
    }

    /// Whether it ended without all of its rows: the request about it then encodes the picture itself.
    pub fn has_failed(&self) -> bool {
        self.0.job.lock().end == Some(End::Failed)
    }

    /// Waits until all of its rows are there, or `cancel` is thrown. Requests need not wait: they take rows as they come.
    pub fn wait(&self, cancel: &Cancel) {
        let mut at = 0;
        while let Next::Batch(_) = self.next(at, cancel) {
            at += 1;
        }
    }

    /// The batch with this number, when it is there.
    pub(crate) fn next(&self, number: usize, cancel: &Cancel) -> Next {
        let job = &self.0.job;
        let mut state = job.lock();
        loop {
            if let Some(features) = state.batches.get(number) {
                return Next::Batch(features.clone());
            }
            match state.end {
                Some(End::Done) => return Next::NoMore,
                Some(End::Failed) => return Next::Failed,
                None if cancel.is_cancelled() => return Next::Failed,
                None => {}
            }
            let waited = job.changed.wait_timeout(state, PATIENCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// How far an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Tiles whose rows are there.
    pub tiles_done: usize,
    /// All tiles.
    pub tiles: usize,
}

/// What is known of a batch that was asked for.
pub(crate) enum Next {
    /// Its rows.
    Batch(Arc<[f32]>),
    /// The image has no more.
    NoMore,
    /// There will be none: the work failed, or whoever waits was cancelled.
    Failed,
}

/// Stops the work when nobody holds it any more.
struct Held {
    name: u128,
    tiles: usize,
    job: Arc<Job>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.job.cancel.cancel();
    }
}

/// What worker and holders share.
#[derive(Default)]
struct Job {
    cancel: Cancel,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    batches: Vec<Arc<[f32]>>,
    tiles: usize,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Failed,
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A state is changed in single steps: whoever panicked left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Says that a job failed, if nobody has said how it ended.
struct Ending<'a>(&'a Job);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.end.get_or_insert(End::Failed);
        });
    }
}

/// A picture that belongs to whoever encodes it, cut and scaled so.
pub(crate) struct Owned {
    pub picture: Picture,
    pub preprocessor: Preprocessor,
    pub name: u128,
}

impl Owned {
    fn subject(&self) -> Subject<'_> {
        Subject {
            picture: &self.picture,
            preprocessor: &self.preprocessor,
            name: self.name,
        }
    }

    fn views(&self) -> Views {
        let picture = &self.picture;
        self.preprocessor.views(picture.width, picture.height)
    }
}

/// The images that an engine encodes ahead, and those that it keeps.
#[derive(Default)]
pub(crate) struct Ahead {
    held: Mutex<Vec<Weak<Held>>>,
    /// One image is encoded at a time, so that memory is needed for the batches of one.
    turn: Arc<Mutex<()>>,
    /// What was encoded before.
    pub cache: Option<Arc<ImageCache>>,
}

impl Ahead {
    /// Begins with a picture, on a thread of its own; one that is in work already is not begun again, and one that is kept
    /// is there at once.
    pub fn begin<N: Network + 'static>(
        &self,
        encoder: ImageEncoder<N>,
        owned: Owned,
    ) -> ImageAhead {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| held.strong_count() > 0);
        if let Some(same) = find(&held, owned.name) {
            return same;
        }
        let job = Arc::new(Job::default());
        let handle = ImageAhead(Arc::new(Held {
            name: owned.name,
            tiles: owned.views().list.len(),
            job: job.clone(),
        }));
        held.push(Arc::downgrade(&handle.0));
        drop(held);
        let (turn, cache) = (self.turn.clone(), self.cache.clone());
        std::thread::spawn(move || {
            let _ending = Ending(&job);
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            work(&encoder, &owned, &job, cache.as_deref());
        });
        handle
    }

    /// Waits until no other image is being encoded. Whoever holds it encodes, with a request or ahead of one.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image of this name, if somebody holds it.
    pub fn find(&self, name: u128) -> Option<ImageAhead> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        find(&held, name)
    }
}

fn find(held: &[Weak<Held>], name: u128) -> Option<ImageAhead> {
    let mut held = held.iter().filter_map(Weak::upgrade);
    held.find(|held| held.name == name).map(ImageAhead)
}

fn work<N: Network>(
    encoder: &ImageEncoder<N>,
    owned: &Owned,
    job: &Job,
    cache: Option<&ImageCache>,
) {
    let subject = owned.subject();
    let push = |features: Arc<[f32]>, tiles: usize| {
        job.change(|state| {
            state.tiles += tiles;
            state.batches.push(features);
        });
    };
    let wanted = encoder.numbers(subject);
    if let Some(kept) = cache.and_then(|cache| cache.find(subject.name, wanted)) {
        kept.into_iter().for_each(|features| push(features, 0));
        job.change(|state| {
            state.tiles = owned.views().list.len();
            state.end = Some(End::Done);
        });
        return;
    }
    let _at_work = encoder.begin();
    let take = &mut |batch: Batch| {
        push(batch.features, batch.tiles);
        Wanted::More
    };
    // Whoever waits encodes the image itself where this failed, and so gets the error as well.
    if encoder
        .encode(subject, Pixels::Drop, &job.cancel, take)
        .is_ok()
    {
        if let Some(cache) = cache {
            cache.keep(subject.name, job.lock().batches.clone());
        }
        job.change(|state| state.end = Some(End::Done));
    }
}
