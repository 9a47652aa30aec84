//! The same bits however work is cut: prompts into chunks, pictures into tiles, rows over threads.

use crate::support::WIDE;
use crate::support::random::{model, numbers};
use model::{LogitRows, Model, ModelError, NoTaps};
use proptest::prelude::*;
use std::cell::Cell;
use std::sync::LazyLock;

static MODEL: LazyLock<Model> = LazyLock::new(|| model(WIDE));

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn rows(count: usize, seed: u64) -> Vec<f32> {
    numbers(count * MODEL.spec().hidden_size(), seed)
}

/// Logits of every row, computed in chunks of these lengths.
fn prefill(rows: &[f32], chunks: &[usize]) -> Vec<f32> {
    let d = MODEL.spec().hidden_size();
    let mut cache = MODEL.new_cache(rows.len() / d);
    let (mut rest, mut logits) = (rows, Vec::new());
    for chunk in chunks {
        let (now, later) = rest.split_at((chunk * d).min(rest.len()));
        logits.extend(forward(now, &mut cache));
        rest = later;
    }
    logits.extend(forward(rest, &mut cache));
    logits
}

fn forward(rows: &[f32], cache: &mut model::KvCache) -> Vec<f32> {
    MODEL
        .forward(rows, cache, LogitRows::All, &|| false, &mut NoTaps)
        .unwrap()
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn prefill_in_any_chunking_gives_the_same_bits(
        count in 1usize..140, chunks in proptest::collection::vec(0usize..70, 0..8), seed in 0u64..100, threads in 1usize..4,
    ) {
        let rows = rows(count, seed);
        let whole = on_threads(1, || prefill(&rows, &[]));
        prop_assert_eq!(whole.len(), count * MODEL.spec().vocab_size());
        let cut = on_threads(threads, || prefill(&rows, &chunks));
        prop_assert!(bits(&whole) == bits(&cut), "{chunks:?} on {threads} threads");
    }

    #[test]
    fn tiles_do_not_see_each_other_and_threads_change_nothing(tiles in 1usize..6, threads in 1usize..4) {
        let size = 3 * MODEL.spec().image_size().pow(2);
        let pixels = numbers(tiles * size, 5);
        let encode = |pixels: &[f32], tiles| MODEL.encode_tiles(pixels, tiles, &|| false, &mut NoTaps).unwrap();
        let together = on_threads(threads, || encode(&pixels, tiles));
        let alone: Vec<f32> = pixels.chunks_exact(size).flat_map(|tile| encode(tile, 1)).collect();
        prop_assert!(bits(&together) == bits(&alone));
    }
}

#[test]
fn one_token_at_a_time_gives_the_bits_of_the_whole_on_any_number_of_threads() {
    let rows = rows(75, 1);
    let whole = prefill(&rows, &[]);
    for threads in 1..5 {
        let single = on_threads(threads, || prefill(&rows, &[1; 74]));
        assert!(bits(&whole) == bits(&single), "{threads} threads");
    }
}

#[test]
fn the_last_logits_are_the_last_of_all() {
    let rows = rows(40, 2);
    let all = prefill(&rows, &[]);
    let mut cache = MODEL.new_cache(40);
    let last = MODEL
        .forward(&rows, &mut cache, LogitRows::Last, &|| false, &mut NoTaps)
        .unwrap();
    assert_eq!(
        bits(&all[all.len() - MODEL.spec().vocab_size()..]),
        bits(&last)
    );
    cache.truncate(0);
    let none = MODEL
        .forward(&rows, &mut cache, LogitRows::None, &|| false, &mut NoTaps)
        .unwrap();
    assert!(none.is_empty() && cache.len() == 40);
}

#[test]
fn a_forgotten_stretch_leaves_no_trace() {
    let (first, other, second) = (rows(37, 1), rows(50, 2), rows(30, 3));
    let expected = prefill(&[&first[..], &second].concat(), &[37]);
    let mut cache = MODEL.new_cache(100);
    forward(&first, &mut cache);
    forward(&other, &mut cache);
    cache.truncate(37);
    assert_eq!((cache.len(), cache.capacity()), (37, 100));
    let found = forward(&second, &mut cache);
    assert_eq!(
        bits(&expected[expected.len() - found.len()..]),
        bits(&found)
    );
}

#[test]
fn a_cancelled_chunk_leaves_the_cache_as_it_was() {
    let (first, second) = (rows(20, 1), rows(33, 2));
    let expected = prefill(&[&first[..], &second].concat(), &[]);
    let mut cache = MODEL.new_cache(60);
    forward(&first, &mut cache);
    // The second layer is where it stops: the first has written its keys already.
    let asked = Cell::new(0);
    let cancel = || asked.replace(asked.get() + 1) == 1;
    let error = MODEL
        .forward(&second, &mut cache, LogitRows::Last, &cancel, &mut NoTaps)
        .unwrap_err();
    assert!(matches!(error, ModelError::Cancelled));
    assert_eq!(cache.len(), 20);
    let found = forward(&second, &mut cache);
    assert_eq!(
        bits(&expected[expected.len() - found.len()..]),
        bits(&found)
    );
}

/// How often `work` asks whether to stop, if it is told to stop the `stop`th time.
fn asks(stop: usize, work: impl Fn(&dyn Fn() -> bool) -> Result<Vec<f32>, ModelError>) -> usize {
    let asked = Cell::new(0);
    let result = work(&|| {
        asked.set(asked.get() + 1);
        asked.get() >= stop
    });
    match result {
        Ok(_) => assert!(asked.get() < stop, "a cancel was passed over"),
        Err(error) => assert!(matches!(error, ModelError::Cancelled)),
    }
    asked.get()
}

#[test]
fn whoever_is_cancelled_does_not_begin_another_layer() {
    let spec = MODEL.spec();
    let blocks = spec.vision.as_ref().unwrap().used_layers;
    let pixels = numbers(3 * spec.image_size().pow(2), 1);
    let encode = |cancel: &dyn Fn() -> bool| MODEL.encode_tiles(&pixels, 1, cancel, &mut NoTaps);
    // One question before each block, one before the projector.
    assert_eq!(asks(usize::MAX, encode), blocks + 1);
    for stop in 1..=blocks + 1 {
        assert_eq!(asks(stop, encode), stop, "the encoder's layer {stop}");
    }
    let rows = rows(5, 1);
    let decode = |cancel: &dyn Fn() -> bool| {
        let mut cache = MODEL.new_cache(5);
        let logits = MODEL.forward(&rows, &mut cache, LogitRows::Last, cancel, &mut NoTaps);
        assert_eq!(cache.len(), if logits.is_ok() { 5 } else { 0 });
        logits
    };
    assert_eq!(asks(usize::MAX, decode), spec.decoder.layers);
    for stop in 1..=spec.decoder.layers {
        assert_eq!(asks(stop, decode), stop, "the decoder's layer {stop}");
    }
}

#[test]
fn no_rows_and_no_tiles_are_no_mistake() {
    let mut cache = MODEL.new_cache(4);
    assert!(forward(&[], &mut cache).is_empty());
    assert!(
        MODEL
            .encode_tiles(&[], 0, &|| false, &mut NoTaps)
            .unwrap()
            .is_empty()
    );
    assert!(MODEL.embed(&[]).is_empty());
}
