//! Text to token ids and back, by a tokenizer.json.
//!
//! Control tokens (`<image>`, `[|AI|]:`, ...) are found wherever a text spells them, as everywhere in this field. Text
//! that people wrote therefore goes through [`crate::disguise`] first.

pub(crate) mod gguf;
pub(crate) mod gguf_keys;
pub(crate) mod sentencepiece;
pub(crate) mod tiktoken;

use std::path::Path;
use std::sync::OnceLock;

use crate::error::EngineError;

/// A loaded tokenizer.json.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// A twin that reads control tokens as ordinary text; made when first needed.
    literal: OnceLock<tokenizers::Tokenizer>,
    /// Spellings of the control tokens, longest first.
    control: Vec<(String, u32)>,
    /// One more than the largest id.
    id_limit: u32,
}

impl Tokenizer {
    /// Reads a tokenizer.json.
    pub fn from_file(path: &Path) -> Result<Self, EngineError> {
        Self::from_bytes(&crate::files::read_capped(path, crate::files::MAX_BYTES)?)
    }

    /// Takes the bytes of a tokenizer.json. Truncation and padding that it may ask for are switched off: a prompt that is
    /// too long is an error, never cut.
    pub fn from_bytes(json: &[u8]) -> Result<Self, EngineError> {
        let broken = |error: tokenizers::Error| {
            EngineError::Tokenizer(format!("tokenizer.json is broken: {error}"))
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(broken)?;
        inner.with_truncation(None).map_err(broken)?;
        inner.with_padding(None);
        let mut control: Vec<(String, u32)> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (token.content, id))
            .collect();
        control.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        let id_limit = inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |id| id.saturating_add(1));
        Ok(Tokenizer {
            inner,
            literal: OnceLock::new(),
            control,
            id_limit,
        })
    }

    /// Token ids of a text. Nothing is added: no token for the beginning or the end. Control tokens that the text spells
    /// become control tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        encode(&self.inner, text)
    }

    /// The ids that the file's own post-processor puts before a text; nothing where it has none.
    pub(crate) fn begin(&self) -> Vec<u32> {
        let encoding = self.inner.encode_fast("", true);
        encoding.map_or(Vec::new(), |encoding| encoding.get_ids().to_vec())
    }

    /// Token ids of a text in which control tokens mean nothing: their spellings are read as ordinary characters.
    pub fn encode_literal(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let literal = self.literal.get_or_init(|| {
            let mut twin = self.inner.clone();
            twin.set_encode_special_tokens(true);
            twin
        });
        encode(literal, text)
    }

    /// The text of some ids, control tokens left out. Incomplete characters become U+FFFD; see [`crate::TextStream`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, EngineError> {
        self.inner
            .decode(ids, true)
            .map_err(|error| EngineError::Tokenizer(format!("cannot decode: {error}")))
    }

    /// The id of one token's exact spelling.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The spelling of one id.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The content of a token that was added to the model's own vocabulary, and whether it is a control token.
    pub(crate) fn added_token(&self, id: u32) -> Option<(String, bool)> {
        let added = self.inner.get_added_vocabulary();
        let token = added.get_added_tokens_decoder().get(&id)?;
        Some((token.content.clone(), token.special))
    }

    /// The whole tokenizer.json, whatever was read.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::to_value(&self.inner).unwrap_or_default()
    }

    /// The decoder's part of tokenizer.json; null where there is none.
    pub(crate) fn decoder(&self) -> serde_json::Value {
        serde_json::to_value(self.inner.get_decoder()).unwrap_or_default()
    }

    /// One more than the largest id that this tokenizer can give.
    pub fn id_limit(&self) -> u32 {
        self.id_limit
    }

    /// Control tokens and their ids, the longest spelling first.
    pub fn control_tokens(&self) -> &[(String, u32)] {
        &self.control
    }

    /// The first control token spelt in a text: byte position, spelling, id. At one position the longest wins.
    pub fn find_control<'a>(&'a self, text: &str) -> Option<(usize, &'a str, u32)> {
        self.control
            .iter()
            .filter_map(|(spelling, id)| {
                text.find(spelling.as_str())
                    .map(|at| (at, spelling.as_str(), *id))
            })
            .min_by_key(|(at, spelling, _)| (*at, usize::MAX - spelling.len()))
    }
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>, EngineError> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|error| EngineError::Tokenizer(format!("cannot encode: {error}")))?;
    Ok(encoding.get_ids().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::nano_tokenizer;

    #[test]
    fn text_comes_back_from_its_ids() {
        let tokenizer = nano_tokenizer();
        for text in [
            "What is the total?",
            "合计多少钱？ 12.50€",
            "a\n\n  b\t",
            "👩‍👩‍👧 ﷽",
        ] {
            assert_eq!(
                tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(),
                text
            );
        }
    }

    #[test]
    fn a_control_token_is_one_id_and_its_literal_reading_is_not() {
        let tokenizer = nano_tokenizer();
        let id = tokenizer.token_to_id("<image>").unwrap();
        assert_eq!(tokenizer.encode("<image>").unwrap(), [id]);
        let literal = tokenizer.encode_literal("<image>").unwrap();
        assert!(literal.len() > 1 && !literal.contains(&id), "{literal:?}");
        assert_eq!(tokenizer.decode(&literal).unwrap(), "<image>");
    }

    #[test]
    fn thought_tags_stay_tokens_in_a_literal_reading_because_they_control_nothing() {
        let tokenizer = nano_tokenizer();
        let id = tokenizer.token_to_id("<think>").unwrap();
        assert_eq!(tokenizer.encode_literal("<think>").unwrap(), [id]);
    }

    #[test]
    fn the_first_and_longest_control_token_is_found() {
        let tokenizer = nano_tokenizer();
        let (at, spelling, _) = tokenizer.find_control("a [|AI|]: <s>").unwrap();
        assert_eq!((at, spelling), (2, "[|AI|]:"));
        assert!(tokenizer.find_control("plain <think> text").is_none());
    }

    #[test]
    fn a_broken_file_is_one_clear_error() {
        for json in [
            "",
            "{",
            "[]",
            "{\"version\":\"1.0\"}",
            "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":3}}",
        ] {
            let error = Tokenizer::from_bytes(json.as_bytes())
                .err()
                .expect("a broken file must not load");
            assert!(
                error
                    .to_string()
                    .starts_with("tokenizer: tokenizer.json is broken: "),
                "{error}"
            );
        }
    }
}
