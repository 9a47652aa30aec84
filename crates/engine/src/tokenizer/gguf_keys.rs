//! The keys of a GGUF file that say what a tokenizer says, so that llama.cpp gives the same ids.

use model::gguf::{List, Value};
use serde_json::Value as Json;

use super::Tokenizer;
use super::gguf::{GPT2, SPLITS, Split, wrong};
use crate::error::EngineError;

/// Kinds of tokens, by their numbers in files.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;
const BYTE: i64 = 6;

/// The keys of a tokenizer for a network of so many ids.
pub(crate) fn keys(
    tokenizer: &Tokenizer,
    vocabulary: usize,
) -> Result<Vec<(String, Value)>, EngineError> {
    let json = tokenizer.json();
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(refused(format!(
            "a model of type {}, expected BPE",
            model["type"]
        )));
    }
    let pieces = model["byte_fallback"] == true;
    let merges = merges(model);
    let mut keys = vec![key(
        "model",
        Value::Text(if pieces { "llama" } else { "gpt2" }.into()),
    )];
    let unknown = model["unk_token"].as_str();
    let mut texts = Vec::with_capacity(vocabulary);
    let mut kinds = Vec::with_capacity(vocabulary);
    for id in 0..vocabulary as u32 {
        let added = tokenizer.added_token(id);
        let text = tokenizer.id_to_token(id);
        kinds.push(match (&added, &text) {
            (Some((text, _)), _) if Some(text.as_str()) == unknown => UNKNOWN,
            (Some((_, true)), _) => CONTROL,
            (Some((_, false)), _) => USER_DEFINED,
            (None, Some(text)) if pieces && is_byte(text) => BYTE,
            (None, Some(_)) => NORMAL,
            (None, None) => UNUSED,
        });
        let text = added.map(|(text, _)| text).or(text);
        texts.push(text.unwrap_or_else(|| format!("[PAD{id}]")));
    }
    if pieces {
        keys.push(key("pre", Value::Text("default".into())));
        let scores = scores(&texts, &kinds, &merges);
        keys.push(key("scores", Value::List(List::Numbers(scores))));
        let prefix = json["normalizer"].to_string().contains("Prepend");
        keys.push(key("add_space_prefix", Value::Flag(prefix)));
    } else {
        keys.push(key("pre", Value::Text(split(&json)?.into())));
        let merges = merges.iter().map(|(left, right)| format!("{left} {right}"));
        keys.push(key("merges", Value::List(List::Texts(merges.collect()))));
    }
    keys.push(key("tokens", Value::List(List::Texts(texts))));
    keys.push(key("token_type", Value::List(List::Whole(kinds))));
    Ok(keys)
}

fn key(name: &str, value: Value) -> (String, Value) {
    (format!("tokenizer.ggml.{name}"), value)
}

fn refused(problem: String) -> EngineError {
    wrong(format!("the tokenizer cannot be written: {problem}"))
}

fn is_byte(text: &str) -> bool {
    text.len() == 6 && text.starts_with("<0x") && text.ends_with('>')
}

/// Pairs in the order in which they are merged.
fn merges(model: &Json) -> Vec<(String, String)> {
    let list = model["merges"].as_array();
    let pair = |merge: &Json| {
        let (left, right) = match merge {
            Json::Array(pair) => (pair.first()?.as_str()?, pair.get(1)?.as_str()?),
            text => text.as_str()?.split_once(' ')?,
        };
        Some((left.to_owned(), right.to_owned()))
    };
    list.into_iter().flatten().filter_map(pair).collect()
}

/// A token's score is minus the place of its first merge: the pair that scores highest is merged first.
fn scores(texts: &[String], kinds: &[i64], merges: &[(String, String)]) -> Vec<f32> {
    let mut places = std::collections::HashMap::new();
    for (place, (left, right)) in merges.iter().enumerate() {
        places.entry(format!("{left}{right}")).or_insert(place);
    }
    let score = |(text, kind): (&String, &i64)| match places.get(text) {
        Some(place) => -(*place as f32),
        None if *kind == NORMAL => -(merges.len() as f32),
        None => 0.0,
    };
    texts.iter().zip(kinds).map(score).collect()
}

/// What llama.cpp calls the way in which texts are split first.
fn split(json: &Json) -> Result<&'static str, EngineError> {
    let pre = &json["pre_tokenizer"];
    let steps = match pre["pretokenizers"].as_array() {
        Some(steps) => steps.clone(),
        None => vec![pre.clone()],
    };
    let mut patterns = Vec::new();
    for step in &steps {
        match step["type"].as_str() {
            Some("Split") => patterns.extend(step["pattern"]["Regex"].as_str().map(spelt_out)),
            Some("Digits") if step["individual_digits"] == true => {
                patterns.push(r"\p{N}".to_owned());
            }
            Some("ByteLevel") if step["use_regex"] == false => {}
            Some("ByteLevel") => patterns.push(GPT2.to_owned()),
            other => return Err(refused(format!("a split of type {other:?}"))),
        }
    }
    let same = |split: &&Split| {
        let known = split.patterns.iter().map(|pattern| spelt_out(pattern));
        known.eq(patterns.iter().cloned())
    };
    let known = SPLITS.iter().find(same);
    known.map(|split| split.names[0]).ok_or_else(|| {
        let found = match patterns.as_slice() {
            [] => "nothing".into(),
            found => found.join(" and "),
        };
        refused(format!(
            "texts are split by {found}, which llama.cpp has no name for"
        ))
    })
}

/// A pattern as llama.cpp writes it, which has no letters of either case; what is left of spaces is a piece in any case.
fn spelt_out(pattern: &str) -> String {
    let either = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
    let both = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
    let pattern = pattern.replace(either, both);
    pattern.strip_suffix(r"|\s+").unwrap_or(&pattern).to_owned()
}
