//! One optimizer step of a network of about bluelm-nano's shapes in milliseconds, next to the share of the arithmetic ceiling given with
//! `BLUELM_GFLOPS` (per core). The same work in PyTorch: `scripts/bench_train_torch.py`. One JSON line last.
//!
//!     cargo bench -p train --bench step -- [threads] [steps] [parts] [bf16]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use model::ModelSpec;
use train::OptimizerConfig;
use train::network::{
    AuxSpec, MicroBatch, Network, PackedWeights, Precision, Sequence, StepInputs, Trainable,
    Workspace,
};
use train::optimizer::{Optimizer, Rates, Update};
use train::parameters::{Gradients, Parameters};

/// The shapes of `scripts/bench_train_torch.py`: about those of bluelm-nano, but they stay when that model changes.
const CONFIG: &str = r#"{ "architectures": ["BlueLMVForConditionalGeneration"], "model_type": "bluelm_v",
    "vision_config": { "model_type": "siglip_vision_model", "hidden_size": 192, "intermediate_size": 768,
        "num_hidden_layers": 5, "num_attention_heads": 6, "image_size": 128, "patch_size": 16,
        "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "vision_use_head": false },
    "vision_feature_layer": -1, "projector_config": { "merge_size": 2, "norm_eps": 1e-5, "hidden_act": "gelu" },
    "text_config": { "model_type": "llama", "vocab_size": 528, "hidden_size": 192, "intermediate_size": 512,
        "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 32,
        "max_position_embeddings": 4096, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "attention_bias": false, "tie_word_embeddings": true },
    "image_token_id": 4, "image_start_token_id": 3, "image_end_token_id": 5, "think_token_id": 8 }"#;
const PICTURES: usize = 8;
const TILES: usize = 7;
const BRANCHES: u32 = 8;
const LENGTH: u32 = 40;
const SUPERVISED: u32 = 12;
const IMAGE_TOKEN: u32 = 4;

/// A picture of seven tiles and eight questions.
fn picture(network: &Network, seed: u32) -> MicroBatch {
    let mut state = seed;
    let mut draw = |limit: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % limit
    };
    let images = TILES * network.tokens_per_tile();
    let prefix = [vec![1, 2, 3], vec![IMAGE_TOKEN; images], vec![5]].concat();
    let start = prefix.len() as u32;
    let mut sequence = Sequence {
        positions: (0..start).collect(),
        branch: vec![0; prefix.len()],
        labels: vec![-100; prefix.len()],
        weights: vec![0.0; prefix.len()],
        tokens: prefix,
        tiles: TILES,
        sight: None,
    };
    for branch in 1..=BRANCHES {
        for place in 0..LENGTH {
            sequence.tokens.push(9 + draw(500));
            sequence.positions.push(start + place);
            sequence.branch.push(branch);
            let supervised = place >= LENGTH - SUPERVISED;
            sequence.labels.push(if supervised {
                9 + draw(500) as i32
            } else {
                -100
            });
            sequence.weights.push(1.0);
        }
    }
    let pixels = (0..TILES * 3 * 128 * 128)
        .map(|_| draw(256) as f32 / 127.5 - 1.0)
        .collect();
    MicroBatch {
        sequences: vec![sequence],
        pixels,
        patch_labels: None,
        target: None,
    }
}

/// Every `parts`-th picture as one micro-batch.
fn pictures(network: &Network, first: usize, parts: usize) -> MicroBatch {
    let mut together = MicroBatch::default();
    for index in (first..PICTURES).step_by(parts) {
        let one = picture(network, index as u32);
        together.sequences.extend(one.sequences);
        together.pixels.extend(one.pixels);
    }
    together
}

/// Everything that lives from step to step.
struct Bench {
    network: Network,
    parameters: Parameters,
    packed: PackedWeights,
    optimizer: Optimizer,
    rates: Vec<f32>,
    batch: Vec<MicroBatch>,
    gradients: Vec<Mutex<Gradients>>,
    work: Vec<Mutex<Workspace>>,
}

impl Bench {
    fn new(threads: usize, parts: usize, precision: Precision) -> Bench {
        let network = Network::new(
            &ModelSpec::from_json(CONFIG).expect("valid"),
            AuxSpec::default(),
        )
        .expect("trainable")
        .with_precision(precision)
        .expect("a processor that has it");
        let layout = network.layout().clone();
        let rates = Rates {
            vision: 1.0,
            vision_layer_decay: 0.9,
            projector: 1.0,
            language: 1.0,
            auxiliary: 1.0,
        };
        Bench {
            parameters: Parameters::random(layout.clone(), 1),
            packed: PackedWeights::default(),
            optimizer: Optimizer::new(&layout, &OptimizerConfig::default()),
            rates: rates.for_layout(&layout),
            gradients: (0..parts)
                .map(|_| Mutex::new(Gradients::zeros(&layout)))
                .collect(),
            batch: (0..parts)
                .map(|part| pictures(&network, part, parts))
                .collect(),
            work: (0..threads)
                .map(|_| Mutex::new(Workspace::default()))
                .collect(),
            network,
        }
    }

