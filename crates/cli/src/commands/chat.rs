//! `bluelm chat`: question after question, with the pictures and answers so far in mind.

pub mod file;
mod sketch;

use std::io::Write;
use std::path::Path;

use clap::Args;
use engine::{
    Cancel, Engine, EngineError, Event, ImageAhead, Memory, Message, Part, Request, Role,
    ThinkingBudget,
};
use image_prep::Picture;
use model::Model;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::answering::AnswerArguments;
use crate::compute::ComputeArguments;
use crate::looking::{KeepArguments, LookArguments, USUAL_CACHE_BYTES};
use crate::source::{ModelArgument, picture};
use crate::terminal::{styles_of_stderr, visible};
use crate::{failure, interrupt};

const HELP: &str = "\
/image FILE    show a picture with the next question (several: one after another)
/think on|off  think before answering, or not
/budget N|off  think no longer than N tokens, or as long as it takes
/save FILE     write the conversation to a file, and beside it (FILE.session) what the model remembers
/load FILE     go on with a conversation from a file
/reset         forget the conversation and its pictures
/help          this list
/quit          leave (also Ctrl-D)
Ctrl-C stops an answer.";

/// Arguments of `bluelm chat`.
#[derive(Args, Debug)]
#[command(after_help = "\
In the chat:
  /image FILE, /think on|off, /budget N|off, /save FILE, /load FILE, /reset, /help, /quit; Ctrl-C
  stops an answer.

Example:
  bluelm chat
  > /image receipt.png
  > What is the total?
  > And how much is the coffee?

Nothing is written unless you say /save (or --image-cache).")]
pub struct ChatArguments {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    compute: ComputeArguments,
    /// A picture for the first question; may be given several times
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<std::path::PathBuf>,
    #[command(flatten)]
    look: LookArguments,
    #[command(flatten)]
    keep: KeepArguments,
    #[command(flatten)]
    answering: AnswerArguments,
    /// At most so many tokens an answer
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
}

