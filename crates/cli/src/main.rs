//! The one binary: run, chat, serve, explain, tiles, eval, bench, data, train, convert, pull.
//!
//! Answers and data go to standard output, everything else to standard error. Exit status: 0 done, 1 failed, 2 wrong
//! usage, 130 stopped by Ctrl-C.

mod amounts;
mod answering;
mod calibrated;
mod commands;
mod compute;
mod embedded;
mod failure;
mod folders;
mod format;
mod hub;
mod interrupt;
mod looking;
mod parallel;
mod source;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    bench, chat, completions, convert, data, eval, explain, pull, run, serve, tiles, train, tune,
    verify,
};
pub use failure::Interrupted;

/// Ask a picture a question.
///
/// A small multimodal language model is inside this program: nothing is downloaded, and no picture leaves the machine.
#[derive(Parser)]
#[command(
    name = "bluelm",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  bluelm run --image receipt.png \"What is the total?\"      ask the model that is inside
  bluelm run --think --image menu.png \"What do all items cost together?\"
  bluelm run --model MODEL --image photo.jpg \"What is this?\"    ask another model
  bluelm explain photo.jpg                                 what the model sees of a picture, and what it costs
  bluelm chat                                              ask on

`bluelm COMMAND --help` says more about each. NO_COLOR=1 switches colours off."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer one question, about pictures or not
    Run(run::RunArguments),
    /// Ask question after question
    Chat(chat::ChatArguments),
    /// Answer programs and browsers: the OpenAI API and a chat page
    Serve(serve::ServeArguments),
    /// Show how a picture is cut, and what it costs in tokens and memory
    Explain(explain::ExplainArguments),
    /// Compare how tiling rules cut pictures
    Tiles(tiles::TilesArguments),
    /// Count how many questions of a task file are answered right
    Eval(eval::EvalArguments),
    /// Measure speed and memory beside what this machine can do at best
    Bench(bench::BenchArguments),
    /// Measure once how fast a model is on this machine, to predict times
    Tune(tune::TuneArguments),
    /// Make training examples
    Data(data::DataArguments),
    /// Train a model
    Train(train::TrainArguments),
    /// Make one file of a model, smaller and faster
    Convert(convert::ConvertArguments),
    /// Fetch a model from a hub
    Pull(pull::PullArguments),
    /// List the models that were fetched
    Ls(pull::ListArguments),
    /// Show what a model that was fetched is and where it lies
    Show(pull::ShowArguments),
    /// Delete a model that was fetched
    Rm(pull::RemoveArguments),
    /// Compare a model with what a reference computed
    Verify(verify::VerifyArguments),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArguments),
}

fn main() -> ExitCode {
    failure::end_quietly_on_a_broken_pipe();
    let arguments = Arguments::parse();
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    let cancel = interrupt::install()?;
    match command {
        Command::Run(arguments) => run::run(arguments, cancel),
        Command::Chat(arguments) => chat::run(arguments, cancel),
        Command::Serve(arguments) => serve::run(arguments, cancel),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Tiles(arguments) => tiles::run(arguments),
        Command::Eval(arguments) => eval::run(arguments, cancel),
        Command::Bench(arguments) => bench::run(arguments, cancel),
        Command::Tune(arguments) => tune::run(arguments, cancel),
        Command::Data(arguments) => data::run(arguments),
        Command::Train(arguments) => {
            let _cooperative = interrupt::cooperate();
            train::run(arguments, cancel.flag())
        }
        Command::Convert(arguments) => convert::run(arguments, cancel),
        Command::Pull(arguments) => pull::pull(&arguments),
        Command::Ls(arguments) => pull::list(&arguments),
        Command::Show(arguments) => pull::show(&arguments),
        Command::Rm(arguments) => pull::remove(&arguments),
        Command::Verify(arguments) => verify::run(arguments, cancel),
        Command::Completions(arguments) => completions::run(arguments),
    }
}

/// The command line as clap knows it, for completions and usage errors.
fn command_line() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}
