//! Calibrations that `bluelm tune` has stored, found again by model, machine and threads.

use std::path::PathBuf;

use anyhow::Context;
use engine::{Calibration, Engine};

use crate::folders;

/// The engine, with the calibration that was stored for it, if one was. One that cannot be used is as good as none.
pub fn apply(engine: Engine) -> anyhow::Result<Engine> {
    // Naming the weights of a folder reads them all: not before there is something to find.
    if !folder().is_some_and(|folder| folder.is_dir()) {
        return Ok(engine);
    }
    let found = Calibration::read(&path(&engine)?).ok();
    let model = engine.weights_name()?;
    let threads = engine.threads().count();
    let found =
        found.filter(|it| it.model == model && it.machine == machine() && it.threads == threads);
    Ok(engine.with_calibration(found))
}

/// The file for an engine: the beginning of its weights' name, and its threads.
pub fn path(engine: &Engine) -> anyhow::Result<PathBuf> {
    let folder = folder().context("neither XDG_CACHE_HOME nor HOME says where to keep it")?;
    let model = engine.weights_name()?;
    let threads = engine.threads().count();
    Ok(folder.join(format!("{}-{threads}.json", &model[..16])))
}

fn folder() -> Option<PathBuf> {
    Some(folders::cache()?.join("calibration"))
}

/// The machine in words: what its processor calls itself, and the instruction set that is used.
pub fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let is_name = matches!(key.trim(), "model name" | "Hardware" | "CPU part");
        is_name.then(|| value.trim().to_owned())
    };
    let processor = text.lines().find_map(named);
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.into());
    let isa = kernels::isa::Isa::from_env().map_or("unknown", |isa| isa.name());
    format!("{processor}, {isa}")
}
