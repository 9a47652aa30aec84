//! The routes, and how a request becomes an answer.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};
use engine::tools::CallSplitter;
use hyper::body::Bytes;
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;

use crate::anthropic::{self, MaxTokens};
use crate::body;
use crate::chat::{Answer, Chat, Measure, Said, Submission};
use crate::config::{Config, secret_name};
use crate::control::{Controls, control};
use crate::error::{ApiError, Shape, json_response};
use crate::guard::{Client, guard};
use crate::metrics::{Metrics, Watch};
use crate::openai_chat::{self, StreamOptions, flag};
use crate::pictures::{Fetched, Pictures};
use crate::remote::fetch_all;
use crate::room::{Room, Rooms};
use crate::store::Store;
use crate::writer::{self, Head, Writer};
use crate::{about, openai_responses, page, pictures_api, sessions};

/// Requests that are read and whose pictures are decoded at the same time.
const READERS: usize = 2;

/// Bytes of text that are read for each token of the context: over ten times what text has.
const MAX_TOKEN_BYTES: usize = 64;

/// What all requests share.
pub struct App {
    pub(crate) chat: Arc<dyn Chat>,
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) rooms: Rooms,
    pub(crate) readers: Semaphore,
    pub(crate) controls: Arc<Controls>,
}

/// The server as a function from requests to answers: what tests call, and [`crate::serve`] connects to sockets.
pub fn app(chat: Arc<dyn Chat>, config: Config) -> Router {
    let limits = &config.limits;
    let app = Arc::new(App {
        chat,
        store: Store::new(limits.picture_life, limits.kept_picture_bytes),
        metrics: Arc::default(),
        rooms: Rooms::new(limits.memory_bytes),
        readers: Semaphore::new(READERS),
        controls: Arc::default(),
        config,
    });
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{name}", get(page::asset))
        .route("/health", get(about::health))
        .route("/metrics", get(about::metrics))
        .route("/v1/models", get(about::models))
        .route("/v1/models/{*id}", get(about::model))
        .route("/tokenize", post(about::tokenize))
        .route("/detokenize", post(about::detokenize))
        .route("/v1/explain", post(about::explain))
        .route("/v1/images", post(pictures_api::add))
        .route(
            "/v1/images/{id}",
            get(pictures_api::show).delete(pictures_api::remove),
        )
        .route("/v1/images/{id}/events", get(pictures_api::events))
        .route("/v1/sessions/{id}/prefill", post(sessions::prefill))
        .route("/v1/chat/completions", asked(Api::Completions))
        .route("/v1/responses", asked(Api::Responses))
        .route("/v1/messages", asked(Api::Messages))
        .route("/v1/chat/completions/control", post(control))
        .route(
            "/v1/chat/completions/input_tokens",
            counted(Api::Completions),
        )
        .route("/v1/responses/input_tokens", counted(Api::Responses))
        .route("/v1/messages/count_tokens", counted(Api::CountedMessages))
        .fallback(|request: Request| async move { nothing_here(&request) })
        .method_not_allowed_fallback(|request: Request| async move { wrong_method(&request) })
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

/// Answers requests in these words.
fn asked(api: Api) -> MethodRouter<Arc<App>> {
    post(move |app, request| ask(app, api, request))
}

/// Counts their tokens.
fn counted(api: Api) -> MethodRouter<Arc<App>> {
    post(move |app, request| count(app, api, request))
}

fn nothing_here(request: &Request) -> Response<Body> {
    let path: String = request.uri().path().chars().take(80).collect();
    let error = ApiError::not_found("unknown_route", format!("there is nothing at {path}"));
    error.response(Shape::of_path(&path))
}

fn wrong_method(request: &Request) -> Response<Body> {
    let path = request.uri().path();
    let message = format!("{path} does not take {}", request.method());
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        Some("wrong_method"),
        message,
    )
    .response(Shape::of_path(path))
}

