//! `/v1/images`: a picture handed over before the question, once for many questions.
//!
//! It is decoded and measured at once. Where whoever answers can encode ahead ([`crate::Chat::encode_ahead`]), that begins at
//! once too; else it is encoded with the first question about it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{Response, StatusCode, header};
use hyper::body::Bytes;
use serde_json::{Value as Json, json};

use crate::about::plan_json;
use crate::app::{App, slowly};
use crate::body;
use crate::error::{ApiError, Shape, json_response};
use crate::guard::Client;
use crate::pictures::{Detail, Pictures};
use crate::room::Room;
use crate::store::Encoding;

type Shared = State<Arc<App>>;

fn answer(result: Result<Json, ApiError>) -> Response<Body> {
    match result {
        Ok(json) => json_response(StatusCode::OK, &json),
        Err(error) => error.response(Shape::OpenAi),
    }
}

/// `POST /v1/images`: a picture's bytes (`Content-Type: image/...`), or JSON `{"image": DATA URL}`, to its id, grid and tokens.
pub async fn add(State(app): Shared, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut room = app.rooms.open();
    let added = match body::read(&parts.headers, body, &app.config.limits, &mut room).await {
        Ok(bytes) => slowly(&app, move |app| keep(app, &parts, &bytes, room)).await,
        Err(error) => Err(error),
    };
    answer(added)
}

fn keep(app: &App, parts: &Parts, bytes: &Bytes, mut room: Room) -> Result<Json, ApiError> {
    let owner = owner(parts.extensions.get());
    let mut pictures = Pictures {
        config: &app.config,
        store: &app.store,
        owner,
        tile_side: app.chat.model().tile_side,
        room: &mut room,
        found: Vec::new(),
    };
    let kind = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if kind.to_ascii_lowercase().starts_with("application/json") {
        let object = body::object(bytes)?;
        match object.get("image").and_then(Json::as_str) {
            Some(url) => pictures.address("image", url, Detail::High)?,
            None => return Err(ApiError::invalid("image", "expected a data URL")),
        };
    } else {
        if bytes.len() > app.config.limits.picture_bytes {
            let message = format!(
                "a picture of more than {} bytes",
                app.config.limits.picture_bytes
            );
            return Err(ApiError::invalid("image", message).with_code("image_file_too_large"));
        }
        pictures.decode("image", bytes, Detail::High)?;
    }
    let Some(picture) = pictures.found.pop() else {
        return Err(ApiError::internal());
    };
    let size = (picture.width, picture.height);
    let ahead = app.chat.encode_ahead(&picture);
    let id = app.store.keep(owner, picture, ahead)?;
    Ok(describe(app, &id, size))
}

fn describe(app: &App, id: &str, (width, height): (u32, u32)) -> Json {
    let encoding = match app.store.encoding(id) {
        Encoding::OnRequest => "on_request",
        Encoding::Running => "running",
        Encoding::Done => "done",
    };
    let mut json = json!({
        "id": id,
        "object": "image",
        "expires_in_s": app.store.life().as_secs(),
        "encoding": encoding,
    });
    let plan = plan_json(&app.chat.plan(width, height), app.chat.model().tile_side);
    if let (Json::Object(json), Json::Object(plan)) = (&mut json, plan) {
        json.extend(plan);
    }
    json
}

/// `GET /v1/images/{id}`.
pub async fn show(State(app): Shared, Path(id): Path<String>, request: Request) -> Response<Body> {
    let found = app.store.find(owner(request.extensions().get()), &id);
    answer(found.map(|picture| describe(&app, &id, (picture.width, picture.height))))
}

/// `DELETE /v1/images/{id}`.
pub async fn remove(
    State(app): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Response<Body> {
    let removed = app.store.remove(owner(request.extensions().get()), &id);
    answer(removed.map(|()| json!({"id": id, "object": "image", "deleted": true})))
}

fn owner(client: Option<&Client>) -> Option<usize> {
    client.and_then(|client| client.owner)
}
