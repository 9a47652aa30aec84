//! Routes about the server and its model, and what requests would cost.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use engine::ImageInfo;
use image_prep::TilePlan;
use serde_json::{Map, Value as Json, json};

use crate::app::{Api, App, read, slowly};
use crate::body::{self, short};
use crate::chat::{Explained, ModelCard, Sees, Thinks};
use crate::error::{ApiError, Shape, json_response};

type Shared = State<Arc<App>>;

fn answer(result: Result<Json, ApiError>) -> Response<Body> {
    match result {
        Ok(json) => json_response(StatusCode::OK, &json),
        Err(error) => error.response(Shape::OpenAi),
    }
}

/// `GET /health`: the model is loaded before the server listens, so whoever is answered is answered with 200.
pub async fn health(State(app): Shared) -> Response<Body> {
    let load = app.chat.load();
    answer(Ok(
        json!({"status": "ok", "waiting": load.waiting, "running": load.running}),
    ))
}

/// `GET /metrics`.
pub async fn metrics(State(app): Shared) -> Response<Body> {
    let mut text = app.metrics.text(app.chat.load(), app.store.bytes());
    text.push_str(
        &app.chat
            .image_cache()
            .map_or(String::new(), crate::metrics::of_image_cache),
    );
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// `GET /v1/models`.
pub async fn models(State(app): Shared) -> Response<Body> {
    answer(Ok(
        json!({"object": "list", "data": [card(app.chat.model())]}),
    ))
}

/// `GET /v1/models/{id}`.
pub async fn model(State(app): Shared, Path(id): Path<String>) -> Response<Body> {
    let model = app.chat.model();
    match id == model.id {
        true => answer(Ok(card(model))),
        false => {
            let id: String = id.chars().take(80).collect();
            let message = format!("there is no model {id}; there is {}", model.id);
            answer(Err(
                ApiError::not_found("model_not_found", message).with_param("model")
            ))
        }
    }
}

fn card(model: &ModelCard) -> Json {
    let inputs = match model.sees {
        Sees::Pictures => json!(["text", "image"]),
        Sees::Nothing => json!(["text"]),
    };
    json!({
        "id": model.id,
        "object": "model",
        "created": model.created_s,
        "owned_by": "bluelm",
        "architecture": {"input_modalities": inputs, "output_modalities": ["text"]},
        "context_length": model.context_tokens,
        "cache_bytes_per_token": model.cache_bytes_per_token,
        "thinking": model.thinks == Thinks::OnRequest,
    })
}

/// `POST /tokenize`: `{"content": TEXT, "with_pieces": false}` to `{"tokens": [...]}`, as llama-server has it. Control tokens
/// are not recognised in the text, as they are not in messages.
pub async fn tokenize(State(app): Shared, request: Request) -> Response<Body> {
    answer(tokens_of(&app, request).await)
}

async fn tokens_of(app: &Arc<App>, request: Request) -> Result<Json, ApiError> {
    let body = small_object(app, request).await?;
    let Some(text) = body.get("content").and_then(Json::as_str) else {
        return Err(ApiError::invalid("content", "expected a text"));
    };
    let tokens = app.chat.tokenize(text)?;
    let pieces = body.get("with_pieces") == Some(&Json::Bool(true));
    let token = |(id, piece): &(u32, String)| match pieces {
        true => json!({"id": id, "piece": piece}),
        false => json!(id),
    };
    Ok(json!({"tokens": tokens.iter().map(token).collect::<Vec<Json>>()}))
}

/// `POST /detokenize`: `{"tokens": [...]}` to `{"content": TEXT}`.
pub async fn detokenize(State(app): Shared, request: Request) -> Response<Body> {
    answer(text_of(&app, request).await)
}

async fn text_of(app: &Arc<App>, request: Request) -> Result<Json, ApiError> {
    let body = small_object(app, request).await?;
    let id = |value: &Json| u32::try_from(value.as_u64()?).ok();
    let ids = body.get("tokens").and_then(Json::as_array);
    match ids.and_then(|ids| ids.iter().map(id).collect::<Option<Vec<u32>>>()) {
        Some(ids) => Ok(json!({"content": app.chat.detokenize(&ids)?})),
        None => {
            let found = body.get("tokens").map_or("nothing".into(), short);
            Err(ApiError::invalid(
                "tokens",
                format!("expected a list of ids, found {found}"),
            ))
        }
    }
}

/// A body that is a small object.
pub(crate) async fn small_object(
    app: &Arc<App>,
    request: Request,
) -> Result<Map<String, Json>, ApiError> {
    let (parts, body) = request.into_parts();
    let mut room = app.rooms.open();
    let bytes = body::read(&parts.headers, body, &app.config.limits, &mut room).await?;
    body::object(&bytes)
}

/// `POST /v1/explain`: a body of chat completions to what it would cost. Nothing is computed with the network.
pub async fn explain(State(app): Shared, request: Request) -> Response<Body> {
    answer(cost(&app, request).await)
}

async fn cost(app: &Arc<App>, request: Request) -> Result<Json, ApiError> {
    let asked = read(app, Api::Completions, request).await?;
    let (measure, model) = (asked.measure, app.chat.model());
    let (request, _room) = (asked.request, asked.room);
    // It waits for the end of a step.
    let explained = slowly(app, move |app| Ok(app.chat.explain(&request)?)).await?;
    let plans = measure.plans.iter().zip(&measure.images);
    let mut images: Vec<Json> = plans
        .map(|(plan, info)| plan_json(&(plan.clone(), info.clone()), model.tile_side))
        .collect();
    if let Some(Explained { cost, .. }) = &explained {
        for (image, encoded) in images.iter_mut().zip(&cost.encoded) {
            image["encoded"] = json!(encoded);
        }
    }
    let mut json = json!({
        "object": "explain",
        "model": model.id,
        "prompt_tokens": measure.prompt_tokens,
        "image_tokens": measure.image_tokens,
        "text_tokens": measure.prompt_tokens - measure.image_tokens,
        "context_tokens": model.context_tokens,
        "left_tokens": model.context_tokens - measure.prompt_tokens,
        "cache_bytes": model.cache_bytes_per_token * measure.prompt_tokens,
        "images": images,
    });
    if let Some(Explained { cost, cheaper }) = explained {
        json["cached_tokens"] = json!(cost.cached_tokens);
        json["predicted"] = json!(cost.predicted);
        let cheaper = cheaper.iter().map(|way| {
            json!({
                "vision": {"max_tiles": way.max_tiles},
                "prompt_tokens": way.cost.prompt_tokens,
                "image_tokens": way.cost.image_tokens,
                "predicted": way.cost.predicted,
            })
        });
        json["cheaper"] = cheaper.collect();
    }
    Ok(json)
}

/// How a picture is cut. The grid lies on a canvas of `grid` times `tile_side` pixels, on which the picture, resized, stands
/// at `offset`.
pub fn plan_json((plan, info): &(TilePlan, ImageInfo), tile_side: usize) -> Json {
    let mut json = json!({
        "width": info.width,
        "height": info.height,
        "grid": info.grid,
        "tiles": info.tiles,
        "tokens": info.tokens,
        "tile_side": tile_side,
        "canvas": [plan.canvas.0, plan.canvas.1],
        "resized": [plan.resized.0, plan.resized.1],
        "offset": [plan.offset.0, plan.offset.1],
        "thumbnail": plan.thumbnail.is_some(),
    });
    if let Some(reduced) = info.reduced {
        json["reduced"] = json!(reduced);
    }
    json
}
