//! `bluelm bench`: how fast a model is on this machine, and how much memory it takes.

mod guesses;
mod shape;
mod thinking;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use bench::{
    Bound, Ceilings, Chart, Figure, ImagePlan, Plan, Report, STREAM_DEPTH, Unit, Work, charts,
    measure, measure_images, noisy_picture, question,
};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use engine::{AtEnd, Cancel, EncoderWeights, Encoding, Engine, Network, Request, STEP_TOKENS};
use indicatif::{ProgressBar, ProgressStyle};
use kernels::isa::Isa;
use model::{Activations, Bundle, Role, Storage};

use crate::commands::convert::RecipeArgument;
use crate::compute::ComputeArguments;
use crate::failure::Interrupted;
use crate::interrupt;
use crate::source::ModelArgument;

/// Beside a picture that takes the whole context.
const TOKENS_OF_WORDS: usize = 128;
/// The paper's context.
const CONTEXT: usize = 2048;

/// Arguments of `bluelm bench`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm bench                                      the model that is inside
  bluelm bench --model DIR --only decode            one thing
  bluelm bench --batches 1,2,4,6 --plot figures     with figures (SVG and PNG)
  bluelm bench --shape bluelm-v-3b                  the paper's size with random weights: 2 GB on the disk
  bluelm bench --thinking --plot figures            what thinking is worth, and that no thought overruns
  bluelm bench --guesses                            what guessed tokens are worth, and that they change none
  bluelm bench --json | jq '.figures[] | {name, median}'

Each figure is the median of --runs rounds, its smallest and largest in brackets, and the share of what
this machine can do at best, which is measured first. Lists that are not given leave out what the model's
context is too short for. Loading and memory are measured in processes of their own.")]
pub struct BenchArguments {
    #[command(flatten)]
    model: ModelArgument,
    /// A model of real size with random weights instead, drawn once into a file
    #[arg(long, value_name = "NAME", conflicts_with = "model", value_parser = PossibleValuesParser::new(bench::shapes::NAMES))]
    shape: Option<String>,
    /// How the shape's weights are kept
    #[arg(long, value_enum, default_value = "fast", requires = "shape")]
    recipe: RecipeArgument,
    /// Where the shape's bundle is or is to be (default: in the system's folder for temporary files)
    #[arg(long, value_name = "FILE", requires = "shape")]
    file: Option<PathBuf>,
    /// Size of the picture that is measured with, instead of the paper's
    #[arg(long, value_name = "WxH", value_parser = size, default_value = "768x1536")]
    picture: (u32, u32),
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
    /// Tiles encoded at once, each of these in turn
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,…",
        default_value = "1,2,4,6"
    )]
    batches: Vec<usize>,
    /// Lengths of prompts
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    prompts: Option<Vec<usize>>,
    /// Chunk sizes for the longest prompt
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    chunks: Option<Vec<usize>>,
    /// Tokens in the cache before decoding
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    depths: Option<Vec<usize>>,
    /// Answers written at once, one reading of the weights for all
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    streams: Option<Vec<usize>>,
    /// Tokens to decode in a run
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    decoded: u32,
    /// Rounds that count; one more goes before them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print one JSON line instead of a table
    #[arg(long)]
    json: bool,
    /// Draw figures into this folder
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    thinking: thinking::ThinkingArguments,
    #[command(flatten)]
    guesses: guesses::GuessesArguments,
    /// Do one thing for a measuring parent
    #[arg(long, hide = true, value_enum)]
    child: Option<Child>,
}

/// Parts of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From the start of a process to a loaded model and a first token
    Load,
    /// Tiles of the paper's image of 768 x 1536 pixels
    Encode,
    /// The image as a whole: the pipeline beside the same work in sequence
    Image,
    /// From a question about the image to the first token of the answer
    Answer,
    /// Prompts
    Prefill,
    /// Tokens one by one
    Decode,
    /// Tokens of several answers at once
    Streams,
    /// Memory for image, 2048 tokens of context and an answer, and what of it the encoder is
    Memory,
}

/// What a process of its own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Child {
    Load,
    Memory,
}

/// Runs the command; `cancel` is thrown by Ctrl-C.
pub fn run(arguments: BenchArguments, cancel: &Cancel) -> anyhow::Result<()> {
    match bench(arguments, cancel) {
        Err(_) if cancel.is_cancelled() => Err(Interrupted.into()),
        done => done,
    }
}

