//! "Stop thinking now and answer": `POST /v1/chat/completions/control` with the id that the stream's first event gave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use engine::StopThinking;
use serde_json::{Value as Json, json};

use crate::about::small_object;
use crate::app::App;
use crate::error::{ApiError, Shape, json_response};
use crate::guard::Client;

/// The answers under way, by their ids.
#[derive(Default)]
pub struct Controls(Mutex<HashMap<String, (Option<usize>, StopThinking)>>);

/// An answer that can be controlled; not any more when dropped.
pub struct Control {
    all: Arc<Controls>,
    id: String,
}

impl Controls {
    /// Lets the owner control an answer.
    pub fn add(self: &Arc<Self>, id: &str, owner: Option<usize>, stop: StopThinking) -> Control {
        self.lock().insert(id.to_owned(), (owner, stop));
        Control {
            all: self.clone(),
            id: id.to_owned(),
        }
    }

    fn stop_thinking(&self, owner: Option<usize>, id: &str) -> Result<(), ApiError> {
        match self.lock().get(id) {
            Some((its_owner, stop)) if *its_owner == owner => {
                stop.stop();
                Ok(())
            }
            _ => {
                let message = "there is no answer of this id under way";
                Err(ApiError::not_found("completion_not_found", message).with_param("id"))
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Option<usize>, StopThinking)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

/// `POST /v1/chat/completions/control`: `{"id": ID, "action": "stop_thinking"}`. Without effect on an answer that has begun.
pub async fn control(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match act(&app, request).await {
        Ok(json) => json_response(StatusCode::OK, &json),
        Err(error) => error.response(Shape::OpenAi),
    }
}

async fn act(app: &Arc<App>, request: Request) -> Result<Json, ApiError> {
    let client: Option<Client> = request.extensions().get().copied();
    let owner = client.and_then(|client| client.owner);
    let body = small_object(app, request).await?;
    if body.get("action").and_then(Json::as_str) != Some("stop_thinking") {
        return Err(ApiError::invalid("action", "expected `stop_thinking`"));
    }
    let Some(id) = body.get("id").and_then(Json::as_str) else {
        return Err(ApiError::invalid("id", "expected the id of an answer"));
    };
    app.controls.stop_thinking(owner, id)?;
    Ok(json!({"id": id, "action": "stop_thinking"}))
}
