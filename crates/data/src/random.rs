//! The only source of chance in this crate: a ChaCha stream per example.
//!
//! Every operation is integer arithmetic or IEEE addition, multiplication and division, so that a picture has the
//! same bytes on every machine. Logarithms, powers and sines of the platform are deliberately absent.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A stream of choices that depends only on a seed and an index.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The stream `index` of the generator `seed`.
    pub(crate) fn new(seed: u64, index: u64) -> Random {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..27].copy_from_slice(b"bluelm data stream1");
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(index);
        Random(stream)
    }

    /// A whole number in `0..count`; `count` of zero counts as one.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let wide = u64::from(self.0.next_u32()) * (count.max(1) as u64);
        (wide >> 32) as usize
    }

    /// A whole number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number in `0.0..1.0` with 24 bits.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / 16_777_216.0
    }

    /// A number in `low..high`.
    pub(crate) fn real(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// A number in `low..high` whose density falls towards `high`, for sizes.
    pub(crate) fn size(&mut self, low: f32, high: f32) -> f32 {
        let reciprocal = 1.0 / self.real(1.0 / high, 1.0 / low);
        let even = self.real(low, high);
        0.5 * (reciprocal + even)
    }

    /// True with probability `share`.
    pub(crate) fn chance(&mut self, share: f32) -> bool {
        self.unit() < share
    }

    /// One of the choices; the slice is never empty where this is called.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// The index of a weight, in proportion to the weights.
    pub(crate) fn weighted(&mut self, weights: &[f32]) -> usize {
        let mut rest = self.unit() * weights.iter().sum::<f32>();
        for (index, weight) in weights.iter().enumerate() {
            rest -= weight;
            if rest < 0.0 {
                return index;
            }
        }
        weights
            .iter()
            .rposition(|&weight| weight > 0.0)
            .unwrap_or(0)
    }

    /// Puts the values in random order.
    pub(crate) fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }

    /// Raw bits.
    #[cfg(test)]
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Sine and cosine of a small or large angle in radians, the same bits everywhere.
pub(crate) fn sine_cosine(angle: f64) -> (f64, f64) {
    let turns = angle / std::f64::consts::TAU;
    let rest = (turns - turns.round()) * std::f64::consts::TAU;
    // Taylor series on the eighth of the angle, then three doublings: errors stay below 1e-12.
    let part = rest / 8.0;
    let square = part * part;
    let mut sine = part
        * (1.0
            - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0))));
    let mut cosine = 1.0
        - square / 2.0
            * (1.0
                - square / 12.0
                    * (1.0 - square / 30.0 * (1.0 - square / 56.0 * (1.0 - square / 90.0))));
    for _ in 0..3 {
        (sine, cosine) = (2.0 * sine * cosine, cosine * cosine - sine * sine);
    }
    (sine, cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_seed_and_index_only() {
        let first = |seed, index| Random::new(seed, index).bits();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 2));
    }

    #[test]
    fn whole_numbers_reach_both_ends_and_no_further() {
        let mut random = Random::new(0, 0);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[random.between(3, 7) - 3] = true;
        }
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn weights_of_zero_are_never_chosen() {
        let mut random = Random::new(3, 9);
        for _ in 0..200 {
            assert_eq!(random.weighted(&[0.0, 2.0, 0.0]), 1);
        }
    }

    #[test]
    fn sines_agree_with_the_platform_to_nine_digits() {
        for step in -40..40 {
            let angle = f64::from(step) * 0.37;
            let (sine, cosine) = sine_cosine(angle);
            assert!(
                (sine - angle.sin()).abs() < 1e-9 && (cosine - angle.cos()).abs() < 1e-9,
                "{angle}"
            );
        }
    }
}
