//! Waking whoever waits for one of many things: a batch of an image, a new request, the end.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A bell. Copies are the same bell; ringing it once is enough, and it may be rung before anybody waits.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<(Mutex<bool>, Condvar)>);

impl Waker {
    /// A bell that has not been rung.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the wait of whoever waits, or the next one.
    pub fn wake(&self) {
        let (rung, changed) = &*self.0;
        *rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits until it is rung, at most so long. Returns at once where it was rung since the last wait.
    pub fn wait(&self, at_most: Duration) {
        let (rung, changed) = &*self.0;
        let rung = rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(rung, at_most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_ring_before_the_wait_is_heard_and_only_once() {
        let waker = Waker::new();
        waker.wake();
        waker.wake();
        let long = Duration::from_secs(20);
        let started = Instant::now();
        waker.wait(long);
        assert!(started.elapsed() < long / 2);
        waker.wait(Duration::from_millis(20));
        assert!(started.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn another_thread_ends_a_wait() {
        let (waker, other) = (Waker::new(), Waker::new());
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                other.wait(Duration::from_millis(10));
                waker.wake();
            });
            waker.wait(Duration::from_secs(20));
        });
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