/// Whose words a request is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Completions,
    Responses,
    Messages,
    /// Messages that are only counted.
    CountedMessages,
}

impl Api {
    fn shape(self) -> Shape {
        match self {
            Api::Completions | Api::Responses => Shape::OpenAi,
            Api::Messages | Api::CountedMessages => Shape::Anthropic,
        }
    }

    fn id_prefix(self) -> &'static str {
        match self {
            Api::Completions => "chatcmpl-",
            Api::Responses => "resp_",
            Api::Messages | Api::CountedMessages => "msg_",
        }
    }

    fn reply(self, head: &Head, answer: &Answer) -> Json {
        match self {
            Api::Completions => openai_chat::reply(head, answer),
            Api::Responses => openai_responses::reply(head, answer),
            Api::Messages | Api::CountedMessages => anthropic::reply(head, answer),
        }
    }

    fn writer(self, head: Head, options: StreamOptions) -> Box<dyn Writer> {
        match self {
            Api::Completions => Box::new(openai_chat::ChunkWriter::new(head, options)),
            Api::Responses => Box::new(openai_responses::EventWriter::new(head)),
            Api::Messages | Api::CountedMessages => Box::new(anthropic::EventWriter::new(head)),
        }
    }
}

/// A request read and measured.
pub(crate) struct Asked {
    pub(crate) request: engine::Request,
    pub(crate) measure: Measure,
    stream: bool,
    options: StreamOptions,
    echo: Json,
    pub(crate) room: Room,
    owner: Option<usize>,
    pub(crate) client: u64,
}

/// Answers a request.
async fn ask(State(app): State<Arc<App>>, api: Api, request: Request) -> Response<Body> {
    let answered = answer(&app, api, request).await;
    answered.unwrap_or_else(|error| error.response(api.shape()))
}

async fn answer(app: &Arc<App>, api: Api, request: Request) -> Result<Response<Body>, ApiError> {
    let started = Instant::now();
    let asked = read(app, api, request).await?;
    let model = app.chat.model();
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let head = Head {
        id: secret_name(api.id_prefix()),
        created_s: since_1970.map_or(0, |time| time.as_secs()),
        model: model.id.clone(),
        started,
        echo: asked.echo,
        splitter: asked.request.tools.are_offered().then(CallSplitter::new),
    };
    let stop = asked.request.stop_thinking.clone();
    let control = app.controls.add(&head.id, asked.owner, stop);
    let ticket = app.chat.submit(Submission {
        client: asked.client,
        request: asked.request,
        room: asked.room.keep(),
    })?;
    let mut watch = Watch::new(app.metrics.clone(), started);
    if asked.stream {
        let writer = api.writer(head, asked.options);
        return Ok(writer::stream(
            ticket,
            writer,
            &asked.measure,
            app.config.limits.ping_time,
            watch,
            control,
        ));
    }
    let answered = ticket.answer(&mut |said: &Said| watch.saw(said)).await?;
    drop(control);
    Ok(json_response(StatusCode::OK, &api.reply(&head, &answered)))
}

/// Counts the tokens of a request.
async fn count(State(app): State<Arc<App>>, api: Api, request: Request) -> Response<Body> {
    match read(&app, api, request).await {
        Ok(asked) => {
            let tokens = asked.measure.prompt_tokens;
            let json = match api {
                Api::Responses => {
                    json!({"object": "response.input_tokens", "input_tokens": tokens})
                }
                _ => json!({"input_tokens": tokens}),
            };
            json_response(StatusCode::OK, &json)
        }
        Err(error) => error.response(api.shape()),
    }
}

