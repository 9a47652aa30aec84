//! Text and calls told apart while an answer streams in.
//!
//! The answer's grammar has seen to the format, so a call is: the tag, its name, its arguments up to the one place where a
//! brace and a raw line end follow, which no JSON of ours has inside. A tag that goes on otherwise is text.

use super::{END, HEAD, MIDDLE, TAG};
use crate::stop::overlap;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallPiece {
    /// More of the text.
    Text(String),
    /// A call begins, of this function.
    Begin(String),
    /// More of its arguments, as JSON.
    Arguments(String),
    /// Its arguments are whole.
    End,
}

/// A call as the model wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenCall {
    /// The function.
    pub name: String,
    /// Its arguments as JSON; the beginning of it when the answer was cut.
    pub arguments: String,
    /// Whether all of it came.
    pub is_whole: bool,
}

/// Text or a call, whole as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallBlock {
    /// Text.
    Text(String),
    /// A call.
    Call(WrittenCall),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Text,
    /// After the tag.
    Head,
    Arguments,
}

/// Tells text and calls of one answer apart. White space between text and calls is dropped.
#[derive(Clone, Debug)]
pub struct CallSplitter {
    place: Place,
    held: String,
    /// White space before the tag, which is text only if no call follows.
    gap: String,
    /// Whether a call is the last thing that came, but for white space.
    after_call: bool,
}

impl Default for CallSplitter {
    fn default() -> Self {
        Self::new()
    }
}

impl CallSplitter {
    /// Before the answer's first character.
    pub fn new() -> Self {
        CallSplitter {
            place: Place::Text,
            held: String::new(),
            gap: String::new(),
            after_call: false,
        }
    }

    /// Text and calls of a whole answer, in their order; one empty text for an empty answer.
    pub fn blocks(answer: &str) -> Vec<CallBlock> {
        let mut splitter = Self::new();
        let mut pieces = splitter.push(answer);
        pieces.extend(splitter.finish());
        let mut blocks = Vec::new();
        for piece in pieces {
            match (piece, blocks.last_mut()) {
                (CallPiece::Text(more), Some(CallBlock::Text(text))) => text.push_str(&more),
                (CallPiece::Text(text), _) => blocks.push(CallBlock::Text(text)),
                (CallPiece::Begin(name), _) => blocks.push(CallBlock::Call(WrittenCall {
                    name,
                    arguments: String::new(),
                    is_whole: false,
                })),
                (CallPiece::Arguments(more), Some(CallBlock::Call(call))) => {
                    call.arguments.push_str(&more)
                }
                (CallPiece::End, Some(CallBlock::Call(call))) => call.is_whole = true,
                (CallPiece::Arguments(_) | CallPiece::End, _) => {}
            }
        }
        if blocks.is_empty() {
            blocks.push(CallBlock::Text(String::new()));
        }
        blocks
    }

    /// Text and calls of a whole answer, each together.
    pub fn split(answer: &str) -> (String, Vec<WrittenCall>) {
        let (mut text, mut calls) = (String::new(), Vec::new());
        for block in Self::blocks(answer) {
            match block {
                CallBlock::Text(more) => text.push_str(&more),
                CallBlock::Call(call) => calls.push(call),
            }
        }
        (text, calls)
    }

    /// Takes more of the answer; gives what became certain.
    pub fn push(&mut self, more: &str) -> Vec<CallPiece> {
        self.held.push_str(more);
        let mut pieces = Vec::new();
        while self.step(&mut pieces) {}
        pieces
    }

    /// What is still held back, when nothing more comes.
    pub fn finish(&mut self) -> Option<CallPiece> {
        let held = std::mem::take(&mut self.held);
        match self.place {
            Place::Text if self.after_call => text(held.trim_start()),
            Place::Text => text(&held),
            // The answer was cut before the function's name was known.
            Place::Head => text(&format!("{}{TAG}{held}", self.gap)),
            Place::Arguments => (!held.is_empty()).then_some(CallPiece::Arguments(held)),
        }
    }

    /// Moves on by one place; false when more of the answer is needed.
    fn step(&mut self, pieces: &mut Vec<CallPiece>) -> bool {
        match self.place {
            Place::Text => self.step_text(pieces),
            Place::Head => self.step_head(pieces),
            Place::Arguments => self.step_arguments(pieces),
        }
    }

    fn step_text(&mut self, pieces: &mut Vec<CallPiece>) -> bool {
        if self.after_call {
            self.held = self.held.trim_start().to_owned();
        }
        let tag = self.held.find(TAG);
        let certain = tag.unwrap_or(self.held.len() - overlap(&self.held, TAG));
        let certain = self.held[..certain].trim_end().len();
        let said: String = self.held.drain(..certain).collect();
        self.after_call &= said.is_empty();
        pieces.extend(text(&said));
        let Some(tag) = tag else {
            return false;
        };
        self.gap = self.held.drain(..tag - certain).collect();
        self.held.drain(..TAG.len());
        self.place = Place::Head;
        true
    }

