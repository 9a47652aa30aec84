//! One training run as data: the TOML file that `bluelm train` reads.

use crate::TrainError;
use crate::network::Precision;
use data::Recipe;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A whole run: where it starts, what it writes, and its stages in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Shown in progress and plots.
    pub name: String,
    /// Decides initial weights, pictures, questions and their order.
    pub seed: u64,
    /// A folder in the native format. Without weights in it, they are drawn from `seed`.
    pub start: PathBuf,
    /// Receives `checkpoint-*`, `metrics.jsonl`, `loss.svg` and `model/`.
    pub output: PathBuf,
    /// Worker threads; the result does not depend on it. Default: all processors.
    pub threads: Option<usize>,
    /// Steps between checkpoints.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// Steps between held-out losses.
    #[serde(default = "default_evaluate_every")]
    pub evaluate_every: u64,
    /// `f32`, or `bf16` for linear layers on processors that multiply bf16 (twice the rate, other bits).
    #[serde(default)]
    pub precision: Precision,
    /// AdamW, and Muon for matrices if the run wants it.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The stages, run in order.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// AdamW's numbers; the defaults are the paper's (papers.md §4.1 of BlueLM-V-3B: b1 0.9, b2 0.98, eps 1e-6, decay 0.05).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Decay of the mean gradient.
    pub beta1: f32,
    /// Decay of the mean squared gradient.
    pub beta2: f32,
    /// Added to the root.
    pub epsilon: f32,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f32,
    /// Gradients longer than this are shortened to it.
    pub clip_norm: f32,
    /// Who moves the matrices inside layers and projector; all other tensors are AdamW's.
    pub matrices: MatrixRule,
    /// Decay of Muon's mean gradient.
    pub momentum: f32,
}

/// The rule by which weight matrices are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatrixRule {
    /// Each number by its own moments, as in the paper.
    #[default]
    AdamW,
    /// The mean gradient made orthogonal: about half as many steps to the same loss, each longer by five small products a matrix.
    Muon,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig {
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-6,
            weight_decay: 0.05,
            clip_norm: 1.0,
            matrices: MatrixRule::AdamW,
            momentum: 0.95,
        }
    }
}

/// A part of the network that a stage may train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The image encoder.
    Vision,
    /// LayerNorm and the two linear layers between encoder and decoder.
    Projector,
    /// The decoder with its embedding.
    Language,
    /// The auxiliary patch head, which is not part of the exported model.
    Auxiliary,
}

/// How the tokens of one answer share its weight (InternVL's `len2weight`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossWeight {
    /// Every token counts the same.
    Token,
    /// Every answer counts the same.
    Sample,
    /// Between both: 1 / sqrt(tokens of the answer).
    #[default]
    Square,
}

/// One stage of the curriculum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Shown in progress; part of the held-out report.
    pub name: String,
    /// Optimizer steps.
    pub steps: u64,
    /// What learns; the rest is frozen.
    pub trainable: Vec<Part>,
    /// Peak learning rate.
    pub learning_rate: f32,
    /// Share of the steps that the rate takes to rise.
    #[serde(default = "default_warmup")]
    pub warmup_ratio: f32,
    /// Where the cosine ends, as a share of the peak.
    #[serde(default)]
    pub final_ratio: f32,
    /// The encoder's share of the learning rate.
    #[serde(default = "one")]
    pub vision_rate: f32,
    /// Each encoder layer below the last learns this much slower than the one above.
    #[serde(default = "one")]
    pub vision_layer_decay: f32,
    /// Micro-batches in one optimizer step (gradient accumulation).
    #[serde(default = "default_micro_batches")]
    pub micro_batches: usize,
    /// Pictures in one micro-batch.
    pub pictures: usize,
    /// Questions asked about one picture, at most.
    #[serde(default = "default_questions")]
    pub questions: usize,
    /// Share of the questions that are answered with a thought.
    #[serde(default)]
    pub thinking_share: f32,
    /// Share of the examples that give the scene as text instead of a picture.
    #[serde(default)]
    pub text_only_share: f32,
    /// Share of the pictures that are told instead of shown: image tokens are sums of the words that stand there, as if the
    /// encoder read without mistakes, and nothing is encoded.
    #[serde(default)]
    pub sight_share: f32,
    /// Weight of the distance of the projector's image tokens from those sums; 0 leaves it out.
    #[serde(default)]
    pub sight_weight: f32,
    /// Weight of the per-patch character and shape labels; 0 leaves the auxiliary head out.
    #[serde(default)]
    pub patch_weight: f32,
    /// How the tokens of an answer share its weight.
    #[serde(default)]
    pub loss_weight: LossWeight,
    /// Most rows of one sequence; longer examples lose questions.
    #[serde(default = "default_sequence_length")]
    pub sequence_length: usize,
    /// Relative frequency of question kinds; a kind that is not named has 1.
    #[serde(default)]
    pub kinds: std::collections::BTreeMap<String, f32>,
    /// What the pictures show.
    pub data: Recipe,
}

