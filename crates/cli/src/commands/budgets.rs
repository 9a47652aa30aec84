//! `bluelm eval --budgets`: the same questions with more and more thought, and what it is worth.

use std::fmt::{Display, Write as _};
use std::io::Write;
use std::path::Path;

use bench::{Figure, Unit};
use engine::{Cancel, Engine, ThinkingBudget};
use eval::{EngineAnswer, Options, Report, ResultsFile, Task, Thoughts, evaluate};
use serde::Serialize;

use crate::failure;

/// Tokens of thought, or no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(Option<usize>);

/// Reads a number of tokens, or `unlimited`.
pub fn parse(text: &str) -> Result<Budget, String> {
    match text {
        "unlimited" => Ok(Budget(None)),
        number => number
            .parse()
            .map(|tokens| Budget(Some(tokens)))
            .map_err(|_| "expected a number of tokens, or unlimited".into()),
    }
}

impl Display for Budget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.0 {
            Some(tokens) => tokens.fmt(formatter),
            None => formatter.write_str("unlimited"),
        }
    }
}

/// What a budget came to.
#[derive(Debug, Serialize)]
struct Line {
    budget: Option<usize>,
    accuracy: f64,
    mean_tokens: f64,
    longest_tokens: usize,
    cut_thoughts: usize,
    overruns: usize,
    #[serde(flatten)]
    report: Report,
}

/// How to measure.
pub struct Measurement<'a> {
    /// Who answers.
    pub engine: &'a Engine,
    /// The questions.
    pub task: &'a Task,
    /// How to ask, but for the thoughts.
    pub options: Options,
    /// In this order.
    pub budgets: &'a [Budget],
    /// Where a chart goes, PNG or SVG by its end.
    pub chart: Option<&'a Path>,
    /// Thrown by Ctrl-C.
    pub cancel: &'a Cancel,
}

impl Measurement<'_> {
    /// Asks all questions with each budget. Nothing is taken over from earlier runs, and nothing kept.
    pub fn run(&self, json: bool) -> anyhow::Result<()> {
        let mut lines = Vec::new();
        for budget in self.budgets {
            eprintln!("budget {budget}");
            lines.push(self.ask(*budget)?);
        }
        let mut out = std::io::stdout();
        match json {
            true => writeln!(out, "{}", serde_json::to_string(&lines)?)?,
            false => write!(out, "{}", self.table(&lines))?,
        }
        match self.chart {
            Some(path) => self.draw(&lines, path),
            None => Ok(()),
        }
    }

    fn ask(&self, budget: Budget) -> anyhow::Result<Line> {
        let folder = std::env::temp_dir();
        let name = format!("bluelm-budgets-{}.jsonl", std::process::id());
        let path = folder.join(name);
        let budget_of_tokens = ThinkingBudget {
            tokens: budget.0,
            ..ThinkingBudget::default()
        };
        let mut answerer = EngineAnswer::new(self.engine, self.options.max_tokens, self.cancel)
            .with_budget(budget_of_tokens);
        let mut results = ResultsFile::open(&path)?;
        let outcome = evaluate(
            &mut answerer,
            self.task,
            &self.options,
            &mut results,
            &mut |_| {},
        );
        drop(results);
        // It has done its work whatever came of it.
        let _ = std::fs::remove_file(&path);
        let outcome = outcome?;
        if !outcome.finished {
            return Err(failure::Interrupted.into());
        }
        let Thoughts {
            answers,
            tokens,
            longest,
            overruns,
            cut,
        } = answerer.thoughts();
        Ok(Line {
            budget: budget.0,
            accuracy: outcome.report.total.accuracy(),
            mean_tokens: tokens as f64 / answers.max(1) as f64,
            longest_tokens: longest,
            cut_thoughts: cut,
            overruns,
            report: outcome.report,
        })
    }

    fn table(&self, lines: &[Line]) -> String {
        let mut table =
            String::from("   budget  right  thought: mean  longest  cut  over budget\n");
        for line in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "{:>9} {:>5.1}% {:>14.1} {:>8} {:>4} {:>12}",
                Budget(line.budget).to_string(),
                100.0 * line.accuracy,
                line.mean_tokens,
                line.longest_tokens,
                line.cut_thoughts,
                line.overruns
            );
        }
        table
    }

    fn draw(&self, lines: &[Line], path: &Path) -> anyhow::Result<()> {
        let figure = |line: &Line| {
            let percent = [100.0 * line.accuracy];
            Figure::new(
                "budget",
                Budget(line.budget).to_string(),
                Unit::Percent,
                &percent,
            )
        };
        let figures: Vec<Figure> = lines.iter().map(figure).collect();
        let title = "Right answers, percent";
        let chart = bench::chart("budgets", title, "tokens that a thought may have", &figures);
        let bytes = match path.extension().is_some_and(|end| end == "svg") {
            true => chart.svg.into_bytes(),
            false => chart.png(),
        };
        Ok(std::fs::write(path, bytes)?)
    }
}
