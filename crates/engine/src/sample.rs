//! Logits to the next token: greedy, or drawn from a seeded stream.
//!
//! The order of operations, each on the result of the one before; tokens that a grammar does not allow have been given minus
//! infinity before ([`crate::grammar`]), and stay there:
//! 1. repetition penalty on every token of prompt and completion so far: a positive logit is divided by it, a negative one
//!    multiplied (Keskar et al. 2019, as in transformers and vLLM);
//! 2. frequency penalty times the number of occurrences in the completion, and presence penalty once, are subtracted (as
//!    the OpenAI API says);
//! 3. logit bias is added;
//! 4. temperature 0 takes the likeliest token, of equals the one with the smaller id, and is done;
//! 5. temperature divides the logits; softmax;
//! 6. top-k keeps the k likeliest tokens;
//! 7. top-p keeps the likeliest of them that together reach this share of what top-k left;
//! 8. min-p keeps those at least so likely as this share of the likeliest one;
//! 9. one is drawn by its probability among those left.
//!
//! Tokens that the engine put in itself (see [`crate::budget`]) count for the penalties like any other.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::error::EngineError;

/// How the next token is chosen. The default is greedy: the likeliest token, always.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; 1 draws from the model's own distribution; above flattens it, below sharpens it.
    pub temperature: f32,
    /// Only the k likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens at least so likely as this share of the likeliest; 0 for all.
    pub min_p: f32,
    /// Makes tokens of prompt and completion less likely; 1 for no penalty.
    pub repetition_penalty: f32,
    /// Taken off the logit of each token that is in the completion; -2 to 2.
    pub presence_penalty: f32,
    /// Taken off for each time that it is there; -2 to 2.
    pub frequency_penalty: f32,
    /// Added to the logits of these ids; -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same answer.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Checks the numbers; ids must be below `vocabulary`.
    pub(crate) fn check(&self, vocabulary: usize) -> Result<(), EngineError> {
        let within = |name: &str, value: f32, range: std::ops::RangeInclusive<f32>| {
            if range.contains(&value) {
                return Ok(());
            }
            let (from, to) = range.into_inner();
            let expected = match to {
                f32::MAX => format!("a number from {from} up"),
                to => format!("a number from {from} to {to}"),
            };
            let message = format!("expected {expected}, found {value}");
            Err(EngineError::request(name, message))
        };
        within("temperature", self.temperature, 0.0..=f32::MAX)?;
        within("top_p", self.top_p, 0.0..=1.0)?;
        within("min_p", self.min_p, 0.0..=1.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01..=100.0)?;
        within("presence_penalty", self.presence_penalty, -2.0..=2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0..=2.0)?;
        for &(id, bias) in &self.logit_bias {
            if id as usize >= vocabulary {
                let message = format!("expected ids below {vocabulary}, found {id}");
                return Err(EngineError::request("logit_bias", message));
            }
            within(&format!("logit_bias[{id}]"), bias, -100.0..=100.0)?;
        }
        Ok(())
    }

    /// Whether what was said before bears on the next token.
    fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
    }
}

/// Chooses the tokens of one answer.
#[derive(Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
    /// The tokens of prompt and completion. Empty when no penalty needs it.
    seen: BTreeMap<u32, Seen>,
    has_penalties: bool,
}

/// Occurrences of one token.
#[derive(Clone, Copy, Default)]
struct Seen {
    in_prompt: bool,
    in_completion: u32,
}

/// The logits had a NaN, or no finite number at all.
#[derive(Debug, PartialEq, Eq)]
pub struct NotFinite;

