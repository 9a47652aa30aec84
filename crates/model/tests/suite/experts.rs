//! Latent attention and experts: the same bits however a prompt is cut, and what becomes of them in bundles.

use crate::support::random::{file, model, numbers, tensors};
use kernels::isa::Isa;
use model::convert::{Conversion, Options, Origin, Recipe, Rounding};
use model::{Bundle, Checkpoint, LogitRows, Model, ModelError, ModelSpec, NoTaps, Segment};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

/// Wide enough that threads split the heads of a few dozen rows.
const CONFIG: &str = r#"{"model_type": "deepseek_v3", "vocab_size": 500, "hidden_size": 72, "intermediate_size": 200,
  "num_hidden_layers": 3, "num_attention_heads": 6, "kv_lora_rank": 48, "q_lora_rank": 40, "qk_rope_head_dim": 16,
  "qk_nope_head_dim": 24, "v_head_dim": 20, "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2,
  "moe_intermediate_size": 40, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "max_position_embeddings": 512}"#;

static MODEL: LazyLock<Model> = LazyLock::new(|| model(CONFIG));

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Logits of every row, computed in chunks of these lengths and then what is left.
fn prefill(model: &Model, rows: &[f32], chunks: &[usize]) -> Vec<f32> {
    let d = model.spec().hidden_size();
    let mut cache = model.new_cache(rows.len() / d);
    let (mut rest, mut logits) = (rows, Vec::new());
    for chunk in chunks.iter().chain([&usize::MAX]) {
        let (now, later) = rest.split_at(chunk.saturating_mul(d).min(rest.len()));
        let found = model.forward(now, &mut cache, LogitRows::All, &|| false, &mut NoTaps);
        logits.extend(found.unwrap());
        rest = later;
    }
    logits
}

#[test]
fn a_prompt_cut_anywhere_gives_the_bits_of_the_whole_on_any_number_of_threads() {
    let rows = numbers(75 * MODEL.spec().hidden_size(), 1);
    let whole = prefill(&MODEL, &rows, &[]);
    assert_eq!(whole.len(), 75 * 500);
    for (threads, chunks) in [
        (1, vec![1; 74]),
        (2, vec![48]),
        (3, vec![7, 30, 1]),
        (4, vec![]),
    ] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let cut = pool.unwrap().install(|| prefill(&MODEL, &rows, &chunks));
        assert!(
            bits(&whole) == bits(&cut),
            "{chunks:?} on {threads} threads"
        );
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let rows = numbers(20 * MODEL.spec().hidden_size(), 2);
    let expected = prefill(&MODEL, &rows, &[]);
    for isa in Isa::available() {
        let found = prefill(&model(CONFIG).with_isa(isa), &rows, &[]);
        assert!(bits(&expected) == bits(&found), "{}", isa.name());
    }
}

#[test]
fn a_cache_comes_back_from_its_bytes() {
    let d = MODEL.spec().hidden_size();
    let rows = numbers(12 * d, 3);
    let mut cache = MODEL.new_cache(20);
    let forward = |rows: &[f32], cache: &mut model::KvCache| {
        let found = MODEL.forward(rows, cache, LogitRows::All, &|| false, &mut NoTaps);
        bits(&found.unwrap())
    };
    forward(&rows[..9 * d], &mut cache);
    let mut copy = MODEL.cache_from_bytes(20, 9, &cache.to_bytes()).unwrap();
    assert_eq!(
        forward(&rows[9 * d..], &mut cache),
        forward(&rows[9 * d..], &mut copy)
    );
}

#[test]
fn conversations_that_are_read_together_have_the_bits_that_each_has_alone() {
    let d = MODEL.spec().hidden_size();
    let all = [(5, 60), (6, 9)].map(|(seed, count)| numbers(count * d, seed));
    let expected = all.each_ref().map(|rows| bits(&prefill(&MODEL, rows, &[])));
    let mut caches = [(); 2].map(|()| MODEL.new_cache(60));
    let mut found = [Vec::new(), Vec::new()];
    for [first, second] in [[0..55, 0..1], [55..57, 1..8], [57..60, 8..9]] {
        let parts = [(&all[0], first), (&all[1], second)];
        let segments = parts.into_iter().zip(&mut caches);
        let segments = segments.map(|((rows, range), cache)| Segment {
            inputs: rows[range.start * d..range.end * d].into(),
            cache,
            logits: LogitRows::All,
        });
        let mut batch: Vec<Segment> = segments.collect();
        let logits = MODEL.forward_batch(&mut batch, &|| false).unwrap();
        for (found, logits) in found.iter_mut().zip(logits) {
            found.extend(bits(&logits));
        }
    }
    assert!(found == expected);
}

