//! How many tokens of a completion are a thought, counted from its ids alone: a second opinion on what the engine reports.
//!
//! The engine counts while it writes, token by token. Here the ids are spelt once they are all there, and the spelling is
//! searched for tags. The two share nothing but the meaning: a token counts if it begins after a start tag and before the
//! next end tag, and was not put in by the engine.

use engine::{EngineError, ThinkingTags, Tokenizer};

/// A completion to be counted.
pub(crate) struct Completion<'a> {
    /// What it goes on from; it may end with the start tag.
    pub prompt: &'a str,
    /// The ids after the prompt.
    pub ids: &'a [u32],
    /// Whether the engine has put its stop text in, or the end of it.
    pub forced: bool,
}

/// Tokens of its thoughts that the model chose.
pub(crate) fn count(
    completion: &Completion,
    tags: &ThinkingTags,
    tokenizer: &Tokenizer,
) -> Result<usize, EngineError> {
    let (text, begins) = spell(completion.ids, tags, tokenizer)?;
    let mut tokens = 0;
    let mut rest = 0;
    let mut open = completion.prompt.trim_end().ends_with(&tags.start);
    loop {
        if !open {
            let skipped = text[rest..].len() - text[rest..].trim_start().len();
            if !text[rest + skipped..].starts_with(&tags.start) {
                // The answer: tags in it are text.
                return Ok(tokens);
            }
            rest += skipped + tags.start.len();
        }
        let end = text[rest..].find(&tags.end).map(|at| rest + at);
        let mut thought = &text[rest..end.unwrap_or(text.len())];
        if completion.forced {
            thought = without_stop_text(thought, tags);
        }
        let inside = rest..rest + thought.len();
        tokens += begins.iter().filter(|at| inside.contains(at)).count();
        match end {
            Some(end) => (rest, open) = (end + tags.end.len(), false),
            None => return Ok(tokens),
        }
    }
}

/// The text of some ids, tags that decoding leaves out included, and where in it each id begins.
fn spell(
    ids: &[u32],
    tags: &ThinkingTags,
    tokenizer: &Tokenizer,
) -> Result<(String, Vec<usize>), EngineError> {
    let is_tag = |id: u32| {
        [&tags.start, &tags.end]
            .into_iter()
            .find(|tag| tokenizer.token_to_id(tag) == Some(id))
    };
    let (mut text, mut begins) = (String::new(), Vec::new());
    for run in ids.chunk_by(|a, b| is_tag(*a).is_none() && is_tag(*b).is_none()) {
        if let Some(tag) = is_tag(run[0]) {
            begins.push(text.len());
            text.push_str(tag);
            continue;
        }
        for at in 0..run.len() {
            let before = tokenizer.decode(&run[..at])?;
            // A token may be the rest of a character, which began before it.
            begins.push(text.len() + before.trim_end_matches('\u{fffd}').len());
        }
        text.push_str(&tokenizer.decode(run)?);
    }
    Ok((text, begins))
}

/// A thought without the words that the engine may have ended it with.
fn without_stop_text<'a>(thought: &'a str, tags: &ThinkingTags) -> &'a str {
    let (sentence, _) = tags.stop_text.split_once(&tags.end).unwrap_or_default();
    let space = &sentence[sentence.trim_end().len()..];
    let whole = thought.strip_suffix(sentence);
    whole.or(thought.strip_suffix(space)).unwrap_or(thought)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENIZER: &[u8] = include_bytes!("../../../configs/nano/tokenizer.json");

    fn tags(stop_text: &str) -> ThinkingTags {
        ThinkingTags {
            start: "<think>".into(),
            end: "</think>".into(),
            stop_text: stop_text.into(),
        }
    }

    /// Counts a text whose digits are single tokens.
    fn counted(text: &str, prompt: &str, stop_text: Option<&str>) -> usize {
        let tokenizer = Tokenizer::from_bytes(TOKENIZER).unwrap();
        let completion = Completion {
            prompt,
            ids: &tokenizer.encode(text).unwrap(),
            forced: stop_text.is_some(),
        };
        count(
            &completion,
            &tags(stop_text.unwrap_or("</think>")),
            &tokenizer,
        )
        .unwrap()
    }

    #[test]
    fn what_stands_between_the_tags_counts_and_they_do_not() {
        assert_eq!(counted("<think>123</think>45", "", None), 3);
        assert_eq!(counted(" <think>123</think> 45", "", None), 3);
        assert_eq!(counted("<think>1234", "", None), 4);
        assert_eq!(counted("45", "", None), 0);
        assert_eq!(counted("", "<think>", None), 0);
        assert_eq!(counted("12</think>45", "question\n<think>\n", None), 2);
    }

    #[test]
    fn several_thoughts_add_up_and_tags_of_an_answer_are_text() {
        assert_eq!(counted("<think>12</think> <think>3</think>45", "", None), 3);
        assert_eq!(counted("<think>12</think>4<think>3</think>5", "", None), 2);
    }

    #[test]
    fn what_the_engine_put_in_does_not_count() {
        let stop = "9 8\n</think>";
        assert_eq!(counted("<think>129 8\n</think>45", "", Some(stop)), 2);
        // Shortened to the tag with its white space; only where the engine ended the thought.
        assert_eq!(counted("<think>12\n</think>45", "", Some(stop)), 2);
        assert_eq!(counted("<think>12\n</think>45", "", None), 3);
        assert_eq!(counted("<think>12</think>45", "", Some("</think>")), 2);
    }

    #[test]
    fn tags_of_several_tokens_are_found() {
        let tokenizer = Tokenizer::from_bytes(TOKENIZER).unwrap();
        let tags = ThinkingTags::new("◁think▷", "◁/think▷");
        for (text, expected) in [("◁think▷123◁/think▷45", 3), ("12", 0)] {
            let completion = Completion {
                prompt: "",
                ids: &tokenizer.encode(text).unwrap(),
                forced: false,
            };
            assert_eq!(count(&completion, &tags, &tokenizer).unwrap(), expected);
        }
    }
}