fn bench(mut arguments: BenchArguments, cancel: &Cancel) -> anyhow::Result<()> {
    if let Some(name) = &arguments.shape {
        let cooperation = interrupt::cooperate();
        let file = arguments.file.as_deref();
        let bundle = shape::bundle(name, arguments.recipe.into(), file, cancel);
        drop(cooperation);
        arguments.model.model = Some(bundle?);
    }
    let shared = thinking::Shared {
        model: &arguments.model,
        compute: arguments.compute,
        json: arguments.json,
        plot: arguments.plot.as_deref(),
        cancel,
    };
    if arguments.thinking.is_wanted() {
        return arguments.thinking.run(&shared);
    }
    if arguments.guesses.is_wanted() {
        return arguments.guesses.run(&shared, arguments.runs as usize);
    }
    match arguments.child {
        Some(child) => be(child, &arguments, cancel),
        None => report(&arguments, cancel),
    }
}

fn report(arguments: &BenchArguments, cancel: &Cancel) -> anyhow::Result<()> {
    let isa = Isa::from_env().map_err(anyhow::Error::msg)?;
    let engine = arguments.engine()?;
    let threads = engine.threads().clone();
    let kept = Kept::of(arguments)?;
    let plan = plan(arguments, &engine, &kept)?;
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {msg}").expect("the template is right"),
    );
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let cooperation = interrupt::cooperate();
    bar.set_message("what this machine can do at best");
    let ceilings = Ceilings::measure(isa, threads.count());
    let work = Work::of(engine.network().spec(), kept.decode_bytes);
    let mut figures = threads.run(|| {
        measure(
            engine.network(),
            &plan,
            (&work, &ceilings),
            cancel,
            &mut |name| bar.set_message(name.to_owned()),
        )
    })?;
    let of_image = image_plan(arguments, &engine);
    let sees = engine.network().shape().image_ids.is_some();
    if sees && (!of_image.batches.is_empty() || of_image.prompt.is_some()) {
        let progress = &mut |name: &str| bar.set_message(name.to_owned());
        figures.extend(measure_images(engine, &of_image, cancel, progress)?);
    } else {
        // Its memory would count for the children's system.
        drop(engine);
    }
    drop(cooperation);
    if wanted(arguments, Part::Load) {
        bar.set_message("loading in a process of its own");
        figures.extend(load(arguments, threads.count())?);
    }
    if wanted(arguments, Part::Memory) {
        bar.set_message("memory in a process of its own");
        figures.extend(memory(arguments, threads.count())?);
    }
    bar.finish_and_clear();
    let report = Report {
        model: arguments.model.name(),
        isa: isa.name().into(),
        ceilings,
        figures,
    };
    if let Some(folder) = &arguments.plot {
        draw_all(charts(&report), folder)?;
    }
    let text = if arguments.json {
        report.json() + "\n"
    } else {
        report.table()
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

impl BenchArguments {
    fn engine(&self) -> anyhow::Result<Engine> {
        self.compute.apply(self.model.load()?)
    }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(width, height)| {
        let side = |side: &str| side.parse().ok().filter(|side| (1..=16_384).contains(side));
        side(width).zip(side(height))
    });
    sides.ok_or_else(|| "expected WIDTHxHEIGHT of 1 to 16384 pixels, such as 1344x896".into())
}

fn image_plan(arguments: &BenchArguments, engine: &Engine) -> ImagePlan {
    ImagePlan {
        size: arguments.picture,
        batches: match wanted(arguments, Part::Image) {
            true => arguments.batches.clone(),
            false => Vec::new(),
        },
        encoding: arguments.compute.encoding(),
        prompt: wanted(arguments, Part::Answer).then(|| context(arguments, engine, 1)),
        runs: arguments.runs as usize,
    }
}

/// Tokens of the paper's context, or more where the picture needs them, or of the model's where it is shorter; with room for an
/// answer.
fn context(arguments: &BenchArguments, engine: &Engine, answer: usize) -> usize {
    let (width, height) = arguments.picture;
    let shape = engine.network().shape();
    let picture = match shape.image_ids {
        Some(_) => engine.plan(width, height).tokens + TOKENS_OF_WORDS,
        None => 0,
    };
    CONTEXT
        .max(picture)
        .min(shape.context_tokens.saturating_sub(answer))
}

