//! `/v1/images`: a picture handed over before the question, once for many questions.
//!
//! It is decoded and measured at once. Where whoever answers can encode ahead ([`crate::Chat::encode_ahead`]), that begins at
//! once too; else it is encoded with the first question about it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{Response, StatusCode, header};
use engine::Detail;
use hyper::body::Bytes;
use serde_json::{Value as Json, json};

use crate::about::plan_json;
use crate::app::{App, fetch, slowly};
use crate::body;
use crate::error::{ApiError, Shape, json_response};
use crate::guard::Client;
use crate::pictures::{Fetched, Pictures};
use crate::room::Room;
use crate::store::Encoding;
use crate::writer::{data_line, events_response};

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
        Ok(bytes) => fetch_and_keep(&app, parts, bytes, room).await,
        Err(error) => Err(error),
    };
    answer(added)
}

async fn fetch_and_keep(
    app: &Arc<App>,
    parts: Parts,
    bytes: Bytes,
    mut room: Room,
) -> Result<Json, ApiError> {
    let mut fetched = Fetched::new();
    // A body `{"image": ADDRESS}` is made into a part of a message, where addresses are looked for.
    if is_json(&parts) && app.config.remote.is_some() {
        let object = body::object(&bytes)?;
        let part = json!({"part": {"type": "image_url", "image_url": object.get("image")}});
        let part = Bytes::from(part.to_string());
        fetched = fetch(app, &part, &mut room).await?;
    }
    slowly(app, move |app| keep(app, &parts, (&bytes, &fetched), room)).await
}

fn is_json(parts: &Parts) -> bool {
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("application/json")
}

fn keep(
    app: &App,
    parts: &Parts,
    (bytes, fetched): (&Bytes, &Fetched),
    mut room: Room,
) -> Result<Json, ApiError> {
    let owner = owner(parts.extensions.get());
    let mut pictures = Pictures {
        config: &app.config,
        store: &app.store,
        owner,
        fetched,
        room: &mut room,
        found: Vec::new(),
        details: Vec::new(),
    };
    if is_json(parts) {
        let object = body::object(bytes)?;
        match object.get("image").and_then(Json::as_str) {
            Some(url) => pictures.address("image", url, Detail::Auto)?,
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
        pictures.decode("image", bytes, Detail::Auto)?;
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
    let mut json = json!({
        "id": id,
        "object": "image",
        "expires_in_s": app.store.life().as_secs(),
    });
    let plan = plan_json(&app.chat.plan(width, height), app.chat.model().tile_side);
    if let (Json::Object(json), Json::Object(encoding), Json::Object(plan)) =
        (&mut json, app.store.encoding(id).json(), plan)
    {
        // The plan says how many there are.
        json.extend(encoding.into_iter().filter(|(name, _)| name != "tiles"));
        json.extend(plan);
    }
    json
}

/// `GET /v1/images/{id}/events`: how far the picture's encoding is, as events, until it is over. They have the words of
/// `GET /v1/images/{id}`, and `time_ms` since this was asked; the last one is `[DONE]`.
pub async fn events(
    State(app): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Response<Body> {
    if let Err(error) = app.store.find(owner(request.extensions().get()), &id) {
        return error.response(Shape::OpenAi);
    }
    let watching = Watching {
        app,
        id,
        started: Instant::now(),
        told: None,
        spoke: Instant::now(),
        over: false,
    };
    events_response(futures_util::stream::unfold(
        watching,
        |mut watching| async move {
            let event = watching.next().await?;
            Some((Ok::<_, std::convert::Infallible>(event), watching))
        },
    ))
}

/// How often it is looked how far an encoding is: a batch of tiles takes longer.
const LOOK_TIME: Duration = Duration::from_millis(20);

/// Somebody who wants to know how far an encoding is.
struct Watching {
    app: Arc<App>,
    id: String,
    started: Instant,
    told: Option<Encoding>,
    spoke: Instant,
    over: bool,
}

impl Watching {
    /// The next event; none after the last.
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        loop {
            let now = self.app.store.encoding(&self.id);
            if self.told != Some(now) {
                self.told = Some(now);
                self.spoke = Instant::now();
                let mut json = now.json();
                json["id"] = json!(self.id);
                json["time_ms"] = json!(self.started.elapsed().as_millis() as u64);
                self.over = !matches!(now, Encoding::Running(_));
                let end = if self.over { "data: [DONE]\n\n" } else { "" };
                return Some(data_line(&json) + end);
            }
            if self.spoke.elapsed() >= self.app.config.limits.ping_time {
                self.spoke = Instant::now();
                return Some(": ping\n\n".into());
            }
            tokio::time::sleep(LOOK_TIME).await;
        }
    }
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
