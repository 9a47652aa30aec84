//! What thinking is worth: the same questions with more and more thought, as a table, a JSON line and a chart.
//! `bluelm eval --budgets` asks a task's questions so, `bluelm bench --thinking` held-out ones.

use std::fmt::{Display, Write as _};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use bench::{Chart, Figure, Unit};
use engine::{Cancel, Capacity, Engine, Network};
use eval::{Asked, Course, Fingerprint, Measured, Options, ResultsFile, Score, Task, Way, Worth};
use indicatif::{ProgressBar, ProgressStyle};

use crate::parallel;
use crate::source::ModelArgument;
use crate::{embedded, failure, interrupt};

/// Answers at once: beyond, a token more for each step costs about as much as it brings.
const AT_ONCE: usize = 8;

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
    /// Ways to ask, each with how many of the questions.
    pub ways: &'a [(Way, usize)],
    /// What keeps the answers.
    pub results: ResultsFile,
    /// Thrown by Ctrl-C.
    pub cancel: &'a Cancel,
}

impl Measurement<'_> {
    /// Asks what has not been answered yet.
    pub fn run(mut self) -> anyhow::Result<Vec<Worth>> {
        let bar = ProgressBar::new(0).with_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} · {per_sec} · {eta} left")
                .expect("the template is right"),
        );
        let budgets: Vec<Option<usize>> = self.budgets.iter().map(|budget| budget.0).collect();
        let course = Course {
            task: self.task,
            options: self.options,
            budgets: &budgets,
            ways: self.ways,
            capacity: capacity(self.engine),
        };
        let cooperation = interrupt::cooperate();
        let measured = eval::measure_thinking(
            self.engine,
            &course,
            &mut self.results,
            self.cancel,
            &mut |asked: Asked| {
                bar.set_length(asked.count as u64);
                if asked.done == asked.reused {
                    bar.reset_eta();
                }
                bar.set_position(asked.done as u64);
            },
        );
        drop(cooperation);
        bar.finish_and_clear();
        let Measured { lines, finished } = measured?;
        match finished {
            true => Ok(lines),
            false => {
                eprintln!("stopped; what was answered is kept, and the same command goes on");
                Err(failure::Interrupted.into())
            }
        }
    }
}

fn capacity(engine: &Engine) -> Capacity {
    let network = engine.network();
    let context = network.shape().context_tokens;
    parallel::capacity(AT_ONCE, None, context, network.cache_bytes_per_token())
}

/// Names the program and the model: another build may answer otherwise.
pub fn answerer(model: &ModelArgument) -> anyhow::Result<Fingerprint> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let program = Fingerprint::default().with_file(&program)?;
    Ok(match model.path()? {
        Some(bundle) if bundle.is_file() => program.with_file(&bundle)?,
        Some(folder) => program.with_model_folder(&folder)?,
        // It is a part of the program.
        None => program.with(embedded::NAME.as_bytes()),
    })
}