fn wanted(arguments: &BenchArguments, part: Part) -> bool {
    arguments.only.is_empty() || arguments.only.contains(&part)
}

fn plan(arguments: &BenchArguments, engine: &Engine, kept: &Kept) -> anyhow::Result<Plan> {
    let shape = engine.network().shape();
    let decoded = arguments.decoded as usize;
    let list = |given: &Option<Vec<usize>>, usual: &[usize], room: usize| match given {
        Some(given) => given.clone(),
        None => usual.iter().copied().filter(|n| *n <= room).collect(),
    };
    let context = shape.context_tokens;
    let if_wanted = |part, list: Vec<usize>| {
        if wanted(arguments, part) {
            list
        } else {
            Vec::new()
        }
    };
    let prompts = list(&arguments.prompts, &[128, 512, 1024, 2048], context);
    let depths = list(
        &arguments.depths,
        &[0, 2048],
        context.saturating_sub(decoded),
    );
    let streams = match (&arguments.streams, context < STREAM_DEPTH + decoded) {
        (Some(given), _) => given.clone(),
        (None, true) => Vec::new(),
        (None, false) => vec![1, 2, 4, 8],
    };
    let counts = [&arguments.batches, &prompts, &streams];
    if counts.iter().any(|list| list.contains(&0)) {
        bail!("--batches, --prompts or --streams hold a 0, expected 1 and more");
    }
    Ok(Plan {
        tiles: tiles(arguments, engine),
        batches: if_wanted(Part::Encode, arguments.batches.clone()),
        prompts: if_wanted(Part::Prefill, prompts),
        chunk: STEP_TOKENS,
        chunks: list(&arguments.chunks, &[32, 512, 2048], context),
        depths: if_wanted(Part::Decode, depths),
        streams: if_wanted(Part::Streams, streams),
        decoded,
        runs: arguments.runs as usize,
        encoder: kept.encoder,
        decoder: kept.decoder,
    })
}

/// Tiles of the picture, for a model that cuts it into tiles.
fn tiles(arguments: &BenchArguments, engine: &Engine) -> usize {
    let (width, height) = arguments.picture;
    match engine.network().shape().image_ids {
        Some(_) if engine.network().shape().tile_side > 0 => engine.plan(width, height).tiles,
        _ => 0,
    }
}

/// How the weights are kept: what bounds their products, and how many bytes a decoded token reads.
struct Kept {
    encoder: Bound,
    decoder: Bound,
    /// 0 where it is not known.
    decode_bytes: u64,
}

impl Kept {
    fn of(arguments: &BenchArguments) -> anyhow::Result<Kept> {
        let widened = Bound {
            of: "f32",
            products: 1,
        };
        let mut kept = Kept {
            encoder: widened,
            decoder: widened,
            decode_bytes: 0,
        };
        let path = arguments.model.path()?;
        let Some(path) = path.filter(|path| Bundle::is_bundle(path)) else {
            return Ok(kept);
        };
        let bundle = Bundle::open(&path)?;
        let roles: BTreeMap<String, Role> = bundle
            .spec()
            .tensors()
            .into_iter()
            .map(|tensor| (tensor.name, tensor.role))
            .collect();
        for tensor in bundle.tensors() {
            let bound = bound(tensor.storage).unwrap_or(widened);
            match roles.get(tensor.name) {
                Some(Role::Encoder) => kept.encoder = bound,
                Some(Role::Decoder) => {
                    kept.decoder = bound;
                    kept.decode_bytes += tensor.bytes;
                }
                Some(Role::Head) => kept.decode_bytes += tensor.bytes,
                _ => {}
            }
        }
        Ok(kept)
    }
}

/// What bounds products with weights that are kept so; `None` for those that are widened to f32.
fn bound(storage: Storage) -> Option<Bound> {
    let (Storage::Int4(packed) | Storage::Int8(packed)) = storage else {
        return None;
    };
    Some(Bound {
        of: "int8",
        products: match packed.activations {
            Activations::Int8 => 1,
            Activations::Int16 => 2,
        },
    })
}

