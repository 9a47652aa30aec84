//! Branches behind one prefix against one sample per question.

use train::network::{MicroBatch, Sequence, Trainable};

use crate::support::{self, VARIANTS, worst_difference};

/// One sequence per branch, each with its own copy of the prefix.
pub fn unpacked(sequence: &Sequence) -> Vec<Sequence> {
    let branches = *sequence.branch.last().expect("not empty");
    let alone = |branch: u32| {
        let keep: Vec<usize> = (0..sequence.tokens.len())
            .filter(|&i| sequence.branch[i] == 0 || sequence.branch[i] == branch)
            .collect();
        Sequence {
            tokens: keep.iter().map(|&i| sequence.tokens[i]).collect(),
            positions: (0..keep.len() as u32).collect(),
            branch: vec![0; keep.len()],
            labels: keep.iter().map(|&i| sequence.labels[i]).collect(),
            weights: keep.iter().map(|&i| sequence.weights[i]).collect(),
            tiles: sequence.tiles,
            sight: None,
        }
    };
    (1..=branches).map(alone).collect()
}

#[test]
fn branches_cost_and_teach_what_separate_samples_do() {
    for variant in VARIANTS {
        let (network, parameters) = support::network(variant);
        let mut packed = support::batch(&network, variant);
        packed.patch_labels = None;
        let tile = 3 * variant.image * variant.image;
        let (mut separate, mut first) = (MicroBatch::default(), 0);
        for sequence in &packed.sequences {
            let pixels = &packed.pixels[first * tile..(first + sequence.tiles) * tile];
            for sample in unpacked(sequence) {
                separate.pixels.extend_from_slice(pixels);
                separate.sequences.push(sample);
            }
            first += sequence.tiles;
        }
        let (packed_losses, packed_gradients) =
            support::step(&network, &parameters, &packed, Trainable::ALL, 0.02).unwrap();
        let (losses, gradients) =
            support::step(&network, &parameters, &separate, Trainable::ALL, 0.02).unwrap();
        assert_eq!(packed_losses.tokens, losses.tokens);
        let difference =
            (packed_losses.language_sum - losses.language_sum).abs() / losses.language_sum;
        assert!(
            difference < 1e-5,
            "{variant:?}: losses differ by {difference:.1e}"
        );
        let (difference, tensor) = worst_difference(&network, &gradients, &packed_gradients);
        assert!(
            difference < 1e-5,
            "{variant:?} {tensor}: gradients differ by {difference:.1e}"
        );
        let right = |losses: &train::losses::Losses| {
            losses
                .branch_correct
                .iter()
                .map(|run| run.2)
                .collect::<Vec<bool>>()
        };
        assert_eq!(right(&packed_losses), right(&losses));
    }
}

#[test]
fn micro_batches_add_up_to_the_whole_batch() {
    let variant = VARIANTS[0];
    let (network, parameters) = support::network(variant);
    let whole = support::batch(&network, variant);
    let (losses, gradients) =
        support::step(&network, &parameters, &whole, Trainable::ALL, 0.02).unwrap();
    let tile = 3 * variant.image * variant.image;
    let per_tile = network.patches_per_tile() * support::AUX.patch_slots;
    let (mut sum, mut total, mut first) = (
        train::parameters::Gradients::zeros(network.layout()),
        train::losses::Losses::default(),
        0,
    );
    for (index, sequence) in whole.sequences.iter().enumerate() {
        let tiles = first..first + sequence.tiles;
        first = tiles.end;
        let mut labels = whole.patch_labels.clone().unwrap();
        labels.classes = labels.classes[tiles.start * per_tile..tiles.end * per_tile].to_vec();
        let part = MicroBatch {
            sequences: vec![sequence.clone()],
            pixels: whole.pixels[tiles.start * tile..tiles.end * tile].to_vec(),
            patch_labels: Some(labels),
            target: None,
        };
        let (losses, gradients) =
            support::step(&network, &parameters, &part, Trainable::ALL, 0.02).unwrap();
        sum.add(&gradients);
        total.add(&losses, index);
    }
    let (difference, tensor) = worst_difference(&network, &gradients, &sum);
    assert!(
        difference < 1e-5,
        "{tensor}: gradients differ by {difference:.1e}"
    );
    assert_eq!(total.branch_correct, losses.branch_correct);
    assert_eq!(
        (total.tokens, total.patch_count),
        (losses.tokens, losses.patch_count)
    );
    // Sums of the same f32 losses in another order, in f64.
    assert!((total.language_sum - losses.language_sum).abs() < 1e-4);
}
