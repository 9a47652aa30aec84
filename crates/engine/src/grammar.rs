//! What an answer must look like: a JSON schema, a regular expression or a Lark grammar, kept token by token.
//!
//! A grammar begins where the thought ends; the thought itself is free, and its budget is kept as without one. At each token
//! those that the grammar does not allow are left out before anything else chooses ([`crate::sample`]), so whatever the
//! weights and the settings, an answer that ends by itself is one of the grammar. An answer that `max_tokens`, the context or
//! a stop string ends is the beginning of one.
//!
//! The work is done by [llguidance](https://github.com/guidance-ai/llguidance). What it does not support of JSON Schema is an
//! error, never left out. Its limits on time and memory are set in [`compile`].

mod compile;
mod cut;
mod gbnf;
mod guide;
mod vocabulary;

use serde_json::{Map, Value as Json, json};

use crate::error::EngineError;

pub(crate) use compile::{Grammars, Target};
pub(crate) use guide::{Guide, Thoughts};

/// Longest text of a grammar or schema, in bytes.
pub const MAX_GRAMMAR_BYTES: usize = 256 << 10;
/// Deepest nesting of brackets in a regular expression or a Lark grammar; the parsers recurse.
const MAX_NESTING: usize = 128;

/// What an answer must look like. Error messages call it `grammar` until it is [`Grammar::named`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grammar {
    body: Body,
    name: String,
}

/// In llguidance's variant of Lark, which can hold JSON schemas.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    /// What the rule `start` stands for, and the only rule.
    Expression(String),
    /// All rules.
    Rules(String),
}

impl Grammar {
    /// Any JSON object.
    pub fn json_object() -> Self {
        let schema = Map::from_iter([("type".to_owned(), json!("object"))]);
        Grammar::of(Body::Expression(inline_schema(&schema)))
    }

    /// JSON that a schema allows (Draft 2020-12; what is supported: docs/server.md). Items are separated as `json.dumps` of
    /// Python does it, `{"a": 1, "b": [2, 3]}`; properties come in the order of the schema.
    ///
    /// Errors when it is not an object or too long. What it says is looked at with the model: [`crate::Engine::prompt`].
    pub fn json_schema(schema: &Json) -> Result<Self, EngineError> {
        let schema = checked_schema(schema)?;
        Grammar::of(Body::Expression(inline_schema(schema))).checked()
    }

    /// Text that matches a regular expression as a whole, in the syntax of the Rust crate `regex`.
    pub fn regex(expression: &str) -> Result<Self, EngineError> {
        check_nesting(expression)?;
        let expression = llguidance::regex_to_lark(expression, "");
        Grammar::of(Body::Expression(format!("/{expression}/"))).checked()
    }

    /// Text that a Lark grammar derives from its rule `start`. The syntax is llguidance's variant of Lark:
    /// <https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>.
    pub fn lark(grammar: &str) -> Result<Self, EngineError> {
        if grammar.trim().is_empty() {
            return Err(EngineError::request("grammar", "it is empty"));
        }
        check_nesting(grammar)?;
        Grammar::rules(grammar.to_owned()).checked()
    }

    /// Text that a grammar in llama.cpp's format (GBNF) derives from its rule `root`:
    /// <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>. Errors name line and column.
    pub fn gbnf(grammar: &str) -> Result<Self, EngineError> {
        let length = Grammar::rules(grammar.to_owned()).checked();
        length.and_then(|_| gbnf::translate(grammar)?.checked())
    }

    /// A grammar in the format that it is in: GBNF where its first rule is defined by `::=`, else Lark.
    pub fn of_either_format(grammar: &str) -> Result<Self, EngineError> {
        match gbnf::recognise(grammar) {
            true => Grammar::gbnf(grammar),
            false => Grammar::lark(grammar),
        }
    }

    /// With another name in error messages.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What error messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All rules of a grammar.
    pub(crate) fn rules(rules: String) -> Self {
        Grammar::of(Body::Rules(rules))
    }

    /// What `start` stands for; none for a grammar of several rules.
    pub(crate) fn expression(&self) -> Option<&str> {
        match &self.body {
            Body::Expression(expression) => Some(expression),
            Body::Rules(_) => None,
        }
    }

    /// Where an answer that was cut ends, if it is to be JSON and has begun: a path, `$.items[2].name`.
    pub(crate) fn place_of_cut(&self, answer: &str) -> Option<String> {
        let json = self.expression().is_some_and(|it| it.starts_with("%json"));
        (json && !answer.is_empty()).then(|| cut::place(answer))
    }

    /// All of it in Lark.
    pub(crate) fn text(&self) -> String {
        match &self.body {
            Body::Expression(expression) => format!("start: {expression}"),
            Body::Rules(rules) => rules.clone(),
        }
    }

    fn of(body: Body) -> Self {
        Grammar {
            body,
            name: "grammar".into(),
        }
    }

    /// Itself, if it is not too long.
    pub(crate) fn checked(self) -> Result<Self, EngineError> {
        let bytes = match &self.body {
            Body::Expression(text) | Body::Rules(text) => text.len(),
        };
        match bytes > MAX_GRAMMAR_BYTES {
            true => Err(EngineError::request(
                self.name,
                format!("{bytes} bytes, at most {MAX_GRAMMAR_BYTES} are read"),
            )),
            false => Ok(self),
        }
    }
}

/// The object that a schema must be.
fn checked_schema(schema: &Json) -> Result<&Map<String, Json>, EngineError> {
    let Json::Object(map) = schema else {
        return Err(EngineError::request("grammar", "expected a JSON object"));
    };
    // llguidance's own settings, one of which is to leave out what it does not support.
    match map.contains_key("x-guidance") {
        true => Err(EngineError::request("grammar.x-guidance", "not supported")),
        false => Ok(map),
    }
}

/// A schema as an expression of Lark. White space is that of Python's `json.dumps`: with free white space a small model may
/// write nothing else.
pub(crate) fn inline_schema(schema: &Map<String, Json>) -> String {
    let mut schema = schema.clone();
    let spaces =
        json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    schema.insert("x-guidance".into(), spaces);
    format!("%json {}", Json::Object(schema))
}

/// Counts brackets as they stand, in strings and classes too: a few more than there are, never fewer.
fn check_nesting(text: &str) -> Result<(), EngineError> {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    match deepest > MAX_NESTING {
        true => Err(EngineError::request(
            "grammar",
            format!("brackets nested {deepest} deep, at most {MAX_NESTING} are read"),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
