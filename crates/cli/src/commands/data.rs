//! `bluelm data`: training examples.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use data::{Generator, Recipe};
use indicatif::{ProgressBar, ProgressStyle};

/// Arguments of `bluelm data`.
#[derive(Args, Debug)]
pub struct DataArguments {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand, Debug)]
enum DataCommand {
    /// Draw pictures with questions and answers into a folder: PNG files and a LLaVA-style JSON
    Render(RenderArguments),
}

/// Arguments of `bluelm data render`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm data render --count 100 --out examples-drawn
  bluelm data render --seed 7 --count 20 --recipe recipe.json --out some

The same seed, recipe and number draw the same bytes on every machine.")]
struct RenderArguments {
    /// Start of all randomness
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Pictures to draw
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Folder to write to; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// JSON file with shares of scenes, sizes and noise (default: the full task)
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: DataArguments) -> anyhow::Result<()> {
    match arguments.command {
        DataCommand::Render(arguments) => render(&arguments),
    }
}

fn render(arguments: &RenderArguments) -> anyhow::Result<()> {
    let recipe = match &arguments.recipe {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            serde_json::from_str(&text).with_context(|| path.display().to_string())?
        }
        None => Recipe::default(),
    };
    let generator = Generator::new(arguments.seed, recipe)?;
    let bar = ProgressBar::new(arguments.count);
    bar.set_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} {eta}")
            .expect("the template is well formed"),
    );
    let written = data::write_llava(&arguments.out, &generator, arguments.count, &mut |done| {
        bar.set_position(done)
    });
    bar.finish_and_clear();
    written?;
    eprintln!(
        "{} pictures in {}",
        arguments.count,
        arguments.out.display()
    );
    Ok(())
}
