//! Positions that do not count by one: rows of a picture stand at one time, and the text after it goes on where its longer side ends.

use crate::support::golden;
use crate::support::random::numbers;
use model::{Checkpoint, Inputs, KvCache, LogitRows, Model, NoTaps, Segment};
use std::sync::LazyLock;

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let folder = golden("families/qwen2_5_vl/model");
    Model::load(&Checkpoint::open(&folder).unwrap()).unwrap()
});

/// Three rows of text, a picture of 2 x 3 and two rows of text.
const PLACES: [[u32; 3]; 11] = [
    [0, 0, 0],
    [1, 1, 1],
    [2, 2, 2],
    [3, 3, 3],
    [3, 3, 4],
    [3, 3, 5],
    [3, 4, 3],
    [3, 4, 4],
    [3, 4, 5],
    [6, 6, 6],
    [7, 7, 7],
];

fn rows(seed: u64) -> Vec<f32> {
    numbers(PLACES.len() * MODEL.spec().hidden_size(), seed)
}

/// Rows `from..to` of those of this seed.
fn read(cache: &mut KvCache, seed: u64, from: usize, to: usize) -> Vec<u32> {
    let d = MODEL.spec().hidden_size();
    let inputs = Inputs {
        rows: &rows(seed)[from * d..to * d],
        positions: Some(&PLACES[from..to]),
        pictures: &[],
    };
    let logits = MODEL.forward_at(inputs, cache, LogitRows::All, &|| false, &mut NoTaps);
    bits(&logits.unwrap())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn whole(seed: u64) -> Vec<u32> {
    read(&mut MODEL.new_cache(PLACES.len()), seed, 0, PLACES.len())
}

/// The last of rows that were read.
fn last(bits: &[u32], count: usize) -> &[u32] {
    &bits[bits.len() - count * MODEL.spec().vocab_size()..]
}

#[test]
fn where_rows_stand_changes_what_follows() {
    let mut cache = MODEL.new_cache(PLACES.len());
    let rows = rows(1);
    let counted = MODEL.forward(&rows, &mut cache, LogitRows::All, &|| false, &mut NoTaps);
    let (counted, placed) = (bits(&counted.unwrap()), whole(1));
    let vocabulary = MODEL.spec().vocab_size();
    // Up to the picture's first row they stand where they would be counted.
    assert_eq!(counted[..4 * vocabulary], placed[..4 * vocabulary]);
    assert_ne!(counted[4 * vocabulary..], placed[4 * vocabulary..]);
}

#[test]
fn conversations_that_are_read_together_stand_where_they_stand_alone() {
    let d = MODEL.spec().hidden_size();
    let (pictured, text) = (rows(1), rows(2));
    let mut caches = [(); 2].map(|()| MODEL.new_cache(PLACES.len()));
    let mut alone = MODEL.new_cache(PLACES.len());
    let counted = MODEL.forward(&text, &mut alone, LogitRows::All, &|| false, &mut NoTaps);
    let expected = [whole(1), bits(&counted.unwrap())];
    let mut found = [Vec::new(), Vec::new()];
    for (from, to) in [(0, 5), (5, 9), (9, 11)] {
        let [first, second] = &mut caches;
        let placed = Inputs {
            rows: &pictured[from * d..to * d],
            positions: Some(&PLACES[from..to]),
            pictures: &[],
        };
        let segment = |inputs, cache| Segment {
            inputs,
            cache,
            logits: LogitRows::All,
        };
        let mut batch = [
            segment(placed, first),
            segment(text[from * d..to * d].into(), second),
        ];
        let logits = MODEL.forward_batch(&mut batch, &|| false).unwrap();
        for (found, logits) in found.iter_mut().zip(logits) {
            found.extend(bits(&logits));
        }
    }
    assert!(found == expected);
}

#[test]
fn a_text_goes_on_after_a_picture_in_the_cache_in_a_copy_of_it_and_in_one_that_was_written() {
    let expected = whole(3);
    let mut cache = MODEL.new_cache(PLACES.len());
    read(&mut cache, 3, 0, 9);
    let written = cache.to_bytes();
    let read_back = MODEL.cache_from_bytes(PLACES.len(), 9, &written).unwrap();
    let mut longer = MODEL.new_cache(PLACES.len());
    read(&mut longer, 3, 0, 10);
    let copied = longer.copy(9);
    longer.truncate(9);
    let d = MODEL.spec().hidden_size();
    for mut cache in [cache, read_back, copied, longer] {
        let rows = &rows(3)[9 * d..];
        let found = MODEL.forward(rows, &mut cache, LogitRows::All, &|| false, &mut NoTaps);
        assert_eq!(bits(&found.unwrap()), last(&expected, 2));
    }
    // No place is farther than rows that came before it: a file that says so is broken.
    let mut wrong = written.clone();
    let first = wrong.len() - 9 * 12;
    wrong[first..first + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(MODEL.cache_from_bytes(PLACES.len(), 9, &wrong).is_none());
    assert!(
        MODEL
            .cache_from_bytes(PLACES.len(), 9, &written[1..])
            .is_none()
    );
}
