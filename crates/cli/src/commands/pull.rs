//! `bluelm pull`, `ls`, `show` and `rm`: models of a hub on this machine.

use std::io::{IsTerminal, Write};
use std::time::SystemTime;

use anyhow::Context;
use clap::Args;
use fetch::{Kept, ModelName};
use model::ModelSpec;
use serde_json::json;

use crate::amounts::{bytes, count};
use crate::hub::{self, Consent, hub};

/// Arguments of `bluelm pull`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm pull Qwen/Qwen2.5-VL-3B-Instruct
  bluelm pull owner/name-GGUF:Q4_K_M               one GGUF file, and the file of its encoder
  bluelm run --model Qwen/Qwen2.5-VL-3B-Instruct --image photo.jpg \"What is this?\"

What was broken off goes on where it ended; every file is checked against its checksum. Models lie where
the hub's own tools keep them: HF_HUB_CACHE or HF_HOME say where. HF_ENDPOINT names another hub, HF_TOKEN is
the key to models that are not for everybody, HF_HUB_OFFLINE=1 keeps from asking. No other command uses the
network, unless --model names a model that is not here.")]
pub struct PullArguments {
    /// owner/name, or owner/name:file for one GGUF file (a part of its name will do)
    #[arg(value_name = "NAME", value_parser = name)]
    name: ModelName,
    /// Do not ask, however large it is
    #[arg(long)]
    yes: bool,
}

/// Arguments of `bluelm ls`.
#[derive(Args, Debug)]
pub struct ListArguments {
    /// Print one JSON line for each model
    #[arg(long)]
    json: bool,
}

/// Arguments of `bluelm show`.
#[derive(Args, Debug)]
pub struct ShowArguments {
    /// owner/name
    #[arg(value_name = "NAME", value_parser = name)]
    name: ModelName,
}

/// Arguments of `bluelm rm`.
#[derive(Args, Debug)]
pub struct RemoveArguments {
    /// owner/name
    #[arg(value_name = "NAME", value_parser = name)]
    name: ModelName,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

fn name(text: &str) -> Result<ModelName, String> {
    ModelName::parse(text).map_err(|error| error.to_string())
}

/// Runs `bluelm pull`.
pub fn pull(arguments: &PullArguments) -> anyhow::Result<()> {
    let consent = match arguments.yes {
        true => Consent::Given,
        false => Consent::Ask,
    };
    let path = hub::pull(&hub(), &arguments.name, consent)?;
    Ok(writeln!(std::io::stdout(), "{}", path.display())?)
}

/// Runs `bluelm ls`.
pub fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let hub = hub();
    let kept = hub.cache().list()?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        for kept in &kept {
            writeln!(out, "{}", as_json(kept))?;
        }
        return Ok(());
    }
    if kept.is_empty() {
        let root = hub.cache().root().display();
        eprintln!("no models in {root}; `bluelm pull owner/name` fetches one");
        return Ok(());
    }
    let widest = kept.iter().map(|kept| kept.name.model().len()).max();
    let width = widest.unwrap_or(0).max(4);
    writeln!(
        out,
        "{:width$}  {:>9}  {:>5}  changed",
        "name", "size", "files"
    )?;
    for kept in &kept {
        let name = kept.name.model();
        let (size, files) = (bytes(kept.bytes), kept.files.len());
        let state = match kept.folder {
            Some(_) => age(kept.changed),
            None => "not whole: pull it again".into(),
        };
        writeln!(out, "{name:width$}  {size:>9}  {files:>5}  {state}")?;
    }
    Ok(())
}

/// Runs `bluelm show`.
pub fn show(arguments: &ShowArguments) -> anyhow::Result<()> {
    let kept = found(&arguments.name)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}, {} on disk", kept.name.model(), bytes(kept.bytes))?;
    let Some(folder) = &kept.folder else {
        writeln!(
            out,
            "not whole: `bluelm pull {}` goes on",
            kept.name.model()
        )?;
        return Ok(());
    };
    writeln!(out, "{}", folder.display())?;
    if let Ok(config) = model::folder_config(folder) {
        let about = match ModelSpec::from_json(&config) {
            Ok(spec) => about(&spec),
            Err(error) => format!("cannot be run: {error}"),
        };
        writeln!(out, "{about}")?;
    }
    for file in &kept.files {
        let length = folder.join(file).metadata().map(|facts| facts.len());
        let length = length.map_or("gone".into(), bytes);
        writeln!(out, "  {length:>9}  {file}")?;
    }
    Ok(())
}

/// Runs `bluelm rm`.
pub fn remove(arguments: &RemoveArguments) -> anyhow::Result<()> {
    let kept = found(&arguments.name)?;
    let (name, size) = (kept.name.model(), bytes(kept.bytes));
    if !arguments.yes {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            anyhow::bail!("{name}: there is no terminal to ask at; --yes removes {size}");
        }
        if !hub::yes(&format!("Remove {name}, {size}?"))? {
            anyhow::bail!("{name}: not removed");
        }
    }
    hub().cache().remove(&kept.name)?;
    eprintln!("{name}: {size} removed");
    Ok(())
}

fn found(name: &ModelName) -> anyhow::Result<Kept> {
    let hub = hub();
    let kept = hub.cache().show(name);
    kept.with_context(|| format!("{name}: no such model in {}", hub.cache().root().display()))
}

fn about(spec: &ModelSpec) -> String {
    let numbers = spec
        .tensors()
        .into_iter()
        .map(|tensor| tensor.shape.iter().product::<usize>());
    let (decoder, context) = (&spec.decoder, spec.context_tokens());
    let sees = match spec.vision {
        Some(_) => "takes pictures",
        None => "text only",
    };
    format!(
        "{} weights, {} layers of {}, context {context} tokens, {sees}",
        count(numbers.sum()),
        decoder.layers,
        decoder.hidden,
    )
}

fn as_json(kept: &Kept) -> serde_json::Value {
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
    json!({
        "name": kept.name.model(),
        "bytes": kept.bytes,
        "commit": kept.commit,
        "folder": kept.folder,
        "files": kept.files,
        "changed": kept.changed.and_then(since).map(|since| since.as_secs()),
    })
}

/// How long ago something was.
fn age(time: Option<SystemTime>) -> String {
    let seconds = time
        .and_then(|time| time.elapsed().ok())
        .map_or(0, |age| age.as_secs());
    match seconds {
        0..60 => "now".into(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
