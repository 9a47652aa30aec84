//! `bluelm bench --thinking`: held-out questions with more and more thought, and that no thought overruns.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use data::{Generator, Recipe};
use engine::{Cancel, ImageCache};
use eval::{Options, ResultsFile, Task, Way};

use crate::commands::budgets::{self, Budget, Measurement};
use crate::compute::ComputeArguments;
use crate::folders;
use crate::looking::USUAL_CACHE_BYTES;
use crate::source::ModelArgument;

/// Seed of the pictures that are asked about: no run of training has it, and docs/nano.md's figures are of the same pictures.
const SEED: u64 = 424_242;
/// Tokens that an answer may have, its thought included.
const MAX_TOKENS: usize = 512;

/// What has to be worked out: what thinking is for.
const REASONING: [&str; 3] = ["count", "compare", "sum"];

/// Arguments of `bluelm bench --thinking`.
#[derive(Args, Debug)]
pub struct ThinkingArguments {
    /// Ask held-out questions with more and more thought instead, and count what goes over its budget
    #[arg(long, conflicts_with = "only")]
    thinking: bool,
    /// Questions that are asked with each budget
    #[arg(long, value_name = "N", requires = "thinking", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    questions: u32,
    /// Of these, questions that are asked with a schema, with speculation, and with both as well (default: a fifth)
    #[arg(long, value_name = "N", requires = "thinking")]
    checked: Option<u32>,
    /// Tokens that a thought may have
    #[arg(long, value_name = "N,…", requires = "thinking", value_delimiter = ',', value_parser = budgets::parse,
          default_value = "0,8,16,32,64,unlimited")]
    budgets: Vec<Budget>,
    /// Where the pictures are or are to be, and the answers (default: in the folder for what can be made again)
    #[arg(long, value_name = "DIR", requires = "thinking")]
    folder: Option<PathBuf>,
    /// Ask everything again, whatever earlier runs have answered
    #[arg(long, requires = "thinking")]
    fresh: bool,
}

/// What all measurements of answers share.
pub struct Shared<'a> {
    /// Who answers.
    pub model: &'a ModelArgument,
    /// How it computes.
    pub compute: ComputeArguments,
    /// A line of JSON instead of a table.
    pub json: bool,
    /// Where charts go.
    pub plot: Option<&'a Path>,
    /// Thrown by Ctrl-C.
    pub cancel: &'a Cancel,
}

impl ThinkingArguments {
    /// Whether this is wanted.
    pub fn is_wanted(&self) -> bool {
        self.thinking
    }

    /// Asks, and shows what came of it.
    pub fn run(&self, shared: &Shared) -> anyhow::Result<()> {
        let kept = ImageCache::new(USUAL_CACHE_BYTES);
        let engine = shared
            .compute
            .apply(shared.model.load()?)?
            .with_image_cache(kept)?;
        if !engine.files().template.knows_thinking() {
            bail!(
                "{} has no thinking mode, expected a template that knows one",
                shared.model.name()
            );
        }
        let task = self.task(shared.cancel)?;
        let mut results = ResultsFile::open(&ResultsFile::beside(&task.path))?;
        if self.fresh {
            results.forget();
        }
        let questions = task.questions.len().min(self.questions as usize);
        let checked = self
            .checked
            .map_or(questions / 5, |checked| checked as usize);
        let checked = checked.min(questions);
        let ways = Way::ALL.map(|way| match way {
            Way::Plain => (way, questions),
            _ => (way, checked),
        });
        let ways: Vec<(Way, usize)> = ways.into_iter().filter(|(_, count)| *count > 0).collect();
        let lines = Measurement {
            engine: &engine,
            task: &task,
            options: Options {
                answerer: budgets::answerer(shared.model)?,
                think: true,
                max_tokens: MAX_TOKENS,
                limit: None,
            },
            budgets: &self.budgets,
            ways: &ways,
            results,
            cancel: shared.cancel,
        }
        .run()?;
        budgets::print(&lines, shared.json)?;
        if !shared.json {
            budgets::print_kinds(&lines, &REASONING)?;
        }
        let charts = [None, Some(&REASONING[..])].map(|kinds| budgets::chart(&lines, kinds));
        match shared.plot {
            Some(folder) => super::draw_all(charts, folder),
            None => Ok(()),
        }
    }

    /// The questions, drawn where they are not there yet.
    fn task(&self, cancel: &Cancel) -> anyhow::Result<Task> {
        // A picture has two or three questions.
        let pictures = u64::from(self.questions) / 2 + 1;
        let name = format!("held-out-{pictures}");
        let usual = || {
            folders::cache()
                .unwrap_or_else(std::env::temp_dir)
                .join(name)
        };
        let folder = self.folder.clone().unwrap_or_else(usual);
        let generator = Generator::new(SEED, Recipe::default())?;
        data::write_llava(&folder, &generator, pictures, &mut |_| {})
            .context("held-out pictures")?;
        cancel.check()?;
        Ok(Task::read(&folder.join("eval.jsonl"))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_run_of_training_has_seen_the_questions() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let mut runs = 0;
        for entry in std::fs::read_dir(configs).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "toml") {
                let run: toml::Value =
                    toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
                assert_ne!(
                    run["seed"].as_integer(),
                    Some(SEED as i64),
                    "{}",
                    path.display()
                );
                runs += 1;
            }
        }
        assert!(runs > 0);
    }
}
