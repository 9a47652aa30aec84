//! Tells a model's thought from its answer while the text streams in.
//!
//! An answer has at most one thought, at its very beginning: `<think>…</think>answer`. Tags further on are text that the
//! model writes about. A thought that is never closed leaves no answer.

use crate::files::ThinkingTags;
use crate::stop::overlap;

/// Text that became certain.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// More of the thought.
    pub reasoning: String,
    /// More of the answer.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing but whitespace or the beginning of a start tag so far.
    Beginning,
    /// In the thought; leading whitespace is dropped.
    ThoughtBegins,
    Thought,
    /// After the thought; leading whitespace is dropped.
    AnswerBegins,
    Answer,
}

/// Splits the text of one answer.
pub struct ThoughtSplitter {
    tags: Option<ThinkingTags>,
    place: Place,
    held: String,
    /// Tokens taken so far at the beginning, which belong to the thought if it opens.
    undecided_tokens: usize,
    reasoning_tokens: usize,
    opened: bool,
}

impl ThoughtSplitter {
    /// `prompt` may already have opened the thought by ending with the start tag.
    pub fn new(tags: Option<&ThinkingTags>, prompt: &str) -> Self {
        let place = match tags {
            None => Place::Answer,
            Some(tags) if prompt.trim_end().ends_with(&tags.start) => Place::ThoughtBegins,
            Some(_) => Place::Beginning,
        };
        ThoughtSplitter {
            tags: tags.cloned(),
            place,
            held: String::new(),
            undecided_tokens: 0,
            reasoning_tokens: 0,
            opened: false,
        }
    }

    /// Takes the text that one more token brought, which may be empty.
    pub fn push(&mut self, text: &str) -> Split {
        let before = self.place;
        let split = self.push_uncounted(text);
        match (before, self.place) {
            (Place::ThoughtBegins | Place::Thought, _) => self.reasoning_tokens += 1,
            (Place::Beginning, Place::Beginning) => self.undecided_tokens += 1,
            (Place::Beginning, _) if self.opened => {
                self.reasoning_tokens += self.undecided_tokens + 1
            }
            _ => {}
        }
        split
    }

    /// Takes text that no further token brought.
    pub fn push_uncounted(&mut self, text: &str) -> Split {
        self.held.push_str(text);
        let mut split = Split::default();
        while self.step(&mut split) {}
        split
    }

    /// What is still held back, when no more tokens come.
    pub fn finish(&mut self) -> Split {
        let held = std::mem::take(&mut self.held);
        match self.place {
            Place::ThoughtBegins | Place::Thought => Split {
                reasoning: held.trim_end().to_owned(),
                text: String::new(),
            },
            Place::Beginning | Place::AnswerBegins | Place::Answer => Split {
                reasoning: String::new(),
                text: held,
            },
        }
    }

    /// Tokens of the thought, its tags included.
    pub fn reasoning_tokens(&self) -> usize {
        self.reasoning_tokens
    }

