//! `bluelm convert`: one file of a model, with its weights as they are computed with.

mod gguf;
mod questions;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use engine::{Cancel, Engine, EngineError, GgufModel, PromptFiles, read_small_files};
use indicatif::{ProgressBar, ProgressStyle};
use model::convert::{Conversion, GROUPS, Options, Origin, Recipe, Rounding, Written};
use model::gguf::{GgufFile, TensorType};
use model::{Bundle, Checkpoint, ModelError, ModelSpec};

use crate::{embedded, failure, hub, interrupt};

/// Arguments of `bluelm convert`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm convert DIR model.bluelm                   INT4 weights, INT8 activations
  bluelm convert DIR model.bluelm --recipe paper    INT4 weights, INT16 activations
  bluelm convert bluelm-nano nano.bluelm            the model that is inside this program
  bluelm convert model.gguf model.bluelm            Q4_0 and Q8_0 keep their numbers
  bluelm convert DIR model.bluelm --report          and what was lost, on pictures that it draws itself
  bluelm convert model.bluelm model.gguf            its decoder for llama.cpp (Llama, Qwen2, Qwen3)
  bluelm convert --check model.bluelm               whether every byte is as it was written
  bluelm run --model model.bluelm --image photo.jpg \"What is this?\"

Recipes:
  fast    decoder INT4, encoder, projector and head INT8; activations INT8
  paper   the same weights; activations INT16
  bf16    weights bf16, activations f32: the reference

A bundle is one file: weights, tokenizer, template and settings. It is used where it lies in memory,
so that it loads in an instant. docs/bundle.md describes it.")]
pub struct ConvertArguments {
    /// Folder of a model, a GGUF file, owner/name on a hub, or bluelm-nano, the model inside; with --check, or for a .gguf, a bundle
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The bundle to write, or a GGUF file if its name ends in .gguf
    #[arg(value_name = "DST", required_unless_present = "check")]
    destination: Option<PathBuf>,
    /// Precisions of weights and activations
    #[arg(long, value_name = "NAME", value_enum, default_value_t = RecipeArgument::Fast)]
    recipe: RecipeArgument,
    /// INT4 weights that share a scale: 32, 64 or 128; fewer where a row is no multiple of it
    /// [default: 64, and 32 for decoders of up to 300 million weights]
    #[arg(long, value_name = "N", value_parser = group)]
    group: Option<usize>,
    /// How INT4 weights are rounded [default: compensated for decoders of up to 300 million weights, else search]
    #[arg(long, value_name = "HOW", value_enum)]
    rounding: Option<RoundingArgument>,
    /// The image encoder of a GGUF model [default: mmproj*.gguf beside it]
    #[arg(long, value_name = "FILE")]
    mmproj: Option<PathBuf>,
    /// What matrices are in a GGUF file [default: what comes closest to what they are: INT4 becomes Q4_0, INT8 Q8_0]
    #[arg(long, value_name = "TYPE", value_enum)]
    gguf_type: Option<GgufType>,
    /// Replace DST if it is there
    #[arg(long)]
    force: bool,
    /// Print afterwards how far the bundle is from SRC, on drawn pictures that were never trained on
    #[arg(long)]
    report: bool,
    /// Questions of the report
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    questions: u32,
    /// The report as one JSON line
    #[arg(long, requires = "report")]
    json: bool,
    /// Compare a bundle with its checksums instead
    #[arg(long, conflicts_with_all = ["destination", "recipe", "group", "rounding", "force", "report"])]
    check: bool,
}

/// See [`Recipe`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RecipeArgument {
    /// INT4 decoder, INT8 encoder, INT8 activations
    Fast,
    /// The same weights, INT16 activations
    Paper,
    /// As they come
    Bf16,
}

impl From<RecipeArgument> for Recipe {
    fn from(recipe: RecipeArgument) -> Recipe {
        match recipe {
            RecipeArgument::Fast => Recipe::Fast,
            RecipeArgument::Paper => Recipe::Paper,
            RecipeArgument::Bf16 => Recipe::Bf16,
        }
    }
}

/// See [`Rounding`].
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum RoundingArgument {
    /// To the nearest number
    Nearest,
    /// To the nearest, with the best of several scales
    Search,
    /// Errors made up for, on pictures and questions that are drawn for it: best, and takes long for large models
    Compensated,
}

impl From<RoundingArgument> for Rounding {
    fn from(rounding: RoundingArgument) -> Rounding {
        match rounding {
            RoundingArgument::Nearest => Rounding::Nearest,
            RoundingArgument::Search => Rounding::Search,
            RoundingArgument::Compensated => Rounding::Compensated,
        }
    }
}

/// See [`TensorType`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum GgufType {
    /// 4 bits in blocks of 32
    #[value(name = "q4_0")]
    Q4_0,
    /// 8 bits in blocks of 32
    #[value(name = "q8_0")]
    Q8_0,
    Bf16,
    F16,
    F32,
}

impl From<GgufType> for TensorType {
    fn from(kind: GgufType) -> TensorType {
        match kind {
            GgufType::Q4_0 => TensorType::Q4_0,
            GgufType::Q8_0 => TensorType::Q8_0,
            GgufType::Bf16 => TensorType::Bf16,
            GgufType::F16 => TensorType::F16,
            GgufType::F32 => TensorType::F32,
        }
    }
}

/// Weights of a decoder up to which what takes minutes and memory for others is cheap.
const SMALL_DECODER: usize = 300_000_000;

impl ConvertArguments {
    /// What matrices become in a GGUF file; nothing where none is asked for.
    fn gguf(&self, destination: &Path) -> Option<Option<TensorType>> {
        let end = destination.extension().is_some_and(|end| end == "gguf");
        (end || self.gguf_type.is_some()).then(|| self.gguf_type.map(TensorType::from))
    }

