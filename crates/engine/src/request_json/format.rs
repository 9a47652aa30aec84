//! `response_format`: what an answer must look like.
//!
//! `{"type": "json_schema", "json_schema": {"schema": …}}` as in chat completions, or the schema beside the type as in the
//! responses' `text.format`; `{"type": "json_object"}`; and, beyond OpenAI's words but in those of its custom tools,
//! `{"type": "grammar", "syntax": "lark" | "regex", "definition": …}`. `strict` has no effect: a schema is always kept.

use serde_json::Value as Json;

use super::{short, wrong};
use crate::error::EngineError;
use crate::grammar::Grammar;

/// The grammar that a body asks for; none for text.
pub(super) fn read(format: &Json) -> Result<Option<Grammar>, EngineError> {
    const NAME: &str = "response_format";
    match format.get("type").and_then(Json::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Grammar::json_object().named(NAME))),
        Some("json_schema") => schema(format).map(Some),
        Some("grammar") => {
            let place = format!("{NAME}.definition");
            let Some(text) = format.get("definition").and_then(Json::as_str) else {
                return Err(EngineError::request(place, "expected a text"));
            };
            let grammar = match format.get("syntax").and_then(Json::as_str) {
                Some("lark") => Grammar::lark(text),
                Some("regex") => Grammar::regex(text),
                _ => {
                    let found = format.get("syntax").map_or("nothing".into(), short);
                    let message = format!("expected lark or regex, found {found}");
                    return Err(EngineError::request(format!("{NAME}.syntax"), message));
                }
            };
            Ok(Some(placed(grammar, &place)?))
        }
        _ => {
            let expected = "an object of type text, json_object, json_schema or grammar";
            Err(wrong(NAME, expected, format))
        }
    }
}

fn schema(format: &Json) -> Result<Grammar, EngineError> {
    let (place, inner) = match format.get("json_schema") {
        Some(inner) => ("response_format.json_schema", inner),
        None => ("response_format", format),
    };
    if let Some(strict) = inner.get("strict").filter(|strict| !strict.is_null())
        && !strict.is_boolean()
    {
        return Err(wrong(&format!("{place}.strict"), "true or false", strict));
    }
    let place = format!("{place}.schema");
    match inner.get("schema") {
        Some(schema) => placed(Grammar::json_schema(schema), &place),
        None => Err(EngineError::request(
            place,
            "expected a JSON schema, found nothing",
        )),
    }
}

/// The grammar, or what is wrong with it, by its place in the request.
fn placed(grammar: Result<Grammar, EngineError>, place: &str) -> Result<Grammar, EngineError> {
    match grammar {
        Ok(grammar) => Ok(grammar.named(place)),
        Err(EngineError::Request { what, message }) => {
            let inside = what.strip_prefix("grammar").unwrap_or_default();
            Err(EngineError::request(format!("{place}{inside}"), message))
        }
        Err(error) => Err(error),
    }
}
