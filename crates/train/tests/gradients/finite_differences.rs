//! Every tensor's gradient against central differences of the loss.

use train::network::{Network, Trainable};
use train::parameters::{Parameters, TensorRecord};

use crate::support::{self, Random, VARIANTS, Variant, length};

/// The loss is an f32 computation: about 1e-6 of noise on a loss of about 3. A step that changes the loss by 2·0.01 lets
/// the noise be 1e-6/0.02 = 5e-5 of the difference; the next order (step²/6 times the third derivative) is removed by
/// Richardson's combination of two step lengths. 2e-3 leaves a wide margin for both and is far below any real mistake.
const CHANGE: f64 = 0.01;
pub(crate) const TOLERANCE: f64 = 2e-3;

/// The change of the loss along a direction inside one tensor, by central differences of two step lengths.
fn slope(
    network: &Network,
    parameters: &mut Parameters,
    tensor: &TensorRecord,
    direction: &[f32],
    step: f64,
    variant: Variant,
) -> f64 {
    let batch = support::batch(network, variant);
    let original = parameters.tensor(&tensor.name).unwrap().to_vec();
    let mut at = |step: f64| {
        let values = parameters.tensor_mut(&tensor.name).unwrap();
        for ((value, &start), &along) in values.iter_mut().zip(&original).zip(direction) {
            *value = start + (step * f64::from(along)) as f32;
        }
        support::loss(network, parameters, &batch, SCALE)
    };
    let mut central = |step: f64| (at(step) - at(-step)) / (2.0 * step);
    let (wide, narrow) = (central(step), central(step / 2.0));
    parameters
        .tensor_mut(&tensor.name)
        .unwrap()
        .copy_from_slice(&original);
    (4.0 * narrow - wide) / 3.0
}

const SCALE: f32 = 0.02;

/// Half along the gradient, so that the slope is far from zero, half random, so that errors across it show.
fn direction(gradient: &[f32], random: &mut Random) -> Vec<f32> {
    let noise: Vec<f32> = gradient.iter().map(|_| random.symmetric()).collect();
    let (gradient_length, noise_length) = (length(gradient), length(&noise));
    let mix = |(&g, &n): (&f32, &f32)| {
        (f64::from(g) / gradient_length + f64::from(n) / noise_length) as f32
    };
    gradient.iter().zip(&noise).map(mix).collect()
}

fn check(variant: Variant) {
    let (network, mut parameters) = support::network(variant);
    let batch = support::batch(&network, variant);
    let (_, gradients) =
        support::step(&network, &parameters, &batch, Trainable::ALL, SCALE).unwrap();
    let total = length(gradients.values());
    let mut random = Random::new(5);
    let layout = network.layout().clone();
    for tensor in layout.tensors() {
        let gradient = &gradients.values()[tensor.range()];
        if length(gradient) < 1e-3 * total {
            // A bias of the keys moves all scores of a row alike and layers behind the feature layer are not used.
            let zero = ["k_proj.bias", "encoder.layers.2", "post_layernorm"];
            assert!(
                zero.iter().any(|part| tensor.name.contains(part)),
                "{variant:?} {}: no gradient",
                tensor.name
            );
            continue;
        }
        for _ in 0..2 {
            let along = direction(gradient, &mut random);
            let expected: f64 = gradient
                .iter()
                .zip(&along)
                .map(|(&g, &a)| f64::from(g) * f64::from(a))
                .sum();
            let found = slope(
                &network,
                &mut parameters,
                tensor,
                &along,
                CHANGE / expected.abs(),
                variant,
            );
            let error = (found - expected).abs() / expected.abs();
            assert!(
                error < TOLERANCE,
                "{variant:?} {}: slope {found}, gradient {expected}, off by {error:.1e}",
                tensor.name
            );
        }
    }
}

#[test]
fn gradients_of_llama_with_a_padded_grid_are_the_slopes_of_the_loss() {
    check(VARIANTS[0]);
}

#[test]
fn gradients_of_qwen2_with_biases_and_the_last_but_one_layer_are_the_slopes_of_the_loss() {
    check(VARIANTS[1]);
}

#[test]
fn gradients_of_qwen3_with_head_norms_are_the_slopes_of_the_loss() {
    check(VARIANTS[2]);
}