    /// What was asked for, and what suits a model of this size where nothing was.
    fn options(&self, spec: &ModelSpec) -> Options {
        let small = spec.decoder_weights() <= SMALL_DECODER;
        // What others rounded cannot be made up for.
        let known = spec.decoder.has_plain_blocks() && !GgufFile::is_gguf(&self.source);
        let rounding = match small && known {
            true => Rounding::Compensated,
            false => Rounding::Search,
        };
        Options {
            recipe: self.recipe.into(),
            group: self.group.unwrap_or(if small { 32 } else { 64 }),
            rounding: self.rounding.map_or(rounding, Rounding::from),
        }
    }
}

fn group(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(group) if GROUPS.contains(&group) => Ok(group),
        _ => Err("expected 32, 64 or 128".into()),
    }
}

/// Runs the command; `cancel` is thrown by Ctrl-C.
pub fn run(mut arguments: ConvertArguments, cancel: &Cancel) -> anyhow::Result<()> {
    if !is_inside(&arguments.source) {
        arguments.source = hub::located(&arguments.source)?;
    }
    let cooperation = interrupt::cooperate();
    let done = match &arguments.destination {
        Some(destination) => convert(&arguments, destination, cancel),
        None => check(&arguments.source, cancel),
    };
    drop(cooperation);
    match done {
        Err(error)
            if matches!(error.downcast_ref(), Some(ModelError::Cancelled))
                || matches!(error.downcast_ref(), Some(EngineError::Cancelled)) =>
        {
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
    /// Tokenizer, template and settings.
    fn prompt_files(&self) -> Result<PromptFiles, EngineError> {
        PromptFiles::from_small(&self.files, "the model does not have it")
    }

    /// A folder, or the name of the model inside where there is no such folder.
    fn open(path: &Path, mmproj: Option<&Path>) -> anyhow::Result<Source> {
        if is_inside(path) {
            let contents = embedded::embedded_model();
            let files = contents.small_files();
            let weights = contents.weights;
            return Ok(Source {
                checkpoint: Checkpoint::from_memory(&contents.config, weights)?,
                files,
            });
        }
        // Whether they are good is better known before the work than after it.
        if GgufFile::is_gguf(path) {
            let model = GgufModel::open(path, mmproj)?;
            model.prompt_files()?;
            return Ok(Source {
                checkpoint: model.checkpoint,
                files: model.files,
            });
        }
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
    if let Some(kind) = arguments.gguf(destination) {
        return gguf::export(&arguments.source, destination, kind, cancel);
    }
    let mmproj = arguments.mmproj.as_deref();
    let mut source = Source::open(&arguments.source, mmproj)?;
    let spec = ModelSpec::from_json(source.checkpoint.config())?;
    let options = arguments.options(&spec);
    options.check(&spec)?;
    let has_int4 = options.recipe != Recipe::Bf16;
    let gguf = GgufFile::is_gguf(&arguments.source);
    if gguf {
        let [kept, matrices] = options.kept(&source.checkpoint, &spec);
        eprintln!(
            "{kept} of {matrices} matrices keep their numbers (Q4_0 and Q8_0, with INT4 and INT8); the others are rounded anew."
        );
    }
    if arguments.rounding.is_none() && has_int4 && !gguf && options.rounding == Rounding::Search {
        eprintln!(
            "Weights are rounded by the best of several scales. --rounding compensated loses less, and takes long and much \
             memory for a model of this size."
        );
    }
    let compensated = has_int4 && options.rounding == Rounding::Compensated;
    let reference = match compensated || arguments.report {
        true => Some(load(&arguments.source, mmproj)?),
        false => None,
    };
    let sequences = match &reference {
        Some(engine) if compensated => {
            let bar = progress_bar(0, "{bar:30} {percent}% drawing and encoding {eta} left");
            let sequences = questions::calibration(engine, cancel, &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            });
            bar.finish_and_clear();
            sequences?
        }
        _ => Vec::new(),
    };
    let bar = progress_bar(0, "{bar:30} {percent}% {wide_msg} {eta} left");
    let conversion = Conversion {
        weights: Origin::Checkpoint(&mut source.checkpoint),
        files: &source.files,
        options,
        sequences,
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
    match &reference {
        Some(reference) if arguments.report => {
            print_report(arguments, reference, destination, cancel)
        }
        _ => Ok(()),
    }
}

fn print_report(
    arguments: &ConvertArguments,
    reference: &Engine,
    destination: &Path,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    let bundle = Engine::load(destination)?;
    let questions = arguments.questions as usize;
    let bar = progress_bar(
        questions as u64,
        "{bar:30} {pos}/{len} questions {eta} left",
    );
    let measured = report::measure(reference, &bundle, questions, cancel, &mut |done| {
        bar.set_position(done as u64)
    });
    bar.finish_and_clear();
    let report = measured?;
    let mut out = std::io::stdout();
    match arguments.json {
        true => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        false => write!(out, "{report}")?,
    }
    Ok(())
}

/// The model as it is before it is converted.
fn load(source: &Path, mmproj: Option<&Path>) -> anyhow::Result<Engine> {
    Ok(match mmproj {
        _ if is_inside(source) => Engine::from_files(embedded::embedded_model())?,
        Some(_) => Engine::load_gguf(source, mmproj)?,
        None => Engine::load(source)?,
    })
}

/// Whether the name means the model inside the program.
fn is_inside(source: &Path) -> bool {
    source == Path::new(embedded::NAME) && !source.exists()
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
