//! The run loop: stages in order, batches prepared ahead on another thread, gradients summed in a fixed order, reports,
//! checkpoints, and the finished model.

use crate::TrainError;
use crate::batch::{BatchMaker, Encoding, StepBatch};
use crate::checkpoint::{self, Position};
use crate::config::{RunConfig, Stage};
use crate::metrics::{Line, Metrics, Right};
use crate::start::Start;
use crate::step::{Report, Stepper};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// Steps between two `train` lines in the metrics.
const REPORT_EVERY: u64 = 10;
/// Held-out batches per evaluation.
const HELD_OUT_BATCHES: u64 = 2;
/// Batches prepared ahead of the step that computes.
const AHEAD: usize = 2;

/// What an observer is told after each step.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The stage in progress.
    pub stage: &'a Stage,
    /// Where the run stands.
    pub position: &'a Position,
    /// Answer loss, a running mean.
    pub loss: f64,
    /// Patch-label loss, a running mean.
    pub patch_loss: f64,
    /// Decoder rows per second, a running mean.
    pub tokens_per_s: f64,
    /// Seconds left in all stages, at the present stage's pace.
    pub seconds_left: f64,
    /// A line just written to the metrics.
    pub line: Option<&'a Line>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All stages are done; the folder of the finished model.
    Finished(PathBuf),
    /// Stopped by the caller; the checkpoint it resumes from. The model so far stands in the output folder too.
    Stopped(PathBuf),
}

/// Runs, or resumes, `config` until it is finished or `stop` is set; `observer` hears of every step.
pub fn run(
    config: &RunConfig,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(Progress),
) -> Result<Outcome, TrainError> {
    let start = Start::open(&config.start)?;
    let mut stepper = Stepper::new(&start, config)?;
    std::fs::create_dir_all(&config.output).map_err(TrainError::io("creating", &config.output))?;
    let mut position = Position::default();
    if let Some((saved, arrays)) = checkpoint::load(config, stepper.length())? {
        position = saved;
        stepper.restore(arrays);
    }
    let metrics = Metrics::open(&config.output, position.step)?;
    let mut run = Run {
        config,
        stepper,
        metrics,
        position,
        clock: Instant::now(),
        window: Window::default(),
    };
    while run.position.stage < config.stages.len() {
        if !run.stage(&start.encoding, stop, observer)? {
            let checkpoint = run.save()?;
            start.export(run.stepper.parameters(), &config.output.join("model"))?;
            return Ok(Outcome::Stopped(checkpoint));
        }
    }
    run.save()?;
    run.metrics.plot(&config.name)?;
    let folder = config.output.join("model");
    start.export(run.stepper.parameters(), &folder)?;
    Ok(Outcome::Finished(folder))
}

struct Run<'a> {
    config: &'a RunConfig,
    stepper: Stepper,
    metrics: Metrics,
    position: Position,
    clock: Instant,
    window: Window,
}

/// Sums since the last report.
#[derive(Default)]
struct Window {
    report: Report,
    rows: usize,
    seconds: f64,
    steps: u64,
}

