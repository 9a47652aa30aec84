//! What goes wrong between a client and its answer, as HTTP tells it: in OpenAI's shape, or in Anthropic's for its routes.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use engine::EngineError;
use image_prep::ImageError;
use serde_json::{Value as Json, json};

/// Whether the same request may succeed later. The official clients ask again by themselves unless told not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again.
    Never,
    /// After so many seconds.
    After(u32),
}

/// An error that a client is told.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// OpenAI's `code`, for programs.
    pub code: Option<&'static str>,
    /// The part of the request that is wrong.
    pub param: Option<String>,
    /// What is wrong, for people, with advice where there is any.
    pub message: String,
    /// Whether to ask again.
    pub retry: Retry,
}

/// Whose names an answer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"error":{"message","type","param","code"}}`.
    OpenAi,
    /// `{"type":"error","error":{"type","message"}}`.
    Anthropic,
}

impl Shape {
    /// The shape that clients of a path read.
    pub fn of_path(path: &str) -> Self {
        match path.strip_prefix("/v1/messages") {
            Some("") => Shape::Anthropic,
            Some(rest) if rest.starts_with('/') => Shape::Anthropic,
            _ => Shape::OpenAi,
        }
    }
}

impl ApiError {
    /// An error with a status and a message.
    pub fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Self {
        let kind = match status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        ApiError {
            status,
            kind,
            code,
            param: None,
            message: message.into(),
            retry: Retry::Never,
        }
    }

    /// A request that asks for something wrong in its part `param`.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        let param = param.into();
        let message = format!("{param}: {}", message.into());
        Self::new(StatusCode::BAD_REQUEST, None, message).with_param(param)
    }

    /// A setting that this server does not have.
    pub fn unsupported(param: impl Into<String>) -> Self {
        Self::invalid(param, "not supported").with_code("unsupported_parameter")
    }

    /// Something that is not there.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Some(code), message)
    }

    /// The queue is full.
    pub fn busy(waiting: usize) -> Self {
        let message = format!("{waiting} requests are waiting already; ask again in a moment");
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, Some("queue_full"), message);
        error.retry = Retry::After(2);
        error
    }

    /// Requests and pictures in flight take all the memory that they may.
    pub fn memory() -> Self {
        let message = "requests in flight take all the memory that they may; ask again in a moment";
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Some("out_of_memory"),
            message,
        );
        error.retry = Retry::After(2);
        error
    }

    /// The server is ending.
    pub fn ending() -> Self {
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Some("shutting_down"),
            "the server is shutting down",
        );
        error.retry = Retry::After(5);
        error
    }

    /// A bug: details go to the server's own log.
    pub fn internal() -> Self {
        let message = "the server failed at this request; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Some("internal"), message)
    }

    /// With the part of the request that is wrong.
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// With a code for programs.
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The body.
    pub fn json(&self, shape: Shape) -> Json {
        match shape {
            Shape::OpenAi => {
                json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
            }
            Shape::Anthropic => {
                let kind = match self.kind {
                    "server_error" if self.status == StatusCode::SERVICE_UNAVAILABLE => {
                        "overloaded_error"
                    }
                    "server_error" => "api_error",
                    kind => kind,
                };
                json!({"type": "error", "error": {"type": kind, "message": self.message}})
            }
        }
    }

    /// The whole answer.
    pub fn response(&self, shape: Shape) -> Response<Body> {
        let mut response = json_response(self.status, &self.json(shape));
        let headers = response.headers_mut();
        match self.retry {
            Retry::Never => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            Retry::After(seconds) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An answer of JSON.
pub fn json_response(status: StatusCode, value: &Json) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = match error.hint() {
            Some(hint) => format!("{error}. Hint: {hint}."),
            None => error.to_string(),
        };
        let bad = |code| ApiError::new(StatusCode::BAD_REQUEST, code, message.clone());
        match &error {
            EngineError::Request {
                what,
                message: said,
            } => {
                let error = bad((said == "not supported").then_some("unsupported_parameter"));
                error.with_param(what.clone())
            }
            EngineError::PromptTooLong { .. } => {
                bad(Some("context_length_exceeded")).with_param("messages")
            }
            EngineError::Image { source, .. } => {
                bad(Some(picture_code(source))).with_param("messages")
            }
            // A template refuses messages by failing on them.
            EngineError::Template { .. } => bad(None).with_param("messages"),
            EngineError::Cancelled => ApiError::ending(),
            _ => {
                eprintln!("server: {message}");
                ApiError::internal()
            }
        }
    }
}

/// OpenAI's codes for pictures that cannot be used.
pub fn picture_code(error: &ImageError) -> &'static str {
    match error {
        ImageError::NotAPicture { .. } => "invalid_image_format",
        ImageError::Truncated { .. } | ImageError::Damaged { .. } => "image_parse_error",
        ImageError::Unsupported { .. } => "unsupported_image_media_type",
        ImageError::TooLarge { .. } | ImageError::TooMuchMemory { .. } => "image_too_large",
        ImageError::Empty { .. } => "image_too_small",
        _ => "invalid_image",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_all_four_keys_of_openai_and_anthropics_own_words() {
        let error = ApiError::invalid("stop", "expected a text");
        let json = error.json(Shape::OpenAi).to_string();
        insta::assert_snapshot!(json, @r#"{"error":{"message":"stop: expected a text","type":"invalid_request_error","param":"stop","code":null}}"#);
        let json = ApiError::ending().json(Shape::Anthropic).to_string();
        insta::assert_snapshot!(json, @r#"{"type":"error","error":{"type":"overloaded_error","message":"the server is shutting down"}}"#);
    }

    #[test]
    fn only_errors_that_may_pass_are_asked_again() {
        let headers = |error: ApiError| error.response(Shape::OpenAi).headers().clone();
        assert_eq!(headers(ApiError::busy(9))[header::RETRY_AFTER], "2");
        assert_eq!(
            headers(ApiError::unsupported("x"))["x-should-retry"],
            "false"
        );
    }

    #[test]
    fn an_answer_has_the_shape_of_its_path() {
        for (path, shape) in [
            ("/v1/messages", Shape::Anthropic),
            ("/v1/messages/count_tokens", Shape::Anthropic),
            ("/v1/messagesx", Shape::OpenAi),
            ("/v1/chat/completions", Shape::OpenAi),
        ] {
            assert_eq!(Shape::of_path(path), shape, "{path}");
        }
    }
}
