//! The settings of a request, by OpenAI's names and those that other servers gave to thinking.
//!
//! The engine reads most of them (`engine::request_json`), and refuses by name what it does not have.

use engine::Request;
use engine::request_json::{self, Pictures as PictureRule, Rules};
use serde_json::{Map, Value as Json, json};

use crate::body::short;
use crate::error::ApiError;

/// Other servers' names for a bound on the tokens of a thought.
const BUDGET_NAMES: [&str; 5] = [
    "thinking_budget",
    "thinking_budget_tokens",
    "thinking_token_budget",
    "reasoning_budget",
    "thinking_tokens",
];

/// Whether a thought is wanted, and how long it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Thinking {
    wanted: Option<bool>,
    budget_tokens: Option<usize>,
}

/// The request that settings describe, without messages. `settings` has none of the keys of messages and streams.
pub fn request(mut settings: Map<String, Json>) -> Result<Request, ApiError> {
    let thinking = thinking(&mut settings)?;
    settings.insert("messages".into(), json!([]));
    let body = Json::Object(settings).to_string();
    let rules = Rules::new(PictureRule::DataUrls);
    let mut request = request_json::parse(body.as_bytes(), &Request::default(), &rules)?;
    if thinking.wanted.is_some() {
        request.thinking = thinking.wanted;
    }
    match thinking.budget_tokens {
        None => {}
        Some(0) => request.thinking = Some(false),
        Some(_) => return Err(ApiError::unsupported("thinking_budget")),
    }
    Ok(request)
}

/// Takes the names for thinking out of the settings.
fn thinking(settings: &mut Map<String, Json>) -> Result<Thinking, ApiError> {
    let mut thinking = Thinking::default();
    let mut take = |name: &str| settings.remove(name).filter(|value| !value.is_null());
    for name in BUDGET_NAMES {
        if let Some(value) = take(name) {
            thinking.budget_tokens = budget(name, &value)?;
        }
    }
    for name in ["reasoning_effort", "think", "enable_thinking"] {
        if let Some(value) = take(name) {
            thinking.wanted = Some(effort(name, &value)?);
        }
    }
    if let Some(value) = take("reasoning") {
        if let Some(value) = value.get("effort").filter(|value| !value.is_null()) {
            thinking.wanted = Some(effort("reasoning.effort", value)?);
        }
        if let Some(value) = value.get("max_tokens").filter(|value| !value.is_null()) {
            thinking.budget_tokens = budget("reasoning.max_tokens", value)?;
        }
    }
    if let Some(value) = take("thinking") {
        match value.get("type").and_then(Json::as_str) {
            Some("disabled") => thinking.wanted = Some(false),
            Some("adaptive") => thinking.wanted = Some(true),
            Some("enabled") => {
                thinking.wanted = Some(true);
                if let Some(value) = value.get("budget_tokens") {
                    thinking.budget_tokens = budget("thinking.budget_tokens", value)?;
                }
            }
            _ => {
                let message = "expected `enabled`, `adaptive` or `disabled`";
                return Err(ApiError::invalid("thinking.type", message));
            }
        }
    }
    Ok(thinking)
}

/// A number of tokens; -1 is without bound.
fn budget(name: &str, value: &Json) -> Result<Option<usize>, ApiError> {
    match (value.as_u64(), value.as_i64()) {
        (Some(tokens), _) => Ok(Some(usize::try_from(tokens).unwrap_or(usize::MAX))),
        (None, Some(-1)) => Ok(None),
        _ => Err(ApiError::invalid(
            name,
            format!("expected a number of tokens, found {}", short(value)),
        )),
    }
}

fn effort(name: &str, value: &Json) -> Result<bool, ApiError> {
    match value {
        Json::Bool(wanted) => Ok(*wanted),
        Json::String(effort) if effort == "none" => Ok(false),
        Json::String(effort)
            if ["minimal", "low", "medium", "high", "xhigh", "max"].contains(&effort.as_str()) =>
        {
            Ok(true)
        }
        other => {
            let message = format!(
                "expected none, minimal, low, medium, high, xhigh or max, found {}",
                short(other)
            );
            Err(ApiError::invalid(name, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: Json) -> Result<Request, ApiError> {
        let Json::Object(settings) = settings else {
            panic!("an object")
        };
        request(settings)
    }

    #[test]
    fn all_names_for_thinking_mean_the_same() {
        for off in [
            json!({"reasoning_effort": "none"}),
            json!({"think": false}),
            json!({"enable_thinking": false}),
            json!({"thinking": {"type": "disabled"}}),
            json!({"thinking_budget": 0}),
            json!({"reasoning": {"effort": "none"}}),
            json!({"chat_template_kwargs": {"enable_thinking": false}}),
        ] {
            assert_eq!(read(off.clone()).unwrap().thinking, Some(false), "{off}");
        }
        for on in [
            json!({"reasoning_effort": "high"}),
            json!({"think": true}),
            json!({"enable_thinking": true, "thinking_budget": -1}),
            json!({"thinking": {"type": "adaptive"}}),
            json!({"chat_template_kwargs": {"enable_thinking": true}}),
        ] {
            assert_eq!(read(on.clone()).unwrap().thinking, Some(true), "{on}");
        }
        assert_eq!(
            read(json!({"reasoning_effort": null})).unwrap().thinking,
            None
        );
    }

    #[test]
    fn wrong_settings_are_named() {
        for (settings, param) in [
            (json!({"reasoning_effort": "extreme"}), "reasoning_effort"),
            (json!({"thinking_budget": "many"}), "thinking_budget"),
            (json!({"thinking": {"type": "maybe"}}), "thinking.type"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"frobnicate": 1}), "frobnicate"),
        ] {
            assert_eq!(read(settings).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