    /// One step; gives the mean loss and the times of layers and of everything.
    fn step(&mut self, number: u64) -> (f64, Duration, Duration) {
        let start = Instant::now();
        self.network.pack(&self.parameters, &mut self.packed);
        let scale = 1.0 / (PICTURES as u32 * BRANCHES * SUPERVISED) as f32;
        let next = std::sync::atomic::AtomicUsize::new(0);
        let sum = Mutex::new(0.0);
        std::thread::scope(|scope| {
            for work in &self.work {
                scope.spawn(|| {
                    let mut work = work.lock().unwrap();
                    loop {
                        let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let Some(batch) = self.batch.get(index) else {
                            return;
                        };
                        let mut gradients = self.gradients[index].lock().unwrap();
                        gradients.clear();
                        let (parameters, packed, trainable) =
                            (&self.parameters, &self.packed, Trainable::ALL);
                        let inputs = StepInputs {
                            parameters,
                            packed,
                            batch,
                            scale,
                            trainable,
                        };
                        let losses = self
                            .network
                            .step(inputs, Some(&mut gradients), &mut work)
                            .expect("finite");
                        *sum.lock().unwrap() += losses.language_sum * f64::from(scale);
                    }
                });
            }
        });
        let layers = start.elapsed();
        let (first, others) = self.gradients.split_first_mut().expect("some pictures");
        let first = first.get_mut().unwrap();
        others
            .iter_mut()
            .for_each(|other| first.add(other.get_mut().unwrap()));
        let update = Update {
            step: number,
            learning_rate: 1e-4,
            rates: &self.rates,
        };
        self.optimizer
            .update(&mut self.parameters, first, update)
            .expect("finite");
        (sum.into_inner().unwrap(), layers, start.elapsed())
    }
}

const LAST: [&str; 2] = ["layers.5.mlp", "layers.5.self_attn.o_proj"];

/// Multiplications and additions of one step: three passes of every linear layer and of the visible attention pairs.
fn operations(network: &Network) -> f64 {
    let rows = |name: &str| match name {
        name if name.contains("position_embedding") || name.contains("norm") => 0,
        name if name.starts_with("vision") => TILES * network.patches_per_tile(),
        name if name.starts_with("multi_modal") => TILES * network.tokens_per_tile(),
        // Behind the last block's attention only supervised rows go on, as into the head.
        name if name.contains("embed_tokens") || LAST.iter().any(|part| name.contains(part)) => {
            (BRANCHES * SUPERVISED) as usize
        }
        _ => TILES * network.tokens_per_tile() + 4 + (BRANCHES * LENGTH) as usize,
    };
    let matrices = network
        .layout()
        .tensors()
        .iter()
        .filter(|tensor| tensor.shape.len() > 1);
    let linear: f64 = matrices
        .map(|tensor| 6.0 * (tensor.length * rows(&tensor.name)) as f64)
        .sum();
    let prefix = (TILES * network.tokens_per_tile() + 4) as f64;
    let (branches, length) = (f64::from(BRANCHES), f64::from(LENGTH));
    let pairs = prefix * prefix / 2.0 + branches * length * (prefix + length / 2.0);
    let patches = network.patches_per_tile() as f64;
    // Forward scores and values, and twice that backwards: 12 operations per pair and feature.
    let attention = 12.0 * 192.0 * (6.0 * pairs + 5.0 * TILES as f64 * patches * patches);
    PICTURES as f64 * (linear + attention)
}

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let number = |index: usize, default: usize| numbers.get(index).copied().unwrap_or(default);
    let (threads, steps, parts) = (number(0, 2), number(1, 10), number(2, 2));
    let precision = if std::env::args().any(|argument| argument == "bf16") {
        Precision::Bf16
    } else {
        Precision::F32
    };
    let mut bench = Bench::new(threads, parts, precision);
    let mut results: Vec<(f64, Duration, Duration)> = (0..steps + 2)
        .map(|number| bench.step(number as u64 + 1))
        .skip(2)
        .collect();
    let loss = results.last().expect("some steps").0;
    results.sort_by_key(|result| result.2);
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let (median, least) = (&results[results.len() / 2], &results[0]);
    let rate = operations(&bench.network) / least.2.as_secs_f64() / 1e9;
    let ceiling = std::env::var("BLUELM_GFLOPS")
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    let share = ceiling.map_or("null".into(), |ceiling| {
        format!("{:.3}", rate / ceiling / threads as f64)
    });
    println!(
        r#"{{"bench": "train step", "by": "bluelm", "precision": "{precision:?}", "threads": {threads}, "parts": {parts}, "median_ms": {:.1}, "least_ms": {:.1}, "layers_ms": {:.1}, "gflop": {:.1}, "gflop_per_s": {rate:.0}, "share_of_ceiling": {share}, "loss": {loss:.4}}}"#,
        milliseconds(median.2),
        milliseconds(least.2),
        milliseconds(least.1),
        operations(&bench.network) / 1e9,
    );
}
