//! Tells a model's thought from its answer while the text streams in, and counts the tokens of the thought.
//!
//! A thought stands at the very beginning, `<think>…</think>answer`, and further ones may follow it at once, with nothing but
//! white space between. Tags after the answer has begun are text that the model writes about. A thought that is never
//! closed leaves no answer.
//!
//! A token counts as one of the thought if it begins inside: after the start tag, and before the end tag. So the tags
//! themselves do not count, however many tokens they are.

use crate::stop::overlap;
use crate::tags::ThinkingTags;

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

/// What stands between two thoughts that are given out as one text.
const BETWEEN_THOUGHTS: &str = "\n\n";

/// Splits the text of one answer.
pub struct ThoughtSplitter {
    tags: Option<ThinkingTags>,
    place: Place,
    held: String,
    /// Bytes of the open thought that are no longer held.
    released: usize,
    /// Where in the open thought each of its tokens began, in bytes.
    begins: Vec<usize>,
    /// Tokens of the thoughts that are closed.
    closed_tokens: usize,
    /// Whether the last character of the open thought ended a line with something on it.
    at_line_end: bool,
    line_is_blank: bool,
    thoughts: usize,
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
            released: 0,
            begins: Vec::new(),
            closed_tokens: 0,
            at_line_end: false,
            line_is_blank: true,
            thoughts: usize::from(place == Place::ThoughtBegins),
        }
    }

    /// Takes the text that one more token of the model brought, which may be empty.
    pub fn push(&mut self, text: &str) -> Split {
        if self.is_open() {
            self.begins.push(self.released + self.held.len());
        }
        self.push_uncounted(text)
    }

    /// Takes text that counts as no token of the model's.
    pub fn push_uncounted(&mut self, text: &str) -> Split {
        if self.is_open() {
            self.watch_lines(text);
        }
        self.held.push_str(text);
        let mut split = Split::default();
        while self.step(&mut split) {}
        split
    }

    /// Takes back the last tokens of the open thought, none of which brought any text.
    pub fn forget_tokens(&mut self, count: usize) {
        self.begins
            .truncate(self.begins.len().saturating_sub(count));
    }

    /// Ends the open thought, as if its end tag had come.
    pub fn close(&mut self) -> Split {
        let mut split = Split::default();
        if self.is_open() {
            let held = std::mem::take(&mut self.held);
            split.reasoning.push_str(held.trim_end());
            self.leave_thought(usize::MAX);
        }
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
            Place::AnswerBegins => Split {
                reasoning: String::new(),
                text: held.trim_start().to_owned(),
            },
            Place::Beginning | Place::Answer => Split {
                reasoning: String::new(),
                text: held,
            },
        }
    }

    /// Whether a thought has begun and not ended.
    pub fn is_open(&self) -> bool {
        matches!(self.place, Place::ThoughtBegins | Place::Thought)
    }

    /// Whether a thought has ended and no answer has begun.
    pub fn is_between(&self) -> bool {
        self.place == Place::AnswerBegins
    }

    /// Whether the answer has begun: no token from here on belongs to a thought.
    pub fn is_answer(&self) -> bool {
        self.place == Place::Answer
    }

    /// Whether the open thought has just ended a line.
    pub fn at_line_end(&self) -> bool {
        self.is_open() && self.at_line_end
    }

    /// Thoughts that have begun.
    pub fn thoughts(&self) -> usize {
        self.thoughts
    }

    /// Tokens of all thoughts, tags apart. While an end tag of several tokens is incomplete, its tokens count.
    pub fn reasoning_tokens(&self) -> usize {
        self.closed_tokens + self.begins.len()
    }

    fn watch_lines(&mut self, text: &str) {
        for character in text.chars() {
            self.at_line_end = character == '\n' && !self.line_is_blank;
            if !character.is_whitespace() {
                self.line_is_blank = false;
            } else if character == '\n' {
                self.line_is_blank = true;
            }
        }
    }

    /// The open thought ends; tokens that began from byte `tag` on belong to its end tag.
    fn leave_thought(&mut self, tag: usize) {
        self.closed_tokens += self.begins.iter().filter(|&&begin| begin < tag).count();
        self.begins.clear();
        self.place = Place::AnswerBegins;
    }

    fn enter_thought(&mut self, rest: String) {
        self.held = rest;
        self.released = 0;
        self.at_line_end = false;
        self.line_is_blank = true;
        self.thoughts += 1;
        self.place = Place::ThoughtBegins;
        let begun = self.held.clone();
        self.watch_lines(&begun);
    }

    /// Moves on by one place; false when more text is needed.
    fn step(&mut self, split: &mut Split) -> bool {
        let Some(tags) = &self.tags else {
            split.text.push_str(&std::mem::take(&mut self.held));
            return false;
        };
        match self.place {
            Place::Beginning | Place::AnswerBegins => {
                let begun = self.held.trim_start();
                if let Some(rest) = begun.strip_prefix(&tags.start) {
                    let rest = rest.to_owned();
                    self.enter_thought(rest);
                } else if tags.start.starts_with(begun) {
                    return false;
                } else {
                    if self.place == Place::AnswerBegins {
                        self.held = begun.to_owned();
                    }
                    self.place = Place::Answer;
                }
            }
            Place::ThoughtBegins => {
                let begun = self.held.trim_start();
                self.released += self.held.len() - begun.len();
                self.held = begun.to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.place = Place::Thought;
                if self.thoughts > 1 && !self.held.starts_with(&tags.end) {
                    split.reasoning.push_str(BETWEEN_THOUGHTS);
                }
            }
            Place::Thought => {
                if let Some(at) = self.held.find(&tags.end) {
                    split.reasoning.push_str(self.held[..at].trim_end());
                    self.held.drain(..at + tags.end.len());
                    self.leave_thought(self.released + at);
                } else {
                    // Whitespace may turn out to stand before the end tag, where it is not part of the thought.
                    let certain = self.held.len() - overlap(&self.held, &tags.end);
                    let certain = self.held[..certain].trim_end().len();
                    self.released += certain;
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
        ThinkingTags::new("<think>", "</think>")
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
            expect("2+2", "4 ok ", 3)
        );
    }

    #[test]
    fn tags_may_come_in_pieces_and_only_tokens_that_begin_inside_count() {
        assert_eq!(
            run("", &[" ", "<th", "ink>a", "b</", "think", ">c", "d"]),
            expect("ab", "cd", 1)
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
            expect("ab </thi", "", 2)
        );
    }

    #[test]
    fn a_thought_that_follows_a_thought_is_another_one() {
        assert_eq!(
            run(
                "",
                &[
                    "<think>", "a", "</think>", "\n", "<think>", "b", "c", "</think>", "d"
                ]
            ),
            expect("a\n\nbc", "d", 3)
        );
        assert_eq!(
            run("", &["<think>", "a", "</think>", " <th", "e"]),
            expect("a", "<the", 1)
        );
    }

    #[test]
    fn a_thought_in_an_answer_is_text() {
        assert_eq!(
            run("", &["<think>a</think>b <think>c</think>"]),
            expect("a", "b <think>c</think>", 0)
        );
    }

    #[test]
    fn lines_end_where_something_stood_on_them() {
        let mut splitter = ThoughtSplitter::new(Some(&tags()), "");
        let ends: Vec<bool> = [
            "\n", "<think>", "\n", " ", "a", "\n", "\n", "b\n", "</think>", "\n",
        ]
        .iter()
        .map(|piece| {
            splitter.push(piece);
            splitter.at_line_end()
        })
        .collect();
        let (no, yes) = (false, true);
        assert_eq!(ends, [no, no, no, no, no, yes, no, yes, no, no]);
    }

    #[test]
    fn a_thought_can_be_closed_from_outside() {
        let mut splitter = ThoughtSplitter::new(Some(&tags()), "");
        for piece in ["<think>", "a", "", ""] {
            splitter.push(piece);
        }
        assert_eq!((splitter.reasoning_tokens(), splitter.is_open()), (3, true));
        splitter.forget_tokens(2);
        splitter.push_uncounted("\nb </th");
        assert_eq!(splitter.close().reasoning, " </th");
        assert_eq!(
            (splitter.reasoning_tokens(), splitter.is_between()),
            (1, true)
        );
        assert_eq!(splitter.push(" c").text, "c");
    }

    #[test]
    fn the_prompt_may_have_opened_the_thought() {
        assert_eq!(
            run("[|AI|]:<think>\n", &["a", "</think>", "b"]),
            expect("a", "b", 1)
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
