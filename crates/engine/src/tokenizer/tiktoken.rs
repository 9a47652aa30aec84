//! tiktoken's `tiktoken.model`, for folders without a tokenizer.json, as a tokenizer.json that gives the same ids: Kimi-VL and
//! Moonlight.
//!
//! Each line is a token's bytes in base64 and its rank, which is its id. A pair of tokens is merged where together they are a
//! token, lowest rank first; a tokenizer.json lists those pairs, so each token is put together from single bytes to find its
//! last pair. How texts are split is not in the file but in the published code (`tokenization_moonshot.py`).

use std::collections::HashMap;

use base64::Engine as _;
use serde_json::{Value as Json, json};

use super::Tokenizer;
use super::sentencepiece::AddedToken;
use crate::error::EngineError;

/// Where texts are split: runs of Han first, words with their case, numbers in threes, marks, spaces.
const SPLIT: &str = concat!(
    r"[\p{Han}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Longest token; real ones are runs of at most some hundred spaces or marks.
const MAX_TOKEN_BYTES: usize = 1024;

type Ranks<'a> = HashMap<&'a [u8], u32>;

/// Reads a tiktoken.model.
pub(crate) fn read(text: &[u8], added: &[AddedToken]) -> Result<Tokenizer, EngineError> {
    let tokens = parse(text)?;
    let ranks: Ranks = tokens
        .iter()
        .map(|(bytes, rank)| (bytes.as_slice(), *rank))
        .collect();
    let alphabet = alphabet();
    let spelt = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|b| alphabet[usize::from(*b)])
            .collect::<String>()
    };
    let ids: HashMap<u32, &[u8]> = ranks.iter().map(|(bytes, rank)| (*rank, *bytes)).collect();
    if ids.len() != tokens.len() {
        return Err(broken("a token or a rank stands there twice"));
    }
    let mut control = Vec::new();
    for AddedToken {
        id,
        content,
        special,
    } in added
    {
        if let Some(bytes) = ids.get(id) {
            return Err(EngineError::Mismatch {
                what: "an added token in tiktoken.model",
                expected: format!("{content} as token {id}"),
                found: spelt(bytes),
            });
        }
        control.push(
            json!({"id": id, "content": content, "special": special, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false}),
        );
    }
    let mut merges: Vec<(u32, [String; 2])> = Vec::new();
    for (bytes, rank) in tokens.iter().filter(|(bytes, _)| bytes.len() > 1) {
        // A token that no pair makes is found only where it is all of a piece.
        if let Some(at) = last_pair(bytes, *rank, &ranks) {
            merges.push((*rank, [spelt(&bytes[..at]), spelt(&bytes[at..])]));
        }
    }
    merges.sort();
    let merges: Vec<[String; 2]> = merges.into_iter().map(|(_, pair)| pair).collect();
    // An added token keeps its id, which need not be the next one, only if the vocabulary has it.
    let own = added.iter().map(|token| (token.content.clone(), token.id));
    let vocabulary: serde_json::Map<String, Json> = tokens
        .iter()
        .map(|(bytes, rank)| (spelt(bytes), *rank))
        .chain(own)
        .map(|(token, id)| (token, json!(id)))
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let split = json!({"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": false});
    let json = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": control,
        "normalizer": null, "post_processor": null, "decoder": byte_level,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
            "vocab": vocabulary, "merges": merges}});
    Tokenizer::from_bytes(json.to_string().as_bytes())
}

fn broken(problem: &str) -> EngineError {
    EngineError::Tokenizer(format!("tiktoken.model is broken: {problem}"))
}

/// Tokens and their ranks, line by line.
fn parse(text: &[u8]) -> Result<Vec<(Vec<u8>, u32)>, EngineError> {
    let mut tokens = Vec::new();
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    for (at, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
        let token = parse_line(line.trim_ascii())
            .ok_or_else(|| broken(&format!("line {}: expected base64 and a number", at + 1)))?;
        tokens.push(token);
    }
    match tokens.is_empty() {
        true => Err(broken("it is empty")),
        false => Ok(tokens),
    }
}

