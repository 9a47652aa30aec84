//! Ids to text while they come, without ever showing half a character.
//!
//! A token can end in the middle of a UTF-8 character, and some decoders drop a space at the start of what they are given.
//! So each step decodes the new ids together with those of the step before, and holds text back while its last character may
//! still be unfinished.

use crate::error::EngineError;
use crate::tokenizer::Tokenizer;

/// The mark that decoders put for bytes that are no character (yet).
const UNFINISHED: char = '\u{FFFD}';
/// So many ids may wait for the end of a character; a character has at most four bytes, so more are not one character.
const LONGEST_WAIT: usize = 8;
/// An unfinished character is at most three bytes, at least one to a token.
const LONGEST_TAIL: usize = 3;

/// Decodes one answer, id by id.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Ids of the last text given out: context for decoders that look at what stands before.
    shown: Vec<u32>,
    /// Ids whose text has not been given out.
    waiting: Vec<u32>,
}

impl<'a> TextStream<'a> {
    /// An answer with nothing decoded yet.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        TextStream {
            tokenizer,
            shown: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Takes one more id; gives the text that became certain, often one word, sometimes nothing.
    pub fn push(&mut self, id: u32) -> Result<String, EngineError> {
        self.waiting.push(id);
        let text = self.decode_waiting(self.waiting.len())?;
        if !text.ends_with(UNFINISHED) {
            return Ok(self.show(self.waiting.len(), text));
        }
        if self.waiting.len() < LONGEST_WAIT {
            return Ok(String::new());
        }
        // Bytes that are no text at all: give out all but a tail that may be the beginning of a character.
        for tail in (1..=LONGEST_TAIL).rev() {
            let cut = self.waiting.len() - tail;
            let head = self.decode_waiting(cut)?;
            if format!("{head}{}", self.tokenizer.decode(&self.waiting[cut..])?) == text {
                return Ok(self.show(cut, head));
            }
        }
        Ok(self.show(self.waiting.len(), text))
    }

    /// The text that was still held back, when no more ids come.
    pub fn finish(&mut self) -> Result<String, EngineError> {
        let text = self.decode_waiting(self.waiting.len())?;
        Ok(self.show(self.waiting.len(), text))
    }

    /// Whether text is held back.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Drops what is held back, as if its ids had never come; how many they were.
    pub(crate) fn forget_waiting(&mut self) -> usize {
        self.waiting.drain(..).count()
    }

    /// The text of the first `count` waiting ids, after what has been shown.
    fn decode_waiting(&self, count: usize) -> Result<String, EngineError> {
        let together: Vec<u32> = self
            .shown
            .iter()
            .chain(&self.waiting[..count])
            .copied()
            .collect();
        let before = self.tokenizer.decode(&self.shown)?;
        let after = self.tokenizer.decode(&together)?;
        match after.strip_prefix(before.as_str()) {
            Some(text) => Ok(text.to_owned()),
            // A byte that spoils the bytes before it, which have been shown: read it alone.
            None => self.tokenizer.decode(&self.waiting[..count]),
        }
    }

    fn show(&mut self, count: usize, text: String) -> String {
        if !text.is_empty() {
            self.shown = self.waiting[..count].to_vec();
        } else {
            self.shown.extend_from_slice(&self.waiting[..count]);
        }
        self.waiting.drain(..count);
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{nano_tokenizer, sentencepiece_tokenizer};

    fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut stream = TextStream::new(tokenizer);
        let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    #[test]
    fn a_character_of_four_tokens_appears_whole() {
        let tokenizer = nano_tokenizer();
        let ids = tokenizer.encode("a😀b").unwrap();
        assert_eq!(stream(&tokenizer, &ids), ["a", "", "", "", "😀", "b", ""]);
    }

    #[test]
    fn half_a_character_at_the_end_is_given_out_as_a_mark() {
        let tokenizer = nano_tokenizer();
        let ids = tokenizer.encode("😀").unwrap();
        assert_eq!(stream(&tokenizer, &ids[..2]).concat(), "\u{FFFD}");
    }

    #[test]
    fn a_decoder_that_drops_the_first_space_keeps_the_others() {
        let tokenizer = sentencepiece_tokenizer();
        let ids = tokenizer.encode("ab ab  ab").unwrap();
        assert_eq!(stream(&tokenizer, &ids).concat(), "ab ab  ab");
    }

    #[test]
    fn control_tokens_are_not_shown() {
        let tokenizer = nano_tokenizer();
        let ids = tokenizer.encode("x<s>y").unwrap();
        assert_eq!(stream(&tokenizer, &ids).concat(), "xy");
    }

    proptest! {
        #[test]
        fn any_text_streams_to_itself_without_marks(text in "\\PC{0,20}") {
            prop_assume!(!text.contains(UNFINISHED));
            for tokenizer in [nano_tokenizer(), sentencepiece_tokenizer()] {
                let ids = tokenizer.encode_literal(&text).unwrap();
                let pieces = stream(&tokenizer, &ids);
                prop_assert!(pieces.iter().all(|piece| !piece.contains(UNFINISHED)));
                prop_assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap());
            }
        }

        /// Mostly bytes that begin or go on with characters but seldom end one, which is where holding back is hard.
        #[test]
        fn pieces_of_characters_stream_to_their_text(
            bytes in prop::collection::vec(prop::sample::select(b"\xE4\xBD\xA0\xF0\x9F\x98\x80a".as_slice()), 0..60)
        ) {
            let tokenizer = nano_tokenizer();
            // Ids of single bytes begin after nine control tokens.
            let ids: Vec<u32> = bytes.iter().map(|byte| 9 + u32::from(*byte)).collect();
            prop_assert_eq!(stream(&tokenizer, &ids).concat(), tokenizer.decode(&ids).unwrap());
        }

        #[test]
        fn any_ids_of_a_byte_vocabulary_stream_to_their_text(ids in prop::collection::vec(9u32..265, 0..40)) {
            let tokenizer = nano_tokenizer();
            prop_assert_eq!(stream(&tokenizer, &ids).concat(), tokenizer.decode(&ids).unwrap());
        }
    }
}
