//! Comparing intermediates with a reference's, in the order in which a request computes them.
//!
//! Two f32 programs that add in different orders differ by roundings: each of a value's few hundred additions by 2^-24 of
//! a partial sum, some ten layers deep, which random weights neither damp nor blow up. That is 1e-6 to 1e-5 of a tensor's
//! largest number; a wrong formula shows as 1e-2 and more. [`RELATIVE`] stands between.

use model::{KvCache, LogitRows, Model, Taps};
use std::collections::BTreeMap;

/// Largest difference allowed, as a share of the largest number of the reference's tensor.
pub const RELATIVE: f32 = 1e-4;

/// Named tensors, flat.
pub type Tensors = BTreeMap<String, Vec<f32>>;

/// One case: the prompt's ids and what the reference made of them.
pub struct Case {
    /// Prompt ids, `<image>` repeated for every row of features.
    pub ids: Vec<u32>,
    /// `[tiles, 3, side, side]`, empty without pictures.
    pub pixels: Vec<f32>,
    /// Tokens that follow, the likeliest each time.
    pub greedy: Vec<u32>,
    /// The reference's intermediates by name.
    pub expected: Tensors,
}

/// How far a tensor is from the reference's.
#[derive(Debug)]
pub struct Difference {
    /// The tensor.
    pub name: String,
    /// Largest difference over the reference's largest number; infinite when the sizes differ.
    pub relative: f32,
}

/// Every tensor that a case's reference has, in the order of computation.
pub fn compare(model: &Model, case: &Case) -> Vec<Difference> {
    let found = compute(model, case);
    order(model)
        .into_iter()
        .filter_map(|name| {
            let expected = case.expected.get(&name)?;
            let relative = found
                .get(&name)
                .map_or(f32::INFINITY, |found| relative(found, expected));
            Some(Difference { name, relative })
        })
        .collect()
}

/// The first difference above [`RELATIVE`]; what comes after it follows from it.
pub fn first_wrong(differences: &[Difference]) -> Option<&Difference> {
    differences
        .iter()
        .find(|difference| difference.relative.is_nan() || difference.relative > RELATIVE)
}

fn order(model: &Model) -> Vec<String> {
    let before = ["vision_features", "merged", "image_embeds", "inputs_embeds"];
    let layers = (0..model.spec().decoder.layers).map(|layer| format!("hidden.{layer}"));
    let after = ["hidden.norm", "prefill_logits", "decode_logits"];
    let mut names: Vec<String> = before.map(String::from).to_vec();
    names.extend(layers);
    names.extend(after.map(String::from));
    names
}

fn relative(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    let largest = expected
        .iter()
        .fold(0f32, |largest, v| largest.max(v.abs()));
    let mut apart = 0f32;
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        // max() would pass over what is not a number.
        apart = if difference > apart || difference.is_nan() {
            difference
        } else {
            apart
        };
    }
    if apart == 0.0 { 0.0 } else { apart / largest }
}

#[derive(Default)]
struct Record(Tensors);

impl Taps for Record {
    fn tap(&mut self, name: &str, shape: &[usize], data: &[f32]) {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{name}");
        let known = self.0.insert(name.into(), data.to_vec());
        assert!(known.is_none(), "{name} was given twice");
    }
}

/// One prefill of the whole prompt, then the reference's greedy tokens, one at a time.
fn compute(model: &Model, case: &Case) -> Tensors {
    let mut record = Record::default();
    let d = model.spec().hidden_size();
    let mut rows = model.embed(&case.ids);
    if !case.pixels.is_empty() {
        let side = model.spec().image_size();
        let tiles = case.pixels.len() / (3 * side * side);
        let features = model
            .encode_tiles(&case.pixels, tiles, &|| false, &mut record)
            .unwrap();
        let places = case
            .ids
            .iter()
            .enumerate()
            .filter(|(_, id)| Some(**id) == model.spec().image_token_id);
        for ((place, _), feature) in places.zip(features.chunks_exact(d)) {
            rows[place * d..][..d].copy_from_slice(feature);
        }
    }
    record.0.insert("inputs_embeds".into(), rows.clone());
    let mut cache = model.new_cache(case.ids.len() + case.greedy.len());
    model
        .forward(&rows, &mut cache, LogitRows::All, &|| false, &mut record)
        .unwrap();
    let logits = follow(model, case, &mut cache, &record.0["prefill_logits"]);
    record.0.insert("decode_logits".into(), logits);
    record.0
}

/// Logits `[greedy, vocabulary]` from which each greedy token was taken.
fn follow(model: &Model, case: &Case, cache: &mut KvCache, prefill: &[f32]) -> Vec<f32> {
    let mut logits = prefill[prefill.len() - model.spec().vocab_size()..].to_vec();
    for id in case.greedy.iter().take(case.greedy.len().saturating_sub(1)) {
        let row = model.embed(&[*id]);
        logits.extend(
            model
                .forward(&row, cache, LogitRows::Last, &|| false, &mut model::NoTaps)
                .unwrap(),
        );
    }
    logits
}
