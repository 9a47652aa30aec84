//! `bluelm run`: one question, one answer.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::Style;
use anyhow::Context;
use clap::Args;
use engine::request_json::{self, Pictures, Rules};
use engine::{Cancel, Event, Record, Reply, Request, ThoughtEnd};
use indicatif::ProgressBar;

use crate::answering::AnswerArguments;
use crate::compute::ComputeArguments;
use crate::format::FormatArguments;
use crate::looking::{KeepArguments, LookArguments};
use crate::source::{ModelArgument, picture};
use crate::terminal::{styles_of_stderr, visible};
use crate::{failure, interrupt, looking};

/// Tokens of an answer when nobody says how many.
const DEFAULT_MAX_TOKENS: usize = 512;

/// Arguments of `bluelm run`.
#[derive(Args, Debug)]
#[command(
    override_usage = "bluelm run [OPTIONS] [MODEL] <PROMPT>\n       bluelm run [OPTIONS] --request <FILE>"
)]
#[command(after_help = "\
Examples:
  bluelm run --image receipt.png \"What is the total?\"
  bluelm run --think --image receipt.png \"What do all items cost together?\"
  bluelm run --thinking-budget 32 --image receipt.png \"What do all items cost together?\"
  bluelm run --image before.png --image after.png \"What has changed?\"
  screenshot-tool | bluelm run --image - \"What does the error say?\"
  bluelm run --json --image chart.png \"Which bar is the highest?\" | jq .text
  bluelm run --json-schema '{\"type\": \"object\", \"properties\": {\"total\": {\"type\": \"number\"}},
    \"required\": [\"total\"], \"additionalProperties\": false}' --image receipt.png \"What is the total?\"
  bluelm run --request request.json

The answer goes to standard output as it is made. The thought (--think) and one line of numbers go
to standard error, so that a pipe gets the answer alone.")]
pub struct RunArguments {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    compute: ComputeArguments,
    /// A picture (PNG, JPEG, WebP, GIF, BMP, TIFF), or - for standard input; may be given several times
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    look: LookArguments,
    #[command(flatten)]
    keep: KeepArguments,
    #[command(flatten)]
    answering: AnswerArguments,
    #[command(flatten)]
    format: FormatArguments,
    /// At most so many tokens, thought included (default: 512)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Print one JSON line with answer, thought, usage, images and timings instead
    #[arg(long)]
    json: bool,
    /// Take pictures and question from the body of an OpenAI chat completion; paths in it begin at its folder
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "prompt"])]
    request: Option<PathBuf>,
    /// Write intermediate values as safetensors: input_ids, pixel_values, image_embeds, inputs_embeds, hidden.N,
    /// prefill_logits, output_ids
    #[arg(long, value_name = "FILE")]
    taps: Option<PathBuf>,
    /// The question; of two texts the first is the model, as in `bluelm run owner/name "What is this?"`
    #[arg(required_unless_present = "request", num_args = 1..=2, value_name = "PROMPT")]
    prompt: Vec<String>,
}

/// Runs the command; `cancel` is thrown by Ctrl-C.
pub fn run(mut arguments: RunArguments, cancel: &Cancel) -> anyhow::Result<()> {
    if let [model, _] = &arguments.prompt[..] {
        if arguments.model.model.is_some() {
            anyhow::bail!("expected one question beside --model, found two");
        }
        arguments.model.model = Some(model.into());
    }
    // Pictures and request first: their mistakes are more likely than the model's.
    let request = arguments.request()?;
    let engine = arguments.compute.apply(arguments.model.load()?)?;
    // Nothing comes after the one request: what is kept is kept in the folder.
    let engine = arguments.keep.apply(engine, 0)?;
    let mut output = Output::new(arguments.json, cancel);
    let mut record = arguments.taps.as_ref().map(|_| Record::new());
    let cooperation = interrupt::cooperate();
    let events = &mut |event: Event| output.event(event);
    let reply = match &mut record {
        Some(record) => engine.generate_with_taps(&request, cancel, events, record),
        None => engine.generate(&request, cancel, events),
    };
    drop(cooperation);
    let reply = output.end(reply)?;
    if let (Some(path), Some(record)) = (&arguments.taps, &record) {
        record.write(path)?;
    }
    if arguments.json {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&reply)?)?;
    } else {
        let dim = styles_of_stderr().dim;
        eprintln!(
            "{dim}{}{dim:#}",
            statistics(&arguments.model.name(), &reply)
        );
    }
    Ok(())
}

impl RunArguments {
    /// The request, with what the command line says above what a request file says.
    fn request(&self) -> anyhow::Result<Request> {
        let mut request = match &self.request {
            Some(path) => read_request(path)?,
            None => {
                let images = self
                    .images
                    .iter()
                    .map(|path| picture(path))
                    .collect::<Result<_, _>>()?;
                Request::question(images, self.prompt.last().map_or("", |prompt| prompt))
            }
        };
        if let Some(max_tokens) = self.max_tokens {
            request.max_tokens = Some(max_tokens as usize);
        }
        request.max_tokens.get_or_insert(DEFAULT_MAX_TOKENS);
        self.answering.apply(&mut request);
        if let Some(grammar) = self.format.grammar()? {
            request.format = Some(grammar);
        }
        self.look.apply(&mut request);
        Ok(request)
    }
}

