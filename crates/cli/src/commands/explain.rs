//! `bluelm explain`: what a model sees of a picture, and what it costs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use engine::{Engine, ImageInfo, Look, Memory, Part, Piece, Prediction, Prompt, Request};
use image_prep::{Picture, TilePlan};
use model::Model;

use crate::amounts::{bytes, count};
use crate::calibrated;
use crate::commands::chat::file;
use crate::compute::ComputeArguments;
use crate::looking::{KeepArguments, LookArguments, fewer};
use crate::source::{ModelArgument, picture};
use crate::terminal::styles_of_stdout;

/// Arguments of `bluelm explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm explain receipt.png
  bluelm explain --model DIR photo.jpg \"What is this?\"
  bluelm explain --after chat.json second.jpg \"And this?\"

Nothing is computed with the network. Times are predicted where `bluelm tune` has measured this model on
this machine; `bluelm tiles` compares tiling rules.")]
pub struct ExplainArguments {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    compute: ComputeArguments,
    #[command(flatten)]
    look: LookArguments,
    #[command(flatten)]
    keep: KeepArguments,
    /// Tokens of the answer that times are predicted for
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// The picture, or - for standard input
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The question that goes with it
    #[arg(default_value = "What is the total?")]
    prompt: String,
    /// As the next turn of a conversation that `bluelm chat` has saved in this file; what is remembered of it need not be read
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// Let the model think
    #[arg(long)]
    think: bool,
}

