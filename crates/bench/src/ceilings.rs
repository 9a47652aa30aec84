//! What the machine does at best with so many threads.

use kernels::ceiling::{Numbers, multiply_adds, read};
use kernels::isa::Isa;
use serde::Serialize;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Speeds that nothing on this machine can exceed, measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ceilings {
    /// Threads that worked at once.
    pub threads: usize,
    /// Gigabytes read from memory in a second.
    pub read_gb_s: f64,
    /// Billions of INT8 operations in a second, where there is an instruction for them.
    pub int8_gop_s: Option<f64>,
    /// The same for bf16.
    pub bf16_gop_s: Option<f64>,
    /// The same for f32.
    pub f32_gop_s: f64,
}

/// Bytes that each thread reads: more than any cache.
const READ_BYTES: usize = 128 << 20;
/// The best of so many tries counts: a ceiling is not an average.
const TRIES: usize = 7;
/// Rounds of a try: about 20 ms.
const ROUNDS: u64 = 2_000_000;

impl Ceilings {
    /// Measures them, which takes about a second.
    pub fn measure(isa: Isa, threads: usize) -> Ceilings {
        let threads = threads.max(1);
        let words: Vec<Vec<u64>> = (0..threads)
            .map(|_| vec![1u64; READ_BYTES / size_of::<u64>()])
            .collect();
        let read_gb_s = best(threads, |thread| {
            black_box(read(isa, black_box(&words[thread])));
            Some(READ_BYTES as f64)
        });
        let speed = |numbers| {
            best(threads, |_| {
                multiply_adds(isa, numbers, ROUNDS).map(|operations| operations as f64)
            })
        };
        Ceilings {
            threads,
            read_gb_s: read_gb_s.unwrap_or(0.0),
            int8_gop_s: speed(Numbers::Int8),
            bf16_gop_s: speed(Numbers::Bf16),
            f32_gop_s: speed(Numbers::F32).unwrap_or(0.0),
        }
    }
}

/// The most billions of units in a second that all threads together do; `work` says how many units one call was.
fn best(threads: usize, work: impl Fn(usize) -> Option<f64> + Sync) -> Option<f64> {
    let mut most: Option<f64> = None;
    for _ in 0..TRIES {
        let barrier = Barrier::new(threads);
        let ends: Vec<Option<(f64, Instant, Instant)>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|thread| {
                    let (barrier, work) = (&barrier, &work);
                    scope.spawn(move || {
                        barrier.wait();
                        let started = Instant::now();
                        work(thread).map(|units| (units, started, Instant::now()))
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().expect("nothing in a try panics"))
                .collect()
        });
        let ends: Vec<(f64, Instant, Instant)> = ends.into_iter().collect::<Option<_>>()?;
        let units: f64 = ends.iter().map(|end| end.0).sum();
        let first = ends.iter().map(|end| end.1).min()?;
        let last = ends.iter().map(|end| end.2).max()?;
        let speed = units / (last - first).as_secs_f64().max(1e-9) / 1e9;
        most = Some(most.map_or(speed, |before: f64| before.max(speed)));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_all_threads_count_and_missing_instructions_give_nothing() {
        let wait = |_| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            Some(2e6)
        };
        let one = best(1, wait).expect("units");
        // Sleeping threads do not share a processor: two do at most twice as much, and at most 2e6 in 2 ms each.
        assert!(one > 0.0 && one <= 1.0, "{one}");
        assert!(best(2, wait).expect("units") <= 2.0);
        assert_eq!(best(2, |_| None), None);
    }
}