impl Sampler {
    /// A sampler at the start of its random stream, after this prompt.
    pub fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let has_penalties = sampling.has_penalties();
        let in_prompt = Seen {
            in_prompt: true,
            in_completion: 0,
        };
        let seen = match has_penalties {
            true => prompt.iter().map(|&id| (id, in_prompt)).collect(),
            false => BTreeMap::new(),
        };
        Sampler {
            sampling: sampling.clone(),
            random: ChaCha8Rng::seed_from_u64(sampling.seed),
            seen,
            has_penalties,
        }
    }

    /// The next token's id.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, NotFinite> {
        // Before anything is added: a NaN is the network's mistake, and is told as such.
        let best = argmax(logits)?;
        if !self.has_penalties && self.sampling.logit_bias.is_empty() {
            return Ok(self.draw(logits, best));
        }
        let mut logits = logits.to_vec();
        self.penalise(&mut logits);
        for &(id, bias) in &self.sampling.logit_bias {
            logits[id as usize] += bias;
        }
        let best = argmax(&logits)?;
        Ok(self.draw(&logits, best))
    }

    /// Takes note of a token of the completion.
    pub fn observe(&mut self, id: u32) {
        if self.has_penalties {
            self.seen.entry(id).or_default().in_completion += 1;
        }
    }

    /// Takes back a token observed before.
    pub fn forget(&mut self, id: u32) {
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.in_completion = seen.in_completion.saturating_sub(1);
            if seen.in_completion == 0 && !seen.in_prompt {
                self.seen.remove(&id);
            }
        }
    }

    fn penalise(&self, logits: &mut [f32]) {
        let Sampling {
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            ..
        } = self.sampling;
        for (&id, seen) in &self.seen {
            let logit = &mut logits[id as usize];
            *logit = match *logit > 0.0 {
                true => *logit / repetition_penalty,
                false => *logit * repetition_penalty,
            };
            if seen.in_completion > 0 {
                *logit -= frequency_penalty * seen.in_completion as f32 + presence_penalty;
            }
        }
    }

    fn draw(&mut self, logits: &[f32], best: usize) -> u32 {
        if self.sampling.temperature <= 0.0 {
            return best as u32;
        }
        let candidates = self.candidates(logits, logits[best]);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        // 53 bits: every value that a f64 between 0 and 1 can tell apart evenly.
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total;
        for (id, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return *id;
            }
        }
        // Rounding may leave a hair of the total; it belongs to the last candidate.
        candidates.last().map_or(best as u32, |(id, _)| *id)
    }

    /// The tokens to draw from with their weights, the likeliest first. The likeliest of all has weight 1.
    fn candidates(&self, logits: &[f32], max: f32) -> Vec<(u32, f64)> {
        let temperature = f64::from(self.sampling.temperature);
        let weight = |logit: f32| ((f64::from(logit) - f64::from(max)) / temperature).exp();
        let mut candidates: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(id, &logit)| (id as u32, weight(logit)))
            .collect();
        let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let k = self.sampling.top_k;
        if k > 0 && k < candidates.len() {
            // Sorting a whole large vocabulary would take longer than the draw.
            candidates.select_nth_unstable_by(k, order);
            candidates.truncate(k);
        }
        candidates.sort_by(order);
        if self.sampling.top_p < 1.0 {
            let enough = candidates.iter().map(|(_, weight)| weight).sum::<f64>()
                * f64::from(self.sampling.top_p);
            let mut sum = 0.0;
            let reached = candidates.iter().position(|(_, weight)| {
                sum += weight;
                sum >= enough
            });
            candidates.truncate(reached.map_or(candidates.len(), |last| last + 1));
        }
        let least = f64::from(self.sampling.min_p);
        candidates.retain(|(_, weight)| *weight >= least);
        candidates
    }
}