fn parse_line(line: &[u8]) -> Option<(Vec<u8>, u32)> {
    let (bytes, rank) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(bytes)
        .ok()?;
    let fits = (1..=MAX_TOKEN_BYTES).contains(&bytes.len());
    Some((bytes, rank.parse().ok()?)).filter(|_| fits)
}

/// Where a token's last merge joins two others, merges of lower ranks coming first.
fn last_pair(token: &[u8], rank: u32, ranks: &Ranks) -> Option<usize> {
    // Ends of the parts.
    let mut ends: Vec<usize> = (1..=token.len()).collect();
    while ends.len() > 2 {
        let begin = |part: usize| part.checked_sub(1).map_or(0, |before| ends[before]);
        let joined = |part: usize| ranks.get(&token[begin(part)..ends[part + 1]]).copied();
        let pairs = (0..ends.len() - 1).filter_map(|part| Some((joined(part)?, part)));
        let (_, part) = pairs.filter(|(joined, _)| *joined < rank).min()?;
        ends.remove(part);
    }
    let known = |part: &[u8]| ranks.contains_key(part);
    Some(ends[0]).filter(|at| known(&token[..*at]) && known(&token[*at..]))
}

/// The characters that stand for bytes in a byte-level tokenizer.json: printable ones for themselves, the others from U+0100 on.
fn alphabet() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte as u8),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All single bytes, then these.
    fn file(tokens: &[&str]) -> Vec<u8> {
        let bytes = (0..=255u8).map(|byte| vec![byte]);
        let all = bytes.chain(tokens.iter().map(|token| token.as_bytes().to_vec()));
        let line = |(rank, token): (usize, Vec<u8>)| {
            let bytes = base64::engine::general_purpose::STANDARD.encode(token);
            format!("{bytes} {rank}\n")
        };
        all.enumerate().map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn pairs_of_lower_ranks_are_merged_first() {
        let tokenizer = read(&file(&["bc", "ab", "abc", "的"]), &[]).unwrap();
        assert_eq!(tokenizer.encode("abc").unwrap(), [258]);
        assert_eq!(tokenizer.encode("abcb").unwrap(), [258, 98]);
        assert_eq!(tokenizer.encode("abb").unwrap(), [257, 98]);
        // No pair makes the character, whose first two bytes are no token: it is found as a whole piece only.
        assert_eq!(tokenizer.encode("的").unwrap(), [259]);
        assert_eq!(tokenizer.decode(&[258, 259, 10]).unwrap(), "abc的\n");
    }

    #[test]
    fn han_and_numbers_are_split_from_what_stands_beside_them() {
        let tokenizer = read(&file(&["a1", "12", "123", "1234"]), &[]).unwrap();
        assert_eq!(tokenizer.encode("a1234").unwrap(), [97, 258, 52]);
    }

    #[test]
    fn an_added_token_has_a_number_of_its_own() {
        let added = |id| {
            let content = "<|im_end|>".to_owned();
            [AddedToken {
                id,
                content,
                special: true,
            }]
        };
        let tokenizer = read(&file(&["ab"]), &added(300)).unwrap();
        assert_eq!(tokenizer.encode("ab<|im_end|>").unwrap(), [256, 300]);
        let error = read(&file(&["ab"]), &added(256)).err().unwrap().to_string();
        assert!(
            error.contains("expected <|im_end|> as token 256, found ab"),
            "{error}"
        );
    }

    #[test]
    fn a_broken_file_is_one_clear_error() {
        let long = format!("{} 0", "QUFB".repeat(MAX_TOKEN_BYTES));
        for (text, problem) in [
            ("", "it is empty"),
            ("YQ== 0\nYg==\n", "line 2: expected base64 and a number"),
            ("YQ== -1", "line 1: expected base64 and a number"),
            ("YQ== 0\nYQ== 1", "a token or a rank stands there twice"),
            ("YQ== 0\nYg== 0", "a token or a rank stands there twice"),
            (long.as_str(), "line 1: expected base64 and a number"),
            (" 0", "line 1: expected base64 and a number"),
        ] {
            let error = read(text.as_bytes(), &[]).err().unwrap().to_string();
            assert_eq!(
                error,
                format!("tokenizer: tiktoken.model is broken: {problem}")
            );
        }
    }
}