    /// Moves on by one place; false when more text is needed.
    fn step(&mut self, split: &mut Split) -> bool {
        let Some(tags) = &self.tags else {
            split.text.push_str(&std::mem::take(&mut self.held));
            return false;
        };
        match self.place {
            Place::Beginning => {
                let begun = self.held.trim_start();
                if let Some(rest) = begun.strip_prefix(&tags.start) {
                    self.held = rest.to_owned();
                    self.opened = true;
                    self.place = Place::ThoughtBegins;
                } else if tags.start.starts_with(begun) {
                    return false;
                } else {
                    self.place = Place::Answer;
                }
            }
            Place::ThoughtBegins | Place::AnswerBegins => {
                self.held = self.held.trim_start().to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.place = if self.place == Place::ThoughtBegins {
                    Place::Thought
                } else {
                    Place::Answer
                };
            }
            Place::Thought => {
                if let Some(at) = self.held.find(&tags.end) {
                    split.reasoning.push_str(self.held[..at].trim_end());
                    self.held.drain(..at + tags.end.len());
                    self.place = Place::AnswerBegins;
                } else {
                    // Whitespace may turn out to stand before the end tag, where it is not part of the thought.
                    let certain = self.held.len() - overlap(&self.held, &tags.end);
                    let certain = self.held[..certain].trim_end().len();
                    split.reasoning.extend(self.held.drain(..certain));
                    return false;
                }
            }
            Place::Answer => {
                split.text.push_str(&std::mem::take(&mut self.held));
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags() -> ThinkingTags {
        ThinkingTags {
            start: "<think>".into(),
            end: "</think>".into(),
        }
    }

    /// Thought, answer, tokens of the thought.
    fn run(prompt: &str, pieces: &[&str]) -> (String, String, usize) {
        let mut splitter = ThoughtSplitter::new(Some(&tags()), prompt);
        let mut splits: Vec<Split> = pieces.iter().map(|piece| splitter.push(piece)).collect();
        splits.push(splitter.finish());
        let reasoning = splits
            .iter()
            .map(|split| split.reasoning.as_str())
            .collect();
        let text = splits.iter().map(|split| split.text.as_str()).collect();
        (reasoning, text, splitter.reasoning_tokens())
    }

    fn expect(reasoning: &str, text: &str, tokens: usize) -> (String, String, usize) {
        (reasoning.into(), text.into(), tokens)
    }

    #[test]
    fn a_thought_is_split_off_with_the_whitespace_around_it() {
        assert_eq!(
            run(
                "",
                &[
                    "<think>", "\n", "2+2", " \n", "</think>", "\n\n", "4", " ok "
                ]
            ),
            expect("2+2", "4 ok ", 5)
        );
    }

    #[test]
    fn tags_may_come_in_pieces_and_all_pieces_count() {
        assert_eq!(
            run("", &[" ", "<th", "ink>a", "b</", "think", ">c", "d"]),
            expect("ab", "cd", 6)
        );
    }

    #[test]
    fn an_answer_without_a_thought_is_left_as_it_is() {
        assert_eq!(run("", &[" 1 <", " 2"]), expect("", " 1 < 2", 0));
        assert_eq!(run("", &["<th", "e end"]), expect("", "<the end", 0));
        assert_eq!(
            run("", &["x <think>y</think>"]),
            expect("", "x <think>y</think>", 0)
        );
    }

    #[test]
    fn a_thought_never_closed_leaves_no_answer() {
        assert_eq!(
            run("", &["<think>", "a", "b </thi"]),
            expect("ab </thi", "", 3)
        );
    }

    #[test]
    fn a_second_thought_is_text() {
        assert_eq!(
            run("", &["<think>a</think><think>b</think>"]),
            expect("a", "<think>b</think>", 1)
        );
    }

    #[test]
    fn the_prompt_may_have_opened_the_thought() {
        assert_eq!(
            run("[|AI|]:<think>\n", &["a", "</think>", "b"]),
            expect("a", "b", 2)
        );
    }

    #[test]
    fn half_a_start_tag_at_the_end_is_text() {
        assert_eq!(run("", &["<thi"]), expect("", "<thi", 0));
    }

    #[test]
    fn without_tags_all_is_text() {
        let mut splitter = ThoughtSplitter::new(None, "<think>");
        assert_eq!(splitter.push("<think>a").text, "<think>a");
        assert_eq!(splitter.reasoning_tokens(), 0);
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_text_gives(text in "[ \n]{0,2}(<think>)?[ab \n<]{0,6}(</think>)?[ \n]?[ab<]{0,3}", cuts in prop::collection::vec(0usize..30, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&text[from..cut]);
                from = cut;
            }
            pieces.push(&text[from..]);
            let (reasoning, answer, _) = run("", &pieces);
            let (whole_reasoning, whole_answer, _) = run("", &[&text]);
            prop_assert_eq!((reasoning, answer), (whole_reasoning, whole_answer));
        }
    }
}
