//! `bluelm bench --guesses`: the same answers with guessed tokens and without.

use std::fmt::Write as _;
use std::io::Write;

use bench::{Guessed, Worth, measure_guesses};
use clap::Args;
use data::{Generator, Kind, Picture, Question, Recipe};
use engine::{ImageCache, Request};
use indicatif::{ProgressBar, ProgressStyle};

use super::thinking::Shared;
use crate::interrupt;
use crate::looking::USUAL_CACHE_BYTES;

/// Seed of the texts: no run of training has it.
const SEED: u64 = 424_243;
/// Tokens of an answer at most.
const MAX_TOKENS: usize = 160;
/// Sorts of tasks: an answer that is in the question word for word, one that is worked out, one that is a word or a number, and
/// one about a picture, which has no words that could be looked up.
const COPY: &str = "copy";
const THINK: &str = "think";
const ANSWER: &str = "answer";
const PICTURE: &str = "picture";

/// Arguments of `bluelm bench --guesses`.
#[derive(Args, Debug)]
pub struct GuessesArguments {
    /// Answer with guessed tokens and without instead, and compare tokens and times
    #[arg(long, conflicts_with_all = ["only", "thinking"])]
    guesses: bool,
    /// Prompts of each sort of task; there are four
    #[arg(long, value_name = "N", requires = "guesses", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    each: u32,
}

impl GuessesArguments {
    /// Whether this is wanted.
    pub fn is_wanted(&self) -> bool {
        self.guesses
    }

    /// Asks, and shows what came of it.
    pub fn run(&self, shared: &Shared, rounds: usize) -> anyhow::Result<()> {
        let kept = ImageCache::new(USUAL_CACHE_BYTES);
        let engine = (shared.compute.apply(shared.model.load()?)?).with_image_cache(kept)?;
        let prompts = prompts(self.each as usize)?;
        let bar = ProgressBar::new(prompts.len() as u64).with_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} · {eta} left")
                .expect("the template is right"),
        );
        let cooperation = interrupt::cooperate();
        let found = measure_guesses(&engine, &prompts, rounds, shared.cancel, &mut |done| {
            bar.set_position(done as u64);
        });
        drop(cooperation);
        bar.finish_and_clear();
        let found = found?;
        let text = match shared.json {
            true => serde_json::to_string(&found)? + "\n",
            false => table(&found),
        };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}

/// Texts and pictures with questions about them, so many of each sort.
fn prompts(each: usize) -> anyhow::Result<Vec<Guessed>> {
    let generator = Generator::new(SEED, Recipe::default())?;
    let sort = |question: &Question| match (question.kind, &question.thought) {
        (Kind::Transcribe, _) => COPY,
        (_, Some(_)) => THINK,
        (_, None) => ANSWER,
    };
    let mut prompts: Vec<Guessed> = Vec::new();
    let mut put = |task: &'static str, images: Vec<Picture>, text: String| {
        if prompts.iter().filter(|prompt| prompt.task == task).count() < each {
            let mut request = Request::question(images, text);
            request.thinking = Some(task == THINK || task == PICTURE);
            request.max_tokens = Some(MAX_TOKENS);
            prompts.push(Guessed { task, request });
        }
        prompts.len()
    };
    for index in 0.. {
        let (questions, twin) = generator.text(index);
        let mut count = 0;
        for task in [COPY, THINK, ANSWER] {
            if let Some(question) = questions.iter().find(|question| sort(question) == task) {
                // As the model inside was taught to read texts.
                count = put(task, vec![], format!("{twin}\n{}", question.question));
            }
        }
        if index < each as u64 {
            let example = generator.example(index);
            let question = example.questions.into_iter().next();
            let question = question.map_or("What is this?".into(), |it| it.question);
            count = put(PICTURE, vec![example.picture], question);
        }
        if count == 4 * each {
            break;
        }
    }
    Ok(prompts)
}

fn table(found: &[Worth]) -> String {
    let mut table = String::from(
        "task    answers  different  tokens  guessed  came true    without       with  speed\n",
    );
    for worth in found {
        let [without, with] = worth.seconds;
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{:<7} {:>7} {:>10} {:>7} {:>8} {:>10} {without:>8.2} s {with:>8.2} s {:>6.2}",
            worth.task,
            worth.answers,
            worth.different,
            worth.tokens,
            worth.guessed_tokens,
            worth.accepted_tokens,
            worth.speed,
        );
    }
    table
}
