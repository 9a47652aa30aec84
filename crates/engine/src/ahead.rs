//! Images encoded before the question about them is known.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use image_prep::Picture;

use crate::cancel::Cancel;
use crate::encoding::{Batch, ImageEncoder, Pixels, Wanted};
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
    key: Key,
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

/// Tells pictures apart. The hash has a key that nobody outside knows, so that no two pictures can be made to share one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    size: (u32, u32),
    hash: u64,
}

/// The images that an engine encodes ahead.
#[derive(Default)]
pub(crate) struct Ahead {
    hasher: RandomState,
    held: Mutex<Vec<Weak<Held>>>,
    /// One image is encoded at a time, so that memory is needed for the batches of one.
    turn: Arc<Mutex<()>>,
}

impl Ahead {
    /// Begins with a picture, on a thread of its own; one that is in work already is not begun again.
    pub fn begin<N: Network + 'static>(
        &self,
        encoder: ImageEncoder<N>,
        picture: Picture,
    ) -> ImageAhead {
        let key = self.key(&picture);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| held.strong_count() > 0);
        let same = held
            .iter()
            .filter_map(Weak::upgrade)
            .find(|held| held.key == key);
        if let Some(same) = same {
            return ImageAhead(same);
        }
        let job = Arc::new(Job::default());
        let handle = ImageAhead(Arc::new(Held {
            key,
            job: job.clone(),
        }));
        held.push(Arc::downgrade(&handle.0));
        let turn = self.turn.clone();
        std::thread::spawn(move || {
            let _ending = Ending(&job);
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            work(&encoder, &picture, &job);
        });
        handle
    }

    /// Waits until no other image is being encoded. Whoever holds it encodes, with a request or ahead of one.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The picture's image, if somebody holds it.
    pub fn find(&self, picture: &Picture) -> Option<ImageAhead> {
        let held: Vec<Arc<Held>> = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.iter().filter_map(Weak::upgrade).collect()
        };
        // Hashing takes milliseconds: only where there is something to compare with.
        let size = (picture.width, picture.height);
        let mut same_size = held
            .into_iter()
            .filter(|held| held.key.size == size)
            .peekable();
        same_size.peek()?;
        let key = self.key(picture);
        same_size.find(|held| held.key == key).map(ImageAhead)
    }

    fn key(&self, picture: &Picture) -> Key {
        Key {
            size: (picture.width, picture.height),
            hash: self.hasher.hash_one(&picture.rgb),
        }
    }
}

fn work<N: Network>(encoder: &ImageEncoder<N>, picture: &Picture, job: &Job) {
    let _at_work = encoder.begin();
    let take = &mut |batch: Batch| {
        job.change(|state| state.batches.push(batch.features));
        Wanted::More
    };
    // Whoever waits encodes the image itself where this failed, and so gets the error as well.
    if encoder
        .encode(picture, Pixels::Drop, &job.cancel, take)
        .is_ok()
    {
        job.change(|state| state.end = Some(End::Done));
    }
}