/// Runs the command; `cancel` is thrown by Ctrl-C.
pub fn run(arguments: ChatArguments, cancel: &Cancel) -> anyhow::Result<()> {
    let mut pictures = Vec::new();
    for path in &arguments.images {
        pictures.push(picture(path)?);
    }
    let engine = arguments.compute.apply(arguments.model.load()?)?;
    let engine = arguments.keep.apply(engine, USUAL_CACHE_BYTES)?;
    let mut settings = Request {
        max_tokens: Some(arguments.max_tokens as usize),
        ..Request::default()
    };
    arguments.answering.apply(&mut settings);
    let mut chat = Chat {
        engine: &engine,
        look: &arguments.look,
        cancel,
        request: settings,
        pending: Vec::new(),
        ahead: Vec::new(),
        memory: Memory::new(),
    };
    for picture in pictures {
        chat.show(picture)?;
    }
    let dim = styles_of_stderr().dim;
    eprintln!(
        "{dim}{}: /image FILE shows a picture, /help lists the rest{dim:#}",
        arguments.model.name()
    );
    let mut editor = DefaultEditor::new()?;
    loop {
        match editor.readline("> ") {
            Ok(line) => {
                // In memory only, for the arrow keys; a full history is no reason to stop.
                let _ = editor.add_history_entry(&line);
                if chat.line(line.trim())? == Next::Quit {
                    return Ok(());
                }
            }
            Err(ReadlineError::Interrupted) => eprintln!("/quit or Ctrl-D leaves"),
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[derive(PartialEq)]
enum Next {
    Line,
    Quit,
}

struct Chat<'a> {
    engine: &'a Engine,
    look: &'a LookArguments,
    cancel: &'a Cancel,
    /// The conversation so far, with its settings.
    request: Request,
    /// Pictures for the next question.
    pending: Vec<Picture>,
    /// They are encoded while the question is typed.
    ahead: Vec<ImageAhead>,
    memory: Memory<Model>,
}

impl Chat<'_> {
    fn line(&mut self, line: &str) -> anyhow::Result<Next> {
        let (command, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (command, argument.trim()) {
            ("", _) => {}
            ("/quit" | "/exit", _) => return Ok(Next::Quit),
            ("/help", _) => eprintln!("{HELP}"),
            ("/reset", _) => {
                self.request.messages.clear();
                self.request.images.clear();
                self.pending.clear();
                self.ahead.clear();
                self.memory.clear();
                eprintln!("forgotten");
            }
            ("/think", word @ ("on" | "off")) => self.think(word == "on"),
            ("/think", _) => eprintln!("/think on, or /think off"),
            ("/budget", number) => self.budget(number),
            ("/save", "") => eprintln!("/save FILE"),
            ("/save", path) => self.save(Path::new(path)),
            ("/load", "") => eprintln!("/load FILE"),
            ("/load", path) => self.load(Path::new(path)),
            ("/image", "") => eprintln!("/image FILE"),
            ("/image", path) => self.image(path),
            (other, _) if other.starts_with('/') => {
                eprintln!("no command {other}; /help lists them")
            }
            _ => self.ask(line)?,
        }
        Ok(Next::Line)
    }

    fn think(&mut self, on: bool) {
        if on && !self.engine.files().template.knows_thinking() {
            eprintln!("this model has no thinking mode");
            return;
        }
        self.request.thinking = Some(on);
        eprintln!("thinking is {}", if on { "on" } else { "off" });
    }

    fn budget(&mut self, number: &str) {
        match (number, number.parse()) {
            ("off", _) => self.request.budget = ThinkingBudget::default(),
            (_, Ok(tokens)) => {
                self.request.budget = ThinkingBudget::of_tokens(tokens);
                self.think(true);
            }
            _ => eprintln!("/budget 100, or /budget off"),
        }
    }

    fn save(&self, path: &Path) {
        match file::save(path, &self.request, self.engine, &self.memory) {
            Ok(()) => eprintln!("saved"),
            Err(error) => failure::print(&error),
        }
    }

    fn load(&mut self, path: &Path) {
        match file::load(path, &self.request, self.engine) {
            Ok(loaded) => {
                self.request.messages = loaded.request.messages;
                self.request.images = loaded.request.images;
                self.memory = loaded.memory;
                self.pending.clear();
                self.ahead.clear();
                let turns = self.request.messages.len();
                let again = loaded.forgotten.map_or(String::new(), |why| {
                    format!("; it has to be read again ({why})")
                });
                eprintln!("{turns} messages{again}");
            }
            Err(error) => failure::print(&error),
        }
    }

    fn image(&mut self, path: &str) {
        // Terminals quote a file that is dropped on them.
        let path = path.trim_matches(['\'', '"']);
        let shown = picture(Path::new(path)).and_then(|picture| {
            let info = self.engine.plan(picture.width, picture.height);
            self.draw(&picture);
            self.show(picture)?;
            Ok(info)
        });
        match shown {
            Ok(info) => eprintln!(
                "{}x{} pixels, {} tokens; now ask",
                info.width, info.height, info.tokens
            ),
            Err(error) => failure::print(&error),
        }
    }

    /// Shows how a picture is cut, where there is a terminal to show it on.
    fn draw(&self, picture: &Picture) {
        let plan = (self.engine.files().preprocessor).plan(picture.width, picture.height);
        let colours = sketch::of_stderr();
        if let Some(text) = colours.and_then(|it| sketch::sketch(picture, &plan, it)) {
            eprint!("{text}");
        }
    }

    /// Takes a picture for the next question, and begins to encode it.
    fn show(&mut self, picture: Picture) -> anyhow::Result<()> {
        let mut as_asked = Request {
            images: vec![picture],
            ..Request::default()
        };
        self.look.apply(&mut as_asked);
        let picture = as_asked.images.swap_remove(0);
        let ahead = self
            .engine
            .encode_ahead_as(picture.clone(), &as_asked.vision)?;
        self.ahead.push(ahead);
        self.pending.push(picture);
        Ok(())
    }

    /// Asks a question. What goes wrong with it is told and forgotten; only broken output ends the chat.
    fn ask(&mut self, question: &str) -> anyhow::Result<()> {
        let before = (self.request.messages.len(), self.request.images.len());
        let first = self.request.images.len();
        let images = (first..first + self.pending.len()).map(Part::Image);
        let content = images.chain([Part::Text(question.to_owned())]).collect();
        self.request.messages.push(Message {
            role: Role::User,
            content,
        });
        self.request.images.extend(self.pending.iter().cloned());
        self.look.apply(&mut self.request);

        let mut answer = String::new();
        let mut written = Ok(());
        let cooperation = interrupt::cooperate();
        let reply =
            self.engine
                .generate_in(&mut self.memory, &self.request, self.cancel, &mut |event| {
                    if let Event::Text(text) = event {
                        answer.push_str(text);
                    }
                    if written.is_ok() {
                        written = show(event);
                        if written.is_err() {
                            self.cancel.cancel();
                        }
                    }
                });
        drop(cooperation);
        self.cancel.reset();
        written?;
        match reply {
            Ok(_) | Err(EngineError::Cancelled) => {
                writeln!(std::io::stdout())?;
                self.pending.clear();
                self.ahead.clear();
                self.request
                    .messages
                    .push(Message::text(Role::Assistant, answer));
            }
            Err(error) => {
                self.request.messages.truncate(before.0);
                self.request.images.truncate(before.1);
                failure::print(&error.into());
            }
        }
        Ok(())
    }
}

fn show(event: Event) -> std::io::Result<()> {
    match event {
        Event::Prefill { .. } | Event::Token(_) => Ok(()),
        Event::Reasoning(text) => {
            let dim = styles_of_stderr().dim;
            write!(std::io::stderr(), "{dim}{}{dim:#}", visible(text))
        }
        Event::Text(text) => {
            let mut out = std::io::stdout();
            out.write_all(visible(text).as_bytes())?;
            out.flush()
        }
    }
}
