//! `bluelm convert`: one file of a model, with its weights as they are computed with.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use engine::{Cancel, PromptFiles, read_small_files};
use indicatif::{ProgressBar, ProgressStyle};
use model::convert::{Conversion, GROUPS, Options, Recipe, Rounding, Written};
use model::{Bundle, Checkpoint, ModelError};

use crate::{embedded, failure, interrupt};

/// Arguments of `bluelm convert`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm convert DIR model.bluelm                   INT4 weights, INT8 activations
  bluelm convert DIR model.bluelm --recipe paper    INT4 weights, INT16 activations
  bluelm convert bluelm-nano nano.bluelm            the model that is inside this program
  bluelm convert --check model.bluelm               whether every byte is as it was written
  bluelm run --model model.bluelm --image photo.jpg \"What is this?\"

Recipes:
  fast    decoder INT4, encoder, projector and head INT8; activations INT8
  paper   the same weights; activations INT16
  bf16    weights bf16, activations f32: the reference

A bundle is one file: weights, tokenizer, template and settings. It is used where it lies in memory,
so that it loads in an instant. docs/bundle.md describes it.")]
pub struct ConvertArguments {
    /// Folder of a model, or bluelm-nano, the model inside; with --check, a bundle
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The bundle to write
    #[arg(value_name = "DST", required_unless_present = "check")]
    destination: Option<PathBuf>,
    /// Precisions of weights and activations
    #[arg(long, value_name = "NAME", value_enum, default_value_t = RecipeArgument::Fast)]
    recipe: RecipeArgument,
    /// INT4 weights that share a scale: 32, 64 or 128; fewer where a row is no multiple of it
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = group)]
    group: usize,
    /// How INT4 weights are rounded
    #[arg(long, value_name = "HOW", value_enum, default_value_t = RoundingArgument::Search)]
    rounding: RoundingArgument,
    /// Replace DST if it is there
    #[arg(long)]
    force: bool,
    /// Compare a bundle with its checksums instead
    #[arg(long, conflicts_with_all = ["destination", "recipe", "group", "rounding", "force"])]
    check: bool,
}

/// See [`Recipe`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RecipeArgument {
    Fast,
    Paper,
    Bf16,
}

/// See [`Rounding`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoundingArgument {
    Nearest,
    Search,
}

fn group(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(group) if GROUPS.contains(&group) => Ok(group),
        _ => Err("expected 32, 64 or 128".into()),
    }
}

/// Runs the command; `cancel` is thrown by Ctrl-C.
pub fn run(arguments: ConvertArguments, cancel: &Cancel) -> anyhow::Result<()> {
    let cooperation = interrupt::cooperate();
    let done = match &arguments.destination {
        Some(destination) => convert(&arguments, destination, cancel),
        None => check(&arguments.source, cancel),
    };
    drop(cooperation);
    match done {
        Err(error) if matches!(error.downcast_ref(), Some(ModelError::Cancelled)) => {
            Err(failure::Interrupted.into())
        }
        other => other,
    }
}

fn check(path: &Path, cancel: &Cancel) -> anyhow::Result<()> {
    let bundle = Bundle::open(path)?;
    let bar = progress_bar(
        bundle.size_bytes(),
        "{bar:30} {bytes}/{total_bytes} {eta} left",
    );
    let checked = bundle.check_data(&mut |bytes| bar.inc(bytes), &|| cancel.is_cancelled());
    bar.finish_and_clear();
    checked?;
    PromptFiles::from_bundle(&bundle)?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{}: whole, {} tensors, recipe {}",
        path.display(),
        bundle.tensors().count(),
        bundle.recipe()
    )?;
    Ok(())
}

/// A checkpoint and its small files.
struct Source {
    checkpoint: Checkpoint,
    files: Vec<(String, Vec<u8>)>,
}

impl Source {
    /// A folder, or the name of the model inside where there is no such folder.
    fn open(path: &Path) -> anyhow::Result<Source> {
        if path == Path::new(embedded::NAME) && !path.exists() {
            let contents = embedded::embedded_model();
            let files = contents.small_files();
            let weights = contents.weights;
            return Ok(Source {
                checkpoint: Checkpoint::from_memory(&contents.config, weights)?,
                files,
            });
        }
        // Whether they are good is better known before the work than after it.
        PromptFiles::open(path)?;
        Ok(Source {
            checkpoint: Checkpoint::open(path)?,
            files: read_small_files(path)?,
        })
    }
}

fn convert(
    arguments: &ConvertArguments,
    destination: &Path,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    if destination.exists() && !arguments.force {
        bail!(failure::Exists(destination.into()));
    }
    let mut source = Source::open(&arguments.source)?;
    let options = Options {
        recipe: match arguments.recipe {
            RecipeArgument::Fast => Recipe::Fast,
            RecipeArgument::Paper => Recipe::Paper,
            RecipeArgument::Bf16 => Recipe::Bf16,
        },
        group: arguments.group,
        rounding: match arguments.rounding {
            RoundingArgument::Nearest => Rounding::Nearest,
            RoundingArgument::Search => Rounding::Search,
        },
    };
    let bar = progress_bar(0, "{bar:30} {percent}% {wide_msg} {eta} left");
    let conversion = Conversion {
        checkpoint: &mut source.checkpoint,
        files: &source.files,
        options,
        progress: &mut |written: Written| {
            bar.set_length(written.total);
            bar.set_position(written.done);
            bar.set_message(written.tensor.to_owned());
        },
        cancel: &|| cancel.is_cancelled(),
    };
    let written = conversion.write(destination);
    bar.finish_and_clear();
    let bytes = written?;
    let megabytes = bytes as f64 / 1e6;
    eprintln!("{}: {megabytes:.1} MB", destination.display());
    Ok(())
}

/// A bar on standard error, if that is a terminal.
fn progress_bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    // The templates are constants of this file.
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    bar.set_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
