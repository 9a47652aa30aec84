//! `bluelm tune`: how fast a model is on this machine, measured once and stored, so that times can be predicted.

use std::fmt::Write as _;
use std::io::Write as _;

use bench::{Bound, Ceilings, Figure, Plan, Work, measure};
use clap::Args;
use engine::{Calibration, Cancel, Engine, Network, Point, STEP_TOKENS};
use indicatif::{ProgressBar, ProgressStyle};
use kernels::isa::Isa;

use crate::compute::ComputeArguments;
use crate::source::ModelArgument;
use crate::{calibrated, interrupt};

/// Arguments of `bluelm tune`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm tune
  bluelm tune --model MODEL --threads 4

`bluelm explain` and POST /v1/explain predict times from what is stored; it holds for this model, this
machine and so many threads. Measure while nothing else runs.")]
pub struct TuneArguments {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Rounds that count; one before them does not
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

/// Tokens that are decoded in one run.
const DECODED: usize = 8;
/// Tiles that are encoded in one run: whole batches of all sizes that are measured.
const TILES: usize = 4;

/// Runs the command.
pub fn run(arguments: TuneArguments, cancel: &Cancel) -> anyhow::Result<()> {
    let engine = arguments.compute.apply(arguments.model.load()?)?;
    let path = calibrated::path(&engine)?;
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {msg}").expect("the template is right"),
    );
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let cooperation = interrupt::cooperate();
    let progress = &mut |name: &str| bar.set_message(name.to_owned());
    let calibration = calibrate(&engine, arguments.runs as usize, cancel, progress);
    drop(cooperation);
    bar.finish_and_clear();
    let calibration = calibration?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    calibration.write(&path)?;
    let mut text = table(&calibration);
    let _ = writeln!(text, "stored in {}", path.display());
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn calibrate(
    engine: &Engine,
    runs: usize,
    cancel: &Cancel,
    progress: &mut (dyn FnMut(&str) + Send),
) -> anyhow::Result<Calibration> {
    let network = engine.network();
    let plan = plan(engine, runs);
    let isa = Isa::from_env().map_err(anyhow::Error::msg)?;
    let ceilings = Ceilings::measure(isa, 1);
    let work = Work::of(network.spec(), 0);
    let mut figures = |plan: &Plan| {
        let progress = &mut |name: &str| progress(name);
        engine
            .threads()
            .run(|| measure(network, plan, (&work, &ceilings), cancel, progress))
    };
    // First images alone, then text alone, as a request does it: so their memory is not added up.
    let encode = Plan {
        prompts: Vec::new(),
        chunks: Vec::new(),
        depths: Vec::new(),
        ..plan.clone()
    };
    let decode = Plan {
        batches: Vec::new(),
        ..plan.clone()
    };
    forget_peak();
    let encoded = figures(&encode)?;
    network.release_encoder();
    let encode_bytes = bench::peak_bytes().unwrap_or(0);
    forget_peak();
    let decoded = figures(&decode)?;
    let cache_bytes_per_token = network.cache_bytes_per_token();
    let decode_bytes = bench::peak_bytes().unwrap_or(0);
    let cached = cached_tokens(&plan) * cache_bytes_per_token;
    let rows = |group| points(&decoded, group);
    let mut by_step = rows("prefill in other chunks");
    // The usual step stands among the prompts.
    by_step.extend(rows("prefill").last().map(|last| Point {
        x: STEP_TOKENS,
        y: last.y,
    }));
    by_step.sort_by_key(|point| point.x);
    Ok(Calibration {
        version: Calibration::version(),
        model: engine.weights_name()?,
        machine: calibrated::machine(),
        threads: engine.threads().count(),
        encode_ms_per_tile: points(&encoded, "encode"),
        prefill_tokens_per_s: rows("prefill"),
        prefill_by_step: by_step,
        step_tokens: STEP_TOKENS,
        decode_tokens_per_s: rows("decode"),
        base_bytes: encode_bytes.max(decode_bytes.saturating_sub(cached as u64)),
        cache_bytes_per_token,
    })
}

/// Positions in all caches that exist at the end of the measurements of text.
fn cached_tokens(plan: &Plan) -> usize {
    let of_depths: usize = plan.depths.iter().map(|depth| depth + plan.decoded).sum();
    of_depths + plan.prompts.iter().max().copied().unwrap_or(0)
}

fn plan(engine: &Engine, runs: usize) -> Plan {
    let shape = engine.network().shape();
    let bound = Bound {
        of: "f32",
        products: 1,
    };
    let within = |list: &[usize], room: usize| -> Vec<usize> {
        list.iter().copied().filter(|n| *n <= room).collect()
    };
    let context = shape.context_tokens;
    Plan {
        tiles: if shape.image_ids.is_some() { TILES } else { 0 },
        batches: vec![1, 2, TILES],
        prompts: within(&[32, 128, 512, 1024], context),
        chunk: STEP_TOKENS,
        chunks: within(&[32, 512], context),
        depths: within(&[0, 256, 1024], context.saturating_sub(DECODED)),
        decoded: DECODED.min(context),
        streams: Vec::new(),
        runs,
        encoder: bound,
        decoder: bound,
    }
}

/// The points of a group of figures.
fn points(figures: &[Figure], group: &str) -> Vec<Point> {
    let of_group = figures.iter().filter(|figure| figure.group == group);
    let mut points: Vec<Point> = of_group
        .filter_map(|figure| {
            Some(Point {
                x: figure.x?,
                y: figure.median,
            })
        })
        .collect();
    points.sort_by_key(|point| point.x);
    points
}

/// Makes the system count the most memory anew, where it does: see `proc_pid_clear_refs(5)`.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn table(calibration: &Calibration) -> String {
    let mut text = String::new();
    let mut line = |name: &str, unit: &str, points: &[Point]| {
        let points: Vec<String> = points
            .iter()
            .map(|point| format!("{} at {}", short(point.y), point.x))
            .collect();
        if !points.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<28} {unit:<8} {}", points.join(", "));
        }
    };
    line(
        "a tile, by tiles at once",
        "ms",
        &calibration.encode_ms_per_tile,
    );
    line(
        "prefill, by rows",
        "token/s",
        &calibration.prefill_tokens_per_s,
    );
    line(
        "prefill, by rows of a step",
        "token/s",
        &calibration.prefill_by_step,
    );
    line(
        "decode, by rows in the cache",
        "token/s",
        &calibration.decode_tokens_per_s,
    );
    let _ = writeln!(
        text,
        "memory                       MB       {:.0} and {:.1} kB for each token",
        calibration.base_bytes as f64 / 1e6,
        calibration.cache_bytes_per_token as f64 / 1e3
    );
    text
}

fn short(value: f64) -> String {
    match value < 10.0 {
        true => format!("{value:.2}"),
        false => format!("{value:.0}"),
    }
}
