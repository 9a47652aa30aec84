//! What a run leaves for people: one JSON line per report and an SVG loss curve.

use crate::TrainError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many answers of a kind were predicted entirely right (teacher forcing: every token, given the ones before it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Right {
    /// Answers with every token right.
    pub right: u64,
    /// Answers.
    pub count: u64,
}

impl Right {
    /// Share of right answers; 0 when there are none.
    pub fn share(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.right as f64 / self.count as f64
        }
    }

    /// Counts one more answer.
    pub fn count(&mut self, right: bool) {
        self.count += 1;
        self.right += u64::from(right);
    }
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// `train` or `held_out`.
    pub event: String,
    /// Stage name.
    pub stage: String,
    /// Optimizer steps done since the run's beginning.
    pub step: u64,
    /// Weighted mean cross-entropy of answer tokens, in nats.
    pub loss: f64,
    /// Mean cross-entropy of the patch labels, in nats.
    pub patch_loss: f64,
    /// Share of non-blank patch labels that were right.
    pub patch_right: f64,
    /// Mean squared distance of image tokens from perfect sight, in mean squared lengths of an embedding.
    #[serde(default)]
    pub sight_loss: f64,
    /// Learning rate.
    pub learning_rate: f32,
    /// Length of the gradient before clipping.
    pub gradient_norm: f64,
    /// Rows through the decoder per second.
    pub tokens_per_s: f64,
    /// Seconds of training so far, over all resumptions.
    pub seconds: f64,
    /// Right answers by kind; `+think` marks the thinking mode.
    pub kinds: BTreeMap<String, Right>,
}

/// `metrics.jsonl` of a run, kept in step with its checkpoints.
pub struct Metrics {
    path: PathBuf,
}

impl Metrics {
    /// The file in `output`, cut back to the lines up to `step` (a killed run wrote more than its checkpoint knows).
    pub fn open(output: &Path, step: u64) -> Result<Metrics, TrainError> {
        let metrics = Metrics {
            path: output.join("metrics.jsonl"),
        };
        let kept: Vec<Line> = metrics
            .lines()?
            .into_iter()
            .filter(|line| line.step <= step)
            .collect();
        let mut text = String::new();
        for line in &kept {
            text.push_str(&encode(line));
        }
        std::fs::write(&metrics.path, text).map_err(TrainError::io("writing", &metrics.path))?;
        Ok(metrics)
    }

    /// Appends one line.
    pub fn write(&self, line: &Line) -> Result<(), TrainError> {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .map_err(TrainError::io("opening", &self.path))?;
        file.write_all(encode(line).as_bytes())
            .map_err(TrainError::io("writing", &self.path))
    }

    /// All whole lines; a torn last one is left out.
    pub fn lines(&self) -> Result<Vec<Line>, TrainError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(TrainError::io("reading", &self.path)(e)),
        }
    }

    /// Draws the losses so far into `loss.svg` beside the file.
    pub fn plot(&self, title: &str) -> Result<(), TrainError> {
        let path = self.path.with_file_name("loss.svg");
        std::fs::write(&path, crate::plot::loss_curve(title, &self.lines()?))
            .map_err(TrainError::io("writing", path))
    }
}

fn encode(line: &Line) -> String {
    // A Line holds only strings, numbers and maps of them; such a value always has a JSON text.
    serde_json::to_string(line).expect("a metrics line is plain data") + "\n"
}
