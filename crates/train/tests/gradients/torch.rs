//! Ten AdamW steps against PyTorch: losses, the first gradients, the values at the end.
//!
//! The fixture holds only PyTorch's results; weights, pixels and tokens come from the formula of
//! `scripts/make_train_fixture.py`, repeated here. PyTorch saw every question as a sample of its own.

use model::ModelSpec;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use train::OptimizerConfig;
use train::network::{
    AuxSpec, MicroBatch, Network, PackedWeights, Sequence, StepInputs, Trainable, Workspace,
};
use train::optimizer::{Optimizer, Rates, Update};
use train::parameters::{Gradients, Parameters};

const IMAGE_TOKEN: u32 = 3;
const VOCABULARY: f64 = 40.0;

#[derive(Deserialize)]
struct Fixture {
    optimizer: Settings,
    sequences: Vec<Outline>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Settings {
    learning_rate: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
    clip_norm: f32,
    vision_layer_decay: f32,
}

#[derive(Deserialize)]
struct Outline {
    tiles: usize,
    branches: Vec<usize>,
}

#[derive(Deserialize)]
struct Case {
    config: Value,
    losses: Vec<f64>,
    gradient_norms: Vec<f64>,
    gradients: BTreeMap<String, Sample>,
    values: BTreeMap<String, Sample>,
}

/// Length of a tensor and nine of its elements, evenly spread.
#[derive(Deserialize)]
struct Sample {
    length: f64,
    elements: Vec<f64>,
}

/// `draw` of the script: numbers in [-1, 1) that depend on the name.
fn draw(name: &str, count: usize) -> impl Iterator<Item = f64> + use<> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (1..=count as u64).map(move |index| {
        let x = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
        let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((x ^ (x >> 32)) >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    })
}

fn fill(name: &str, shape: &[usize], values: &mut [f32]) {
    let is_norm = ["norm.weight", "norm1.weight", "norm2.weight"]
        .iter()
        .any(|end| name.ends_with(end));
    let inputs: usize = shape[1..].iter().product();
    for (value, u) in values.iter_mut().zip(draw(name, shape.iter().product())) {
        *value = match shape.len() {
            1 => 0.2 * u + f64::from(u8::from(is_norm)),
            _ if name.contains("position") => 0.5 * u,
            _ => u * (3.0 / inputs as f64).sqrt(),
        } as f32;
    }
}

fn token(u: f64) -> u32 {
    7 + ((u + 1.0) / 2.0 * (VOCABULARY - 7.0)) as u32
}

fn batch(outlines: &[Outline], network: &Network, image: usize) -> MicroBatch {
    let mut batch = MicroBatch::default();
    for (index, outline) in outlines.iter().enumerate() {
        let pixels = draw(
            &format!("pixels.{index}"),
            outline.tiles * 3 * image * image,
        );
        batch.pixels.extend(pixels.map(|u| u as f32));
        let images = outline.tiles * network.tokens_per_tile();
        let prefix = [vec![1, 4], vec![IMAGE_TOKEN; images], vec![5]].concat();
        let mut sequence = Sequence {
            positions: (0..prefix.len() as u32).collect(),
            branch: vec![0; prefix.len()],
            labels: vec![-100; prefix.len()],
            weights: vec![0.0; prefix.len()],
            tokens: prefix.clone(),
            tiles: outline.tiles,
            sight: None,
        };
        for (branch, &length) in outline.branches.iter().enumerate() {
            sequence
                .tokens
                .extend(draw(&format!("words.{index}.{branch}"), length).map(token));
            sequence
                .positions
                .extend((prefix.len()..prefix.len() + length).map(|position| position as u32));
            sequence.branch.extend(vec![branch as u32 + 1; length]);
            let targets =
                draw(&format!("targets.{index}.{branch}"), length).map(|u| token(u) as i32);
            sequence.labels.extend(
                targets
                    .enumerate()
                    .map(|(place, target)| if place < length / 2 { -100 } else { target }),
            );
            sequence.weights.extend(
                draw(&format!("weights.{index}.{branch}"), length).map(|u| (1.0 + 0.5 * u) as f32),
            );
        }
        batch.sequences.push(sequence);
    }
    batch
}

fn compare(what: &str, name: &str, expected: &Sample, found: &[f32], whole: f64) {
    // Both sides sum in f32 in different orders: a few hundred roundings of 6e-8 stay below 1e-4 of the tensor's typical
    // element. A tensor whose true gradient is zero (biases of keys) is all rounding: measured against the whole.
    let length = crate::support::length(found);
    let scale = expected.length.max(1e-3 * whole);
    assert!(
        (length - expected.length).abs() < 1e-4 * scale,
        "{what} {name}: length {length}, expected {}",
        expected.length
    );
    let typical = scale / (found.len() as f64).sqrt();
    for (place, &element) in expected.elements.iter().enumerate() {
        let value = f64::from(found[place * (found.len() - 1) / 8]);
        let tolerance = 1e-4 * (element.abs() + typical);
        assert!(
            (value - element).abs() < tolerance,
            "{what} {name}[{place}]: {value}, expected {element}"
        );
    }
}

fn run(fixture: &Fixture, case: &Case) {
    let spec = ModelSpec::from_json(&case.config.to_string())
        .expect("a description that the model accepts");
    let network = Network::new(&spec, AuxSpec::default()).expect("a network that can be trained");
    let layout = network.layout().clone();
    let mut parameters = Parameters::zeros(layout.clone());
    for tensor in layout.tensors() {
        fill(
            &tensor.name,
            &tensor.shape,
            parameters.tensor_mut(&tensor.name).unwrap(),
        );
    }
    let image = case.config["vision_config"]["image_size"].as_u64().unwrap() as usize;
    let batch = batch(&fixture.sequences, &network, image);
    let s = &fixture.optimizer;
    let config = OptimizerConfig {
        beta1: s.beta1,
        beta2: s.beta2,
        epsilon: s.epsilon,
        weight_decay: s.weight_decay,
        clip_norm: s.clip_norm,
        ..OptimizerConfig::default()
    };
    let mut optimizer = Optimizer::new(&layout, &config);
    let rates = Rates {
        vision: 1.0,
        vision_layer_decay: s.vision_layer_decay,
        projector: 1.0,
        language: 1.0,
        auxiliary: 1.0,
    };
    let rates = rates.for_layout(&layout);
    let labelled = |s: &Sequence| -> f32 {
        s.labels
            .iter()
            .zip(&s.weights)
            .filter(|(label, _)| **label != -100)
            .map(|(_, weight)| weight)
            .sum()
    };
    let scale = 1.0 / batch.sequences.iter().map(labelled).sum::<f32>();
    let (mut gradients, mut packed, mut work) = (
        Gradients::zeros(&layout),
        PackedWeights::default(),
        Workspace::default(),
    );
    for (step, (&loss, &norm)) in case.losses.iter().zip(&case.gradient_norms).enumerate() {
        gradients.clear();
        network.pack(&parameters, &mut packed);
        let inputs = StepInputs {
            parameters: &parameters,
            packed: &packed,
            batch: &batch,
            scale,
            trainable: Trainable::ALL,
        };
        let found = network
            .step(inputs, Some(&mut gradients), &mut work)
            .unwrap()
            .language_mean();
        assert!(
            (found - loss).abs() < 1e-4,
            "step {step}: loss {found}, expected {loss}"
        );
        if step == 0 {
            for (name, expected) in &case.gradients {
                compare(
                    "gradient of",
                    name,
                    expected,
                    &gradients.values()[layout.find(name).unwrap().range()],
                    norm,
                );
            }
        }
        let update = Update {
            step: step as u64 + 1,
            learning_rate: s.learning_rate,
            rates: &rates,
        };
        let found = optimizer
            .update(&mut parameters, &gradients, update)
            .unwrap();
        assert!(
            (found - norm).abs() < 1e-3 * norm,
            "step {step}: gradient norm {found}, expected {norm}"
        );
    }
    for (name, expected) in &case.values {
        // Adam divides by the gradient's own size, so elements with a gradient near zero move by noise; the length does not.
        let length = crate::support::length(parameters.tensor(name).unwrap());
        assert!(
            (length - expected.length).abs() < 1e-3 * expected.length,
            "{name}: length {length}, expected {}",
            expected.length
        );
        assert_eq!(expected.elements.len(), 9);
    }
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../fixtures/torch.json")).expect("made by the script")
}

#[test]
fn ten_steps_of_llama_with_the_last_but_one_layer_equal_pytorch() {
    let fixture = fixture();
    run(&fixture, &fixture.cases[0]);
}

#[test]
fn ten_steps_of_qwen3_with_an_own_head_equal_pytorch() {
    let fixture = fixture();
    run(&fixture, &fixture.cases[1]);
}
