//! Bundles with quantized weights keep INT8 keys and values: the same bits however a prompt is cut and over whatever threads, and
//! nothing left of what was forgotten.

use crate::support::WIDE;
use crate::support::bundled::bundle;
use crate::support::random::numbers;
use model::convert::Recipe;
use model::{KvCache, LogitRows, Model, NoTaps};
use proptest::prelude::*;
use std::sync::LazyLock;

static MODELS: LazyLock<[Model; 2]> = LazyLock::new(|| [Recipe::Fast, Recipe::Paper].map(opened));

fn opened(recipe: Recipe) -> Model {
    Model::from_bundle(&bundle(WIDE, recipe)).unwrap()
}

fn rows(count: usize, seed: u64) -> Vec<f32> {
    numbers(count * MODELS[0].spec().hidden_size(), seed)
}

fn forward(model: &Model, rows: &[f32], cache: &mut KvCache) -> Vec<u32> {
    let all = LogitRows::All;
    let logits = model.forward(rows, cache, all, &|| false, &mut NoTaps);
    logits.unwrap().iter().map(|v| v.to_bits()).collect()
}

/// Logits of every row, computed in chunks of these lengths on so many threads.
fn prefill(model: &Model, rows: &[f32], chunks: &[usize], threads: usize) -> Vec<u32> {
    let d = model.spec().hidden_size();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(|| {
        let mut cache = model.new_cache(rows.len() / d);
        let (mut rest, mut logits) = (rows, Vec::new());
        for chunk in chunks {
            let (now, later) = rest.split_at((chunk * d).min(rest.len()));
            logits.extend(forward(model, now, &mut cache));
            rest = later;
        }
        logits.extend(forward(model, rest, &mut cache));
        logits
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn prefill_in_any_chunking_gives_the_same_bits(
        count in 1usize..300, chunks in proptest::collection::vec(0usize..150, 0..6), seed in 0u64..100, threads in 1usize..4,
    ) {
        let rows = rows(count, seed);
        for model in &*MODELS {
            let whole = prefill(model, &rows, &[], 1);
            prop_assert_eq!(whole.len(), count * model.spec().vocab_size());
            let cut = prefill(model, &rows, &chunks, threads);
            prop_assert!(whole == cut, "{chunks:?} on {threads} threads");
        }
    }
}

#[test]
fn one_token_at_a_time_gives_the_bits_of_the_whole_on_any_number_of_threads() {
    // Deep enough that a single row's heads are split over threads, two and a half heads to a thread and others; past the first
    // block of 128 keys.
    let depth = (1 << 18) / (6 * 40);
    let rows = rows(depth + 10, 1);
    for model in &*MODELS {
        let whole = prefill(model, &rows, &[], 2);
        for threads in [1, 2, 4, 5] {
            let mut chunks = vec![depth - 3];
            chunks.extend([1; 12]);
            let single = prefill(model, &rows, &chunks, threads);
            assert!(whole == single, "{threads} threads");
        }
    }
}

#[test]
fn a_forgotten_stretch_leaves_no_trace() {
    let (first, other, second) = (rows(130, 1), rows(150, 2), rows(30, 3));
    for model in &*MODELS {
        let expected = prefill(model, &[&first[..], &second].concat(), &[130], 1);
        let mut cache = model.new_cache(300);
        forward(model, &first, &mut cache);
        forward(model, &other, &mut cache);
        cache.truncate(130);
        assert_eq!((cache.len(), cache.capacity()), (130, 300));
        let found = forward(model, &second, &mut cache);
        assert!(expected.ends_with(&found));
    }
}

#[test]
fn the_weights_decide_how_keys_and_values_are_kept() {
    // Two layers, two key heads of 40: f32, or INT8 with a scale each; values are filled up to 48.
    for (recipe, expected) in [
        (Recipe::Bf16, 2 * 2 * 2 * 40 * 4),
        (Recipe::Paper, 2 * 2 * (40 + 48 + 8)),
        (Recipe::Fast, 2 * 2 * (40 + 48 + 8)),
    ] {
        assert_eq!(opened(recipe).cache_bytes_per_token(), expected);
    }
}
