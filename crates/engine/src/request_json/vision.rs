//! Parameters of a body that say how closely pictures are looked at: `detail` of a picture, and for all of them
//! `vision: {"max_tiles": N, "max_tokens": N, "policy": "fewer" | "refuse"}`.

use serde_json::{Map, Value as Json};

use super::{short, wrong};
use crate::error::EngineError;
use crate::request::Request;
use crate::vision::{Detail, Policy};

/// Reads `vision`.
pub(super) fn read(request: &mut Request, body: &Map<String, Json>) -> Result<(), EngineError> {
    let settings = match body.get("vision") {
        None | Some(Json::Null) => return Ok(()),
        Some(Json::Object(settings)) => settings,
        Some(other) => return Err(wrong("vision", "an object", other)),
    };
    for (name, value) in settings {
        let full = format!("vision.{name}");
        match name.as_str() {
            _ if value.is_null() => {}
            "max_tiles" => request.vision.max_tiles = Some(count(&full, value)?),
            "max_tokens" => request.vision.max_tokens = Some(count(&full, value)?),
            "policy" => request.vision.policy = policy(&full, value)?,
            _ => return Err(EngineError::request(full, "not supported")),
        }
    }
    Ok(())
}

/// How closely one picture is looked at. `original` is a name of the Responses API for what `high` is.
pub(super) fn detail(place: &str, value: Option<&Json>) -> Result<Detail, EngineError> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(Detail::Auto);
    };
    value.as_str().and_then(Detail::of_name).ok_or_else(|| {
        let message = format!(
            "expected low, auto, high or original, found {}",
            short(value)
        );
        EngineError::request(format!("{place}.detail"), message)
    })
}

fn count(name: &str, value: &Json) -> Result<usize, EngineError> {
    match value.as_u64() {
        Some(number @ 1..) => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
        _ => Err(wrong(name, "a whole number from 1", value)),
    }
}

fn policy(name: &str, value: &Json) -> Result<Policy, EngineError> {
    match value.as_str() {
        Some("fewer") => Ok(Policy::Fewer),
        Some("refuse") => Ok(Policy::Refuse),
        _ => Err(wrong(name, "fewer or refuse", value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(vision: Json) -> Result<Request, EngineError> {
        let mut request = Request::default();
        let body = json!({"vision": vision});
        read(&mut request, body.as_object().unwrap())?;
        Ok(request)
    }

    #[test]
    fn a_budget_is_read() {
        let vision = parse(json!({"max_tiles": 3, "max_tokens": 400, "policy": "refuse"}))
            .unwrap()
            .vision;
        assert_eq!(vision.max_tiles, Some(3));
        assert_eq!(vision.max_tokens, Some(400));
        assert_eq!(vision.policy, Policy::Refuse);
        assert_eq!(parse(Json::Null).unwrap().vision, Default::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (vision, message) in [
            (json!(3), "vision: expected an object, found 3"),
            (
                json!({"max_tiles": 0}),
                "vision.max_tiles: expected a whole number from 1, found 0",
            ),
            (
                json!({"max_tokens": "x"}),
                "vision.max_tokens: expected a whole number from 1, found \"x\"",
            ),
            (
                json!({"policy": "guess"}),
                "vision.policy: expected fewer or refuse, found \"guess\"",
            ),
            (json!({"tiles": 3}), "vision.tiles: not supported"),
        ] {
            assert_eq!(parse(vision).unwrap_err().to_string(), message);
        }
        let wrong = detail("p", Some(&json!("huge"))).unwrap_err().to_string();
        assert_eq!(
            wrong,
            "p.detail: expected low, auto, high or original, found \"huge\""
        );
    }
}
