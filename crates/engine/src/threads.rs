//! How many threads compute: one pool for everything, so that an image's encoder and a prompt's prefill share a budget
//! instead of adding up.
//!
//! Threads that wait (for an image, for a request) are not in the pool; whatever computes is run in it. Threads are not pinned
//! to processors: docs/log.md says what that would bring.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::EngineError;

/// Some threads that compute together. Copies are the same threads.
#[derive(Clone, Debug)]
pub struct Threads(Arc<ThreadPool>);

/// More than any machine that these models are for.
pub const MOST_THREADS: usize = 1024;

impl Threads {
    /// So many threads, from 1 to [`MOST_THREADS`]. Answers do not depend on it.
    pub fn new(count: usize) -> Result<Self, EngineError> {
        let wrong = |message| EngineError::request("threads", message);
        if !(1..=MOST_THREADS).contains(&count) {
            return Err(wrong(format!(
                "expected 1 to {MOST_THREADS}, found {count}"
            )));
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|thread| format!("compute-{thread}"))
            .build()
            .map_err(|error| wrong(format!("cannot start {count}: {error}")))?;
        Ok(Threads(Arc::new(pool)))
    }

    /// One for each of [`physical_cores`]; the same for all who ask.
    pub fn of_all_cores() -> Result<Self, EngineError> {
        static SHARED: OnceLock<Threads> = OnceLock::new();
        match SHARED.get() {
            Some(threads) => Ok(threads.clone()),
            None => {
                let threads = Threads::new(physical_cores())?;
                Ok(SHARED.get_or_init(|| threads).clone())
            }
        }
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Does some work in the pool; what it splits stays in there. The work must not wait for other work of the pool.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }

    /// Two pieces of work at once where a thread is free, one after the other where none is.
    pub fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        self.0.join(a, b)
    }
}

/// Cores that this process may use: of processors that share one (hyperthreads) only one counts, because both together
/// multiply no faster. Where the system does not tell which ones do, all processors count.
pub fn physical_cores() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let read = |path: String| std::fs::read_to_string(path).ok();
    let cores = read("/proc/self/status".into()).and_then(|status| {
        distinct_cores(&status, |processor| {
            let topology = format!("/sys/devices/system/cpu/cpu{processor}/topology");
            read(format!("{topology}/thread_siblings_list"))
        })
    });
    // A quota may allow less time than there are cores.
    cores
        .map_or(processors, |cores| cores.min(processors))
        .clamp(1, MOST_THREADS)
}

/// Cores among the processors that a Linux process status allows; `siblings` tells which processors share one's core.
fn distinct_cores(status: &str, siblings: impl Fn(usize) -> Option<String>) -> Option<usize> {
    let mut lines = status.lines();
    let allowed = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = BTreeSet::new();
    for processor in numbers(allowed)? {
        cores.insert(numbers(&siblings(processor)?)?.into_iter().min()?);
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// Numbers of a list such as `0-3,8`.
fn numbers(list: &str) -> Option<BTreeSet<usize>> {
    let mut all = BTreeSet::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // No machine has so many; a broken list must not fill the memory.
        if last >= 1 << 16 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyperthreads_of_one_core_count_once_and_only_where_they_are_allowed() {
        let status =
            |list: &str| format!("Name:\tx\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\n");
        // Four cores of two: 0 with 4, 1 with 5, and so on.
        let siblings = |processor: usize| {
            let core = processor % 4;
            Some(format!("{core},{}\n", core + 4))
        };
        assert_eq!(distinct_cores(&status("0-7"), siblings), Some(4));
        assert_eq!(distinct_cores(&status("1,5"), siblings), Some(1));
        assert_eq!(distinct_cores(&status("0-1,6"), siblings), Some(3));
        assert_eq!(distinct_cores(&status("0-1"), |_| None), None);
        assert_eq!(distinct_cores(&status("0-99999999999"), siblings), None);
        assert_eq!(distinct_cores(&status("x"), siblings), None);
        assert_eq!(distinct_cores("Name:\tx\n", siblings), None);
    }

    #[test]
    fn no_threads_and_too_many_are_mistakes() {
        for count in [0, MOST_THREADS + 1] {
            assert_eq!(
                Threads::new(count).unwrap_err().to_string(),
                format!("threads: expected 1 to 1024, found {count}")
            );
        }
    }

    #[test]
    fn work_runs_on_as_many_threads_as_were_asked_for() {
        let threads = Threads::new(3).unwrap();
        assert_eq!(
            (threads.count(), threads.run(rayon::current_num_threads)),
            (3, 3)
        );
        assert_eq!(threads.join(rayon::current_num_threads, || 7), (3, 7));
        let all = Threads::of_all_cores().unwrap();
        assert_eq!(all.count(), physical_cores());
        assert!(physical_cores() <= std::thread::available_parallelism().unwrap().get());
    }
}
