//! What a step reports. The losses themselves turn logits into a loss and the logits' gradient and know nothing of
//! layers: [`kernels::training::cross_entropy`].

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
    /// Σ weight · squared distance of image tokens from perfect sight, in mean squared lengths of an embedding.
    pub sight_sum: f64,
    /// Σ weight of those image tokens.
    pub sight_weight: f64,
}

impl Losses {
    /// Adds another micro-batch's sums; its sequences are numbered on from `first_sequence`.
    pub fn add(&mut self, other: &Losses, first_sequence: usize) {
        self.language_sum += other.language_sum;
        self.language_weight += other.language_weight;
        self.tokens += other.tokens;
        self.correct_tokens += other.correct_tokens;
        let runs = other.branch_correct.iter();
        self.branch_correct.extend(
            runs.map(|&(sequence, branch, right)| (sequence + first_sequence, branch, right)),
        );
        self.patch_sum += other.patch_sum;
        self.patch_count += other.patch_count;
        self.patch_correct += other.patch_correct;
        self.patch_filled += other.patch_filled;
        self.patch_filled_correct += other.patch_filled_correct;
        self.sight_sum += other.sight_sum;
        self.sight_weight += other.sight_weight;
    }

    /// Mean weighted loss per unit of weight, or 0 without supervision.
    pub fn language_mean(&self) -> f64 {
        if self.language_weight > 0.0 {
            self.language_sum / self.language_weight
        } else {
            0.0
        }
    }
}
