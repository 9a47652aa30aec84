//! Parameters of a body that say whether and how much to think, under the names that the various servers gave them.
//!
//! Where several are in one body, the more exact one counts: switches (`enable_thinking`, `think`, `thinking.type`) above
//! efforts, budgets in tokens above those that an effort stands for. Two switches or two budgets that contradict each
//! other are an error.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::{short, wrong};
use crate::error::EngineError;
use crate::request::Request;

/// Parameters that [`read`] reads.
pub(super) const NAMES: [&str; 12] = [
    "enable_thinking",
    "think",
    "thinking",
    "reasoning",
    "reasoning_effort",
    "thinking_budget",
    "thinking_budget_tokens",
    "thinking_token_budget",
    "reasoning_budget",
    "thinking_time_ms",
    "thinking_grace_tokens",
    "chat_template_kwargs",
];

/// Efforts and the budgets in tokens that they stand for; none for no bound.
const EFFORTS: [(&str, Option<usize>); 7] = [
    ("none", Some(0)),
    ("minimal", Some(128)),
    ("low", Some(512)),
    ("medium", Some(2048)),
    ("high", Some(8192)),
    ("xhigh", None),
    ("max", None),
];

/// What a body says, each with the name of the parameter that said it.
#[derive(Default)]
struct Said {
    switch: Option<(String, bool)>,
    /// None inside for "without bound".
    budget: Option<(String, Option<usize>)>,
    effort: Option<(String, Option<usize>)>,
}

/// Reads all that a body says about thinking.
pub(super) fn read(request: &mut Request, body: &Map<String, Json>) -> Result<(), EngineError> {
    let mut said = Said::default();
    for (name, value) in body.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "enable_thinking" => said.switch(name, boolean(name, value)?)?,
            "think" if value.is_string() => said.effort(name, value)?,
            "think" => said.switch(name, boolean(name, value)?)?,
            "reasoning_effort" => said.effort(name, value)?,
            "thinking" => said.anthropic(value)?,
            "reasoning" => said.open_router(value)?,
            "thinking_budget"
            | "thinking_budget_tokens"
            | "thinking_token_budget"
            | "reasoning_budget" => said.budget(name, value)?,
            "thinking_time_ms" => {
                request.budget.time = Some(Duration::from_millis(whole(name, value)?))
            }
            "thinking_grace_tokens" => {
                let tokens = usize::try_from(whole(name, value)?).unwrap_or(usize::MAX);
                request.budget.grace_tokens = Some(tokens);
            }
            "chat_template_kwargs" => match value {
                Json::Object(kwargs) => said.template_kwargs(request, kwargs)?,
                _ => return Err(wrong(name, "an object", value)),
            },
            _ => {}
        }
    }
    said.settle(request);
    Ok(())
}

impl Said {
    fn settle(self, request: &mut Request) {
        if let Some((_, budget)) = self.effort {
            request.thinking = Some(budget != Some(0));
            request.budget.tokens = budget;
        }
        if let Some((_, thinking)) = self.switch {
            request.thinking = Some(thinking);
        }
        if let Some((_, budget)) = self.budget {
            request.budget.tokens = budget;
        }
    }

    fn switch(&mut self, name: &str, on: bool) -> Result<(), EngineError> {
        once(&mut self.switch, name, on)
    }

    fn budget(&mut self, name: &str, value: &Json) -> Result<(), EngineError> {
        // llama-server's word for "without bound".
        let tokens = match value.as_i64() {
            Some(-1) => None,
            _ => Some(usize::try_from(whole(name, value)?).unwrap_or(usize::MAX)),
        };
        once(&mut self.budget, name, tokens)
    }

    fn effort(&mut self, name: &str, value: &Json) -> Result<(), EngineError> {
        let word = value.as_str().unwrap_or_default();
        match EFFORTS.iter().find(|(effort, _)| *effort == word) {
            Some((_, budget)) => once(&mut self.effort, name, *budget),
            None => {
                let words = EFFORTS.map(|(effort, _)| effort).join(", ");
                Err(wrong(name, &format!("one of {words}"), value))
            }
        }
    }

    /// `{"type": "enabled" | "disabled" | "adaptive", "budget_tokens": N}`.
    fn anthropic(&mut self, value: &Json) -> Result<(), EngineError> {
        match value["type"].as_str() {
            Some("enabled" | "adaptive") => self.switch("thinking.type", true)?,
            Some("disabled") => self.switch("thinking.type", false)?,
            _ => {
                let expected = "enabled, adaptive or disabled";
                return Err(wrong("thinking.type", expected, &value["type"]));
            }
        }
        match &value["budget_tokens"] {
            Json::Null => Ok(()),
            tokens => self.budget("thinking.budget_tokens", tokens),
        }
    }

    /// `{"enabled": true, "effort": "low", "max_tokens": N}`; the Responses API has `effort` too.
    fn open_router(&mut self, value: &Json) -> Result<(), EngineError> {
        let Json::Object(map) = value else {
            return Err(wrong("reasoning", "an object", value));
        };
        for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            let place = format!("reasoning.{name}");
            match name.as_str() {
                "enabled" => self.switch(&place, boolean(&place, value)?)?,
                "effort" => self.effort(&place, value)?,
                "max_tokens" => self.budget(&place, value)?,
                // How the thought is to be shown is not the engine's.
                "exclude" | "summary" => {}
                _ => return Err(EngineError::request(place, "not supported")),
            }
        }
        Ok(())
    }

    fn template_kwargs(
        &mut self,
        request: &mut Request,
        kwargs: &Map<String, Json>,
    ) -> Result<(), EngineError> {
        for (name, value) in kwargs {
            let place = format!("chat_template_kwargs.{name}");
            match (name.as_str(), value) {
                ("enable_thinking" | "thinking_budget", Json::Null) => {}
                ("enable_thinking", value) => self.switch(&place, boolean(&place, value)?)?,
                ("thinking_budget", value) => self.budget(&place, value)?,
                _ => {
                    request.template_kwargs.insert(name.clone(), value.clone());
                }
            }
        }
        Ok(())
    }
}

/// Keeps what was said first; saying the same again is fine.
fn once<T: PartialEq>(
    kept: &mut Option<(String, T)>,
    name: &str,
    value: T,
) -> Result<(), EngineError> {
    match kept {
        Some((first, other)) if *other != value => {
            let message = format!("says something else than `{first}`");
            Err(EngineError::request(name, message))
        }
        Some(_) => Ok(()),
        None => {
            *kept = Some((name.to_owned(), value));
            Ok(())
        }
    }
}

fn boolean(name: &str, value: &Json) -> Result<bool, EngineError> {
    value
        .as_bool()
        .ok_or_else(|| wrong(name, "true or false", value))
}

fn whole(name: &str, value: &Json) -> Result<u64, EngineError> {
    value.as_u64().ok_or_else(|| {
        let message = format!("expected a whole number, found {}", short(value));
        EngineError::request(name, message)
    })
}
