//! One optimizer step: the parts of a batch on worker threads, their gradients summed in the order of the parts, one update.

use crate::TrainError;
use crate::batch::{Asked, StepBatch};
use crate::checkpoint::Arrays;
use crate::config::{Part, RunConfig, Stage};
use crate::labels;
use crate::losses::Losses;
use crate::network::{
    AuxSpec, Network, NetworkError, PackedWeights, StepInputs, Trainable, Workspace,
};
use crate::optimizer::{Optimizer, Rates, Update};
use crate::parameters::{Gradients, Parameters};
use crate::start::Start;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a step, or several, measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    language_sum: f64,
    language_weight: f64,
    patch_sum: f64,
    patch_count: u64,
    glyphs: u64,
    glyphs_right: u64,
    sight_sum: f64,
    sight_weight: f64,
    /// Length of the last gradient before clipping.
    pub gradient_norm: f64,
    /// Each answer and whether every token of it was predicted right.
    pub answers: Vec<(Asked, bool)>,
}

impl Report {
    /// Weighted mean cross-entropy of answer tokens, in nats.
    pub fn loss(&self) -> f64 {
        if self.language_weight == 0.0 {
            0.0
        } else {
            self.language_sum / self.language_weight
        }
    }

    /// Mean cross-entropy of patch labels, in nats.
    pub fn patch_loss(&self) -> f64 {
        self.patch_sum / self.patch_count.max(1) as f64
    }

    /// Share of non-blank patch labels that were right.
    pub fn patch_right(&self) -> f64 {
        self.glyphs_right as f64 / self.glyphs.max(1) as f64
    }

    /// Mean squared distance of image tokens from perfect sight, in mean squared lengths of an embedding.
    pub fn sight_loss(&self) -> f64 {
        self.sight_sum / self.sight_weight.max(1e-9)
    }

    /// Takes in another report.
    pub fn add(&mut self, other: Report) {
        self.language_sum += other.language_sum;
        self.language_weight += other.language_weight;
        self.patch_sum += other.patch_sum;
        self.patch_count += other.patch_count;
        self.glyphs += other.glyphs;
        self.glyphs_right += other.glyphs_right;
        self.sight_sum += other.sight_sum;
        self.sight_weight += other.sight_weight;
        self.gradient_norm = other.gradient_norm;
        self.answers.extend(other.answers);
    }

    fn take(&mut self, losses: &Losses, asked: &[Vec<Asked>]) {
        self.language_sum += losses.language_sum;
        self.language_weight += losses.language_weight;
        self.patch_sum += losses.patch_sum;
        self.patch_count += losses.patch_count as u64;
        self.glyphs += losses.patch_filled as u64;
        self.glyphs_right += losses.patch_filled_correct as u64;
        self.sight_sum += losses.sight_sum;
        self.sight_weight += losses.sight_weight;
        for &(sequence, branch, right) in &losses.branch_correct {
            self.answers
                .push((asked[sequence][branch as usize - 1].clone(), right));
        }
    }
}

/// The weights and the optimizer of a run.
pub struct Stepper {
    network: Network,
    parameters: Parameters,
    packed: PackedWeights,
    optimizer: Optimizer,
    workers: Vec<Mutex<Workspace>>,
    /// One set of gradients for each part of a batch, reused from step to step.
    gradients: Vec<Mutex<Gradients>>,
    /// Factor of the learning rate of each tensor in the present stage.
    rates: Vec<f32>,
    trainable: Trainable,
}

impl Stepper {
    /// Weights from the start folder, or drawn from the run's seed.
    pub fn new(start: &Start, config: &RunConfig) -> Result<Stepper, TrainError> {
        let network = Network::new(
            &start.spec,
            AuxSpec {
                patch_classes: labels::CLASSES,
                patch_slots: labels::SLOTS,
            },
        )?
        .with_precision(config.precision)?;
        let mut parameters = Parameters::random(network.layout().clone(), config.seed);
        start.load_weights(&mut parameters)?;
        let optimizer = Optimizer::new(network.layout(), &config.optimizer)
            .with_arithmetic(network.arithmetic());
        let workers = (0..config.thread_count())
            .map(|_| Mutex::new(Workspace::default()))
            .collect();
        let trainable = Trainable {
            vision: false,
            projector: false,
            language: false,
            aux: false,
        };
        Ok(Stepper {
            network,
            parameters,
            packed: PackedWeights::default(),
            optimizer,
            workers,
            gradients: Vec::new(),
            rates: Vec::new(),
            trainable,
        })
    }

