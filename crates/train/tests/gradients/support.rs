//! Tiny networks of every decoder family and batches for them.

use model::ModelSpec;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use train::losses::Losses;
use train::network::{
    AuxSpec, MicroBatch, Network, NetworkError, PackedWeights, PatchLabels, Sequence, StepInputs,
    Trainable, Workspace,
};
use train::parameters::{Gradients, Parameters};

pub const VOCABULARY: u32 = 40;
pub const IMAGE_TOKEN: u32 = 3;
pub const AUX: AuxSpec = AuxSpec {
    patch_classes: 5,
    patch_slots: 2,
};

/// What distinguishes one tiny network from another.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub text: &'static str,
    pub tied: bool,
    pub feature_layer: i32,
    /// 14 pixels: three patches and a rest; 16: four patches, nothing to pad.
    pub image: usize,
}

pub const VARIANTS: [Variant; 3] = [
    Variant {
        text: "llama",
        tied: true,
        feature_layer: -1,
        image: 14,
    },
    Variant {
        text: "qwen2",
        tied: false,
        feature_layer: -2,
        image: 16,
    },
    Variant {
        text: "qwen3",
        tied: true,
        feature_layer: -1,
        image: 16,
    },
];

/// Widths that are no multiple of a vector, heads that share keys, an odd patch grid: whatever could go wrong at an edge.
pub fn spec(variant: Variant) -> ModelSpec {
    ModelSpec::from_json(&config(variant)).expect("a description that the model accepts")
}

/// The same as a config.json.
pub fn config(variant: Variant) -> String {
    let Variant {
        text,
        tied,
        feature_layer,
        image,
    } = variant;
    format!(
        r#"{{ "architectures": ["BlueLMVForConditionalGeneration"], "model_type": "bluelm_v",
        "vision_config": {{ "model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 40,
            "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": {image}, "patch_size": 4,
            "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "vision_use_head": false }},
        "vision_feature_layer": {feature_layer},
        "projector_config": {{ "merge_size": 2, "norm_eps": 1e-5, "hidden_act": "gelu" }},
        "text_config": {{ "model_type": "{text}", "vocab_size": {VOCABULARY}, "hidden_size": 48, "intermediate_size": 56,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
            "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096,
            "attention_bias": false, "tie_word_embeddings": {tied} }},
        "image_token_id": {IMAGE_TOKEN}, "image_start_token_id": 4, "image_end_token_id": 5, "think_token_id": 6 }}"#
    )
}

/// A network with values that leave no tensor without effect: norms off one, biases off zero. Not the trainer's own first
/// values, so that a better start does not move the tests.
pub fn network(variant: Variant) -> (Network, Parameters) {
    let network = Network::new(&spec(variant), AUX).expect("a network that can be trained");
    let layout = network.layout().clone();
    let mut parameters = Parameters::zeros(layout.clone());
    let mut random = Random::new(12);
    for tensor in layout.tensors() {
        let inputs: usize = tensor.shape[1..].iter().product();
        let (middle, spread) = match tensor.shape.len() {
            1 => (
                if tensor.name.contains("norm") && tensor.name.ends_with("weight") {
                    1.0
                } else {
                    0.0
                },
                0.2,
            ),
            _ => (0.0, (3.0 / inputs as f32).sqrt()),
        };
        let values = parameters
            .tensor_mut(&tensor.name)
            .expect("from the layout");
        values
            .iter_mut()
            .for_each(|value| *value = middle + spread * random.symmetric());
    }
    (network, parameters)
}

/// Uniform numbers.
pub struct Random(ChaCha12Rng);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(ChaCha12Rng::seed_from_u64(seed))
    }
    /// In -1..1.
    pub fn symmetric(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
    pub fn below(&mut self, limit: u32) -> u32 {
        self.0.next_u32() % limit
    }
    /// A token that is no image place.
    pub fn word(&mut self) -> u32 {
        7 + self.below(VOCABULARY - 7)
    }
}