fn default_checkpoint_every() -> u64 {
    200
}
fn default_evaluate_every() -> u64 {
    200
}
fn default_warmup() -> f32 {
    0.01
}
fn one() -> f32 {
    1.0
}
fn default_micro_batches() -> usize {
    4
}
fn default_questions() -> usize {
    6
}
fn default_sequence_length() -> usize {
    2048
}

impl RunConfig {
    /// Reads and checks a TOML file; relative paths in it are relative to the working directory, as in a shell.
    pub fn read(path: &Path) -> Result<RunConfig, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io("reading", path))?;
        let wrong = |problem: String| TrainError::Config {
            path: path.into(),
            problem,
        };
        let config: RunConfig = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        config.check().map_err(wrong)?;
        Ok(config)
    }

    /// Worker threads to use.
    pub fn thread_count(&self) -> usize {
        self.threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
            .max(1)
    }

    /// All steps of all stages.
    pub fn total_steps(&self) -> u64 {
        self.stages.iter().map(|s| s.steps).sum()
    }

    fn check(&self) -> Result<(), String> {
        if self.stages.is_empty() {
            return Err("no [[stage]], expected at least one".into());
        }
        if self.checkpoint_every == 0 || self.evaluate_every == 0 {
            return Err("checkpoint_every and evaluate_every must be at least 1".into());
        }
        for stage in &self.stages {
            stage
                .check()
                .map_err(|problem| format!("stage {:?}: {problem}", stage.name))?;
        }
        Ok(())
    }
}

impl Stage {
    fn check(&self) -> Result<(), String> {
        let shares = [
            ("thinking_share", self.thinking_share),
            ("text_only_share", self.text_only_share),
            ("sight_share", self.sight_share),
            ("warmup_ratio", self.warmup_ratio),
            ("final_ratio", self.final_ratio),
        ];
        for (name, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{name} is {value}, expected 0 to 1"));
            }
        }
        let weights = [
            ("patch_weight", self.patch_weight),
            ("sight_weight", self.sight_weight),
        ];
        for (name, value) in weights {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(format!("{name} is {value}, expected 0 or more"));
            }
        }
        if self.questions == 0 && self.sight_share > 0.0 {
            return Err(format!(
                "sight_share is {} with questions 0, expected 0: nobody is asked about what is told",
                self.sight_share
            ));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(format!(
                "learning_rate is {}, expected a positive number",
                self.learning_rate
            ));
        }
        if self.trainable.is_empty() {
            return Err("trainable is empty, expected at least one of vision, projector, language, auxiliary".into());
        }
        if self.pictures == 0 || self.micro_batches == 0 || self.steps == 0 {
            return Err("steps, pictures and micro_batches must be at least 1".into());
        }
        if self.questions == 0 && self.patch_weight == 0.0 && self.sight_weight == 0.0 {
            return Err(
                "questions, patch_weight and sight_weight are all 0: nothing would be learned"
                    .into(),
            );
        }
        self.data.check().map_err(|e| format!("data: {e}"))?;
        for name in self.kinds.keys() {
            if !data::Kind::ALL.iter().any(|kind| kind.name() == name) {
                let known: Vec<_> = data::Kind::ALL.iter().map(|kind| kind.name()).collect();
                return Err(format!(
                    "kinds names {name:?}, expected one of {}",
                    known.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// Whether `part` learns in this stage.
    pub fn trains(&self, part: Part) -> bool {
        self.trainable.contains(&part)
    }

    /// The learning rate at `step` of this stage: a linear rise, then a cosine.
    pub fn rate_at(&self, step: u64) -> f32 {
        let warmup = (self.steps as f32 * self.warmup_ratio).ceil().max(1.0);
        let done = step as f32;
        if done < warmup {
            return self.learning_rate * (done + 1.0) / warmup;
        }
        let share = ((done - warmup) / (self.steps as f32 - warmup).max(1.0)).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f32::consts::PI * share).cos());
        self.learning_rate * (self.final_ratio + (1.0 - self.final_ratio) * cosine)
    }
}
