//! `response_format`: what an answer must look like.
//!
//! `{"type": "json_schema", "json_schema": {"schema": …}}` as in chat completions, or the schema beside the type as in the
//! responses' `text.format`; `{"type": "json_object"}`; `grammar` beside it, a text in GBNF as llama-server has it; and, beyond OpenAI's words but in those of its custom tools,
//! `{"type": "grammar", "syntax": "lark" | "regex" | "gbnf", "definition": …}`. `strict` has no effect: a schema is always kept.

use serde_json::{Map, Value as Json};

use super::{short, wrong};
use crate::error::EngineError;
use crate::grammar::Grammar;
use crate::request::Request;

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
                Some("gbnf") => Grammar::gbnf(text),
                _ => {
                    let found = format.get("syntax").map_or("nothing".into(), short);
                    let message = format!("expected lark, regex or gbnf, found {found}");
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

/// Reads `grammar`. An empty one is none: llama-server's own page sends it.
pub(super) fn grammar(request: &mut Request, body: &Map<String, Json>) -> Result<(), EngineError> {
    const NAME: &str = "grammar";
    match (body.get(NAME), &request.format) {
        (None | Some(Json::Null), _) => {}
        (Some(Json::String(text)), _) if text.is_empty() => {}
        (Some(_), Some(_)) => {
            let message = "expected it or response_format, found both";
            return Err(EngineError::request(NAME, message));
        }
        (Some(Json::String(text)), None) => request.format = Some(Grammar::gbnf(text)?),
        (Some(other), None) => return Err(wrong(NAME, "a text in GBNF", other)),
    }
    Ok(())
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
