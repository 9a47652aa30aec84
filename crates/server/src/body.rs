//! Bodies, bounded in length, time and memory before they are read.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use serde_json::{Map, Value as Json};

use crate::config::Limits;
use crate::error::ApiError;
use crate::room::Room;

/// Memory for bodies is taken in such steps.
const STEP_BYTES: usize = 16 << 10;

/// Reads a body. What it takes in memory is taken from `room` as it comes, so that a length that is only announced takes
/// nothing.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    room: &mut Room,
) -> Result<Bytes, ApiError> {
    let length = headers.get(header::CONTENT_LENGTH);
    let announced = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > limits.body_bytes) {
        return Err(too_long(limits.body_bytes));
    }
    let whole = collect(Limited::new(body, limits.body_bytes), room);
    match tokio::time::timeout(limits.body_time, whole).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Broken::NoRoom(error))) => Err(error),
        Ok(Err(Broken::Body(error))) if error.is::<LengthLimitError>() => {
            Err(too_long(limits.body_bytes))
        }
        Ok(Err(Broken::Body(error))) => {
            let message = format!("the body could not be read: {error}");
            Err(ApiError::new(StatusCode::BAD_REQUEST, None, message))
        }
        Err(_) => {
            let seconds = limits.body_time.as_secs_f32();
            let message = format!("the body took longer than {seconds} seconds");
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, None, message))
        }
    }
}

/// Why a body is not whole.
enum Broken {
    NoRoom(ApiError),
    Body(Box<dyn std::error::Error + Send + Sync>),
}

async fn collect(mut body: Limited<Body>, room: &mut Room) -> Result<Bytes, Broken> {
    let mut bytes = Vec::new();
    let mut taken = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Broken::Body)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > taken {
            let more = STEP_BYTES.max(data.len());
            room.take(more).map_err(Broken::NoRoom)?;
            taken += more;
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

fn too_long(most: usize) -> ApiError {
    let message = format!("the body has more than {most} bytes");
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Some("body_too_large"),
        message,
    )
}

/// The object in a body. JSON nested deeper than 128 levels is refused by the parser.
pub fn object(body: &[u8]) -> Result<Map<String, Json>, ApiError> {
    let invalid =
        |message: String| ApiError::new(StatusCode::BAD_REQUEST, Some("invalid_json"), message);
    match serde_json::from_slice(body) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(_) => Err(invalid("the body: expected a JSON object".into())),
        Err(error) => Err(invalid(format!("the body is not valid JSON: {error}"))),
    }
}

/// A value for an error message: never a whole picture.
pub fn short(value: &Json) -> String {
    let text = match value {
        // Without writing a long text out first.
        Json::String(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        Json::Array(_) => "a list".into(),
        Json::Object(_) => "an object".into(),
        other => other.to_string(),
    };
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_would_overflow_the_stack_is_refused() {
        for deep in ["[".repeat(1 << 20), "{\"a\":".repeat(1 << 20)] {
            let error = object(deep.as_bytes()).unwrap_err();
            assert_eq!(error.code, Some("invalid_json"));
            assert!(error.message.contains("recursion limit"), "{error}");
        }
    }

    #[test]
    fn values_in_messages_are_short() {
        assert_eq!(
            short(&Json::String("x".repeat(1 << 20))),
            format!("\"{}...", "x".repeat(39))
        );
        assert_eq!(short(&serde_json::json!([1])), "a list");
        assert_eq!(short(&serde_json::json!(3)), "3");
    }
}
