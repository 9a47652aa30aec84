//! Examples made ahead on other threads and handed over in the order of their numbers.
//!
//! Thread t of n makes every n-th example into a bounded channel of its own, and the reader takes from the channels in
//! turn: the order, and so a training run, does not depend on how many threads there are or how fast they run.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::example::Example;
use crate::generator::Generator;

/// An endless stream of examples, or of what a function makes of them on the drawing thread.
///
/// Dropping it stops the threads.
#[derive(Debug)]
pub struct Stream<T = Example> {
    channels: Vec<Receiver<T>>,
    threads: Vec<Option<JoinHandle<()>>>,
    next: u64,
    start: u64,
}

impl Stream<Example> {
    /// Draws examples from number `start` on, at most `ahead` of them before they are taken.
    pub fn new(generator: Generator, start: u64, threads: usize, ahead: usize) -> Stream<Example> {
        Stream::map(generator, start, threads, ahead, |_, example| example)
    }
}

impl<T: Send + 'static> Stream<T> {
    /// The same, with `work` done to each example (its number comes first) on the thread that drew it.
    pub fn map(
        generator: Generator,
        start: u64,
        threads: usize,
        ahead: usize,
        work: impl Fn(u64, Example) -> T + Send + Sync + 'static,
    ) -> Stream<T> {
        let count = threads.max(1);
        let generator = Arc::new(generator);
        let work = Arc::new(work);
        let mut stream = Stream {
            channels: Vec::with_capacity(count),
            threads: Vec::with_capacity(count),
            next: start,
            start,
        };
        for offset in 0..count as u64 {
            let (sender, receiver) = sync_channel(ahead.div_ceil(count).max(1));
            let (generator, work) = (Arc::clone(&generator), Arc::clone(&work));
            let first = start.wrapping_add(offset);
            let run = move || draw(&generator, first, count as u64, &*work, &sender);
            stream.threads.push(Some(std::thread::spawn(run)));
            stream.channels.push(receiver);
        }
        stream
    }

    /// Number of the example that [`Iterator::next`] will give.
    pub fn position(&self) -> u64 {
        self.next
    }
}

/// Draws every `step`-th example until nobody takes them any more.
fn draw<T>(
    generator: &Generator,
    first: u64,
    step: u64,
    work: &dyn Fn(u64, Example) -> T,
    sender: &SyncSender<T>,
) {
    let mut index = first;
    while sender.send(work(index, generator.example(index))).is_ok() {
        index = index.wrapping_add(step);
    }
}

impl<T> Iterator for Stream<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let turn = (self.next.wrapping_sub(self.start) % self.channels.len() as u64) as usize;
        match self.channels[turn].recv() {
            Ok(value) => {
                self.next = self.next.wrapping_add(1);
                Some(value)
            }
            Err(_) => {
                // A drawing thread only ends while it is read from if it panicked: show that here.
                if let Some(Err(panic)) = self.threads[turn].take().map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                None
            }
        }
    }
}

impl<T> Drop for Stream<T> {
    fn drop(&mut self) {
        self.channels.clear();
        for thread in self.threads.iter_mut().filter_map(Option::take) {
            // A panic of a thread nobody reads from any more is of no interest.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    fn generator() -> Generator {
        Generator::new(9, Recipe::default()).expect("the default recipe is right")
    }

    #[test]
    fn any_number_of_threads_gives_the_same_order() {
        let alone: Vec<_> = (40..70)
            .map(|index| generator().example(index).twin)
            .collect();
        for threads in [1, 2, 3, 7] {
            let stream = Stream::new(generator(), 40, threads, 5);
            let together: Vec<_> = stream.take(30).map(|example| example.twin).collect();
            assert_eq!(alone, together, "{threads} threads");
        }
    }

    #[test]
    fn work_is_done_on_another_thread_and_knows_the_number() {
        let here = std::thread::current().id();
        let stream = Stream::map(generator(), 3, 2, 4, |index, _| {
            (index, std::thread::current().id())
        });
        for (position, (index, thread)) in stream.take(10).enumerate() {
            assert_eq!(index, position as u64 + 3);
            assert_ne!(thread, here);
        }
    }

    #[test]
    #[should_panic(expected = "the seventh is bad")]
    fn a_panic_of_a_worker_reaches_the_reader() {
        let work = |index, _| assert_ne!(index, 7, "the seventh is bad");
        Stream::map(generator(), 0, 2, 4, work)
            .take(20)
            .for_each(drop);
    }
}
