//! The bytes that each token stands for, and the trie of them that grammars are matched against.

use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use serde_json::Value as Json;

use crate::tokenizer::Tokenizer;

/// How the tokens of a vocabulary spell bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// Each character stands for a byte (GPT-2's table).
    ByteLevel,
    /// Characters are themselves but for this one, which is a space; `<0xNN>` is a byte.
    Space(char),
}

/// The trie of a vocabulary of so many ids; `eos` are those that end an answer.
pub fn trie(tokenizer: &Tokenizer, vocabulary: usize, eos: &[u32]) -> Result<TokEnv, String> {
    let mut words = token_bytes(tokenizer)?;
    words.resize(vocabulary, Vec::new());
    let mut eos = eos.to_vec();
    if eos.is_empty() {
        // The trie wants one; beyond the vocabulary none can be chosen.
        eos.push(vocabulary as u32);
        words.push(Vec::new());
    }
    let info = TokRxInfo::new(words.len() as u32, eos[0]);
    let trie = TokTrie::from(&info, &words).with_eos_tokens(&eos);
    Ok(Arc::new(ApproximateTokEnv::new(trie)))
}

/// The bytes of each id that the tokenizer knows, none for ids between; those of control tokens begin with a byte that no
/// text has, so that no text matches them.
fn token_bytes(tokenizer: &Tokenizer) -> Result<Vec<Vec<u8>>, String> {
    let spelling = spelling(&tokenizer.decoder())?;
    let mut words = vec![Vec::new(); tokenizer.id_limit() as usize];
    for (id, word) in words.iter_mut().enumerate() {
        let id = id as u32;
        let Some(token) = tokenizer.id_to_token(id) else {
            continue;
        };
        *word = match tokenizer.added_token(id) {
            Some((content, true)) => {
                [&[TokTrie::SPECIAL_TOKEN_MARKER], content.as_bytes()].concat()
            }
            Some((content, false)) => content.into_bytes(),
            None => bytes_of(&token, spelling),
        };
    }
    Ok(words)
}

fn bytes_of(token: &str, spelling: Spelling) -> Vec<u8> {
    match spelling {
        // A character that stands for no byte is itself, as the decoder has it.
        Spelling::ByteLevel => match token.chars().map(byte_of).collect() {
            Some(bytes) => bytes,
            None => token.as_bytes().to_vec(),
        },
        Spelling::Space(space) => {
            let byte = token
                .strip_prefix("<0x")
                .and_then(|rest| rest.strip_suffix('>'));
            match byte
                .filter(|hex| hex.len() == 2)
                .map(|hex| u8::from_str_radix(hex, 16))
            {
                Some(Ok(byte)) => vec![byte],
                _ => token.replace(space, " ").into_bytes(),
            }
        }
    }
}

/// GPT-2's table: printable characters of Latin-1 are themselves, the others follow from U+0100 on in their order.
fn byte_of(character: char) -> Option<u8> {
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(character) {
        code @ 0..=0xFF => Some(code as u8).filter(|&byte| is_itself(byte)),
        code => {
            let mut others = (0..=255u8).filter(|&byte| !is_itself(byte));
            others.nth(usize::try_from(code - 0x100).ok()?)
        }
    }
}

/// What a tokenizer's decoder does. Decoders that look at more than one token at a time are refused.
fn spelling(decoder: &Json) -> Result<Spelling, String> {
    let kind = |json: &Json| json["type"].as_str().unwrap_or("none").to_owned();
    let one = [decoder.clone()];
    let steps: &[Json] = match decoder["decoders"].as_array() {
        Some(steps) => steps,
        None => &one,
    };
    let mut spelling = None;
    for step in steps {
        match kind(step).as_str() {
            "ByteLevel" => return Ok(Spelling::ByteLevel),
            "ByteFallback" => {
                spelling.get_or_insert(Spelling::Space(' '));
            }
            "Metaspace" => {
                let space = step["replacement"].as_str().and_then(|s| s.chars().next());
                spelling = Some(Spelling::Space(space.unwrap_or('▁')));
            }
            "Replace" if step["content"] == " " => {
                let pattern = step["pattern"]["String"].as_str().unwrap_or_default();
                let mut characters = pattern.chars();
                if let (Some(space), None) = (characters.next(), characters.next()) {
                    spelling = Some(Spelling::Space(space));
                }
            }
            _ => {}
        }
    }
    spelling.ok_or_else(|| {
        let found = kind(decoder);
        format!(
            "expected a decoder of bytes (ByteLevel, ByteFallback, Metaspace), without which there are no grammars, found {found}"
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{nano_tokenizer, sentencepiece_tokenizer};

    fn joined(words: &[Vec<u8>], ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| words[id as usize].clone())
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn gpt2s_table_has_each_byte_once() {
        let mut bytes: Vec<u8> = (0..0x200)
            .filter_map(char::from_u32)
            .filter_map(byte_of)
            .collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!((byte_of('Ġ'), byte_of('Ċ')), (Some(b' '), Some(b'\n')));
    }

    #[test]
    fn control_tokens_are_no_text_and_tags_of_thoughts_are() {
        let tokenizer = nano_tokenizer();
        let words = token_bytes(&tokenizer).unwrap();
        let word = |token: &str| words[tokenizer.token_to_id(token).unwrap() as usize].clone();
        assert_eq!(word("</s>"), b"\xFF</s>");
        assert_eq!(word("<think>"), b"<think>");
    }

    #[test]
    fn a_decoder_of_words_is_refused_by_name() {
        let error = spelling(&serde_json::json!({"type": "WordPiece"})).unwrap_err();
        assert!(error.ends_with("found WordPiece"), "{error}");
    }

    proptest! {
        /// The bytes of the ids are what the decoder makes of them.
        #[test]
        fn bytes_are_those_of_the_decoder(text in "[a-z合 \\n😀\"{}é]{1,20}") {
            let tokenizer = nano_tokenizer();
            let ids = tokenizer.encode_literal(&text).unwrap();
            prop_assert_eq!(joined(&token_bytes(&tokenizer).unwrap(), &ids), text.clone());
            let tokenizer = sentencepiece_tokenizer();
            let ids = tokenizer.encode_literal(&text).unwrap();
            // Its normalizer puts a space before the text, which its decoder takes off.
            prop_assert_eq!(joined(&token_bytes(&tokenizer).unwrap(), &ids), format!(" {text}"));
        }
    }
}