/// The same command as a child that does one thing.
fn child(arguments: &BenchArguments, threads: usize, which: &str) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(["bench", "--child", which, "--threads", &threads.to_string()]);
    if let Some(model) = arguments.model.path()? {
        command.arg("--model").arg(model);
    }
    let (width, height) = arguments.picture;
    command.args(["--picture", &format!("{width}x{height}")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// Milliseconds from the start of a process to a loaded model, and to a first token.
fn load(arguments: &BenchArguments, threads: usize) -> anyhow::Result<Vec<Figure>> {
    let (mut ready, mut token) = (Vec::new(), Vec::new());
    // One round brings the file into the system's cache.
    for round in 0..=arguments.runs {
        let mut command = child(arguments, threads, "load")?;
        let started = Instant::now();
        let mut process = command.spawn().context("cannot start this program again")?;
        let output = process.stdout.take().context("a child without output")?;
        let mut lines = BufReader::new(output).lines();
        for (expected, times) in [("ready", &mut ready), ("token", &mut token)] {
            let line = lines.next().transpose()?.unwrap_or_default();
            if line != expected {
                process.wait()?;
                bail!("the child said {line:?}, expected {expected:?}");
            }
            if round > 0 {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        process.wait()?;
    }
    let figure = |name, times: &[f64]| Figure::new("load", name, Unit::Milliseconds, times);
    Ok(vec![
        figure("process start to a loaded model", &ready),
        figure("process start to a first token", &token),
    ])
}

/// Megabytes that a process of its own needs: right after the image with the encoder's weights still in memory or given
/// back, and at most until the answer's end, if they go as the arguments say.
fn memory(arguments: &BenchArguments, threads: usize) -> anyhow::Result<Vec<Figure>> {
    let mut command = child(arguments, threads, "memory")?;
    command.args(arguments.compute.as_arguments());
    let output = command.output()?;
    if !output.status.success() {
        bail!("the process that measures memory failed");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |line: &str| {
        let (bytes, name) = line.split_once(' ')?;
        let values = [bytes.parse::<u64>().ok()? as f64 / 1e6];
        Some(Figure::new("memory", name, Unit::Megabytes, &values))
    };
    Ok(text.lines().filter_map(figure).collect())
}

fn be(child: Child, arguments: &BenchArguments, cancel: &Cancel) -> anyhow::Result<()> {
    let engine = arguments.engine()?;
    let mut out = std::io::stdout();
    match child {
        Child::Load => {
            writeln!(out, "ready")?;
            out.flush()?;
            let network = engine.network();
            engine
                .threads()
                .run(|| bench::first_token(network, cancel))?;
            writeln!(out, "token")?;
        }
        Child::Memory => measure_memory(engine, arguments, cancel)?,
    }
    Ok(())
}

/// The paper's scenario as any request: image, context, answer.
fn measure_memory(
    engine: Engine,
    arguments: &BenchArguments,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let mut say = |bytes: Option<u64>, what: &str| match bytes {
        Some(bytes) => writeln!(out, "{bytes} {what}"),
        None => Ok(()),
    };
    let (picture, answer) = (noisy_picture(arguments.picture), arguments.decoded as usize);
    let request = Request {
        max_tokens: Some(answer),
        at_end: AtEnd::Continue,
        ..question(&engine, &picture, context(arguments, &engine, answer))?
    };
    let reply = engine.generate(&request, cancel, &mut |_| {})?;
    let tokens = reply.usage.prompt_tokens;
    let name = format!("most at once: image, {tokens} tokens, answer");
    say(bench::peak_bytes(), &name)?;
    if request.images.is_empty() {
        return Ok(());
    }
    for (weights, what) in [
        (EncoderWeights::Keep, "after an image, its encoder kept"),
        (
            EncoderWeights::Release,
            "after an image, its encoder released",
        ),
    ] {
        let encoding = Encoding {
            weights,
            ..arguments.compute.encoding()
        };
        engine.encode(&picture, encoding, cancel)?;
        say(bench::resident_bytes(), what)?;
    }
    Ok(())
}

/// Writes charts as PNG and SVG.
fn draw_all(charts: impl IntoIterator<Item = Chart>, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    for chart in charts {
        let files = [("png", chart.png()), ("svg", chart.svg.into_bytes())];
        for (kind, bytes) in files {
            let path = folder.join(format!("{}.{kind}", chart.name));
            std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}