/// Refuses a text that is far too long before it is made into tokens, which takes time.
fn check_text(request: &engine::Request, context_tokens: usize) -> Result<(), ApiError> {
    let mut texts = Vec::new();
    let messages = request.messages.iter();
    messages.for_each(|message| message.writings(&mut texts));
    let bytes = texts.iter().map(|text| text.len()).sum::<usize>()
        + request.tools.json().to_string().len()
        + Json::Object(request.template_kwargs.clone())
            .to_string()
            .len();
    let most = context_tokens.saturating_mul(MAX_TOKEN_BYTES);
    if bytes <= most {
        return Ok(());
    }
    let message = format!(
        "the text has {bytes} bytes, the model's context is {context_tokens} tokens, for which at most {most} bytes are read"
    );
    let error = ApiError::new(
        StatusCode::BAD_REQUEST,
        Some("context_length_exceeded"),
        message,
    );
    Err(error.with_param("messages"))
}

/// Reads a request's body on a thread for slow work.
pub(crate) async fn read(app: &Arc<App>, api: Api, request: Request) -> Result<Asked, ApiError> {
    let (parts, body) = request.into_parts();
    let mut room = app.rooms.open();
    let bytes = body::read(&parts.headers, body, &app.config.limits, &mut room).await?;
    let fetched = fetch(app, &bytes, &mut room).await?;
    slowly(app, move |app| {
        read_body(app, api, &parts, (&bytes, &fetched), room)
    })
    .await
}

/// What lies at the addresses that a body names; nothing where that is not allowed. Waiting for other machines keeps nobody
/// from reading requests.
pub(crate) async fn fetch(
    app: &Arc<App>,
    bytes: &Bytes,
    room: &mut Room,
) -> Result<Fetched, ApiError> {
    let Some(remote) = &app.config.remote else {
        return Ok(Fetched::new());
    };
    let bytes = bytes.clone();
    let body = slowly(app, move |_| body::object(&bytes)).await?;
    Ok(fetch_all(remote, &app.config.limits, &body, room).await)
}

/// Does slow work, such as decoding a picture, elsewhere than where connections are served; a few at a time.
pub(crate) async fn slowly<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let _turn = app
        .readers
        .acquire()
        .await
        .map_err(|_| ApiError::ending())?;
    let app = app.clone();
    let done = tokio::task::spawn_blocking(move || work(&app)).await;
    // A panic in there is a bug, whose message the panic hook has printed.
    done.unwrap_or_else(|_| Err(ApiError::internal()))
}

fn read_body(
    app: &App,
    api: Api,
    parts: &Parts,
    (bytes, fetched): (&Bytes, &Fetched),
    mut room: Room,
) -> Result<Asked, ApiError> {
    let client = parts
        .extensions
        .get::<Client>()
        .copied()
        .unwrap_or_default();
    let mut body = body::object(bytes)?;
    let stream = flag(body.remove("stream").as_ref(), "stream")?;
    let mut hasher = DefaultHasher::new();
    (client.owner, client.address).hash(&mut hasher);
    body.get("user").and_then(Json::as_str).hash(&mut hasher);
    let mut pictures = Pictures {
        config: &app.config,
        store: &app.store,
        owner: client.owner,
        fetched,
        room: &mut room,
        found: Vec::new(),
        details: Vec::new(),
    };
    let mut options = StreamOptions::default();
    let echo = match api {
        Api::Responses => openai_responses::echo(&body),
        _ => Json::Null,
    };
    let request = match api {
        Api::Completions => {
            let (request, read) = openai_chat::read(body, &mut pictures)?;
            options = read;
            request
        }
        Api::Responses => openai_responses::read(body, &mut pictures)?,
        Api::Messages => anthropic::read(body, MaxTokens::Required, &mut pictures)?,
        Api::CountedMessages => anthropic::read(body, MaxTokens::Optional, &mut pictures)?,
    };
    check_text(&request, app.chat.model().context_tokens)?;
    let measure = app.chat.measure(&request)?;
    Ok(Asked {
        request,
        measure,
        stream,
        options,
        echo,
        room,
        owner: client.owner,
        client: hasher.finish(),
    })
}
