//! A chat that knows its answer beforehand, and what tests ask it with.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request as HttpRequest, Response, StatusCode};
use engine::{
    Cancel, EngineError, FinishReason, ImageInfo, Message, Progress, Reply, Request, Role,
    Thinking, Timings, Usage,
};
use http_body_util::BodyExt;
use image_prep::tiling::Grid;
use image_prep::{ThumbnailPosition, TilePlan};
use serde_json::Value as Json;
use server::{
    Ahead, Answer, ApiError, Chat, Config, Limits, Load, Measure, ModelCard, Said, Sees,
    Submission, Thinks, Ticket, app,
};
use tokio::sync::mpsc::unbounded_channel;
use tower::ServiceExt;

/// Answers `You said: …`, with a thought if asked to think. Some texts make it do other things: `wait` (says one word and
/// then nothing until it is cancelled), `break` (fails after one word).
pub struct FakeChat {
    card: ModelCard,
    /// What was asked.
    pub asked: Mutex<Vec<Request>>,
    /// Requests that ended because of a cancel.
    pub cancelled: Arc<AtomicUsize>,
    /// Places in the queue; answers take one until they are over.
    pub places: usize,
    running: Arc<AtomicUsize>,
    /// Pictures whose encoding was begun and not stopped.
    pub ahead: Arc<AtomicUsize>,
}

/// Is done at once; counts down when it is dropped.
struct FakeAhead(Arc<AtomicUsize>);

impl Ahead for FakeAhead {
    fn is_done(&self) -> bool {
        true
    }

    fn has_failed(&self) -> bool {
        false
    }

    fn progress(&self) -> Progress {
        Progress {
            tiles_done: 3,
            tiles: 3,
        }
    }
}

impl Drop for FakeAhead {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakeChat {
    /// One with so many places.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(FakeChat {
            card: ModelCard {
                id: "fake".into(),
                created_s: 1_700_000_000,
                context_tokens: 100,
                tile_side: 8,
                sees: Sees::Pictures,
                thinks: Thinks::OnRequest,
                cache_bytes_per_token: 10,
            },
            asked: Mutex::default(),
            cancelled: Arc::default(),
            places,
            running: Arc::default(),
            ahead: Arc::default(),
        })
    }

    /// The last request.
    pub fn last(&self) -> Request {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

fn words(messages: &[Message]) -> usize {
    let texts = messages.iter().flat_map(Message::texts);
    texts.map(|text| text.split_whitespace().count()).sum()
}

fn reply(request: &Request, measure: &Measure) -> Reply {
    let said: Vec<&Message> = request
        .messages
        .iter()
        .filter(|message| message.role == Role::User)
        .collect();
    let question: String = said.last().unwrap().texts().collect();
    let most = request.max_tokens.unwrap_or(usize::MAX);
    let whole = format!("You said: {question}");
    let text: String = whole.split_inclusive(' ').take(most).collect();
    let count = text.split_whitespace().count();
    let reasoning = match request.thinking {
        Some(true) => "Let me see.",
        _ => "",
    };
    Reply {
        finish_reason: match text == whole {
            true => FinishReason::Stop,
            false => FinishReason::Length,
        },
        text,
        reasoning: reasoning.into(),
        usage: Usage {
            prompt_tokens: measure.prompt_tokens,
            image_tokens: measure.image_tokens,
            cached_tokens: 1,
            completion_tokens: count + reasoning.split_whitespace().count(),
            reasoning_tokens: reasoning.split_whitespace().count(),
        },
        thinking: Thinking::default(),
        images: measure.images.clone(),
        timings: Timings {
            load_ms: 1.0,
            image_ms: 2.0,
            prefill_ms: 3.0,
            first_token_ms: 4.0,
            decode_tokens_per_s: 10.0,
        },
        logprobs: None,
        cut_inside: None,
        speculation: None,
        output_ids: Vec::new(),
    }
}

impl Chat for FakeChat {
    fn model(&self) -> &ModelCard {
        &self.card
    }

    fn measure(&self, request: &Request) -> Result<Measure, EngineError> {
        let image = |picture: &image_prep::Picture| self.plan(picture.width, picture.height).1;
        let images: Vec<ImageInfo> = request.images.iter().map(image).collect();
        let plan = |picture: &image_prep::Picture| self.plan(picture.width, picture.height).0;
        let plans = request.images.iter().map(plan).collect();
        let image_tokens = images.iter().map(|image| image.tokens).sum();
        let prompt_tokens = words(&request.messages) + image_tokens;
        if prompt_tokens > self.card.context_tokens {
            return Err(EngineError::PromptTooLong {
                prompt_tokens,
                context_tokens: self.card.context_tokens,
                image_tokens: Vec::new(),
            });
        }
        Ok(Measure {
            prompt_tokens,
            image_tokens,
            images,
            plans,
        })
    }

    fn plan(&self, width: u32, height: u32) -> (TilePlan, ImageInfo) {
        let (columns, rows) = (width.div_ceil(8).min(2), height.div_ceil(8).min(2));
        let tiles = (columns * rows) as usize;
        let plan = TilePlan {
            grid: Grid { columns, rows },
            canvas: (8 * columns, 8 * rows),
            resized: (width.min(16), height.min(16)),
            offset: (0, 0),
            thumbnail: None,
            thumbnail_position: ThumbnailPosition::Last,
            tiles,
        };
        let info = ImageInfo {
            width,
            height,
            grid: [columns, rows],
            tiles,
            tokens: 4 * tiles,
            reduced: None,
        };
        (plan, info)
    }

    fn tokenize(&self, text: &str) -> Result<Vec<(u32, String)>, EngineError> {
        let one = |character: char| (u32::from(character), character.to_string());
        Ok(text.chars().map(one).collect())
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, EngineError> {
        Ok(ids.iter().filter_map(|&id| char::from_u32(id)).collect())
    }

    fn submit(&self, submission: Submission) -> Result<Ticket, ApiError> {
        let waiting = self.running.fetch_add(1, Ordering::SeqCst);
        if waiting >= self.places {
            self.running.fetch_sub(1, Ordering::SeqCst);
            return Err(ApiError::busy(waiting));
        }
        let request = submission.request;
        self.asked.lock().unwrap().push(request.clone());
        let measure = self.measure(&request).map_err(ApiError::from)?;
        let (events, receiver) = unbounded_channel();
        let cancel = Cancel::new();
        let ticket = Ticket::new(receiver, cancel.clone());
        let (cancelled, running) = (self.cancelled.clone(), self.running.clone());
        std::thread::spawn(move || {
            let _room = submission.room;
            let send = |said| drop(events.send(said));
            let reply = reply(&request, &measure);
            send(Said::Prefill {
                done: 1,
                total: measure.prompt_tokens,
            });
            if !reply.reasoning.is_empty() {
                send(Said::Reasoning(reply.reasoning.clone()));
            }
            let texts: Vec<&str> = reply.text.split_inclusive(' ').collect();
            for text in &texts {
                match *text {
                    "wait" => {
                        while !cancel.is_cancelled() {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        cancelled.fetch_add(1, Ordering::SeqCst);
                        running.fetch_sub(1, Ordering::SeqCst);
                        return send(Said::Failed(ApiError::ending()));
                    }
                    "break" => {
                        running.fetch_sub(1, Ordering::SeqCst);
                        return send(Said::Failed(ApiError::internal()));
                    }
                    text => send(Said::Text(text.to_owned())),
                }
            }
            running.fetch_sub(1, Ordering::SeqCst);
            let stop_sequence = request.stop.first().cloned();
            send(Said::Done(Box::new(Answer {
                reply,
                stop_sequence,
            })));
        });
        Ok(ticket)
    }

    fn encode_ahead(&self, picture: &image_prep::Picture) -> Option<Box<dyn Ahead>> {
        // Pictures of one pixel's height are not worth it.
        (picture.height > 1).then(|| {
            self.ahead.fetch_add(1, Ordering::SeqCst);
            Box::new(FakeAhead(self.ahead.clone())) as Box<dyn Ahead>
        })
    }

    fn load(&self) -> Load {
        Load {
            waiting: 0,
            running: self.running.load(Ordering::SeqCst),
            places: 1,
            ..Load::default()
        }
    }

    fn stop(&self) {}
}

/// A server with the usual limits and no keys.
pub fn config() -> Config {
    Config::new(Limits::default())
}

/// The answer to a request, with its body as text.
pub fn call(router: &Router, request: HttpRequest<Body>) -> (Response<()>, String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            Response::from_parts(parts, ()),
            String::from_utf8(bytes.to_vec()).unwrap(),
        )
    })
}

