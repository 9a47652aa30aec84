//! sentencepiece's `tokenizer.model`, for folders without a tokenizer.json, as a tokenizer.json that gives the same ids.
//!
//! The file is a protocol buffer (sentencepiece_model.proto): pieces with scores and kinds, and how texts are normalised. Its BPE
//! merges the pair whose piece scores highest; a tokenizer.json lists merges in that order, so they are written down for every
//! way in which a piece falls into two others. Source of the order: `SentencePieceExtractor` of transformers.

use std::collections::HashMap;

use base64::Engine as _;
use serde_json::{Value as Json, json};

use super::Tokenizer;
use crate::error::EngineError;

/// A token that a folder adds to the pieces of its tokenizer.model.
pub(crate) struct AddedToken {
    pub id: u32,
    pub content: String,
    /// Whether it controls and is left out of answers.
    pub special: bool,
}

/// What a tokenizer.model says.
pub(super) struct Pieces {
    /// Piece, score and kind, by id.
    pub list: Vec<(String, f32, Kind)>,
    pub algorithm: Algorithm,
    pub byte_fallback: bool,
    /// Whether a space comes before a text.
    pub dummy_prefix: bool,
    /// Whether spaces at both ends go, and several become one.
    pub remove_spaces: bool,
    /// A table of characters that stand for others; empty for none.
    pub characters: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Byte,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Algorithm {
    Unigram,
    Bpe,
}

/// The space of sentencepiece.
const SPACE: &str = "▁";

/// Reads a tokenizer.model.
pub(crate) fn read(bytes: &[u8], added: &[AddedToken]) -> Result<Tokenizer, EngineError> {
    let pieces = Pieces::parse(bytes)
        .ok_or_else(|| EngineError::Tokenizer("tokenizer.model is broken".into()))?;
    let json = pieces.json(added)?;
    Tokenizer::from_bytes(json.to_string().as_bytes())
}

impl Pieces {
    fn parse(bytes: &[u8]) -> Option<Pieces> {
        let mut pieces = Pieces {
            list: Vec::new(),
            algorithm: Algorithm::Unigram,
            byte_fallback: false,
            dummy_prefix: true,
            remove_spaces: true,
            characters: Vec::new(),
        };
        let mut known = true;
        for field in fields(bytes) {
            let (number, value) = field?;
            match (number, value) {
                (1, Field::Bytes(piece)) => pieces.list.push(read_piece(piece)?),
                (2, Field::Bytes(trainer)) => {
                    for field in fields(trainer) {
                        match field? {
                            (3, Field::Number(1)) => pieces.algorithm = Algorithm::Unigram,
                            (3, Field::Number(2)) => pieces.algorithm = Algorithm::Bpe,
                            (3, _) => known = false,
                            (35, Field::Number(flag)) => pieces.byte_fallback = flag != 0,
                            _ => {}
                        }
                    }
                }
                (3, Field::Bytes(normalizer)) => {
                    for field in fields(normalizer) {
                        match field? {
                            (2, Field::Bytes(table)) => pieces.characters = table.to_vec(),
                            (3, Field::Number(flag)) => pieces.dummy_prefix = flag != 0,
                            (4, Field::Number(flag)) => pieces.remove_spaces = flag != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        (known && !pieces.list.is_empty()).then_some(pieces)
    }

    /// The tokenizer.json that says the same.
    pub fn json(&self, added: &[AddedToken]) -> Result<Json, EngineError> {
        let named = |kind| self.list.iter().position(|piece| piece.2 == kind);
        let unknown = named(Kind::Unknown).unwrap_or(0);
        let model = match self.algorithm {
            Algorithm::Bpe => self.bpe(unknown),
            Algorithm::Unigram => {
                json!({"type": "Unigram", "unk_id": unknown, "byte_fallback": self.byte_fallback,
                "vocab": self.list.iter().map(|(piece, score, _)| json!([piece, score])).collect::<Json>()})
            }
        };
        let token = |id: usize, content: &str, special: bool| {
            json!({"id": id, "content": content, "special": special, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false})
        };
        let pieces = self.list.iter().enumerate();
        let mut tokens: Vec<Json> = pieces
            .filter(|(_, piece)| {
                matches!(piece.2, Kind::Control | Kind::Unknown | Kind::UserDefined)
            })
            .map(|(id, (piece, _, kind))| token(id, piece, *kind != Kind::UserDefined))
            .collect();
        for AddedToken {
            id,
            content,
            special,
        } in added
        {
            // A piece under another number would be two tokens with one name.
            match self.list.get(*id as usize) {
                Some((piece, ..)) if piece != content => {
                    return Err(EngineError::Mismatch {
                        what: "an added token in tokenizer.model",
                        expected: format!("{content} as token {id}"),
                        found: piece.clone(),
                    });
                }
                Some(_) => {}
                None => tokens.push(token(*id as usize, content, *special)),
            }
        }
        Ok(
            json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": tokens,
            "normalizer": {"type": "Sequence", "normalizers": self.normalizers()},
            "pre_tokenizer": null, "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": self.decoders()}, "model": model}),
        )
    }

    fn normalizers(&self) -> Vec<Json> {
        let replace = |pattern: Json, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
        let mut list = Vec::new();
        if !self.characters.is_empty() {
            let table = base64::engine::general_purpose::STANDARD.encode(&self.characters);
            list.push(json!({"type": "Precompiled", "precompiled_charsmap": table}));
        }
        if self.remove_spaces {
            list.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
            list.push(replace(json!({"Regex": " {2,}"}), " "));
        }
        if self.dummy_prefix {
            list.push(json!({"type": "Prepend", "prepend": SPACE}));
        }
        list.push(replace(json!({"String": " "}), SPACE));
        list
    }

    fn decoders(&self) -> Vec<Json> {
        let mut list = vec![
            json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.dummy_prefix {
            list.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        list
    }

    fn bpe(&self, unknown: usize) -> Json {
        let pieces = self.list.iter().enumerate();
        let ids: HashMap<&str, usize> = pieces.map(|(id, piece)| (piece.0.as_str(), id)).collect();
        let mut merges: Vec<(f32, &str, &str)> = Vec::new();
        for (piece, score, _) in self.list.iter().filter(|piece| piece.2 == Kind::Normal) {
            let first = merges.len();
            let cuts = piece.char_indices().skip(1);
            merges.extend(cuts.filter_map(|(at, _)| {
                let (left, right) = piece.split_at(at);
                (ids.contains_key(left) && ids.contains_key(right)).then_some((*score, left, right))
            }));
            merges[first..].sort_by_key(|(_, left, right)| (ids[left], ids[right]));
        }
        merges.sort_by(|a, b| {
            let lengths =
                |merge: &(f32, &str, &str)| (merge.1.chars().count(), merge.2.chars().count());
            b.0.total_cmp(&a.0).then(lengths(b).cmp(&lengths(a)))
        });
        let vocabulary: Json = Json::Object(
            ids.iter()
                .map(|(piece, id)| ((*piece).to_owned(), json!(id)))
                .collect(),
        );
        let merges: Vec<[&str; 2]> = merges
            .iter()
            .map(|(_, left, right)| [*left, *right])
            .collect();
        json!({"type": "BPE", "dropout": null, "unk_token": self.list[unknown].0, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": self.byte_fallback, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges})
    }
}

fn read_piece(bytes: &[u8]) -> Option<(String, f32, Kind)> {
    let (mut piece, mut score, mut kind) = (String::new(), 0.0, Kind::Normal);
    for field in fields(bytes) {
        match field? {
            (1, Field::Bytes(text)) => piece = String::from_utf8(text.to_vec()).ok()?,
            (2, Field::Four(bits)) => score = f32::from_bits(bits),
            (3, Field::Number(number)) => {
                kind = match number {
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    6 => Kind::Byte,
                    _ => Kind::Normal,
                }
            }
            _ => {}
        }
    }
    Some((piece, score, kind))
}

/// A value of a protocol buffer.
enum Field<'a> {
    Number(u64),
    Four(u32),
    Eight,
    Bytes(&'a [u8]),
}

/// The fields of a message; `None` where it breaks off.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u64, Field<'_>)>> {
    let mut broken = false;
    std::iter::from_fn(move || {
        if rest.is_empty() || broken {
            return None;
        }
        let field = next_field(&mut rest);
        broken = field.is_none();
        Some(field)
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(rest)?;
    let field = match tag & 7 {
        0 => Field::Number(varint(rest)?),
        1 => {
            *rest = rest.get(8..)?;
            Field::Eight
        }
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Field::Bytes(bytes)
        }
        5 => {
            let (bytes, after) = rest.split_first_chunk::<4>()?;
            *rest = after;
            Field::Four(u32::from_le_bytes(*bytes))
        }
        _ => return None,
    };
    Some((tag >> 3, field))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of pieces, each with score and kind, and settings of BPE with bytes and without cleaning.
    fn file(pieces: &[(&str, f32, u8)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (piece, score, kind) in pieces {
            let mut message = vec![10, piece.len() as u8];
            message.extend(piece.as_bytes());
            message.push(21);
            message.extend(score.to_le_bytes());
            message.extend([24, *kind]);
            bytes.extend([10, message.len() as u8]);
            bytes.extend(message);
        }
        bytes.extend([18, 5, 24, 2, 0x98, 2, 1]);
        bytes.extend([26, 4, 24, 1, 32, 0]);
        bytes
    }

    #[test]
    fn the_pair_with_the_highest_score_is_merged_first() {
        let pieces = [
            ("<unk>", 0.0, 2),
            ("a", -5.0, 1),
            ("b", -5.0, 1),
            ("c", -5.0, 1),
            ("bc", -1.0, 1),
            ("ab", -2.0, 1),
            (SPACE, -9.0, 1),
        ];
        let tokenizer = read(&file(&pieces), &[]).unwrap();
        assert_eq!(tokenizer.encode("abc").unwrap(), [6, 1, 4]);
        assert_eq!(tokenizer.decode(&[6, 1, 4]).unwrap(), "abc");
    }

    #[test]
    fn an_added_token_stands_behind_the_pieces_or_is_one_of_them() {
        let pieces = [("<unk>", 0.0, 2), ("a", -5.0, 1), (SPACE, -9.0, 1)];
        let added = |id, content: &str| {
            let content = content.to_owned();
            [AddedToken {
                id,
                content,
                special: true,
            }]
        };
        let tokenizer = read(&file(&pieces), &added(3, "<x>")).unwrap();
        assert_eq!(tokenizer.encode("<x>a").unwrap(), [3, 2, 1]);
        let error = read(&file(&pieces), &added(1, "<x>")).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("expected <x> as token 1, found a"),
            "{error}"
        );
    }

    #[test]
    fn a_broken_file_is_one_clear_error() {
        let whole = file(&[("<unk>", 0.0, 2), ("a", -5.0, 1)]);
        for cut in [0, 1, 5, whole.len() - 1] {
            let error = read(&whole[..cut], &[]).err().unwrap().to_string();
            assert_eq!(error, "tokenizer: tokenizer.model is broken");
        }
        assert!(read(&[255; 64], &[]).is_err());
    }
}
