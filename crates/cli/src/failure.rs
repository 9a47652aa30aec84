//! Errors as people read them: `error:` with what is wrong, `hint:` with what to do.

use std::error::Error;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use bench::BenchError;
use data::DataError;
use engine::EngineError;
use eval::EvalError;
use fetch::FetchError;
use image_prep::ImageError;
use model::ModelError;
use train::TrainError;

use crate::commands::serve::{OpenToAll, Wrong};
use crate::commands::tiles::InputError;
use crate::hub::Unasked;
use crate::interrupt::EXIT_INTERRUPTED;
use crate::terminal::{self, Styles};

/// A command that ended because of Ctrl-C.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str("interrupted")
    }
}

impl Error for Interrupted {}

/// A file that would have been replaced.
#[derive(Debug)]
pub struct Exists(pub PathBuf);

impl std::fmt::Display for Exists {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(
            out,
            "{}: expected no such file, found one",
            self.0.display()
        )
    }
}

impl Error for Exists {}

/// Prints an error, unless it is one that needs no words, and gives the program's exit status.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<Interrupted>() || matches!(error.downcast_ref(), Some(EngineError::Cancelled)) {
        return ExitCode::from(EXIT_INTERRUPTED);
    }
    // The reader of our output went away, as `head` does: nobody is left to tell.
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    print(error);
    ExitCode::FAILURE
}

/// Prints an error and its hint.
pub fn print(error: &anyhow::Error) {
    let Styles {
        error: style,
        hint: hint_style,
        ..
    } = terminal::styles_of_stderr();
    eprintln!("{style}error:{style:#} {}", message(error));
    if let Some(hint) = error.chain().find_map(hint) {
        eprintln!("{hint_style}hint:{hint_style:#} {hint}");
    }
}

/// The whole chain in one line, without saying twice what an outer error already quotes.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if message.is_empty() {
            message = text;
        } else if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
    }
    message
}

/// The advice of the crate that an error comes from.
fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    None.or_else(|| error.downcast_ref::<EngineError>()?.hint())
        .or_else(|| error.downcast_ref::<ModelError>()?.hint())
        .or_else(|| error.downcast_ref::<ImageError>()?.hint())
        .or_else(|| error.downcast_ref::<TrainError>()?.hint())
        .or_else(|| error.downcast_ref::<DataError>()?.hint().map(str::to_owned))
        .or_else(|| error.downcast_ref::<EvalError>()?.hint())
        .or_else(|| error.downcast_ref::<BenchError>()?.hint())
        .or_else(|| error.downcast_ref::<FetchError>()?.hint())
        .or_else(|| Some(error.downcast_ref::<Unasked>()?.hint()))
        .or_else(|| error.downcast_ref::<InputError>()?.hint())
        .or_else(|| Some(error.downcast_ref::<OpenToAll>()?.hint().into()))
        .or_else(|| Some(error.downcast_ref::<Wrong>()?.hint().into()))
        .or_else(|| {
            let _: &Exists = error.downcast_ref()?;
            Some("--force replaces it".into())
        })
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// `println!` panics when the reader of our output went away; that is no accident worth a report either.
pub fn end_quietly_on_a_broken_pipe() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to std") && text.contains("Broken pipe") {
            std::process::exit(0);
        }
        usual(panic);
    }));
}