    /// Numbers in the parameter table.
    pub fn length(&self) -> usize {
        self.parameters.values().len()
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Weights and moments, for a checkpoint.
    pub fn arrays(&self) -> [&[f32]; 3] {
        [
            self.parameters.values(),
            self.optimizer.mean(),
            self.optimizer.square(),
        ]
    }

    /// Back to a checkpoint.
    pub fn restore(&mut self, arrays: Arrays) {
        self.parameters
            .values_mut()
            .copy_from_slice(&arrays.parameters);
        self.optimizer.restore(arrays.mean, arrays.square);
    }

    /// Forgets the moments of the stage before: other tensors learn now, at another rate.
    pub fn forget_moments(&mut self) {
        self.optimizer
            .restore(vec![0.0; self.length()], vec![0.0; self.length()]);
    }

    /// Turns to a stage, at its beginning or after a resumption.
    pub fn select(&mut self, stage: &Stage) {
        self.rates = stage_rates(stage).for_layout(self.network.layout());
        self.trainable = Trainable {
            vision: stage.trains(Part::Vision),
            projector: stage.trains(Part::Projector),
            language: stage.trains(Part::Language),
            aux: stage.trains(Part::Auxiliary),
        };
        self.network.pack(&self.parameters, &mut self.packed);
    }

    /// One update from one batch; `updates` were done since the moments were last forgotten.
    pub fn step(
        &mut self,
        batch: &StepBatch,
        learning_rate: f32,
        updates: u64,
    ) -> Result<Report, TrainError> {
        while self.gradients.len() < batch.parts.len() {
            self.gradients
                .push(Mutex::new(Gradients::zeros(self.network.layout())));
        }
        let mut report = self.parts(batch, true)?;
        let (first, rest) = self.gradients[..batch.parts.len()]
            .split_first_mut()
            .expect("a batch has at least one part");
        let total = first.get_mut().expect("no thread panicked");
        for other in rest {
            total.add(other.get_mut().expect("no thread panicked"));
        }
        let update = Update {
            step: updates + 1,
            learning_rate,
            rates: &self.rates,
        };
        report.gradient_norm = self.optimizer.update(&mut self.parameters, total, update)?;
        self.network.pack(&self.parameters, &mut self.packed);
        Ok(report)
    }

    /// The losses of a batch, without learning from it.
    pub fn evaluate(&self, batch: &StepBatch) -> Result<Report, TrainError> {
        self.parts(batch, false)
    }

    /// Every part on whichever worker is free; reports are added in the order of the parts.
    fn parts(&self, batch: &StepBatch, learn: bool) -> Result<Report, TrainError> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Result<Losses, NetworkError>>>> =
            batch.parts.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for worker in &self.workers {
                let (next, results) = (&next, &results);
                scope.spawn(move || {
                    let mut work = worker.lock().expect("no thread panicked");
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(part) = batch.parts.get(at) else {
                            return;
                        };
                        let inputs = StepInputs {
                            parameters: &self.parameters,
                            packed: &self.packed,
                            batch: part,
                            scale: (1.0 / batch.weight.max(1e-9)) as f32,
                            trainable: self.trainable,
                        };
                        let mut gradients =
                            learn.then(|| self.gradients[at].lock().expect("no thread panicked"));
                        if let Some(gradients) = &mut gradients {
                            gradients.clear();
                        }
                        let losses = self
                            .network
                            .step(inputs, gradients.as_deref_mut(), &mut work);
                        *results[at].lock().expect("no thread panicked") = Some(losses);
                    }
                });
            }
        });
        let mut report = Report::default();
        for (result, asked) in results.into_iter().zip(&batch.asked) {
            let losses = result
                .into_inner()
                .expect("no thread panicked")
                .expect("every part was computed")?;
            report.take(&losses, asked);
        }
        Ok(report)
    }
}

/// How fast each part learns in a stage.
pub fn stage_rates(stage: &Stage) -> Rates {
    let rate = |part: Part| if stage.trains(part) { 1.0 } else { 0.0 };
    Rates {
        vision: rate(Part::Vision) * stage.vision_rate,
        vision_layer_decay: stage.vision_layer_decay,
        projector: rate(Part::Projector),
        language: rate(Part::Language),
        auxiliary: rate(Part::Auxiliary),
    }
}
