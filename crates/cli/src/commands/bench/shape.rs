//! A model that exists in shape only: drawn once into a bundle, so that real sizes can be measured without real weights.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bench::shapes;
use engine::Cancel;
use indicatif::{ProgressBar, ProgressStyle};
use model::Bundle;
use model::convert::{Conversion, Options, Origin, Recipe, Rounding, Written};
use serde_json::{Value, json};

use crate::embedded;

/// Every run draws the same weights.
const SEED: u64 = 1;

/// The bundle of a shape: the file that is there, or a new one.
pub fn bundle(
    shape: &str,
    recipe: Recipe,
    file: Option<&Path>,
    cancel: &Cancel,
) -> anyhow::Result<PathBuf> {
    let Some(config) = shapes::find(shape) else {
        bail!("no shape {shape:?}, expected {}", shapes::NAMES.join(", "));
    };
    let path = match file {
        Some(file) => file.to_owned(),
        None => std::env::temp_dir().join(format!("{shape}-{}.bluelm", recipe.name())),
    };
    if path.exists() {
        let bundle = Bundle::open(&path)?;
        if bundle.recipe() != recipe.name() || bundle.file("config.json") != Some(config.as_bytes())
        {
            bail!(
                "{} is there and is not {shape} with the recipe {}; name another --file",
                path.display(),
                recipe.name()
            );
        }
        return Ok(path);
    }
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("drawing weights {bar:30} {percent}% {eta} left")
            .expect("the template is right"),
    );
    let files = small_files(config)?;
    let conversion = Conversion {
        weights: Origin::Seed { config, seed: SEED },
        files: &files,
        options: Options {
            recipe,
            group: 128,
            rounding: Rounding::Nearest,
        },
        sequences: Vec::new(),
        progress: &mut |written: Written| {
            bar.set_length(written.total);
            bar.set_position(written.done);
        },
        cancel: &|| cancel.is_cancelled(),
    };
    let written = conversion.write(&path);
    bar.finish_and_clear();
    let bytes = written?;
    eprintln!("{}: {:.2} GB", path.display(), bytes as f64 / 1e9);
    Ok(path)
}

/// The model inside lends its tokenizer and template; tiles are as large as the shape says.
fn small_files(config: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let shape: Value = serde_json::from_str(config).context("the shape's config.json")?;
    let mut files = embedded::embedded_model().small_files();
    for (name, bytes) in &mut files {
        if name == "config.json" {
            *bytes = config.into();
        }
        if name == "preprocessor_config.json" {
            let mut tiles: Value = serde_json::from_slice(bytes).context("the tiles' settings")?;
            tiles["tile_size"] = shape["vision_config"]["image_size"].clone();
            tiles["max_grid"] = json!([4, 4]);
            *bytes = tiles.to_string().into_bytes();
        }
    }
    Ok(files)
}