/// One picture of `tiles` tiles and branches of these lengths. Prefix: two words, the image, one word.
pub fn sequence(
    network: &Network,
    tiles: usize,
    branches: &[usize],
    random: &mut Random,
) -> Sequence {
    let mut sequence = Sequence {
        tiles,
        ..Sequence::default()
    };
    let mut prefix = vec![1, 2];
    prefix.resize(2 + tiles * network.tokens_per_tile(), IMAGE_TOKEN);
    prefix.push(5);
    prefix
        .iter()
        .for_each(|&token| push(&mut sequence, token, 0, -100, 0.0));
    for (index, &length) in branches.iter().enumerate() {
        for place in 0..length {
            // The first half is the question. Weights differ, so that a mixed-up weight shows.
            let supervised = place >= length / 2;
            let label = if supervised {
                random.word() as i32
            } else {
                -100
            };
            let weight = 0.5 + 0.25 * random.below(4) as f32;
            push(
                &mut sequence,
                random.word(),
                index as u32 + 1,
                label,
                weight,
            );
        }
    }
    sequence
}

fn push(sequence: &mut Sequence, token: u32, branch: u32, label: i32, weight: f32) {
    let prefix = sequence
        .branch
        .iter()
        .filter(|&&other| other == 0 || other == branch)
        .count();
    sequence.tokens.push(token);
    sequence.positions.push(prefix as u32);
    sequence.branch.push(branch);
    sequence.labels.push(label);
    sequence.weights.push(weight);
}

pub fn pixels(tiles: usize, image: usize, random: &mut Random) -> Vec<f32> {
    (0..tiles * 3 * image * image)
        .map(|_| random.symmetric())
        .collect()
}

/// Labels of which a quarter is ignored.
pub fn patch_labels(network: &Network, tiles: usize, random: &mut Random) -> PatchLabels {
    let count = tiles * network.patches_per_tile() * AUX.patch_slots;
    let classes = (0..count).map(|_| {
        if random.below(4) == 0 {
            -100
        } else {
            random.below(AUX.patch_classes as u32) as i32
        }
    });
    PatchLabels {
        slots: AUX.patch_slots,
        classes: classes.collect(),
        weight: 0.05,
    }
}

/// Two sequences of three and one tiles, one sequence of text alone; branches shorter and longer than an attention block.
pub fn batch(network: &Network, variant: Variant) -> MicroBatch {
    let mut random = Random::new(21);
    let sequences = vec![
        sequence(network, 3, &[9, 70, 5], &mut random),
        sequence(network, 0, &[12], &mut random),
        sequence(network, 1, &[2, 7], &mut random),
    ];
    let pixels = pixels(4, variant.image, &mut random);
    MicroBatch {
        sequences,
        pixels,
        patch_labels: Some(patch_labels(network, 4, &mut random)),
        target: None,
    }
}

/// One step from scratch.
pub fn step(
    network: &Network,
    parameters: &Parameters,
    batch: &MicroBatch,
    trainable: Trainable,
    scale: f32,
) -> Result<(Losses, Gradients), NetworkError> {
    let mut packed = PackedWeights::default();
    network.pack(parameters, &mut packed);
    let mut gradients = Gradients::zeros(network.layout());
    let inputs = StepInputs {
        parameters,
        packed: &packed,
        batch,
        scale,
        trainable,
    };
    let losses = network.step(inputs, Some(&mut gradients), &mut Workspace::default())?;
    Ok((losses, gradients))
}

/// The loss whose gradient a step gives, without gradients.
pub fn loss(network: &Network, parameters: &Parameters, batch: &MicroBatch, scale: f32) -> f64 {
    let mut packed = PackedWeights::default();
    network.pack(parameters, &mut packed);
    let inputs = StepInputs {
        parameters,
        packed: &packed,
        batch,
        scale,
        trainable: Trainable::ALL,
    };
    let losses = network
        .step(inputs, None, &mut Workspace::default())
        .expect("a valid batch");
    let patch_weight = batch
        .patch_labels
        .as_ref()
        .map_or(0.0, |labels| labels.weight);
    losses.language_sum * f64::from(scale) + losses.patch_sum * f64::from(patch_weight)
}

/// Length of a vector.
pub fn length(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Largest difference of two gradients tensor by tensor, relative to that tensor's length; tensors whose gradient is
/// zero but for rounding are measured against the whole gradient's length instead.
pub fn worst_difference(network: &Network, left: &Gradients, right: &Gradients) -> (f64, String) {
    let total = length(left.values());
    let mut worst = (0.0, String::new());
    for tensor in network.layout().tensors() {
        let (left, right) = (
            &left.values()[tensor.range()],
            &right.values()[tensor.range()],
        );
        let difference: Vec<f32> = left.iter().zip(right).map(|(a, b)| a - b).collect();
        let relative = length(&difference) / length(left).max(1e-2 * total);
        if relative > worst.0 || relative.is_nan() {
            worst = (relative, tensor.name.clone());
        }
    }
    worst
}
