//! `bluelm train CONFIG`: runs or resumes a training run with a progress bar; Ctrl-C saves and stops.

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use train::{Line, Outcome, Progress, RunConfig};

/// Arguments of `bluelm train`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm train configs/nano-smoke.toml            two minutes, to see it work
  bluelm train configs/nano.toml                  the embedded model, from nothing
  bluelm train configs/nano.toml --print-groups   learning rate of every tensor, then stop

A run that was stopped or killed resumes from its last checkpoint when the same command is given again.
OUTPUT/metrics.jsonl and OUTPUT/loss.svg show how it goes; OUTPUT/model is what `bluelm run --model` loads.")]
pub struct TrainArguments {
    /// The run's TOML file
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Worker threads (default: all processors); the result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Write somewhere else than the file says
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Begin again although there is a checkpoint: removes the run's checkpoints and metrics
    #[arg(long)]
    fresh: bool,
    /// Print each tensor's learning rate in every stage and stop
    #[arg(long)]
    print_groups: bool,
    /// One JSON line for each report instead of a progress bar
    #[arg(long)]
    json: bool,
}

/// Runs the command; `stop` is set by Ctrl-C.
pub fn run(arguments: TrainArguments, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut config = RunConfig::read(&arguments.config)?;
    config.threads = arguments.threads.or(config.threads);
    if let Some(output) = arguments.output {
        config.output = output;
    }
    if arguments.print_groups {
        print!("{}", train::rate_table(&config)?);
        return Ok(());
    }
    if arguments.fresh {
        train::discard(&config)?;
    }
    let bar = progress_bar(&config, arguments.json);
    let outcome = train::run(&config, stop, &mut |progress| {
        show(&bar, &progress, arguments.json)
    });
    bar.finish_and_clear();
    match outcome? {
        Outcome::Finished(model) => {
            eprintln!("finished: {}", model.display());
            eprintln!(
                "try it:   bluelm run --model {} --image examples/receipt.png \"What is the total?\"",
                model.display()
            );
            Ok(())
        }
        Outcome::Stopped(checkpoint) => {
            eprintln!(
                "stopped; saved {}, and the model so far beside it; the same command resumes",
                checkpoint.display()
            );
            bail!(crate::Interrupted)
        }
    }
}

fn progress_bar(config: &RunConfig, json: bool) -> ProgressBar {
    let target = if json {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr_with_hz(4)
    };
    let bar = ProgressBar::with_draw_target(Some(config.total_steps()), target);
    // The template is a constant, so it parses or no run ever starts.
    let style = ProgressStyle::with_template("{prefix:>12} {bar:30} {pos}/{len} {msg}")
        .expect("the progress template is well formed");
    bar.set_style(style.progress_chars("=> "));
    bar
}

fn show(bar: &ProgressBar, progress: &Progress, json: bool) {
    bar.set_position(progress.position.step);
    bar.set_prefix(progress.stage.name.clone());
    let minutes = progress.seconds_left / 60.0;
    bar.set_message(format!(
        "loss {:.4} patch {:.4} · {:.0} token/s · {:.0}:{:02.0} left",
        progress.loss,
        progress.patch_loss,
        progress.tokens_per_s,
        (minutes / 60.0).floor(),
        minutes % 60.0
    ));
    let Some(line) = progress.line else { return };
    if json {
        if let Ok(text) = serde_json::to_string(line) {
            println!("{text}");
        }
    } else if line.event == "held_out" {
        bar.suspend(|| eprintln!("{}", held_out(line)));
    }
}

/// The held-out line that people watch: losses and the share of right answers by kind.
fn held_out(line: &Line) -> String {
    let mut text = format!(
        "{:>12} step {:>6}  loss {:.4}  patch {:.4} ({:.1}% right)  sight {:.3}",
        line.stage,
        line.step,
        line.loss,
        line.patch_loss,
        100.0 * line.patch_right,
        line.sight_loss
    );
    for (kind, right) in &line.kinds {
        text.push_str(&format!("  {kind} {:.0}%", 100.0 * right.share()));
    }
    text
}
