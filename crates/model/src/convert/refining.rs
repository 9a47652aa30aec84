//! Whole numbers and scales made better in turns, after errors were passed on.
//!
//! Passing errors on looks at each weight once, with scales that were chosen without it. Afterwards every whole number can be
//! asked again whether another one would do better now that all others are known (coordinate descent, as QuantEase does it:
//! <https://arxiv.org/abs/2309.01885>), and every scale of a group has a best value for its whole numbers. Neither step can make
//! eᵀ·H·e larger, where e is what an output's weights lost.

use super::rounding::Scale;
use kernels::matmul_quantized::Bits;

/// How often all numbers and scales of an output are asked at most; most stop changing earlier.
const ROUNDS: usize = 6;

/// One output: its weights, and what they have become.
pub(super) struct Output<'a> {
    /// `[k]`.
    pub weights: &'a [f32],
    /// `[k]`.
    pub values: &'a mut [i8],
    /// One for each group of inputs.
    pub scales: &'a mut [Scale],
    pub group: usize,
}

impl Output<'_> {
    /// Makes it better for inputs that go together as `gram` `[k, k]` says.
    pub fn refine(&mut self, gram: &[f32], bits: Bits) {
        let k = self.weights.len();
        let mut pull = vec![0.0; k];
        for (at, lost) in self.lost().into_iter().enumerate() {
            add(&mut pull, &gram[at * k..][..k], lost);
        }
        for _ in 0..ROUNDS {
            let scaled = self.choose_scales(gram, &mut pull);
            let changed = self.choose_values(gram, bits, &mut pull);
            if !scaled && !changed {
                break;
            }
        }
    }

    /// What the weights lost.
    fn lost(&self) -> Vec<f32> {
        let kept = |at: usize| f32::from(self.values[at]) * self.scales[at / self.group].number();
        let weights = self.weights.iter().enumerate();
        weights.map(|(at, weight)| weight - kept(at)).collect()
    }

    /// The best whole number for each input, the others given. `pull` is H·e.
    fn choose_values(&mut self, gram: &[f32], bits: Bits, pull: &mut [f32]) -> bool {
        let k = pull.len();
        let mut changed = false;
        for at in 0..k {
            let row = &gram[at * k..][..k];
            let scale = self.scales[at / self.group];
            let kept = f32::from(self.values[at]) * scale.number();
            let best = scale.round(bits, kept + pull[at] / row[at]);
            if best != self.values[at] {
                add(pull, row, kept - f32::from(best) * scale.number());
                self.values[at] = best;
                changed = true;
            }
        }
        changed
    }

    /// The best scale for each group's whole numbers, the others given.
    fn choose_scales(&mut self, gram: &[f32], pull: &mut [f32]) -> bool {
        let k = pull.len();
        let mut changed = false;
        let mut along = vec![0.0; k];
        for (group, values) in self.values.chunks(self.group).enumerate() {
            let first = group * self.group;
            along.fill(0.0);
            for (at, value) in values.iter().enumerate().filter(|(_, value)| **value != 0) {
                add(
                    &mut along,
                    &gram[(first + at) * k..][..k],
                    f32::from(*value),
                );
            }
            let times = |numbers: &[f32]| -> f32 {
                let pairs = values.iter().zip(&numbers[first..]);
                pairs
                    .map(|(value, number)| f32::from(*value) * number)
                    .sum()
            };
            let (slope, curve) = (times(pull), times(&along));
            let scale = &mut self.scales[group];
            let wanted = Scale::near(scale.number() + slope / curve);
            let step = wanted.number() - scale.number();
            // Rounding the scale to bf16 may lose more than the step brings; nothing at all may have been asked for.
            if step != 0.0 && step * (0.5 * step * curve - slope) < 0.0 {
                add(pull, &along, -step);
                *scale = wanted;
                changed = true;
            }
        }
        changed
    }
}

fn add(to: &mut [f32], numbers: &[f32], factor: f32) {
    for (to, number) in to.iter_mut().zip(numbers) {
        *to += factor * number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const K: usize = 12;
    const GROUP: usize = 4;

    /// eᵀ·H·e in f64.
    fn loss(gram: &[f32], lost: &[f32]) -> f64 {
        let mut sum = 0.0;
        for (row, a) in gram.chunks_exact(K).zip(lost) {
            for (h, b) in row.iter().zip(lost) {
                sum += f64::from(*h) * f64::from(*a) * f64::from(*b);
            }
        }
        sum
    }

    /// The sum of x·xᵀ over rows whose columns depend on one another, damped as ours are.
    fn gram(rows: &[[f32; K]]) -> Vec<f32> {
        let mut gram = vec![0.0; K * K];
        for row in rows {
            for (sums, a) in gram.chunks_exact_mut(K).zip(row) {
                add(sums, row, *a);
            }
        }
        let mean = (0..K).map(|at| gram[at * K + at]).sum::<f32>() / K as f32;
        for at in 0..K {
            gram[at * K + at] += 0.01 * mean + 1e-6;
        }
        gram
    }

    fn numbers() -> impl Strategy<Value = [f32; K]> {
        proptest::array::uniform12(-1.0f32..1.0)
    }

    proptest! {
        #[test]
        fn refining_never_loses_and_stays_in_range(
            weights in numbers(),
            rows in proptest::collection::vec(numbers(), 1..30),
            first in proptest::array::uniform3(0.02f32..0.3),
        ) {
            let gram = gram(&rows);
            let mut scales = first.map(Scale::near);
            let mut values = [0i8; K];
            for (at, value) in values.iter_mut().enumerate() {
                *value = scales[at / GROUP].round(Bits::Four, weights[at]);
            }
            let mut output = Output { weights: &weights, values: &mut values, scales: &mut scales, group: GROUP };
            let before = loss(&gram, &output.lost());
            output.refine(&gram, Bits::Four);
            let after = loss(&gram, &output.lost());
            // Sums of 12 products in f32 carry 12 · 6e-8 of the largest, which is no more than the sum of all |h·e·e| before.
            let size: f64 = gram.iter().map(|h| f64::from(h.abs())).sum();
            prop_assert!(after <= before + 1e-6 * size, "{before} became {after}");
            prop_assert!(values.iter().all(|value| (-8..=7).contains(value)));
        }
    }

    #[test]
    fn a_scale_finds_its_best_value_for_the_whole_numbers() {
        // Inputs of their own: the best scale is the least squares of the group alone, and its numbers fit exactly.
        let mut gram = vec![0.0; K * K];
        (0..K).for_each(|at| gram[at * K + at] = 1.0);
        let weights: [f32; K] = std::array::from_fn(|at| 0.25 * (at % GROUP) as f32);
        let mut values: [i8; K] = std::array::from_fn(|at| (at % GROUP) as i8);
        let mut scales = [Scale::near(0.2); 3];
        let mut output = Output {
            weights: &weights,
            values: &mut values,
            scales: &mut scales,
            group: GROUP,
        };
        output.refine(&gram, Bits::Four);
        assert_eq!(output.lost(), [0.0; K]);
        assert!(scales.iter().all(|scale| scale.number() == 0.25));
    }

    #[test]
    fn nothing_of_nothing_is_nothing() {
        let gram = vec![0.0; K * K];
        let mut values = [0; K];
        let mut scales = [Scale::near(0.0); 3];
        let weights = [0.0; K];
        let mut output = Output {
            weights: &weights,
            values: &mut values,
            scales: &mut scales,
            group: GROUP,
        };
        output.refine(&gram, Bits::Four);
        assert_eq!(values, [0; K]);
        assert!(scales.iter().all(|scale| scale.number() == 0.0));
    }
}