/// A request with a body.
pub fn post(path: &str, body: impl Into<String>) -> HttpRequest<Body> {
    let body: String = body.into();
    HttpRequest::post(path)
        .header("host", "127.0.0.1:8080")
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .body(Body::from(body))
        .unwrap()
}

/// A request without.
pub fn get(path: &str) -> HttpRequest<Body> {
    HttpRequest::get(path)
        .header("host", "127.0.0.1:8080")
        .body(Body::empty())
        .unwrap()
}

/// The JSON that a fresh fake answers.
pub fn answer(path: &str, body: &Json) -> (StatusCode, Json) {
    answer_of(&app(FakeChat::new(9), config()), path, body)
}

/// The JSON that a server answers.
pub fn answer_of(router: &Router, path: &str, body: &Json) -> (StatusCode, Json) {
    let (response, text) = call(router, post(path, body.to_string()));
    assert_eq!(
        response.headers()["content-type"],
        "application/json",
        "{text}"
    );
    (response.status(), serde_json::from_str(&text).unwrap())
}

/// The events that a fresh fake streams, with ids and times taken out.
pub fn events(path: &str, body: &Json) -> String {
    let (response, text) = call(
        &app(FakeChat::new(9), config()),
        post(path, body.to_string()),
    );
    assert_eq!(
        response.headers()["content-type"],
        "text/event-stream",
        "{text}"
    );
    without_ids(&text)
}

/// Ids and times differ from run to run.
pub fn without_ids(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(place) = [
        "chatcmpl-",
        "resp_",
        "msg_",
        "rs_",
        "img_",
        "call_",
        "fc_",
        "toolu_",
    ]
    .iter()
    .filter_map(|prefix| Some(rest.find(prefix)? + prefix.len()))
    .min()
    {
        out.push_str(&rest[..place]);
        rest = &rest[place..];
        let id = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if id == 32 {
            out.push_str("ID");
            rest = &rest[id..];
        }
    }
    out.push_str(rest);
    for key in ["\"created\":", "\"created_at\":", "\"time_ms\":"] {
        out = without_number(&out, key);
    }
    out
}

fn without_number(text: &str, key: &str) -> String {
    let mut parts = text.split(key);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(key);
        out.push('0');
        out.push_str(
            part.trim_start_matches(|character: char| {
                character.is_ascii_digit() || character == ' '
            }),
        );
    }
    out
}

/// A picture of one colour as a data URL.
pub fn data_url(width: u32, height: u32) -> String {
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(png(width, height));
    format!("data:image/png;base64,{data}")
}

/// A picture of one colour as PNG.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    image_prep::encode_png(&image_prep::Picture::filled(width, height, [200, 10, 10]))
}
