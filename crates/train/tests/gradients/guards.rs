//! Frozen parts, batches of one kind only, and mistakes that must be named.

use model::spec::{DecoderSpec, RopeAxes, RopeScaling};
use train::network::{
    AuxSpec, MicroBatch, Network, NetworkError, PackedWeights, StepInputs, Trainable, Workspace,
};
use train::parameters::{Gradients, Group};

use crate::support::{self, VARIANTS, worst_difference};

const NONE: Trainable = Trainable {
    vision: false,
    projector: false,
    language: false,
    aux: false,
};

fn group_of(trainable: Trainable, group: Group) -> bool {
    match group {
        Group::Vision => trainable.vision,
        Group::Projector => trainable.projector,
        Group::Language => trainable.language,
        Group::Auxiliary => trainable.aux,
    }
}

#[test]
fn frozen_parts_get_no_gradient_and_the_others_the_same_as_when_all_train() {
    for variant in VARIANTS {
        let (network, parameters) = support::network(variant);
        let batch = support::batch(&network, variant);
        let (_, all) = support::step(&network, &parameters, &batch, Trainable::ALL, 0.02).unwrap();
        let stages = [
            Trainable::PROJECTOR,
            Trainable {
                language: true,
                ..NONE
            },
            Trainable {
                vision: true,
                ..NONE
            },
            Trainable {
                vision: true,
                aux: true,
                ..NONE
            },
            Trainable {
                vision: true,
                language: true,
                ..NONE
            },
        ];
        for trainable in stages {
            let (_, some) = support::step(&network, &parameters, &batch, trainable, 0.02).unwrap();
            for tensor in network.layout().tensors() {
                let (some, all) = (
                    &some.values()[tensor.range()],
                    &all.values()[tensor.range()],
                );
                let expected = if group_of(trainable, tensor.group) {
                    all.to_vec()
                } else {
                    vec![0.0; some.len()]
                };
                assert_eq!(some, expected, "{variant:?} {trainable:?} {}", tensor.name);
            }
        }
    }
}

#[test]
fn text_alone_trains_the_decoder_and_patches_alone_the_encoder() {
    let variant = VARIANTS[0];
    let (network, parameters) = support::network(variant);
    let whole = support::batch(&network, variant);
    let text = MicroBatch {
        sequences: vec![whole.sequences[1].clone()],
        ..MicroBatch::default()
    };
    let (losses, gradients) =
        support::step(&network, &parameters, &text, Trainable::ALL, 0.1).unwrap();
    assert_eq!(
        (
            losses.tokens,
            losses.branch_correct.len(),
            losses.patch_count
        ),
        (6, 1, 0)
    );
    let touched = |gradients: &Gradients, group: Group| {
        network
            .layout()
            .tensors()
            .iter()
            .filter(|t| t.group == group)
            .any(|t| gradients.values()[t.range()].iter().any(|&g| g != 0.0))
    };
    assert!(
        touched(&gradients, Group::Language)
            && !touched(&gradients, Group::Projector)
            && !touched(&gradients, Group::Vision)
    );

    let patches = MicroBatch {
        sequences: Vec::new(),
        pixels: whole.pixels.clone(),
        patch_labels: whole.patch_labels.clone(),
        target: None,
    };
    let (losses, gradients) =
        support::step(&network, &parameters, &patches, Trainable::ALL, 0.1).unwrap();
    assert!(losses.patch_count > 0 && losses.tokens == 0);
    assert!(
        touched(&gradients, Group::Vision)
            && touched(&gradients, Group::Auxiliary)
            && !touched(&gradients, Group::Language)
    );
}

#[test]
fn a_reused_workspace_gives_the_same_bits_as_a_new_one() {
    let variant = VARIANTS[2];
    let (network, parameters) = support::network(variant);
    let large = support::batch(&network, variant);
    let mut small = large.clone();
    small.sequences.truncate(1);
    small.pixels.truncate(3 * 3 * variant.image * variant.image);
    small.patch_labels = None;
    let (_, expected) = support::step(&network, &parameters, &small, Trainable::ALL, 0.02).unwrap();
    let mut packed = PackedWeights::default();
    network.pack(&parameters, &mut packed);
    let (mut work, mut gradients) = (Workspace::default(), Gradients::zeros(network.layout()));
    for batch in [&large, &small] {
        gradients.clear();
        let inputs = StepInputs {
            parameters: &parameters,
            packed: &packed,
            batch,
            scale: 0.02,
            trainable: Trainable::ALL,
        };
        network
            .step(inputs, Some(&mut gradients), &mut work)
            .unwrap();
    }
    assert_eq!(gradients.values(), expected.values());
}

