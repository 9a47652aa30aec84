//! `bluelm verify`: a model beside what a reference computed, and the first thing that differs.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use engine::verify::{Case, RELATIVE, verify_case};
use engine::{Cancel, Engine};

use crate::compute::ComputeArguments;
use crate::terminal::styles_of_stdout;

/// Arguments of `bluelm verify`.
#[derive(Args, Debug)]
#[command(after_help = "\
FOLDER has `model/`, a model folder, and `cases/NAME/`: pictures, `oracle.json` (messages, ids and tokens of the
reference) and `oracle.safetensors` (in.pixel_values, image_embeds, inputs_embeds, hidden.N, prefill_logits,
decode_logits). docs/adding-a-model.md says how to write them.")]
pub struct VerifyArguments {
    /// Where the model and the cases are
    folder: PathBuf,
    /// Another model than FOLDER/model: a folder or a bundle
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Largest difference allowed in embeddings, hidden states and logits, as a share of the largest value
    #[arg(long, value_name = "SHARE", default_value_t = RELATIVE)]
    tolerance: f64,
    /// One JSON line for each case, with everything that was compared
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArguments,
}

/// Runs the command; it fails where a case differs.
pub fn run(arguments: VerifyArguments, cancel: &Cancel) -> anyhow::Result<()> {
    let cases = cases(&arguments.folder)?;
    let own = arguments.folder.join("model");
    let engine = Engine::load(arguments.model.as_deref().unwrap_or(&own))?;
    let engine = arguments.compute.apply(engine)?;
    let mut out = std::io::stdout().lock();
    let mut wrong = 0;
    for folder in &cases {
        let case = verify_case(&engine, folder, arguments.tolerance, cancel)
            .with_context(|| folder.display().to_string())?;
        wrong += usize::from(case.first_difference().is_some());
        match arguments.json {
            true => writeln!(out, "{}", serde_json::to_string(&case)?)?,
            false => writeln!(out, "{}", line(&case))?,
        }
    }
    match wrong {
        0 => Ok(()),
        _ => bail!("{wrong} of {} cases differ from the reference", cases.len()),
    }
}

/// The folders of cases by name.
fn cases(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let path = folder.join("cases");
    let entries =
        std::fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut cases = Vec::new();
    for entry in entries {
        let case = entry?.path();
        if case.join("oracle.json").is_file() {
            cases.push(case);
        }
    }
    cases.sort();
    match cases.is_empty() {
        true => bail!(
            "{}: expected folders with an oracle.json, found none",
            path.display()
        ),
        false => Ok(cases),
    }
}

fn line(case: &Case) -> String {
    let strong = styles_of_stdout().strong;
    let name = &case.name;
    if let Some(first) = case.first_difference() {
        let apart = first
            .apart
            .map_or(String::new(), |apart| format!(", apart by {apart:.1e}"));
        let difference = first.difference.as_deref().unwrap_or_default();
        return format!(
            "{strong}{name}{strong:#}: {} is the first that differs{apart}: {difference}",
            first.name
        );
    }
    let pixels = case
        .compared
        .iter()
        .find(|compared| compared.name == "pixel_values");
    let pixels = match pixels.and_then(|compared| compared.apart) {
        Some(apart) if apart < 1e-5 => ", pixels equal".into(),
        Some(apart) => format!(", pixels apart by {apart:.1e}"),
        None => String::new(),
    };
    let (at, apart) = case.largest().unwrap_or(("nothing", 0.0));
    let open = match case.tokens_open {
        0 => String::new(),
        open => format!(" and {open} that the reference was undecided about"),
    };
    format!(
        "{strong}{name}{strong:#}: equal: {} ids{pixels}, at most {apart:.1e} apart ({at}), {} tokens{open}",
        case.prompt_tokens, case.tokens_equal
    )
}