fn argmax(logits: &[f32]) -> Result<usize, NotFinite> {
    let mut best: Option<usize> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(NotFinite);
        }
        if logit > best.map_or(f32::NEG_INFINITY, |b| logits[b]) {
            best = Some(id);
        }
    }
    best.ok_or(NotFinite)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, 2.0, -3.0];

    fn draw(sampling: Sampling, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(&sampling, &[]);
        (0..count)
            .map(|_| sampler.choose(&LOGITS).unwrap())
            .collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(draw(Sampling::default(), 3), [1, 1, 1]);
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_seed_does_not() {
        let warm = |seed| Sampling {
            temperature: 1.0,
            seed,
            ..Sampling::default()
        };
        assert_eq!(draw(warm(5), 50), draw(warm(5), 50));
        assert_ne!(draw(warm(5), 50), draw(warm(6), 50));
    }

    #[test]
    fn draws_follow_the_softmax() {
        let count = 20_000;
        let drawn = draw(
            Sampling {
                temperature: 2.0,
                ..Sampling::default()
            },
            count,
        );
        let weights = LOGITS.map(|logit| (f64::from(logit) / 2.0).exp());
        let total: f64 = weights.iter().sum();
        for (id, weight) in weights.iter().enumerate() {
            let expected = weight / total * count as f64;
            let found = drawn.iter().filter(|&&drawn| drawn == id as u32).count() as f64;
            // Five standard deviations of a binomial count: one such test in a million fails by chance, and the seed is fixed.
            assert!(
                (found - expected).abs() < 5.0 * expected.sqrt(),
                "{id}: {found} of {expected}"
            );
        }
    }

    #[test]
    fn top_k_and_top_p_leave_out_the_unlikely() {
        let warm = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        let of = |sampling| {
            let mut ids = draw(sampling, 5000);
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        assert_eq!(
            of(Sampling {
                top_k: 2,
                ..warm.clone()
            }),
            [1, 3]
        );
        assert_eq!(
            of(Sampling {
                top_k: 1,
                ..warm.clone()
            }),
            [1]
        );
        // Tokens 1 and 3 have 41% each, token 2 15%, token 0 6%.
        assert_eq!(
            of(Sampling {
                top_p: 0.5,
                ..warm.clone()
            }),
            [1, 3]
        );
        assert_eq!(
            of(Sampling {
                top_p: 0.9,
                ..warm.clone()
            }),
            [1, 2, 3]
        );
        assert_eq!(
            of(Sampling {
                top_p: 0.0,
                ..warm.clone()
            }),
            [1]
        );
        assert_eq!(of(warm), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_logit_that_is_no_number_is_an_error() {
        let mut sampler = Sampler::new(&Sampling::default(), &[]);
        assert_eq!(sampler.choose(&[0.0, f32::NAN]), Err(NotFinite));
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY; 3]), Err(NotFinite));
        assert_eq!(sampler.choose(&[0.0, f32::INFINITY]), Err(NotFinite));
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY, -1e30]), Ok(1));
    }

    /// One choice after a prompt and a completion.
    fn greedy_after(sampling: &Sampling, prompt: &[u32], completion: &[u32]) -> u32 {
        let mut sampler = Sampler::new(sampling, prompt);
        completion.iter().for_each(|&id| sampler.observe(id));
        sampler.choose(&LOGITS).unwrap()
    }

    /// The logits after penalties and bias.
    fn penalised(sampling: &Sampling, prompt: &[u32], completion: &[u32]) -> Vec<f32> {
        let mut sampler = Sampler::new(sampling, prompt);
        completion.iter().for_each(|&id| sampler.observe(id));
        let mut logits = LOGITS.to_vec();
        sampler.penalise(&mut logits);
        logits
    }

    #[test]
    fn penalties_are_those_calculated_by_hand() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..Sampling::default()
        };
        // Token 1 is in the prompt, 3 twice in the completion, 4 once in both.
        // 1: 2 / 2; 3: 2 / 2 - 2 · 0.25 - 0.5; 4: -3 · 2 - 0.25 - 0.5.
        assert_eq!(
            penalised(&sampling, &[1, 4], &[3, 4, 3]),
            [0.0, 1.0, 1.0, 0.0, -6.75]
        );
    }

    #[test]
    fn what_was_taken_back_is_not_penalised() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            frequency_penalty: 1.0,
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(&sampling, &[1]);
        [1, 3, 3].iter().for_each(|&id| sampler.observe(id));
        [3, 1, 3].iter().for_each(|&id| sampler.forget(id));
        let mut logits = LOGITS.to_vec();
        sampler.penalise(&mut logits);
        assert_eq!(logits, [0.0, 1.0, 1.0, 2.0, -3.0]);
    }

    #[test]
    fn the_bias_comes_after_the_penalties() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            logit_bias: vec![(4, 6.5)],
            ..Sampling::default()
        };
        // 1 and 3 go from 2 to 1, and 4 from -3 to -6 + 6.5, so 1 wins; were 4 biased first, it would have 3.5 / 2.
        assert_eq!(greedy_after(&sampling, &[1, 3, 4], &[]), 1);
        let stronger = Sampling {
            logit_bias: vec![(4, 7.5)],
            ..sampling
        };
        assert_eq!(greedy_after(&stronger, &[1, 3, 4], &[]), 4);
    }

    #[test]
    fn a_bias_of_minus_100_bans_and_of_100_commands() {
        let with = |id, bias| Sampling {
            temperature: 1.0,
            logit_bias: vec![(id, bias)],
            ..Sampling::default()
        };
        assert!(!draw(with(1, -100.0), 2000).contains(&1));
        assert!(draw(with(4, 100.0), 2000).iter().all(|&id| id == 4));
    }

    #[test]
    fn min_p_is_a_share_of_the_likeliest_after_the_temperature() {
        let of = |min_p, temperature| {
            let sampling = Sampling {
                temperature,
                min_p,
                ..Sampling::default()
            };
            let mut ids = draw(sampling, 5000);
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        // Beside the likeliest, 2 has e^-1 = 0.37 and 0 has e^-2 = 0.14 at temperature 1.
        assert_eq!(of(0.3, 1.0), [1, 2, 3]);
        assert_eq!(of(0.4, 1.0), [1, 3]);
        // e^-0.5 = 0.61 and e^-1 = 0.37 at temperature 2.
        assert_eq!(of(0.4, 2.0), [1, 2, 3]);
        assert_eq!(of(1.0, 1.0), [1, 3]);
    }

    #[test]
    fn numbers_out_of_their_range_are_named() {
        let message = |change: fn(&mut Sampling)| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            sampling.check(5).unwrap_err().to_string()
        };
        assert_eq!(
            message(|sampling| sampling.min_p = -0.1),
            "min_p: expected a number from 0 to 1, found -0.1"
        );
        assert_eq!(
            message(|sampling| sampling.presence_penalty = f32::NAN),
            "presence_penalty: expected a number from -2 to 2, found NaN"
        );
        assert_eq!(
            message(|sampling| sampling.repetition_penalty = 0.0),
            "repetition_penalty: expected a number from 0.01 to 100, found 0"
        );
        assert_eq!(
            message(|sampling| sampling.logit_bias = vec![(5, 1.0)]),
            "logit_bias: expected ids below 5, found 5"
        );
        assert_eq!(
            message(|sampling| sampling.logit_bias = vec![(4, 101.0)]),
            "logit_bias[4]: expected a number from -100 to 100, found 101"
        );
    }

    proptest! {
        #[test]
        fn the_likeliest_alone_is_greedy(
            logits in prop::collection::vec(-5.0f32..5.0, 1..40), temperature in 0.1f32..3.0, seed in any::<u64>(),
        ) {
            let greedy = Sampler::new(&Sampling::default(), &[]).choose(&logits);
            for (top_k, top_p, min_p) in [(1, 1.0, 0.0), (0, 0.0, 0.0)] {
                let sampling = Sampling { temperature, top_k, top_p, min_p, seed, ..Sampling::default() };
                prop_assert_eq!(Sampler::new(&sampling, &[]).choose(&logits), greedy.as_ref().copied().map_err(|_| NotFinite));
            }
        }

        /// The candidates against a calculation that sorts everything and looks at each token on its own.
        #[test]
        fn candidates_are_those_of_the_plain_definition(
            logits in prop::collection::vec((-8i8..8).prop_map(|logit| f32::from(logit) / 2.0), 1..40),
            top_k in 0usize..45, top_p in 0.0f32..=1.0, min_p in 0.0f32..=1.0,
        ) {
            let sampling = Sampling { temperature: 1.0, top_k, top_p, min_p, ..Sampling::default() };
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let found: Vec<u32> = Sampler::new(&sampling, &[]).candidates(&logits, max).iter().map(|(id, _)| *id).collect();

            let weight = |id: usize| f64::from(logits[id] - max).exp();
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)).then(a.cmp(&b)));
            let k = if top_k == 0 { logits.len() } else { top_k.min(logits.len()) };
            let total: f64 = order[..k].iter().map(|&id| weight(id)).sum();
            let expected: Vec<u32> = (0..k)
                .filter(|&rank| {
                    let before: f64 = order[..rank].iter().map(|&id| weight(id)).sum();
                    rank == 0 || top_p == 1.0 || before < total * f64::from(top_p)
                })
                .filter(|&rank| weight(order[rank]) >= f64::from(min_p))
                .map(|rank| order[rank] as u32)
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
