//! Models of a hub: found on this machine or fetched, asked about first where they are large.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use fetch::{Event, Hub, ModelName, Plan, Settings};
use indicatif::{ProgressBar, ProgressStyle};

use crate::amounts::bytes;
use crate::terminal::styles_of_stderr;

/// Models above this are fetched after a yes only.
const ASKED_BYTES: u64 = 1_000_000_000;

/// Whether somebody has said yes beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Who sits at the terminal is asked.
    Ask,
    /// `--yes`.
    Given,
}

/// A large model, and nobody to ask.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {size} are to be fetched, and there is no terminal to ask at")]
pub struct Unasked {
    name: String,
    size: String,
}

impl Unasked {
    /// What to do about it.
    pub fn hint(&self) -> String {
        format!("bluelm pull --yes {}", self.name)
    }
}

/// The hub and the cache that the environment names.
pub fn hub() -> Hub {
    Hub::new(Settings::from_env(|name| std::env::var(name).ok()))
}

/// Where a model can be loaded from: a path as it is, or else a model of the hub, fetched if it is not here.
pub fn located(model: &Path) -> anyhow::Result<PathBuf> {
    let name = model.to_str().and_then(|text| ModelName::parse(text).ok());
    let Some(name) = name.filter(|_| !model.exists()) else {
        return Ok(model.into());
    };
    let hub = hub();
    if let Some(path) = hub.cache().find(&name) {
        return Ok(path);
    }
    let nothing = || {
        format!(
            "{}: there is no such file or folder, nor such a model here",
            model.display()
        )
    };
    pull(&hub, &name, Consent::Ask).with_context(nothing)
}

/// Fetches what is missing of a model and says where it is.
pub fn pull(hub: &Hub, name: &ModelName, consent: Consent) -> anyhow::Result<PathBuf> {
    let plan = hub.plan(name)?;
    let missing = plan.missing_bytes;
    if missing > 0 {
        agree(hub, name, &plan, consent)?;
    }
    let bar = bar(missing);
    bar.set_length(plan.bytes);
    let mut come = 0;
    let fetched = hub.fetch(&plan, &|| false, &mut |event| match event {
        Event::File(path) => bar.set_message(path.to_owned()),
        Event::Bytes(count) => {
            come += count;
            bar.set_position(come);
        }
    });
    bar.finish_and_clear();
    Ok(fetched?)
}

fn agree(hub: &Hub, name: &ModelName, plan: &Plan, consent: Consent) -> anyhow::Result<()> {
    let size = bytes(plan.missing_bytes);
    let dim = styles_of_stderr().dim;
    let what = format!(
        "{name}: {size} in {} files from {}",
        plan.file_count,
        hub.endpoint()
    );
    eprintln!("{dim}{what} to {}{dim:#}", hub.cache().root().display());
    if plan.missing_bytes <= ASKED_BYTES || consent == Consent::Given {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let name = name.to_string();
        return Err(Unasked { name, size }.into());
    }
    match yes(&format!("Fetch {size}?"))? {
        true => Ok(()),
        false => anyhow::bail!("{name}: not fetched"),
    }
}

/// Asks at the terminal; anything but a plain yes is a no.
pub fn yes(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let answer = answer.trim().to_lowercase();
    Ok(answer == "y" || answer == "yes")
}

fn bar(missing: u64) -> ProgressBar {
    if missing == 0 {
        return ProgressBar::hidden();
    }
    let style =
        "{bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} {msg}";
    ProgressBar::new(0)
        .with_style(ProgressStyle::with_template(style).expect("the template is well formed"))
}
