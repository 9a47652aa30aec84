//! Logits to the next token: greedy, or drawn by temperature, top-k and top-p from a seeded stream.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// How the next token is chosen. The default is greedy: the likeliest token, always.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; 1 draws from the model's own distribution; above flattens it, below sharpens it.
    pub temperature: f32,
    /// Only the k likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// The same seed gives the same answer.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
        }
    }
}

/// Chooses the tokens of one answer.
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

/// The logits had a NaN, or no finite number at all.
#[derive(Debug, PartialEq, Eq)]
pub struct NotFinite;

impl Sampler {
    /// A sampler at the start of its random stream.
    pub fn new(sampling: Sampling) -> Self {
        Sampler {
            sampling,
            random: ChaCha8Rng::seed_from_u64(sampling.seed),
        }
    }

    /// The next token's id. Of equal logits the smaller id wins, as in PyTorch's argmax.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, NotFinite> {
        let best = argmax(logits)?;
        if self.sampling.temperature <= 0.0 {
            return Ok(best as u32);
        }
        let candidates = self.candidates(logits, logits[best]);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        // 53 bits: every value that a f64 between 0 and 1 can tell apart evenly.
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total;
        for (id, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return Ok(*id);
            }
        }
        // Rounding may leave a hair of the total; it belongs to the last candidate.
        Ok(candidates.last().map_or(best as u32, |(id, _)| *id))
    }

    /// The tokens to draw from with their weights, the likeliest first.
    fn candidates(&self, logits: &[f32], max: f32) -> Vec<(u32, f64)> {
        let temperature = f64::from(self.sampling.temperature);
        let weight = |logit: f32| ((f64::from(logit) - f64::from(max)) / temperature).exp();
        let mut candidates: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(id, &logit)| (id as u32, weight(logit)))
            .collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.sampling.top_k > 0 {
            candidates.truncate(self.sampling.top_k);
        }
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
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, 2.0, -3.0];

    fn draw(sampling: Sampling, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling);
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
        assert_eq!(of(Sampling { top_k: 2, ..warm }), [1, 3]);
        assert_eq!(of(Sampling { top_k: 1, ..warm }), [1]);
        // Tokens 1 and 3 have 41% each, token 2 15%, token 0 6%.
        assert_eq!(of(Sampling { top_p: 0.5, ..warm }), [1, 3]);
        assert_eq!(of(Sampling { top_p: 0.9, ..warm }), [1, 2, 3]);
        assert_eq!(of(Sampling { top_p: 0.0, ..warm }), [1]);
        assert_eq!(of(warm), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_logit_that_is_no_number_is_an_error() {
        let mut sampler = Sampler::new(Sampling::default());
        assert_eq!(sampler.choose(&[0.0, f32::NAN]), Err(NotFinite));
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY; 3]), Err(NotFinite));
        assert_eq!(sampler.choose(&[0.0, f32::INFINITY]), Err(NotFinite));
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY, -1e30]), Ok(1));
    }
}
