//! Linear layers in bf16 against f32.

use train::network::{NetworkError, Precision, Trainable};

use crate::support::{self, VARIANTS, length};

/// Rounding to bf16 is off by at most 2^-9 = 0.2% of a number. A gradient is a sum of many products of two rounded
/// numbers that went through up to a dozen rounded layers before: independent errors of 0.2% · sqrt(2 · 12) = 1%. Queries
/// and keys learn from differences of probabilities, where as much noise is left and less signal (2% seen): 5% for all. A
/// wrong pairing of k would be off by 100%.
const TOLERANCE: f64 = 0.05;

#[test]
fn gradients_in_bf16_are_those_in_f32_but_for_rounding() {
    for variant in VARIANTS {
        let (network, parameters) = support::network(variant);
        let batch = support::batch(&network, variant);
        let rounded = match network.clone().with_precision(Precision::Bf16) {
            Ok(rounded) => rounded,
            Err(error) => {
                assert!(matches!(error, NetworkError::Unsupported { .. }), "{error}");
                return;
            }
        };
        let run =
            |network| support::step(network, &parameters, &batch, Trainable::ALL, 0.02).unwrap();
        let ((losses, gradients), (other_losses, other_gradients)) = (run(&network), run(&rounded));
        let difference =
            (losses.language_sum - other_losses.language_sum).abs() / losses.language_sum;
        assert!(
            difference < TOLERANCE && difference > 0.0,
            "losses differ by {difference:.1e}"
        );
        let total = length(gradients.values());
        for tensor in network.layout().tensors() {
            let (exact, other) = (
                &gradients.values()[tensor.range()],
                &other_gradients.values()[tensor.range()],
            );
            let difference: Vec<f32> = exact.iter().zip(other).map(|(a, b)| a - b).collect();
            let error = length(&difference) / length(exact).max(0.05 * total);
            assert!(
                error < TOLERANCE,
                "{variant:?} {}: off by {error:.1e}",
                tensor.name
            );
        }
    }
}

#[test]
fn a_network_turned_back_to_f32_gives_the_same_bits_as_before() {
    let variant = VARIANTS[0];
    let (network, parameters) = support::network(variant);
    let batch = support::batch(&network, variant);
    let Ok(rounded) = network.clone().with_precision(Precision::Bf16) else {
        return;
    };
    let back = rounded.with_precision(Precision::F32).unwrap();
    let run = |network| {
        support::step(network, &parameters, &batch, Trainable::ALL, 0.02)
            .unwrap()
            .1
    };
    assert_eq!(run(&network).values(), run(&back).values());
}