/// Prints what came of it: a table, or one line of JSON.
pub fn print(lines: &[Worth], json: bool) -> anyhow::Result<()> {
    let text = match json {
        true => serde_json::to_string(lines)? + "\n",
        false => table(lines),
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// A way of asking in words.
fn words(way: Way) -> &'static str {
    match way {
        Way::Plain => "plain",
        Way::Schema => "JSON of a schema",
        Way::Speculation => "speculation",
        Way::SchemaAndSpeculation => "both",
    }
}

fn table(lines: &[Worth]) -> String {
    let mut table = String::from(
        "way                  budget    of  right  thought: mean  longest   cut  over budget  miscounted  streamed otherwise  other tokens\n",
    );
    for line in lines {
        let other = line
            .other_tokens
            .map_or("-".into(), |count| count.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{:<17} {:>9} {:>5} {:>5.1}% {:>14.1} {:>8} {:>5} {:>12} {:>11} {:>19} {:>13}",
            words(line.way),
            Budget(line.budget).to_string(),
            line.report.total.count,
            100.0 * line.accuracy,
            line.mean_tokens,
            line.longest_tokens,
            line.cut_thoughts,
            line.overruns,
            line.miscounted,
            line.streamed_otherwise,
            other,
        );
    }
    let broken: usize = lines.iter().map(Worth::broken).sum();
    let answers: usize = lines.iter().map(|line| line.report.total.count).sum();
    let _ = writeln!(table, "{answers} answers, {broken} broken promises");
    table
}

/// Right answers by budget, of those that were asked as they are; of all kinds of questions, or of these alone.
pub fn chart(lines: &[Worth], kinds: Option<&[&str]>) -> Chart {
    let plain = lines.iter().filter(|line| line.way == Way::Plain);
    let figure = |line: &Worth| {
        let percent = [100.0 * kinds.map_or(line.accuracy, |kinds| accuracy(line, kinds))];
        let name = Budget(line.budget).to_string();
        Figure::new("budget", name, Unit::Percent, &percent)
    };
    let figures: Vec<Figure> = plain.map(figure).collect();
    let (name, title) = match kinds {
        None => ("thinking-budget", "Right answers, percent".into()),
        Some(kinds) => (
            "thinking-budget-reasoning",
            format!("Right answers of {}, percent", kinds.join(", ")),
        ),
    };
    bench::chart(name, &title, "tokens that a thought may have", &figures)
}

/// The share of right answers to questions of these kinds.
fn accuracy(line: &Worth, kinds: &[&str]) -> f64 {
    let scores = kinds.iter().filter_map(|kind| line.report.kind(kind));
    let all = scores.fold(Score::default(), |all, score| Score {
        correct: all.correct + score.correct,
        count: all.count + score.count,
    });
    all.accuracy()
}

/// A line for each way of asking: right answers of these kinds, by budget.
pub fn print_kinds(lines: &[Worth], kinds: &[&str]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for way in Way::ALL {
        let of_way = lines.iter().filter(|line| line.way == way);
        let shares = of_way.map(|line| {
            let percent = 100.0 * accuracy(line, kinds);
            format!("{} {percent:.1}%", Budget(line.budget))
        });
        let shares: Vec<String> = shares.collect();
        if shares.is_empty() {
            continue;
        }
        writeln!(
            out,
            "{} of {}: {}",
            words(way),
            kinds.join(", "),
            shares.join(", ")
        )?;
    }
    Ok(())
}

/// Writes a chart as PNG or SVG, by the file's end.
pub fn draw(chart: Chart, path: &Path) -> anyhow::Result<()> {
    let bytes = match path.extension().is_some_and(|end| end == "svg") {
        true => chart.svg.into_bytes(),
        false => chart.png(),
    };
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use eval::Report;

    use super::*;

    #[test]
    fn shares_of_kinds_are_of_their_answers_alone() {
        let mut line = Worth {
            way: Way::Plain,
            budget: Some(8),
            accuracy: 0.0,
            mean_tokens: 0.0,
            longest_tokens: 0,
            cut_thoughts: 0,
            overruns: 0,
            miscounted: 0,
            streamed_otherwise: 0,
            other_tokens: None,
            report: Report::default(),
        };
        for (kind, right) in [
            ("sum", true),
            ("count", false),
            ("count", true),
            ("read", false),
        ] {
            line.report.add(kind, right);
        }
        assert_eq!(accuracy(&line, &["count"]), 0.5);
        assert_eq!(accuracy(&line, &["count", "sum", "chart"]), 2.0 / 3.0);
        assert_eq!(accuracy(&line, &[]), 0.0);
        let charts =
            [None, Some(&["count"][..])].map(|kinds| chart(std::slice::from_ref(&line), kinds));
        assert!(charts[1].svg.contains("Right answers of count, percent"));
        assert!(charts[1].svg.contains(">50<") && !charts[0].svg.contains(">50<"));
    }
}