fn convert(path: &Path, recipe: Recipe, rounding: Rounding) -> Result<u64, ModelError> {
    let mut checkpoint = Checkpoint::from_memory(CONFIG, Cow::Owned(file(&tensors(CONFIG))))?;
    Conversion {
        weights: Origin::Checkpoint(&mut checkpoint),
        files: &[("config.json".into(), CONFIG.as_bytes().to_vec())],
        options: Options {
            recipe,
            group: 32,
            rounding,
        },
        sequences: Vec::new(),
        progress: &mut |_| {},
        cancel: &|| false,
    }
    .write(path)
}

/// The cosine between the logits of the checkpoint and of its bundle.
fn likeness(recipe: Recipe, rounding: Rounding) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bluelm");
    convert(&path, recipe, rounding).unwrap();
    let bundle = Model::from_bundle(&Bundle::open(&path).unwrap()).unwrap();
    let rows = numbers(20 * 72, 4);
    let (a, b) = (prefill(&MODEL, &rows, &[]), prefill(&bundle, &rows, &[13]));
    assert!(
        bits(&b) == bits(&prefill(&bundle, &rows, &[])),
        "{recipe:?}: cut anywhere"
    );
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

#[test]
fn bundles_of_every_recipe_are_near_their_checkpoint() {
    // bf16 keeps 8 bits: a product of 72 terms is off by 0.2%, a chain of a dozen by 1%; rows whose second and third expert score
    // within that take another one, which is worth a few parts in a hundred of all rows together.
    let bf16 = likeness(Recipe::Bf16, Rounding::Nearest);
    assert!(bf16 > 0.97, "{bf16}");
    // INT4 is off by 7% in each product, so that many rows take another expert: what is left is that it is the same model.
    for recipe in [Recipe::Paper, Recipe::Fast] {
        for rounding in [Rounding::Nearest, Rounding::Search] {
            let found = likeness(recipe, rounding);
            assert!(
                found > 0.6 && found < bf16,
                "{recipe:?} {rounding:?}: {found}"
            );
        }
    }
}

#[test]
fn rounding_that_watches_inputs_is_refused_before_a_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bluelm");
    let error = convert(&path, Recipe::Paper, Rounding::Compensated).unwrap_err();
    assert!(error.to_string().contains("--rounding search"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // Without INT4 there is nothing to compensate.
    convert(&path, Recipe::Bf16, Rounding::Compensated).unwrap();
}

#[test]
fn what_cannot_be_computed_is_refused_by_the_name_of_its_key() {
    for (key, value, expected) in [
        (
            "scoring_func",
            json!("softmax"),
            "scoring_func is \"softmax\", expected sigmoid",
        ),
        (
            "topk_method",
            json!("greedy"),
            "topk_method is \"greedy\", expected noaux_tc",
        ),
        (
            "moe_layer_freq",
            json!(2),
            "moe_layer_freq is 2, expected 1",
        ),
        (
            "n_group",
            json!(4),
            "6 experts in 4 groups, 2 of 1 groups taken: do not fit together",
        ),
        ("topk_group", json!(3), "topk_group is 3, expected 1 to 2"),
        (
            "num_experts_per_tok",
            json!(4),
            "6 experts in 2 groups, 4 of 1 groups taken: do not fit together",
        ),
        (
            "qk_rope_head_dim",
            json!(15),
            "qk_rope_head_dim is 15, expected an even number",
        ),
        (
            "kv_lora_rank",
            json!(0),
            "kv_lora_rank is 0, expected 1 to 16384",
        ),
    ] {
        let mut config: Value = serde_json::from_str(CONFIG).unwrap();
        config[key] = value;
        let error = ModelSpec::from_json(&config.to_string()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("config.json: {expected}"),
            "{key}"
        );
    }
}