#[test]
fn gradients_add_to_what_is_there() {
    let variant = VARIANTS[0];
    let (network, parameters) = support::network(variant);
    let batch = support::batch(&network, variant);
    let (_, once) = support::step(&network, &parameters, &batch, Trainable::ALL, 0.02).unwrap();
    let mut packed = PackedWeights::default();
    network.pack(&parameters, &mut packed);
    let mut twice = Gradients::zeros(network.layout());
    for _ in 0..2 {
        let inputs = StepInputs {
            parameters: &parameters,
            packed: &packed,
            batch: &batch,
            scale: 0.01,
            trainable: Trainable::ALL,
        };
        network
            .step(inputs, Some(&mut twice), &mut Workspace::default())
            .unwrap();
    }
    // Patch losses are not scaled: leave them out of the comparison by their head's and the encoder's groups.
    twice
        .values_mut()
        .iter_mut()
        .zip(once.values())
        .zip(groups(&network))
        .for_each(|((value, once), group)| {
            if matches!(group, Group::Vision | Group::Auxiliary) {
                *value = *once;
            }
        });
    let (difference, tensor) = worst_difference(&network, &once, &twice);
    assert!(difference < 1e-5, "{tensor}: {difference:.1e}");
}

fn groups(network: &train::network::Network) -> Vec<Group> {
    network
        .layout()
        .tensors()
        .iter()
        .flat_map(|tensor| vec![tensor.group; tensor.length])
        .collect()
}

#[test]
fn mistakes_in_a_batch_are_named() {
    let variant = VARIANTS[0];
    let (network, parameters) = support::network(variant);
    let error = |change: &dyn Fn(&mut MicroBatch)| {
        let mut batch = support::batch(&network, variant);
        change(&mut batch);
        support::step(&network, &parameters, &batch, Trainable::ALL, 0.02)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(&|b| b.sequences[1].labels.fill(-100)),
        "sequence 1 has no supervised token among 15 tokens"
    );
    assert_eq!(
        error(&|b| b.sequences[0].tokens[0] = 40),
        "sequence 0: token expected below 40, found 40"
    );
    assert_eq!(
        error(&|b| b.sequences[0].labels[0] = -1),
        "sequence 0: label expected -100 or below 40, found -1"
    );
    assert_eq!(
        error(&|b| b.sequences[2].tiles = 2),
        "sequence 2: image tokens expected 8 for 2 tiles, found 4"
    );
    assert_eq!(
        error(&|b| b.sequences[0].weights[3] = f32::NAN),
        "sequence 0: weight expected finite, found NaN"
    );
    assert_eq!(
        error(&|b| b.sequences[0].branch.reverse()),
        "sequence 0: branch expected never falling, found a branch behind a higher one"
    );
    assert_eq!(
        error(&|b| b.pixels.truncate(7)),
        "pixels: expected 2352 values, found 7"
    );
    assert_eq!(
        error(&|b| b.patch_labels.as_mut().unwrap().classes[5] = 5),
        "patch labels: classes below expected 5, found 5"
    );
    assert_eq!(
        error(&|b| b.patch_labels.as_mut().unwrap().slots = 3),
        "patch labels: slots expected 2, found 3"
    );
}

#[test]
fn a_value_that_is_not_a_number_is_reported_not_trained_on() {
    let variant = VARIANTS[0];
    let (network, mut parameters) = support::network(variant);
    let batch = support::batch(&network, variant);
    parameters
        .tensor_mut("language_model.model.norm.weight")
        .unwrap()[0] = f32::NAN;
    let error = support::step(&network, &parameters, &batch, Trainable::ALL, 0.02).unwrap_err();
    assert!(
        matches!(
            error,
            NetworkError::NotFinite {
                what: "the language loss",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.hint().is_some());
}

#[test]
fn what_other_families_have_is_named_before_anything_is_trained() {
    let golden = |folder: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
        let config = std::fs::read_to_string(path.join(folder).join("config.json")).unwrap();
        model::ModelSpec::from_json(&config).unwrap()
    };
    let network = |spec: &model::ModelSpec| Network::new(spec, AuxSpec::default());
    assert!(network(&golden("engine_2_5/model")).is_ok());
    for (change, found) in [
        (
            (|d| d.rope_scaling = RopeScaling::Linear { factor: 2.0 }) as fn(&mut DecoderSpec),
            "stretched positions",
        ),
        (
            |d| d.rope_axes = RopeAxes::Bands([2, 3, 3]),
            "three positions",
        ),
        (|d| d.branch_norms = true, "norms after a layer's branches"),
        (|d| d.embedding_scale = 8.0, "scaled sums"),
        (|d| d.logit_cap = Some(30.0), "bent logits"),
    ] {
        let mut spec = golden("engine_2_5/model");
        change(&mut spec.decoder);
        let error = network(&spec).err().map(|error| error.to_string());
        let expected = format!("cannot train the decoder: expected plain blocks, found {found}");
        assert_eq!(error, Some(expected));
    }
    for folder in ["qwen2_5_vl", "internvl_chat_internlm2", "llava_next"] {
        let spec = golden(&format!("families/{folder}/model"));
        let error = network(&spec).err();
        assert!(
            matches!(error, Some(NetworkError::Unsupported { .. })),
            "{folder}: {error:?}"
        );
    }
}
