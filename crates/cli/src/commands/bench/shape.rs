//! A model that exists in shape only: drawn once into a bundle, so that real sizes can be measured without real weights.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bench::shapes::{self, Shape};
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
    let Some(found) = shapes::find(shape) else {
        bail!("no shape {shape:?}, expected {}", shapes::NAMES.join(", "));
    };
    let config = found.config.to_string();
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
    let files = small_files(&found)?;
    let conversion = Conversion {
        weights: Origin::Seed {
            config: &config,
            seed: SEED,
        },
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

/// The model inside lends its tokenizer and, to shapes of its own format, its template and its tiles.
fn small_files(shape: &Shape) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = embedded::embedded_model().small_files();
    for (name, bytes) in &mut files {
        let changed = match name.as_str() {
            "config.json" => shape.config.to_string(),
            "preprocessor_config.json" => preprocessor(shape, bytes)?.to_string(),
            "tokenizer.json" => with_tokens(shape, bytes)?.to_string(),
            "chat_template.jinja" if shape.picture.is_some() => template(shape),
            _ => continue,
        };
        *bytes = changed.into_bytes();
    }
    Ok(files)
}

fn preprocessor(shape: &Shape, own: &[u8]) -> anyhow::Result<Value> {
    if let Some(preprocessor) = &shape.preprocessor {
        return Ok(preprocessor.clone());
    }
    let mut tiles: Value = serde_json::from_slice(own).context("the tiles' settings")?;
    let side = &shape.config["vision_config"]["image_size"];
    if !side.is_null() {
        tiles["tile_size"] = side.clone();
        tiles["max_grid"] = json!([4, 4]);
    }
    Ok(tiles)
}

/// Tokens that stand for pictures, at their ids.
fn with_tokens(shape: &Shape, tokenizer: &[u8]) -> anyhow::Result<Value> {
    let mut tokenizer: Value = serde_json::from_slice(tokenizer).context("the tokenizer")?;
    for (token, id) in &shape.tokens {
        // Added tokens get the next free id unless the vocabulary has them.
        tokenizer["model"]["vocab"][token] = json!(id);
        let added = json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true});
        if let Some(list) = tokenizer["added_tokens"].as_array_mut() {
            list.retain(|other| other["content"] != *token);
            list.push(added);
        }
    }
    Ok(tokenizer)
}

/// Pictures and texts, one after another.
fn template(shape: &Shape) -> String {
    let picture = shape.picture.as_deref().unwrap_or_default();
    format!(
        "{{% for message in messages %}}{{% if message.content is string %}}{{{{ message.content }}}}{{% else %}}\
         {{% for part in message.content %}}{{% if part.type == 'image' %}}{picture}{{% else %}}{{{{ part.text }}}}{{% endif %}}\
         {{% endfor %}}{{% endif %}}{{% endfor %}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_files_of_every_shape_belong_together() {
        for name in shapes::NAMES {
            let files = small_files(&shapes::find(name).unwrap()).unwrap();
            let folder = tempfile::tempdir().unwrap();
            for (name, bytes) in &files {
                std::fs::write(folder.path().join(name), bytes).unwrap();
            }
            let files = engine::PromptFiles::open(folder.path());
            let files = files.unwrap_or_else(|error| panic!("{name}: {error}"));
            for (token, id) in shapes::find(name).unwrap().tokens {
                assert_eq!(
                    files.tokenizer.token_to_id(&token),
                    Some(id),
                    "{name}: {token}"
                );
            }
        }
    }
}
