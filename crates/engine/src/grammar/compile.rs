//! Grammars made ready for one model. The vocabulary's trie is built at the first grammar; the last grammars are kept, since
//! clients ask with the same schema again and again.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::panic_utils::catch_unwind;
use llguidance::{Matcher, ParserFactory};

use super::{Grammar, vocabulary};
use crate::error::EngineError;
use crate::tokenizer::Tokenizer;

/// Grammars that are kept.
const KEPT: usize = 16;
/// Longest message of the library that is passed on.
const MAX_MESSAGE: usize = 300;
/// Schemas and grammars are read by recursive functions; a thread with so much stack reads the deepest that is let in.
const STACK_BYTES: usize = 64 << 20;

/// The grammars of one model.
#[derive(Default)]
pub(crate) struct Grammars {
    factory: OnceLock<Result<ParserFactory, String>>,
    /// The last ones, the newest at the end.
    kept: Mutex<VecDeque<(String, Matcher)>>,
}

/// What grammars are made for.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Length of a row of logits.
    pub vocabulary: usize,
    /// Ids that end an answer.
    pub eos: &'a [u32],
}

impl Grammars {
    /// A matcher at the grammar's beginning. Errors say what of the grammar is wrong or not supported.
    pub fn compile(&self, grammar: &Grammar, target: Target) -> Result<Matcher, EngineError> {
        let text = grammar.text();
        if let Some(matcher) = self.kept(&text) {
            return Ok(matcher);
        }
        let matcher = self.compile_new(grammar, target)?;
        let fresh = matcher.deep_clone();
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((text, matcher));
        Ok(fresh)
    }

    /// One that is kept. It stays as it was made: what one request learns reaches no other.
    fn kept(&self, text: &str) -> Option<Matcher> {
        let mut kept = self.lock();
        let at = kept.iter().position(|(kept, _)| kept == text)?;
        let entry = kept.remove(at)?;
        let matcher = entry.1.deep_clone();
        kept.push_back(entry);
        Some(matcher)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, Matcher)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile_new(&self, grammar: &Grammar, target: Target) -> Result<Matcher, EngineError> {
        let factory = self
            .factory
            .get_or_init(|| factory(target))
            .as_ref()
            .map_err(|message| EngineError::Tokenizer(message.clone()))?;
        let made = std::thread::scope(|scope| {
            let read = || factory.create_parser(TopLevelGrammar::from_lark(grammar.text()));
            let work = move || {
                let matcher = Matcher::new(catch_unwind(AssertUnwindSafe(read)));
                // A grammar that nothing begins, or whose first token takes too much work, is refused before the answer.
                let probed = match matcher.is_error() {
                    true => Ok(()),
                    false => matcher.deep_clone().compute_mask_or_eos().map(|_| ()),
                };
                (matcher, probed.map_err(|error| error.to_string()))
            };
            let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
            match builder.spawn_scoped(scope, work) {
                Ok(thread) => thread.join().map_err(|_| "it cannot be read".to_owned()),
                Err(error) => Err(format!("no thread to read it: {error}")),
            }
        });
        let wrong = |message: String| EngineError::request(grammar.name(), message);
        let (matcher, probed) = made.map_err(wrong)?;
        match (matcher.get_error(), probed) {
            (Some(message), _) => Err(wrong(told(&message, grammar))),
            (None, Err(message)) => Err(wrong(of_matching(&message))),
            (None, Ok(())) => Ok(matcher),
        }
    }
}

fn factory(target: Target) -> Result<ParserFactory, String> {
    let trie = vocabulary::trie(target.tokenizer, target.vocabulary, target.eos)?;
    let mut factory = ParserFactory::new_simple(&trie).map_err(|error| error.to_string())?;
    factory.quiet();
    *factory.limits_mut() = limits();
    Ok(factory)
}

/// Bounds for hostile grammars: about a second and some tens of megabytes for reading the worst that is let in, and some tens
/// of milliseconds for one token (the library says how fast its units are used up).
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        // One or two kilobytes each.
        max_lexer_states: 30_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: false,
        // Its messages would repeat the grammar.
        verbose_errors: false,
    }
}

/// What a message about a grammar says, without traces and the line that it quotes. Places in a line that we wrote around a
/// schema are of no use.
fn told(message: &str, grammar: &Grammar) -> String {
    let quoted = |line: &&str| {
        let line = line
            .trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit());
        line.starts_with(" | ") || line.starts_with("<backtrace>")
    };
    let lines: Vec<&str> = message.lines().take_while(|line| !quoted(line)).collect();
    let text = one_line(&lines.join(" "));
    let Some((place, rest)) = text
        .split_once("): ")
        .filter(|_| grammar.expression().is_some())
    else {
        return text;
    };
    match place.starts_with("at ") {
        true => rest
            .replacen("failed to compile JSON schema: ", "", 1)
            .replacen("Unimplemented keys: ", "not supported: ", 1)
            .replacen(" without 'referencing' feature", "", 1),
        false => text,
    }
}

/// What a message about matching says.
pub(super) fn of_matching(message: &str) -> String {
    match message.contains("NoExtension") || message.contains("no tokens allowed") {
        true => "no token of the model's vocabulary can go on from here".into(),
        false => one_line(message),
    }
}

fn one_line(text: &str) -> String {
    // The parser's state follows between tags.
    let text = text.split("\n<").next().unwrap_or(text);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
