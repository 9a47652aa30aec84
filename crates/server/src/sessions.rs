//! `POST /v1/sessions/{id}/prefill`: a conversation read before the question that goes on with it.
//!
//! The body is one of chat completions. Its prompt goes through the network and stays in the key-value cache; the request that
//! follows begins where it first differs. What is remembered is found by its content, so the id is the client's own name for
//! the conversation and comes back in the answer; a later request need not say it. Going away cancels the work.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value as Json, json};

use crate::app::{Api, App, read};
use crate::chat::Submission;
use crate::error::{ApiError, Shape, json_response};

/// Longest id.
const MOST_ID_BYTES: usize = 128;

/// `POST /v1/sessions/{id}/prefill`.
pub async fn prefill(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response<Body> {
    match read_ahead(&app, &id, request).await {
        Ok(json) => json_response(StatusCode::OK, &json),
        Err(error) => error.response(Shape::OpenAi),
    }
}

async fn read_ahead(app: &Arc<App>, id: &str, request: Request) -> Result<Json, ApiError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if id.is_empty() || id.len() > MOST_ID_BYTES || !id.bytes().all(fine) {
        let message =
            format!("expected 1 to {MOST_ID_BYTES} letters, digits, or characters of -_.:");
        return Err(ApiError::invalid("id", message));
    }
    let mut asked = read(app, Api::Completions, request).await?;
    // The last row's logits are needed for a first token, which nothing is computed after: it costs nothing to choose it.
    asked.request.max_tokens = Some(1);
    asked.request.logprobs = None;
    let ticket = app.chat.submit(Submission {
        client: asked.client,
        request: asked.request,
        room: asked.room.keep(),
    })?;
    let reply = ticket.answer(&mut |_| {}).await?.reply;
    Ok(json!({
        "id": id,
        "object": "session.prefill",
        "model": app.chat.model().id,
        "prompt_tokens": reply.usage.prompt_tokens,
        "cached_tokens": reply.usage.cached_tokens,
        "image_tokens": reply.usage.image_tokens,
        "images": reply.images,
        "image_ms": reply.timings.image_ms,
        "prefill_ms": reply.timings.prefill_ms,
    }))
}
