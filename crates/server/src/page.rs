//! The chat page: files that are part of the program and need no network.

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderValue, Response, header};

use crate::error::{ApiError, Shape};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! file {
    ($kind:expr, $name:literal) => {
        ($name, $kind, include_str!(concat!("../page/", $name)))
    };
}

/// Names, kinds and contents of what the page loads.
const FILES: [(&str, &str, &str); 7] = [
    file!(STYLE, "style.css"),
    file!(SCRIPT, "main.js"),
    file!(SCRIPT, "api.js"),
    file!(SCRIPT, "markdown.js"),
    file!(SCRIPT, "pictures.js"),
    file!(SCRIPT, "history.js"),
    file!(SCRIPT, "view.js"),
];

fn response(kind: &'static str, content: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // A newer program under the same address is to be seen at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// `GET /`.
pub async fn index() -> Response<Body> {
    response(HTML, include_str!("../page/index.html"))
}

/// `GET /assets/{name}`.
pub async fn asset(Path(name): Path<String>) -> Response<Body> {
    match FILES.iter().find(|(file, ..)| *file == name) {
        Some((_, kind, content)) => response(kind, content),
        None => {
            ApiError::not_found("unknown_route", "there is no such file").response(Shape::OpenAi)
        }
    }
}
