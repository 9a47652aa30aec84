//! The network that trains against the one that answers: the same weights have to give the same loss.

use model::{Checkpoint, LogitRows, Model, NoTaps, TensorData, write_safetensors};
use train::losses::IGNORE;
use train::network::{MicroBatch, Sequence, Trainable};
use train::parameters::Parameters;

use crate::packing::unpacked;
use crate::support::{self, IMAGE_TOKEN, VARIANTS, VOCABULARY, Variant};

/// The model that answers with these weights, by way of a folder.
fn model(variant: Variant, parameters: &Parameters) -> Model {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), support::config(variant)).unwrap();
    let tensors = parameters.exported().map(|(tensor, values)| {
        let values = TensorData::F32(values.into());
        (tensor.name.clone(), tensor.shape.clone(), values)
    });
    write_safetensors(&folder.path().join("model.safetensors"), tensors).unwrap();
    Model::load(&Checkpoint::open(folder.path()).unwrap()).unwrap()
}

/// Weighted cross-entropy of one sample without branches.
fn loss(model: &Model, sample: &Sequence, pixels: &[f32]) -> f64 {
    let never = || false;
    let mut rows = model.embed(&sample.tokens);
    if sample.tiles > 0 {
        let features = model.encode_tiles(pixels, sample.tiles, &never, &mut NoTaps);
        let features = features.unwrap();
        let width = rows.len() / sample.tokens.len();
        let places = rows.chunks_exact_mut(width).zip(&sample.tokens);
        let places = places.filter(|(_, token)| **token == IMAGE_TOKEN);
        for ((row, _), feature) in places.zip(features.chunks_exact(width)) {
            row.copy_from_slice(feature);
        }
    }
    let mut cache = model.new_cache(sample.tokens.len());
    let logits = model.forward(&rows, &mut cache, LogitRows::All, &never, &mut NoTaps);
    let logits = logits.unwrap();
    let supervised = sample.labels.iter().zip(&sample.weights);
    logits
        .chunks_exact(VOCABULARY as usize)
        .zip(supervised)
        .filter(|(_, (label, _))| **label != IGNORE)
        .map(|(row, (label, weight))| {
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            f64::from(*weight) * (sum.ln() - f64::from(row[*label as usize]))
        })
        .sum()
}

#[test]
fn training_and_answering_compute_the_same_loss() {
    for variant in VARIANTS {
        let (network, parameters) = support::network(variant);
        let model = model(variant, &parameters);
        let batch = support::batch(&network, variant);
        let tile = 3 * variant.image * variant.image;
        let mut first = 0;
        for sequence in &batch.sequences {
            let pixels = &batch.pixels[first * tile..(first + sequence.tiles) * tile];
            first += sequence.tiles;
            let expected: f64 = unpacked(sequence)
                .iter()
                .map(|sample| loss(&model, sample, pixels))
                .sum();
            let alone = MicroBatch {
                sequences: vec![sequence.clone()],
                pixels: pixels.to_vec(),
                patch_labels: None,
                target: None,
            };
            let (found, _) =
                support::step(&network, &parameters, &alone, Trainable::ALL, 1.0).unwrap();
            let difference = (found.language_sum - expected).abs() / expected;
            // A logit has some 250 roundings of 6e-8 behind it, which as a random walk are 16 * 6e-8; the sum over labels
            // adds none that matter, for it is in f64.
            assert!(
                difference < 1e-6,
                "{variant:?}: {} in training, {expected} in answering",
                found.language_sum
            );
        }
    }
}
