//! Cross-entropy and what a step reports. Losses know nothing of layers: they turn logits into a loss and the logits'
//! gradient.

use crate::network::math;

/// The label of a place that is not supervised.
pub const IGNORE: i32 = -100;

/// What one micro-batch cost; sums, so that micro-batches can be added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// Σ weight · cross-entropy over supervised tokens (nats).
    pub language_sum: f64,
    /// Σ weight over supervised tokens.
    pub language_weight: f64,
    /// Supervised tokens.
    pub tokens: usize,
    /// Supervised tokens whose most likely token was the label.
    pub correct_tokens: usize,
    /// For every run of supervised tokens inside one branch: sequence, branch, whether all of its tokens were right.
    pub branch_correct: Vec<(usize, u32, bool)>,
    /// Σ cross-entropy over supervised patch slots (nats), not weighted.
    pub patch_sum: f64,
    /// Supervised patch slots.
    pub patch_count: usize,
    /// Supervised patch slots whose most likely class was the label.
    pub patch_correct: usize,
    /// Supervised patch slots whose label is not 0 (blank).
    pub patch_filled: usize,
    /// Those of them that were right.
    pub patch_filled_correct: usize,
}

impl Losses {
    /// Adds another micro-batch's sums; its sequences are numbered on from `first_sequence`.
    pub fn add(&mut self, other: &Losses, first_sequence: usize) {
        self.language_sum += other.language_sum;
        self.language_weight += other.language_weight;
        self.tokens += other.tokens;
        self.correct_tokens += other.correct_tokens;
        let runs = other.branch_correct.iter();
        self.branch_correct.extend(runs.map(|&(sequence, branch, right)| (sequence + first_sequence, branch, right)));
        self.patch_sum += other.patch_sum;
        self.patch_count += other.patch_count;
        self.patch_correct += other.patch_correct;
        self.patch_filled += other.patch_filled;
        self.patch_filled_correct += other.patch_filled_correct;
    }

    /// Mean weighted loss per unit of weight, or 0 without supervision.
    pub fn language_mean(&self) -> f64 {
        if self.language_weight > 0.0 { self.language_sum / self.language_weight } else { 0.0 }
    }
}

/// Cross-entropy of one row of logits (nats) and whether its largest value is the label's. The logits become their
/// gradient times `scale`. The first of equal largest values counts.
pub fn cross_entropy(logits: &mut [f32], label: usize, scale: f32) -> (f32, bool) {
    let own = logits[label];
    let right = logits.iter().enumerate().all(|(index, &other)| if index < label { other < own } else { other <= own });
    let log_sum = math::softmax(logits, 1.0);
    logits[label] -= 1.0;
    logits.iter_mut().for_each(|value| *value *= scale);
    (log_sum - own, right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_equal_logits_is_the_logarithm_of_their_number() {
        let mut logits = [2.0; 4];
        let (loss, right) = cross_entropy(&mut logits, 1, 0.5);
        // Two roundings of f32 numbers near 3.4.
        assert!((loss - 4f32.ln()).abs() < 1e-6, "{loss}");
        assert!(!right, "the first of equals is index 0");
        for (gradient, expected) in logits.iter().zip([0.125, -0.375, 0.125, 0.125]) {
            assert!((gradient - expected).abs() < 1e-6, "{logits:?}");
        }
    }

    #[test]
    fn very_large_logits_stay_finite_and_not_a_number_shows() {
        let mut logits = [1e30, -1e30, 0.0];
        assert_eq!(cross_entropy(&mut logits, 0, 1.0), (0.0, true));
        let mut logits = [f32::NAN, 1.0];
        let (loss, right) = cross_entropy(&mut logits, 1, 1.0);
        assert!(loss.is_nan() && !right);
    }
}