fn read_request(path: &Path) -> anyhow::Result<Request> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let rules = Rules::new(Pictures::Folder(folder));
    let body = request_json::read_body(path, &rules)?;
    request_json::parse(&body, &Request::default(), &rules)
        .with_context(|| path.display().to_string())
}

/// Shows an answer as it grows.
struct Output<'a> {
    cancel: &'a Cancel,
    dim: Style,
    spinner: ProgressBar,
    json: bool,
    to_terminal: bool,
    thinking: bool,
    /// The first thing that went wrong while writing.
    failed: Option<std::io::Error>,
}

impl<'a> Output<'a> {
    fn new(json: bool, cancel: &'a Cancel) -> Self {
        // Draws on standard error, and only if that is a terminal.
        let spinner = ProgressBar::new_spinner().with_message("reading");
        spinner.enable_steady_tick(Duration::from_millis(100));
        let to_terminal = std::io::stdout().is_terminal();
        Output {
            cancel,
            dim: styles_of_stderr().dim,
            spinner,
            json,
            to_terminal,
            thinking: false,
            failed: None,
        }
    }

    fn event(&mut self, event: Event) {
        let written = match event {
            Event::Prefill { done, total } => {
                self.spinner
                    .set_message(format!("reading {done} of {total} tokens"));
                Ok(())
            }
            _ if self.json => Ok(()),
            Event::Token(_) => Ok(()),
            Event::Reasoning(text) => self.show_thought(text),
            Event::Text(text) => self.show_answer(text),
        };
        if let Err(error) = written {
            self.failed.get_or_insert(error);
            self.cancel.cancel();
        }
    }

    fn show_thought(&mut self, text: &str) -> std::io::Result<()> {
        self.spinner.finish_and_clear();
        self.thinking = true;
        let mut out = std::io::stderr();
        let dim = self.dim;
        write!(out, "{dim}{}{dim:#}", visible(text))?;
        out.flush()
    }

    fn show_answer(&mut self, text: &str) -> std::io::Result<()> {
        self.spinner.finish_and_clear();
        self.end_thought();
        let mut out = std::io::stdout();
        match self.to_terminal {
            true => out.write_all(visible(text).as_bytes())?,
            false => out.write_all(text.as_bytes())?,
        }
        out.flush()
    }

    fn end_thought(&mut self) {
        if std::mem::take(&mut self.thinking) {
            eprintln!();
        }
    }

    /// Ends the output, whatever came of it.
    fn end(mut self, reply: Result<Reply, engine::EngineError>) -> anyhow::Result<Reply> {
        self.spinner.finish_and_clear();
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        self.end_thought();
        if !self.json
            && !matches!(reply, Err(ref error) if !matches!(error, engine::EngineError::Cancelled))
        {
            writeln!(std::io::stdout())?;
        }
        match reply {
            Err(engine::EngineError::Cancelled) => Err(failure::Interrupted.into()),
            other => Ok(other?),
        }
    }
}

/// One line about a reply.
fn statistics(model: &str, reply: &Reply) -> String {
    let mut parts = vec![model.to_owned()];
    for image in &reply.images {
        let [columns, rows] = image.grid;
        parts.push(format!(
            "image {}x{}: {columns}x{rows} grid, {} tiles{}, {} tokens",
            image.width,
            image.height,
            image.tiles,
            looking::fewer(image),
            image.tokens
        ));
    }
    let (usage, timings) = (&reply.usage, &reply.timings);
    parts.push(format!("prompt {} tokens", usage.prompt_tokens));
    if !reply.images.is_empty() {
        parts.push(format!("encoded in {:.0} ms", timings.image_ms));
    }
    parts.push(format!(
        "first token after {:.0} ms",
        timings.first_token_ms
    ));
    let thought = match usage.reasoning_tokens {
        0 => String::new(),
        tokens => format!(" ({tokens} of them thought{})", cut_short(reply)),
    };
    parts.push(format!(
        "{} tokens{thought} at {:.0}/s",
        usage.completion_tokens, timings.decode_tokens_per_s
    ));
    if reply.finish_reason == engine::FinishReason::Length {
        let inside = reply.cut_inside.as_deref();
        let inside = inside.map_or(String::new(), |path| format!(", inside of {path}"));
        parts.push(format!("cut off by --max-tokens or the context{inside}"));
    }
    parts.join(" | ")
}

/// What ended the thought, if it was not the model.
fn cut_short(reply: &Reply) -> &'static str {
    match reply.thinking.ended {
        None | Some(ThoughtEnd::Stop) => "",
        Some(ThoughtEnd::Budget) => ", all that its budget allows",
        Some(ThoughtEnd::Time) => ", until its time was over",
        Some(ThoughtEnd::User) => ", until it was stopped",
        Some(ThoughtEnd::Length) => ", until no room was left",
    }
}
