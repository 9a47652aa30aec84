//! What the server has done so far, as Prometheus reads it.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use engine::CacheCounts;

use crate::chat::{Load, Said};

/// Upper bounds of the buckets for times, in seconds.
const BUCKETS_S: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counts since the start.
#[derive(Default)]
pub struct Metrics(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    /// By route and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    prompt_tokens: u64,
    cached_tokens: u64,
    image_tokens: u64,
    completion_tokens: u64,
    reasoning_tokens: u64,
    answers: u64,
    failed: u64,
    abandoned: u64,
    first_token: Histogram,
    whole_answer: Histogram,
}

#[derive(Default)]
struct Histogram {
    counts: [u64; BUCKETS_S.len()],
    count: u64,
    sum_s: f64,
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        for (count, bound) in self.counts.iter_mut().zip(BUCKETS_S) {
            *count += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum_s += seconds;
    }

    fn write(&self, text: &mut String, name: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (count, bound) in self.counts.iter().zip(BUCKETS_S) {
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(
            text,
            "{name}_sum {}\n{name}_count {}",
            self.sum_s, self.count
        );
    }
}

impl Metrics {
    /// Counts an answered HTTP request.
    pub fn count_request(&self, route: &'static str, status: u16) {
        *self.lock().requests.entry((route, status)).or_default() += 1;
    }

    /// The text of `/metrics`.
    pub fn text(&self, load: Load, kept_picture_bytes: usize) -> String {
        let counts = self.lock();
        let mut text = String::new();
        let name = "bluelm_http_requests_total";
        let _ = writeln!(
            text,
            "# HELP {name} Answered HTTP requests.\n# TYPE {name} counter"
        );
        for ((route, status), count) in &counts.requests {
            let _ = writeln!(
                text,
                "{name}{{route=\"{route}\",status=\"{status}\"}} {count}"
            );
        }
        for (name, help, count) in [
            (
                "bluelm_prompt_tokens_total",
                "Tokens of prompts.",
                counts.prompt_tokens,
            ),
            (
                "bluelm_cached_tokens_total",
                "Tokens of prompts that were remembered.",
                counts.cached_tokens,
            ),
            (
                "bluelm_image_tokens_total",
                "Tokens of images.",
                counts.image_tokens,
            ),
            (
                "bluelm_completion_tokens_total",
                "Tokens of answers, thoughts included.",
                counts.completion_tokens,
            ),
            (
                "bluelm_reasoning_tokens_total",
                "Tokens of thoughts.",
                counts.reasoning_tokens,
            ),
            (
                "bluelm_answers_total",
                "Answers given to the end.",
                counts.answers,
            ),
            ("bluelm_failed_total", "Answers that failed.", counts.failed),
            (
                "bluelm_abandoned_total",
                "Answers whose client went away.",
                counts.abandoned,
            ),
        ] {
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {count}"
            );
        }
        for (name, help, value) in [
            (
                "bluelm_requests_waiting",
                "Requests in the queue.",
                load.waiting,
            ),
            (
                "bluelm_requests_running",
                "Requests being answered.",
                load.running,
            ),
            (
                "bluelm_requests_reading",
                "Of these, requests whose prompt or pictures are being read.",
                load.reading,
            ),
            (
                "bluelm_parallel",
                "Most requests answered at once.",
                load.places,
            ),
            (
                "bluelm_cache_tokens",
                "Positions of key-value cache in use or remembered.",
                load.cache_tokens,
            ),
            (
                "bluelm_kept_picture_bytes",
                "Decoded pictures kept for later requests.",
                kept_picture_bytes,
            ),
        ] {
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}"
            );
        }
        counts.first_token.write(
            &mut text,
            "bluelm_first_token_seconds",
            "From the request to the first piece of its answer.",
        );
        counts.whole_answer.write(
            &mut text,
            "bluelm_answer_seconds",
            "From the request to the end of its answer.",
        );
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines about encoded images that are kept.
pub fn of_image_cache(counts: CacheCounts) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "bluelm_image_cache_bytes",
            "gauge",
            "Rows of encoded images in memory.",
            counts.bytes as u64,
        ),
        (
            "bluelm_image_cache_found_total",
            "counter",
            "Images that were not encoded again, because they were in memory.",
            counts.found,
        ),
        (
            "bluelm_image_cache_found_in_folder_total",
            "counter",
            "Images that were not encoded again, because they were in the folder.",
            counts.found_in_folder,
        ),
        (
            "bluelm_image_cache_missed_total",
            "counter",
            "Images that were looked for in vain.",
            counts.missed,
        ),
        (
            "bluelm_image_cache_failed_writes_total",
            "counter",
            "Files of encoded images that could not be written.",
            counts.failed_writes,
        ),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
    text
}

/// Watches one answer for the metrics. Dropped before the end, the answer counts as abandoned.
pub struct Watch {
    metrics: Arc<Metrics>,
    started: Instant,
    first: Option<Instant>,
    over: bool,
}

impl Watch {
    /// An answer asked for at `started`.
    pub fn new(metrics: Arc<Metrics>, started: Instant) -> Self {
        Watch {
            metrics,
            started,
            first: None,
            over: false,
        }
    }

    /// Sees what is said.
    pub fn saw(&mut self, said: &Said) {
        match said {
            Said::Prefill { .. } | Said::Token(_) => return,
            Said::Reasoning(_) | Said::Text(_) => {
                self.first.get_or_insert_with(Instant::now);
                return;
            }
            Said::Failed(_) => self.metrics.lock().failed += 1,
            Said::Done(answer) => {
                let usage = &answer.reply.usage;
                let first = self.first.unwrap_or_else(Instant::now) - self.started;
                let mut counts = self.metrics.lock();
                counts.answers += 1;
                counts.prompt_tokens += usage.prompt_tokens as u64;
                counts.cached_tokens += answer.cached_tokens() as u64;
                counts.image_tokens += usage.image_tokens as u64;
                counts.completion_tokens += usage.completion_tokens as u64;
                counts.reasoning_tokens += usage.reasoning_tokens as u64;
                counts.first_token.add(first.as_secs_f64());
                counts
                    .whole_answer
                    .add(self.started.elapsed().as_secs_f64());
            }
        }
        self.over = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.over {
            self.metrics.lock().abandoned += 1;
        }
    }
}
