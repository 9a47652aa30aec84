//! `bluelm bench`: how fast a model is on this machine, and how much memory it takes.

mod shape;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use bench::{Bound, Ceilings, Figure, Plan, Report, Scenario, Unit, Work, charts, measure};
use clap::{Args, ValueEnum};
use engine::{Cancel, Engine, Network, STEP_TOKENS};
use indicatif::{ProgressBar, ProgressStyle};
use kernels::isa::Isa;
use model::{Activations, Bundle, Role, Storage};

use crate::commands::convert::RecipeArgument;
use crate::failure::Interrupted;
use crate::interrupt;
use crate::source::ModelArgument;

/// The paper's image: it measures encoding and memory with it.
const IMAGE: (u32, u32) = (768, 1536);
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
  bluelm bench --json | jq '.figures[] | {name, median}'

Each figure is the median of --runs rounds, its smallest and largest in brackets, and the share of what
this machine can do at best, which is measured first. Lists that are not given leave out what the model's
context is too short for. Loading and memory are measured in processes of their own.")]
pub struct BenchArguments {
    #[command(flatten)]
    model: ModelArgument,
    /// A model of real size with random weights instead, drawn once into a file
    #[arg(long, value_name = "NAME", conflicts_with = "model", value_parser = ["bluelm-v-3b"])]
    shape: Option<String>,
    /// How the shape's weights are kept
    #[arg(long, value_enum, default_value = "fast", requires = "shape")]
    recipe: RecipeArgument,
    /// Where the shape's bundle is or is to be (default: in the system's folder for temporary files)
    #[arg(long, value_name = "FILE", requires = "shape")]
    file: Option<PathBuf>,
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
    /// Tiles encoded at once
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
    /// Tokens to decode in a run
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    decoded: u32,
    /// Rounds that count; one more goes before them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Threads (default: as many as processors)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Print one JSON line instead of a table
    #[arg(long)]
    json: bool,
    /// Draw figures into this folder
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Do one thing for a measuring parent
    #[arg(long, hide = true, value_enum)]
    child: Option<Child>,
}

/// Parts of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From the start of a process to a loaded model and a first token
    Load,
    /// The paper's image of 768 x 1536 pixels
    Encode,
    /// Prompts
    Prefill,
    /// Tokens one by one
    Decode,
    /// Most memory for image, 2048 tokens of context and an answer
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
    let threads = match arguments.threads {
        Some(threads) => threads as usize,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|problem| bench::BenchError::Threads {
            threads,
            problem: problem.to_string(),
        })?;
    pool.install(|| match arguments.child {
        Some(child) => be(child, &arguments, cancel),
        None => report(&arguments, threads, cancel),
    })
}

fn report(arguments: &BenchArguments, threads: usize, cancel: &Cancel) -> anyhow::Result<()> {
    let isa = Isa::from_env().map_err(anyhow::Error::msg)?;
    let engine = arguments.model.load()?;
    let kept = Kept::of(arguments)?;
    let plan = plan(arguments, &engine, &kept)?;
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {msg}").expect("the template is right"),
    );
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let cooperation = interrupt::cooperate();
    bar.set_message("what this machine can do at best");
    let ceilings = Ceilings::measure(isa, threads);
    let work = Work::of(engine.network().spec(), kept.decode_bytes);
    let figures = measure(
        engine.network(),
        &plan,
        (&work, &ceilings),
        cancel,
        &mut |name| bar.set_message(name.to_owned()),
    );
    drop(cooperation);
    let mut figures = figures?;
    // Its memory would count for the children's system.
    drop(engine);
    if wanted(arguments, Part::Load) {
        bar.set_message("loading in a process of its own");
        figures.extend(load(arguments, threads)?);
    }
    if wanted(arguments, Part::Memory) {
        bar.set_message("memory in a process of its own");
        figures.extend(memory(arguments, threads)?);
    }
    bar.finish_and_clear();
    let report = Report {
        model: arguments.model.name(),
        isa: isa.name().into(),
        ceilings,
        figures,
    };
    if let Some(folder) = &arguments.plot {
        draw(&report, folder)?;
    }
    let text = if arguments.json {
        report.json() + "\n"
    } else {
        report.table()
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
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
    let counts = [&arguments.batches, &prompts];
    if counts.iter().any(|list| list.contains(&0)) {
        bail!("--batches and --prompts hold a 0, expected 1 and more");
    }
    Ok(Plan {
        tiles: tiles(engine),
        batches: if_wanted(Part::Encode, arguments.batches.clone()),
        prompts: if_wanted(Part::Prefill, prompts),
        chunk: STEP_TOKENS,
        chunks: list(&arguments.chunks, &[32, 512, 2048], context),
        depths: if_wanted(Part::Decode, depths),
        decoded,
        runs: arguments.runs as usize,
        encoder: kept.encoder,
        decoder: kept.decoder,
    })
}

/// Tiles of the paper's image; none for a model that sees nothing.
fn tiles(engine: &Engine) -> usize {
    match engine.network().shape().image_ids {
        Some(_) => engine.plan(IMAGE.0, IMAGE.1).tiles,
        None => 0,
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
        let path = arguments.model.model.as_deref();
        let Some(path) = path.filter(|path| Bundle::is_bundle(path)) else {
            return Ok(kept);
        };
        let bundle = Bundle::open(path)?;
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
    if let Some(model) = &arguments.model.model {
        command.arg("--model").arg(model);
    }
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

/// Megabytes that a process of its own needs at most.
fn memory(arguments: &BenchArguments, threads: usize) -> anyhow::Result<Option<Figure>> {
    let output = child(arguments, threads, "memory")?.output()?;
    if !output.status.success() {
        bail!("the process that measures memory failed");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let Ok(bytes) = text.trim().parse::<u64>() else {
        return Ok(None);
    };
    let name = "most at once: image, 2048 tokens, answer";
    let values = [bytes as f64 / 1e6];
    Ok(Some(Figure::new("memory", name, Unit::Megabytes, &values)))
}

fn be(child: Child, arguments: &BenchArguments, cancel: &Cancel) -> anyhow::Result<()> {
    let engine = arguments.model.load()?;
    let network = engine.network();
    let mut out = std::io::stdout();
    let context = network.shape().context_tokens;
    match child {
        Child::Load => {
            writeln!(out, "ready")?;
            out.flush()?;
            let scenario = Scenario {
                tiles: 0,
                prompt: 1,
                answer: 1,
                chunk: STEP_TOKENS,
            };
            bench::play(network, scenario, cancel)?;
            writeln!(out, "token")?;
        }
        Child::Memory => {
            let answer = arguments.decoded as usize;
            let scenario = Scenario {
                tiles: tiles(&engine),
                prompt: CONTEXT.min(context.saturating_sub(answer)),
                answer,
                chunk: STEP_TOKENS,
            };
            bench::play(network, scenario, cancel)?;
            if let Some(bytes) = bench::peak_bytes() {
                writeln!(out, "{bytes}")?;
            }
        }
    }
    Ok(())
}

fn draw(report: &Report, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    for chart in charts(report) {
        let files = [("png", chart.png()), ("svg", chart.svg.into_bytes())];
        for (kind, bytes) in files {
            let path = folder.join(format!("{}.{kind}", chart.name));
            std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}
