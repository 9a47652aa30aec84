//! `bluelm eval`: how many questions of a task file a model answers right.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use engine::{Cancel, Engine, ImageCache};
use eval::{
    Answered, EngineAnswer, Fingerprint, Options, Outcome, Progress, ResultsFile, Task, Way,
    evaluate,
};
use image_prep::tiling::Grid;
use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::budgets::{self, Budget, Measurement};
use crate::commands::tiles;
use crate::compute::ThreadsArgument;
use crate::looking::USUAL_CACHE_BYTES;
use crate::source::ModelArgument;
use crate::terminal::visible;
use crate::{failure, interrupt};

/// Arguments of `bluelm eval`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm eval --task examples/questions.jsonl             the model that is inside
  bluelm eval --task questions.jsonl --think --wrong 20   with thoughts, and what went wrong
  bluelm eval --task questions.jsonl --max-grid 1x1       with a single tile: what tiles are good for
  bluelm eval --task questions.jsonl --model DIR --json   another model, one JSON line
  bluelm eval --task questions.jsonl --budgets 0,16,64,unlimited   what thinking is worth

A line of a task file is
  {\"image\": \"FILE\", \"question\": \"…\", \"answer\": \"…\", \"kind\": \"read\"}
Image paths begin at the task file's folder. Kinds are yours to name; answers are counted by them.
\"think\": true or false says for one question what --think says for all.

An answer is right if it equals the expected one, outer space and case apart; numbers are compared
by value, and may have a currency sign in front and commas between thousands.

Answers are kept in FILE.results.jsonl beside FILE.jsonl. The same command goes on where a stopped
one ended. Whatever answers depend on (program, model, options, picture, question) is asked again
when it changes.")]
pub struct EvalArguments {
    /// The questions, one JSON object a line
    #[arg(long, value_name = "FILE")]
    task: PathBuf,
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    threads: ThreadsArgument,
    /// Let the model think before it answers
    #[arg(long)]
    think: bool,
    /// At most so many tokens for an answer, thought included
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Cut pictures into grids of at most so many columns and rows; 1x1 is a single tile (default: as the model says)
    #[arg(long, value_name = "CxR", value_parser = tiles::grid)]
    max_grid: Option<Grid>,
    /// Ask only the first N questions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Show the first N wrong answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    wrong: u32,
    /// Ask everything once for each of these budgets of thought, in tokens: 0,16,64,unlimited
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = budgets::parse,
          conflicts_with = "wrong")]
    budgets: Vec<Budget>,
    /// Draw right answers by budget (PNG, or SVG by the file's end)
    #[arg(long, value_name = "FILE", requires = "budgets")]
    chart: Option<PathBuf>,
    /// Keep answers in this file instead of FILE.results.jsonl beside the task
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Ask everything again, whatever earlier runs have answered
    #[arg(long)]
    fresh: bool,
    /// Print one JSON line instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command; `cancel` is thrown by Ctrl-C.
pub fn run(arguments: EvalArguments, cancel: &Cancel) -> anyhow::Result<()> {
    // The task first: its mistakes are more likely than the model's, and show at once.
    let task = Task::read(&arguments.task)?;
    // Several questions about one picture stand together: it is encoded once.
    let kept = ImageCache::new(USUAL_CACHE_BYTES);
    let mut engine = arguments.model.load()?.with_image_cache(kept)?;
    engine = engine.with_threads(arguments.threads.start()?);
    if let Some(most) = arguments.max_grid {
        engine = engine.with_grids_at_most(most);
    }
    let output = match &arguments.output {
        Some(path) => path.clone(),
        None => ResultsFile::beside(&arguments.task),
    };
    let mut results = ResultsFile::open(&output)?;
    if arguments.fresh {
        results.forget();
    }
    if !arguments.budgets.is_empty() {
        return by_budget(&arguments, &engine, &task, results, cancel);
    }
    let options = arguments.options()?;
    let mut answerer = EngineAnswer::new(&engine, options.max_tokens, cancel);
    let bar = progress_bar();
    let cooperation = interrupt::cooperate();
    let outcome = evaluate(
        &mut answerer,
        &task,
        &options,
        &mut results,
        &mut |progress| show(&bar, &progress),
    );
    drop(cooperation);
    bar.finish_and_clear();
    finish(&arguments, &outcome?, &output)
}

/// Asks with each budget of thought.
fn by_budget(
    arguments: &EvalArguments,
    engine: &Engine,
    task: &Task,
    results: ResultsFile,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    let options = arguments.options()?;
    let lines = Measurement {
        engine,
        task,
        options,
        budgets: &arguments.budgets,
        ways: &[(Way::Plain, options.limit.unwrap_or(task.questions.len()))],
        results,
        cancel,
    }
    .run()?;
    budgets::print(&lines, arguments.json)?;
    match &arguments.chart {
        Some(path) => budgets::draw(budgets::chart(&lines, None), path),
        None => Ok(()),
    }
}

impl EvalArguments {
    fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            answerer: answerer(self)?,
            think: self.think,
            max_tokens: self.max_tokens as usize,
            limit: self.limit.map(|limit| limit as usize),
        })
    }
}

/// Names the program, the model and the grids: another build may answer otherwise.
fn answerer(arguments: &EvalArguments) -> anyhow::Result<Fingerprint> {
    let model = budgets::answerer(&arguments.model)?;
    Ok(match arguments.max_grid {
        Some(grid) => model.with(grid.to_string().as_bytes()),
        None => model,
    })
}

/// A bar on standard error, if that is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    // The template is a constant: it parses, or no evaluation ever starts.
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} · {per_sec} · {eta} left")
        .expect("the progress template is well formed");
    bar.set_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_length(progress.count as u64);
    if progress.reused == progress.done {
        // Replies from an earlier run cost nothing: the rate counts from here.
        bar.reset_eta();
    }
    bar.set_position(progress.done as u64);
    let right = 100.0 * progress.report.total.accuracy();
    bar.set_message(format!("{right:.1}% right"));
}

fn finish(arguments: &EvalArguments, outcome: &Outcome, output: &Path) -> anyhow::Result<()> {
    let done = outcome.answered.len();
    if outcome.reused > 0 {
        eprintln!(
            "{} of {done} answers are from an earlier run ({}; --fresh asks again)",
            outcome.reused,
            output.display()
        );
    }
    let wrong: Vec<&Answered> = outcome
        .answered
        .iter()
        .filter(|answered| !answered.right)
        .take(arguments.wrong as usize)
        .collect();
    for answered in &wrong {
        eprintln!("{}", mistake(answered));
    }
    if !outcome.finished {
        eprintln!(
            "stopped after {done} questions; {} keeps their answers, and the same command goes on",
            output.display()
        );
        return Err(failure::Interrupted.into());
    }
    let mut out = std::io::stdout();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&outcome.report)?)?;
    } else {
        write!(out, "{}", outcome.report)?;
    }
    Ok(())
}

/// Most characters of a wrong answer that are shown; the results file has all of it.
const SHOWN_CHARACTERS: usize = 200;

/// One wrong answer, in one line.
fn mistake(answered: &Answered) -> String {
    let question = answered.question;
    let mut found: String = answered.reply.chars().take(SHOWN_CHARACTERS).collect();
    if found.len() < answered.reply.len() {
        found.push('…');
    }
    let text = format!(
        "{}: {} — expected {:?}, found {found:?}",
        question.image, question.question, question.answer
    );
    visible(&text).replace(['\n', '\t'], " ")
}
