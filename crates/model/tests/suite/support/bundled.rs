//! Bundles of models with random weights.

use super::random::{file, tensors};
use model::convert::{Conversion, Options, Origin, Recipe, Rounding};
use model::{Bundle, Checkpoint};
use std::borrow::Cow;

/// The model of [`super::random::model`] as a bundle.
pub fn bundle(config: &str, recipe: Recipe) -> Bundle {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bluelm");
    let weights = Cow::Owned(file(&tensors(config)));
    let mut checkpoint = Checkpoint::from_memory(config, weights).unwrap();
    Conversion {
        weights: Origin::Checkpoint(&mut checkpoint),
        files: &[("config.json".into(), config.into())],
        options: Options {
            recipe,
            group: 32,
            rounding: Rounding::Nearest,
        },
        sequences: Vec::new(),
        progress: &mut |_| {},
        cancel: &|| false,
    }
    .write(&path)
    .unwrap();
    Bundle::open(&path).unwrap()
}
