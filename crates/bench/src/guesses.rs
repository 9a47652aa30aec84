//! What guessed tokens are worth: the same answers with guesses and without, token for token, and the time that each took.

use std::time::Instant;

use engine::{Cancel, Engine, EngineError, Network, Reply, Request, Speculation};
use serde::Serialize;

/// A prompt, by what its answer is like.
#[derive(Clone, Debug)]
pub struct Guessed {
    /// What sort of task it is.
    pub task: &'static str,
    /// What is asked; its sampling is greedy, `drawn` says how else.
    pub request: Request,
}

/// What guesses came to in tasks of one sort.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worth {
    /// What sort.
    pub task: &'static str,
    /// Answers with guesses, greedy and drawn.
    pub answers: usize,
    /// Of these, answers with other tokens than without.
    pub different: usize,
    /// Tokens of them.
    pub tokens: usize,
    /// Tokens that were guessed.
    pub guessed_tokens: usize,
    /// Of these, tokens that came true.
    pub accepted_tokens: usize,
    /// Seconds after the first tokens, without guesses and with them.
    pub seconds: [f64; 2],
    /// How many times as fast.
    pub speed: f64,
}

/// Sampling that draws: like that of a chat.
const TEMPERATURE: f32 = 0.7;

/// Answers each prompt greedily and drawn, without guesses and with them in turns, so that a machine that others use is the same
/// for both; the quickest of `rounds` counts. `progress` is told how many prompts are done.
pub fn measure_guesses<N: Network>(
    engine: &Engine<N>,
    prompts: &[Guessed],
    rounds: usize,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Worth>, EngineError> {
    let mut found: Vec<Worth> = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        if !found.iter().any(|worth| worth.task == prompt.task) {
            found.push(Worth::none(prompt.task));
        }
        let worth = found.iter_mut().find(|worth| worth.task == prompt.task);
        let worth = worth.expect("it was put there");
        for temperature in [0.0, TEMPERATURE] {
            let mut request = prompt.request.clone();
            request.sampling.temperature = temperature;
            request.sampling.seed = index as u64;
            worth.add(engine, &mut request, rounds, cancel)?;
        }
        progress(index + 1);
    }
    Ok(found)
}

impl Worth {
    fn none(task: &'static str) -> Self {
        Worth {
            task,
            answers: 0,
            different: 0,
            tokens: 0,
            guessed_tokens: 0,
            accepted_tokens: 0,
            seconds: [0.0; 2],
            speed: 1.0,
        }
    }

    fn add<N: Network>(
        &mut self,
        engine: &Engine<N>,
        request: &mut Request,
        rounds: usize,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let mut least = [f64::INFINITY; 2];
        let mut replies = [None, None];
        for _ in 0..rounds.max(1) {
            for (at, speculation) in [Speculation::Off, Speculation::Lookup]
                .into_iter()
                .enumerate()
            {
                request.speculation = speculation;
                let started = Instant::now();
                let reply = engine.generate(request, cancel, &mut |_| {})?;
                let after_first =
                    started.elapsed().as_secs_f64() - reply.timings.first_token_ms / 1e3;
                least[at] = least[at].min(after_first);
                replies[at] = Some(reply);
            }
        }
        let [Some(plain), Some(guessing)] = replies else {
            return Ok(());
        };
        self.count(&plain, &guessing);
        for (sum, least) in self.seconds.iter_mut().zip(least) {
            *sum += least;
        }
        self.speed = self.seconds[0] / self.seconds[1];
        Ok(())
    }

    fn count(&mut self, plain: &Reply, guessing: &Reply) {
        self.answers += 1;
        let same = plain.output_ids == guessing.output_ids && plain.text == guessing.text;
        self.different += usize::from(!same);
        self.tokens += guessing.output_ids.len();
        let guesses = guessing.speculation.unwrap_or_default();
        self.guessed_tokens += guesses.guessed_tokens;
        self.accepted_tokens += guesses.accepted_tokens;
    }
}
