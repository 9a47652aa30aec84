//! Arguments that say how an answer is made, for every command that asks a model.

use std::time::Duration;

use clap::Args;
use engine::{Request, Speculation, ThinkingBudget};

/// How much to think, and how tokens are chosen. What is not given stays as the request has it.
#[derive(Args, Debug)]
pub struct AnswerArguments {
    /// Let the model think before it answers
    #[arg(long, conflicts_with = "no_think")]
    think: bool,
    /// Let it answer at once, which is the default
    #[arg(long, conflicts_with_all = ["thinking_budget", "thinking_time"])]
    no_think: bool,
    /// Let it think, but no longer than N tokens
    #[arg(long, value_name = "N")]
    thinking_budget: Option<usize>,
    /// Let it think, but no longer than so many milliseconds
    #[arg(long, value_name = "MS")]
    thinking_time: Option<u64>,
    /// End a thought where a line ends, if it is within N tokens of the budget's end (default: a tenth of the budget)
    #[arg(long, value_name = "N", requires = "thinking_budget")]
    thinking_grace: Option<usize>,
    /// 0 takes the likeliest token each time, higher values dare more (default: 0)
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Draw only from the K likeliest tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Draw only from tokens at least so likely as this share of the likeliest
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Make tokens that have been seen less likely; 1 is no penalty
    #[arg(long, value_name = "R")]
    repetition_penalty: Option<f32>,
    /// Take this off the logits of tokens that are in the answer
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Take this off for each time that they are in it
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Do not guess tokens ahead from what stands in the prompt and the answer: the same answer, later where it copies
    #[arg(long)]
    no_guesses: bool,
    /// The same seed draws the same answer (default: 0)
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl AnswerArguments {
    /// Puts what was given above what the request says.
    pub fn apply(&self, request: &mut Request) {
        if self.think || self.no_think {
            request.thinking = Some(self.think);
        }
        if self.thinking_budget.is_some() || self.thinking_time.is_some() {
            request.thinking = Some(true);
            request.budget = ThinkingBudget {
                tokens: self.thinking_budget,
                time: self.thinking_time.map(Duration::from_millis),
                grace_tokens: self.thinking_grace,
            };
        }
        if self.no_guesses {
            request.speculation = Speculation::Off;
        }
        let sampling = &mut request.sampling;
        sampling.temperature = self.temperature.unwrap_or(sampling.temperature);
        sampling.top_k = self.top_k.unwrap_or(sampling.top_k);
        sampling.top_p = self.top_p.unwrap_or(sampling.top_p);
        sampling.min_p = self.min_p.unwrap_or(sampling.min_p);
        for (given, kept) in [
            (self.repetition_penalty, &mut sampling.repetition_penalty),
            (self.presence_penalty, &mut sampling.presence_penalty),
            (self.frequency_penalty, &mut sampling.frequency_penalty),
        ] {
            *kept = given.unwrap_or(*kept);
        }
        sampling.seed = self.seed.unwrap_or(sampling.seed);
        if !self.stop.is_empty() {
            request.stop.clone_from(&self.stop);
        }
    }
}
