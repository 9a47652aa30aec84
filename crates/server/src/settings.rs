//! The settings of a request, by OpenAI's names and those that other servers gave to thinking: the engine reads them
//! (`engine::request_json`), and refuses by name what it does not have.

use engine::Request;
use engine::request_json::{self, Pictures, Rules};
use serde_json::{Map, Value as Json, json};

use crate::error::ApiError;

/// Most stop strings, four times OpenAI's four.
const MAX_STOPS: usize = 16;
/// Longest stop string.
const MAX_STOP_BYTES: usize = 1000;

/// The request that settings describe, without messages. `settings` has none of the keys of messages and streams.
pub fn request(mut settings: Map<String, Json>) -> Result<Request, ApiError> {
    settings.insert("messages".into(), json!([]));
    let body = Json::Object(settings).to_string();
    let rules = Rules::new(Pictures::DataUrls);
    let request = request_json::parse(body.as_bytes(), &Request::default(), &rules)?;
    // Each is looked for after every token.
    if request.stop.len() > MAX_STOPS || request.stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES)
    {
        let message =
            format!("expected at most {MAX_STOPS} texts of at most {MAX_STOP_BYTES} bytes");
        return Err(ApiError::invalid("stop", message));
    }
    Ok(request)
}

/// An error of a setting that has another name in an API, by that name: `names` are pairs of ours and theirs.
pub fn renamed(mut error: ApiError, names: &[(&str, &str)]) -> ApiError {
    for (ours, theirs) in names {
        if let Some(rest) = error
            .param
            .as_deref()
            .and_then(|param| param.strip_prefix(ours))
        {
            error.param = Some(format!("{theirs}{rest}"));
            error.message = error.message.replacen(ours, theirs, 1);
            break;
        }
    }
    error
}

/// The same for what is looked at later, with the model.
pub fn rename_format(request: &mut Request, ours: &str, theirs: &str) {
    if let Some(format) = request.format.take() {
        let name = format.name().replacen(ours, theirs, 1);
        request.format = Some(format.named(name));
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
    fn each_request_has_a_switch_of_its_own() {
        let [a, b] = [(), ()].map(|()| read(json!({})).unwrap());
        a.stop_thinking.stop();
        assert!(!b.stop_thinking.is_stopped());
    }

    #[test]
    fn wrong_settings_are_named() {
        for (settings, param) in [
            (json!({"reasoning_effort": "extreme"}), "reasoning_effort"),
            (json!({"thinking_budget": "many"}), "thinking_budget"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"frobnicate": 1}), "frobnicate"),
            (json!({"stop": vec!["x"; 17]}), "stop"),
            (json!({"stop": "x".repeat(1001)}), "stop"),
        ] {
            assert_eq!(read(settings).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
