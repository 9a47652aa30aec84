//! Image tokens told instead of shown, and the projector drawn to them.

use train::network::{MicroBatch, Sight, Trainable};
use train::parameters::{Gradients, Parameters};

use crate::finite_differences::TOLERANCE;
use crate::support::{self, Random, VARIANTS, VOCABULARY, Variant, length};

const TILES: usize = 2;
const EMBEDDING: &str = "language_model.model.embed_tokens.weight";

/// Two tiles' image tokens: none, one or several words each; the last holds more than can be told.
fn sight(tokens: usize) -> Sight {
    let mut random = Random::new(31);
    let mut sight = Sight::default();
    for place in 0..tokens {
        let words: Vec<u32> = (0..place % 4).map(|_| random.word()).collect();
        sight.push(&words, place + 1 < tokens);
    }
    sight
}

/// One sequence that is told its picture and one that is shown it.
fn told_and_shown(variant: Variant) -> MicroBatch {
    let (network, _) = support::network(variant);
    let mut random = Random::new(32);
    let mut told = support::sequence(&network, TILES, &[4, 6], &mut random);
    told.sight = Some(sight(TILES * network.tokens_per_tile()));
    let shown = support::sequence(&network, 1, &[5], &mut random);
    MicroBatch {
        sequences: vec![told, shown],
        pixels: support::pixels(1, variant.image, &mut random),
        patch_labels: None,
        target: None,
    }
}

/// Slope of `loss` along the gradient of one tensor and the gradient's own length, which it should be.
fn slope_and_length(
    parameters: &Parameters,
    gradients: &Gradients,
    tensor: &str,
    loss: impl Fn(&Parameters) -> f64,
) -> (f64, f64) {
    let layout = parameters.layout().clone();
    let record = layout.tensors().iter().find(|t| t.name == tensor).unwrap();
    let gradient = gradients.values()[record.range()].to_vec();
    let norm = length(&gradient);
    // A step along the gradient that changes the loss by about 0.01, as in finite_differences.rs.
    let step = 0.01 / (norm * norm);
    let at = |step: f64| {
        let mut moved = Parameters::zeros(layout.clone());
        moved.values_mut().copy_from_slice(parameters.values());
        let values = moved.tensor_mut(tensor).unwrap();
        for (value, along) in values.iter_mut().zip(&gradient) {
            *value += (step * f64::from(*along)) as f32;
        }
        loss(&moved)
    };
    let central = |step: f64| (at(step) - at(-step)) / (2.0 * step);
    let slope = (4.0 * central(step / 2.0) - central(step)) / 3.0;
    (slope / norm, norm)
}

#[test]
fn gradients_of_told_image_tokens_reach_the_embedding() {
    for variant in VARIANTS {
        let (network, parameters) = support::network(variant);
        let batch = told_and_shown(variant);
        let (_, gradients) =
            support::step(&network, &parameters, &batch, Trainable::ALL, 0.02).unwrap();
        let loss = |p: &Parameters| support::loss(&network, p, &batch, 0.02);
        let (slope, norm) = slope_and_length(&parameters, &gradients, EMBEDDING, loss);
        assert!(
            (slope - norm).abs() < TOLERANCE * norm,
            "{variant:?}: {slope} {norm}"
        );
    }
}

#[test]
fn the_projector_and_the_encoder_are_drawn_to_perfect_sight() {
    let variant = VARIANTS[0];
    let (network, parameters) = support::network(variant);
    let mut random = Random::new(33);
    let weight = 0.03;
    let batch = MicroBatch {
        sequences: Vec::new(),
        pixels: support::pixels(TILES, variant.image, &mut random),
        patch_labels: None,
        target: Some((sight(TILES * network.tokens_per_tile()), weight)),
    };
    let (losses, gradients) =
        support::step(&network, &parameters, &batch, Trainable::ALL, 1.0).unwrap();
    assert!(losses.sight_sum > 0.0 && losses.sight_weight > 0.0);
    let loss = |p: &Parameters| {
        let (losses, _) = support::step(&network, p, &batch, Trainable::ALL, 1.0).unwrap();
        f64::from(weight) * losses.sight_sum
    };
    let layout = network.layout();
    let names = layout.tensors().iter().map(|t| t.name.as_str());
    let mut checked = 0;
    for name in names.filter(|name| name.contains("linear_") && name.ends_with("weight")) {
        let (slope, norm) = slope_and_length(&parameters, &gradients, name, loss);
        assert!(
            (slope - norm).abs() < TOLERANCE * norm,
            "{name}: {slope} {norm}"
        );
        checked += 1;
    }
    assert!(checked >= 2, "the projector has two linear layers");
}

#[test]
fn sight_that_does_not_fit_the_tiles_or_the_vocabulary_is_refused() {
    let variant = VARIANTS[0];
    let (network, parameters) = support::network(variant);
    let mut batch = told_and_shown(variant);
    batch.sequences[0].sight = Some(sight(3));
    let step =
        |batch: &MicroBatch| support::step(&network, &parameters, batch, Trainable::ALL, 1.0);
    let message = step(&batch).unwrap_err().to_string();
    assert!(
        message.starts_with("sight: image tokens expected"),
        "{message}"
    );
    let mut wrong = sight(TILES * network.tokens_per_tile() - 1);
    wrong.push(&[VOCABULARY], true);
    batch.sequences[0].sight = Some(wrong);
    let message = step(&batch).unwrap_err().to_string();
    assert_eq!(message, "sight: words below expected 40, found 40");
}