/// Runs the command.
pub fn run(arguments: ExplainArguments) -> anyhow::Result<()> {
    let picture = picture(&arguments.image)?;
    let engine = arguments.compute.apply(arguments.model.load()?)?;
    let engine = calibrated::apply(arguments.keep.apply(engine, 0)?)?;
    let question = Request::question(vec![picture], arguments.prompt);
    let (mut request, memory) = match &arguments.after {
        Some(path) => after(path, question, &engine)?,
        None => (question, Memory::new()),
    };
    request.max_tokens = Some(arguments.max_tokens as usize);
    if arguments.think {
        request.thinking = Some(true);
    }
    arguments.look.apply(&mut request);
    let Look {
        prompt,
        images,
        plans,
    } = engine.look(&request)?;
    let shown = (
        request.images.last(),
        images.last(),
        plans.into_iter().last(),
    );
    let (Some(picture), Some(info), Some(plan)) = shown else {
        anyhow::bail!("the prompt shows no picture");
    };
    let mut text = String::new();
    about_picture(&mut text, picture, &plan, info);
    about_prompt(&mut text, &engine, &plan, &prompt);
    let bundle = (arguments.model.path()?).and_then(|path| path.metadata().ok());
    let bundle_bytes = bundle
        .filter(|file| file.is_file())
        .map(|file| file.len() as usize);
    about_memory(&mut text, engine.network(), bundle_bytes, &plan, &prompt);
    let cached_tokens = engine.remembered_tokens(&memory, &request)?;
    about_time(&mut text, &engine, &request, cached_tokens)?;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn about_picture(text: &mut String, picture: &Picture, plan: &TilePlan, info: &ImageInfo) {
    let scale = f64::from(plan.resized.0) / f64::from(picture.width);
    line(
        text,
        "picture",
        format!("{} x {} pixels, upright", picture.width, picture.height),
    );
    line(
        text,
        "grid",
        format!(
            "{} x {} tiles (columns x rows)",
            plan.grid.columns, plan.grid.rows
        ),
    );
    line(
        text,
        "canvas",
        format!("{} x {} pixels", plan.canvas.0, plan.canvas.1),
    );
    let (width, height) = plan.resized;
    line(
        text,
        "resized to",
        format!(
            "{width} x {height} pixels: a letter of 20 pixels is seen with {:.0}",
            20.0 * scale
        ),
    );
    line(
        text,
        "placed at",
        format!(
            "{}, {}; the rest of the canvas is padding",
            plan.offset.0, plan.offset.1
        ),
    );
    let thumbnail = match plan.thumbnail {
        Some(thumbnail) => format!(
            " and the whole picture at {} x {}",
            thumbnail.resized.0, thumbnail.resized.1
        ),
        None => String::new(),
    };
    line(
        text,
        "tiles",
        format!(
            "{} of the grid{thumbnail}: {} in all{}",
            plan.grid.columns * plan.grid.rows,
            plan.tiles,
            fewer(info)
        ),
    );
}

fn about_prompt(text: &mut String, engine: &Engine, plan: &TilePlan, prompt: &Prompt) {
    let image_tokens: usize = prompt
        .pieces
        .iter()
        .map(|piece| match piece {
            Piece::Image { places, .. } => places.len(),
            Piece::Text(_) => 0,
        })
        .sum();
    let spec = engine.network().spec();
    let of_tile = spec.tokens_per_tile();
    let tokens = match plan.tiles * of_tile == image_tokens {
        true => format!("{} tiles x {of_tile} = {image_tokens}", plan.tiles),
        // Families that take pictures of any size, put rows together or leave some out.
        false => format!("{image_tokens}"),
    };
    line(text, "tokens", tokens);
    let context = spec.context_tokens();
    let left = context - prompt.ids.len();
    line(
        text,
        "prompt",
        format!(
            "{} tokens; {left} of {context} are left for the answer",
            prompt.ids.len()
        ),
    );
    line(text, "as text", format!("{:?}", prompt.text));
}

fn about_memory(
    text: &mut String,
    model: &Model,
    bundle_bytes: Option<usize>,
    plan: &TilePlan,
    prompt: &Prompt,
) {
    let spec = model.spec();
    let parameters: usize = spec
        .tensors()
        .iter()
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum();
    let cache = model.cache_bytes_per_token();
    let side = spec.image_size();
    let pixels = plan.tiles * 3 * side * side * 4;
    let weights = match bundle_bytes {
        Some(size) => format!("{} in the bundle", bytes(size as u64)),
        None => format!("{} as bf16", bytes(2 * parameters as u64)),
    };
    line(
        text,
        "weights",
        format!("{} parameters, {weights}", count(parameters)),
    );
    line(text, "pixels", bytes(pixels as u64));
    line(
        text,
        "cache",
        format!(
            "{} a token, {} for this prompt",
            bytes(cache as u64),
            bytes((cache * prompt.ids.len()) as u64)
        ),
    );
}

/// A question as the next turn of a saved conversation, and what is remembered of that.
fn after(
    path: &Path,
    question: Request,
    engine: &Engine,
) -> anyhow::Result<(Request, Memory<Model>)> {
    let loaded = file::load(path, &question, engine)?;
    let mut request = loaded.request;
    for mut message in question.messages {
        for part in &mut message.content {
            if let Part::Image(index) = part {
                *index += request.images.len();
            }
        }
        request.messages.push(message);
    }
    request.images.extend(question.images);
    // A detail for each picture, or none for any.
    request.vision.details.clear();
    Ok((request, loaded.memory))
}

/// What was measured says how long it will take, and what would take less.
fn about_time(
    text: &mut String,
    engine: &Engine,
    request: &Request,
    cached_tokens: usize,
) -> anyhow::Result<()> {
    let cost = engine.cost(request, cached_tokens)?;
    if cached_tokens > 0 {
        let told =
            format!("{cached_tokens} tokens of the prompt are remembered and not read again");
        line(text, "cached", told);
    }
    if cost.encoded.contains(&true) {
        line(
            text,
            "encoded",
            "already: kept in the folder of --image-cache".into(),
        );
    }
    let Some(predicted) = cost.predicted else {
        line(
            text,
            "time",
            "not known: `bluelm tune` measures once how fast this model is here".into(),
        );
        return Ok(());
    };
    line(text, "time", times(&predicted));
    line(
        text,
        "memory",
        format!("at most {}", bytes(predicted.peak_bytes)),
    );
    for way in engine.cheaper(request, cached_tokens)? {
        let Some(predicted) = way.cost.predicted else {
            continue;
        };
        let tokens = way.cost.image_tokens;
        let value = format!(
            "--max-tiles {}: {tokens} image tokens, {}",
            way.max_tiles,
            times(&predicted)
        );
        line(text, "cheaper", value);
    }
    Ok(())
}

fn times(predicted: &Prediction) -> String {
    let seconds = |ms: f64| format!("{:.2} s", ms / 1e3);
    format!(
        "first token after {} (image {}, prompt {}), then {:.1} tokens a second, all after {}",
        seconds(predicted.first_token_ms),
        seconds(predicted.encode_ms),
        seconds(predicted.prefill_ms),
        predicted.decode_tokens_per_s,
        seconds(predicted.answer_ms)
    )
}

fn line(text: &mut String, name: &str, value: String) {
    // Writing to a String cannot fail.
    let strong = styles_of_stdout().strong;
    let _ = writeln!(text, "{strong}{name:<11}{strong:#} {value}");
}