    fn step_head(&mut self, pieces: &mut Vec<CallPiece>) -> bool {
        let Some(name) = self.held.strip_prefix(HEAD) else {
            return match HEAD.starts_with(&self.held) {
                true => false,
                false => self.not_a_call(pieces),
            };
        };
        let Some(end) = name.find('"') else {
            return false;
        };
        let rest = &name[end..];
        if !rest.starts_with(MIDDLE) {
            return match MIDDLE.starts_with(rest) {
                true => false,
                false => self.not_a_call(pieces),
            };
        }
        pieces.push(CallPiece::Begin(name[..end].to_owned()));
        self.held.drain(..HEAD.len() + end + MIDDLE.len());
        self.after_call = true;
        self.place = Place::Arguments;
        true
    }

    fn not_a_call(&mut self, pieces: &mut Vec<CallPiece>) -> bool {
        let gap = std::mem::take(&mut self.gap);
        pieces.push(CallPiece::Text(gap + TAG));
        self.after_call = false;
        self.place = Place::Text;
        true
    }

    fn step_arguments(&mut self, pieces: &mut Vec<CallPiece>) -> bool {
        let end = self.held.find(END);
        let certain = end.unwrap_or(self.held.len() - overlap(&self.held, END));
        if certain > 0 {
            let more = self.held.drain(..certain).collect();
            pieces.push(CallPiece::Arguments(more));
        }
        if end.is_none() {
            return false;
        }
        self.held.drain(..END.len());
        pieces.push(CallPiece::End);
        self.place = Place::Text;
        true
    }
}

fn text(text: &str) -> Option<CallPiece> {
    (!text.is_empty()).then(|| CallPiece::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(name: &str, arguments: &str) -> String {
        format!("{TAG}{HEAD}{name}{MIDDLE}{arguments}{END}")
    }

    fn whole(name: &str, arguments: &str) -> WrittenCall {
        WrittenCall {
            name: name.into(),
            arguments: arguments.into(),
            is_whole: true,
        }
    }

    #[test]
    fn text_and_calls_are_told_apart() {
        let answer = format!(
            "Let me see.\n\n{}\n{}\n",
            call("a", r#"{"x": {}}"#),
            call("b", "{}")
        );
        assert_eq!(
            CallSplitter::split(&answer),
            (
                "Let me see.".into(),
                vec![whole("a", r#"{"x": {}}"#), whole("b", "{}")]
            )
        );
        assert_eq!(
            CallSplitter::split(" plain \n"),
            (" plain \n".into(), vec![])
        );
    }

    #[test]
    fn a_call_that_is_cut_keeps_what_came_of_it() {
        let call = call("a", r#"{"x": 1}"#);
        let cut = |bytes| CallSplitter::split(&call[..call.len() - bytes]);
        let (text, calls) = cut(3);
        assert_eq!((text.as_str(), calls[0].is_whole), ("", false));
        assert_eq!(cut(END.len() + 2).1[0].arguments, r#"{"x": "#);
        let head = &call[..TAG.len() + 4];
        assert_eq!(CallSplitter::split(head), (head.into(), vec![]));
    }

    #[test]
    fn a_tag_inside_json_or_text_is_text() {
        for answer in [
            r#"{"a": "x <tool_call> y"}"#,
            "<tool_call>",
            "a <tool_call>\nb",
            "<tool_call>\n{\"name\": \"x\"}",
            "  <tool_call>\n{\"name",
        ] {
            assert_eq!(CallSplitter::split(answer), (answer.into(), vec![]));
        }
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_answer_gives(
            parts in prop::collection::vec(prop::sample::select(vec!["a", " ", "\n", "合", "<tool_call>", HEAD, "f", MIDDLE, "{\"x\": 1}", END, "<tool", "}"]), 0..12),
            cuts in prop::collection::vec(0usize..200, 0..8),
        ) {
            let answer = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| answer.floor_char_boundary(cut)).collect();
            cuts.sort_unstable();
            let (mut splitter, mut pieces, mut from) = (CallSplitter::new(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([answer.len()]) {
                pieces.extend(splitter.push(&answer[from..cut]));
                from = cut;
            }
            pieces.extend(splitter.finish());
            let joined = |pieces: &[CallPiece]| {
                let mut joined: Vec<CallPiece> = Vec::new();
                for piece in pieces {
                    match (joined.last_mut(), piece) {
                        (Some(CallPiece::Text(text)), CallPiece::Text(more)) => text.push_str(more),
                        (Some(CallPiece::Arguments(text)), CallPiece::Arguments(more)) => text.push_str(more),
                        (_, piece) => joined.push(piece.clone()),
                    }
                }
                joined
            };
            let mut at_once = CallSplitter::new();
            let mut whole = at_once.push(&answer);
            whole.extend(at_once.finish());
            prop_assert_eq!(joined(&pieces), joined(&whole));
        }
    }
}