impl Run<'_> {
    /// Trains the stage in progress to its end; false when stopped before.
    fn stage(
        &mut self,
        encoding: &Encoding,
        stop: &AtomicBool,
        observer: &mut dyn FnMut(Progress),
    ) -> Result<bool, TrainError> {
        let stage = &self.config.stages[self.position.stage];
        let seed = self
            .config
            .seed
            .wrapping_add(1_000_003 * (self.position.stage as u64 + 1));
        if self.position.stage_step == 0 {
            self.stepper.forget_moments();
            self.position.updates = 0;
        }
        self.stepper.select(stage);
        let maker = BatchMaker::new(encoding, stage, seed)?;
        let held_out = BatchMaker::new(encoding, stage, !seed)?;
        let first = self.position.stage_step;
        let abandon = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            let (maker, abandon) = (&maker, &abandon);
            scope.spawn(move || {
                for step in first..stage.steps {
                    if abandon.load(Ordering::Relaxed) || sender.send(maker.step(step)).is_err() {
                        return;
                    }
                }
            });
            let result = self.steps(stage, &held_out, &receiver, stop, observer);
            abandon.store(true, Ordering::Relaxed);
            drop(receiver);
            result
        })
    }

    fn steps(
        &mut self,
        stage: &Stage,
        held_out: &BatchMaker,
        batches: &Receiver<Result<StepBatch, TrainError>>,
        stop: &AtomicBool,
        observer: &mut dyn FnMut(Progress),
    ) -> Result<bool, TrainError> {
        self.window = Window::default();
        self.clock = Instant::now();
        while self.position.stage_step < stage.steps {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let batch = batches
                .recv()
                .expect("the batch thread sends every step of the stage")?;
            let rate = stage.rate_at(self.position.stage_step);
            let report = self.stepper.step(&batch, rate, self.position.updates)?;
            if !(report.loss() + report.patch_loss() + report.sight_loss()).is_finite() {
                return Err(TrainError::Diverged {
                    stage: stage.name.clone(),
                    step: self.position.stage_step,
                    loss: report.loss(),
                });
            }
            self.count(&batch, report);
            let line = self.report(stage, rate)?;
            self.tell(stage, line.as_ref(), observer);
            if self
                .position
                .step
                .is_multiple_of(self.config.evaluate_every)
                || self.position.stage_step == stage.steps
            {
                let line = self.held_out(stage, held_out)?;
                self.tell(stage, Some(&line), observer);
            }
            if self
                .position
                .step
                .is_multiple_of(self.config.checkpoint_every)
            {
                self.save()?;
                self.metrics.plot(&self.config.name)?;
            }
        }
        self.position.stage += 1;
        self.position.stage_step = 0;
        Ok(true)
    }

    fn count(&mut self, batch: &StepBatch, report: Report) {
        let seconds = self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        self.position.stage_step += 1;
        self.position.step += 1;
        self.position.updates += 1;
        self.position.seconds += seconds;
        self.window.report.add(report);
        self.window.rows += batch.rows;
        self.window.seconds += seconds;
        self.window.steps += 1;
    }

    /// A `train` line when one is due.
    fn report(&mut self, stage: &Stage, rate: f32) -> Result<Option<Line>, TrainError> {
        if !self.position.step.is_multiple_of(REPORT_EVERY) {
            return Ok(None);
        }
        let window = std::mem::take(&mut self.window);
        let line = self.line(
            "train",
            stage,
            rate,
            &window.report,
            window.rows as f64 / window.seconds.max(1e-9),
        );
        self.metrics.write(&line)?;
        Ok(Some(line))
    }

    fn held_out(&mut self, stage: &Stage, maker: &BatchMaker) -> Result<Line, TrainError> {
        let mut report = Report::default();
        for step in 0..HELD_OUT_BATCHES {
            report.add(self.stepper.evaluate(&maker.step(step)?)?);
        }
        let line = self.line("held_out", stage, 0.0, &report, 0.0);
        self.metrics.write(&line)?;
        self.clock = Instant::now();
        Ok(line)
    }

    fn line(
        &self,
        event: &str,
        stage: &Stage,
        rate: f32,
        report: &Report,
        tokens_per_s: f64,
    ) -> Line {
        let mut kinds: BTreeMap<String, Right> = BTreeMap::new();
        for (asked, right) in &report.answers {
            let name = format!(
                "{}{}",
                asked.kind.name(),
                if asked.thinking { "+think" } else { "" }
            );
            kinds.entry(name).or_default().count(*right);
        }
        Line {
            event: event.into(),
            stage: stage.name.clone(),
            step: self.position.step,
            loss: report.loss(),
            patch_loss: report.patch_loss(),
            patch_right: report.patch_right(),
            sight_loss: report.sight_loss(),
            learning_rate: rate,
            gradient_norm: report.gradient_norm,
            tokens_per_s,
            seconds: self.position.seconds,
            kinds,
        }
    }

    fn tell(&self, stage: &Stage, line: Option<&Line>, observer: &mut dyn FnMut(Progress)) {
        let pace = self.position.seconds / self.position.step.max(1) as f64;
        let report = line.map(|line| (line.loss, line.patch_loss, line.tokens_per_s));
        let (loss, patch_loss, tokens_per_s) = report.unwrap_or((
            self.window.report.loss(),
            self.window.report.patch_loss(),
            self.window.rows as f64 / self.window.seconds.max(1e-9),
        ));
        let seconds_left = pace * (self.config.total_steps() - self.position.step) as f64;
        observer(Progress {
            stage,
            position: &self.position,
            loss,
            patch_loss,
            tokens_per_s,
            seconds_left,
            line,
        });
    }

    fn save(&self) -> Result<PathBuf, TrainError> {
        checkpoint::save(self.config, &self.position, self.stepper.arrays())
    }
}
