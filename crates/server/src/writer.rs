//! Server-sent events: an answer written as it grows, in the words of one API.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use engine::tools::{CallBlock, CallPiece, CallSplitter};
use serde_json::Value as Json;
use tokio::time::timeout_at;

use crate::chat::{Answer, Measure, Said, Ticket};
use crate::control::Control;
use crate::error::ApiError;
use crate::metrics::Watch;

/// What stands at the head of every answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// The answer's id.
    pub id: String,
    /// Seconds since 1970.
    pub created_s: u64,
    /// The model's name.
    pub model: String,
    /// When the request came.
    pub started: Instant,
    /// What of the request the answer repeats, where its API does so.
    pub echo: Json,
    /// Tells calls from text, where there are tools.
    pub splitter: Option<CallSplitter>,
}

impl Head {
    /// A name of something in this answer: `kind`, the answer's own id, and a number from the second on.
    pub fn name(&self, kind: &str, index: usize) -> String {
        let own = self
            .id
            .split_once(['_', '-'])
            .map_or(self.id.as_str(), |(_, id)| id);
        match index {
            0 => format!("{kind}_{own}"),
            index => format!("{kind}_{own}_{index}"),
        }
    }

    /// Text and calls of a whole answer, in their order.
    pub fn blocks(&self, text: &str) -> Vec<CallBlock> {
        match self.splitter {
            Some(_) => CallSplitter::blocks(text),
            None => vec![CallBlock::Text(text.to_owned())],
        }
    }
}

/// A piece of an answer as text and calls; without tools all of it is text.
pub fn pieces(splitter: &mut Option<CallSplitter>, text: &str) -> Vec<CallPiece> {
    match splitter {
        Some(splitter) => splitter.push(text),
        None => vec![CallPiece::Text(text.to_owned())],
    }
}

/// What was held back.
pub fn last_piece(splitter: &mut Option<CallSplitter>) -> Option<CallPiece> {
    splitter.as_mut().and_then(CallSplitter::finish)
}

/// Puts what is said into the events of one API.
pub trait Writer: Send {
    /// The events before anything is said.
    fn begin(&mut self, measure: &Measure) -> String;
    /// The events of a piece; may be none.
    fn piece(&mut self, said: &Said) -> String;
    /// The last events.
    fn end(&mut self, answer: &Answer) -> String;
    /// The last events of an answer that broke off.
    fn fail(&mut self, error: &ApiError) -> String;
}

/// An event without a name.
pub fn data_line(json: &Json) -> String {
    format!("data: {json}\n\n")
}

/// An event with the name that its data has as `type`.
pub fn named_event(json: &Json) -> String {
    let name = json["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {json}\n\n")
}

/// A stream under way.
struct Stream {
    ticket: Ticket,
    writer: Box<dyn Writer>,
    ping_time: Duration,
    /// When the client is to see a sign of life.
    ping_at: tokio::time::Instant,
    beginning: Option<String>,
    watch: Watch,
    _control: Control,
    over: bool,
}

impl Stream {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Option<String> {
        if let Some(beginning) = self.beginning.take() {
            return Some(beginning);
        }
        while !self.over {
            let Ok(said) = timeout_at(self.ping_at, self.ticket.next()).await else {
                self.ping_at = tokio::time::Instant::now() + self.ping_time;
                return Some(": ping\n\n".into());
            };
            let mut bytes = self.write(said);
            // What came meanwhile goes into the same packet.
            while !self.over
                && let Some(said) = self.ticket.ready()
            {
                bytes.push_str(&self.write(said));
            }
            if !bytes.is_empty() {
                self.ping_at = tokio::time::Instant::now() + self.ping_time;
                return Some(bytes);
            }
        }
        None
    }

    fn write(&mut self, said: Said) -> String {
        self.watch.saw(&said);
        match &said {
            Said::Done(answer) => {
                self.over = true;
                self.writer.end(answer)
            }
            Said::Failed(error) => {
                self.over = true;
                self.writer.fail(error)
            }
            piece => self.writer.piece(piece),
        }
    }
}

/// An answer as a stream of events. When the client goes away, the body is dropped and with it the ticket.
pub fn stream(
    ticket: Ticket,
    mut writer: Box<dyn Writer>,
    measure: &Measure,
    ping_time: Duration,
    watch: Watch,
    control: Control,
) -> Response<Body> {
    let beginning = Some(writer.begin(measure));
    let stream = Stream {
        ticket,
        writer,
        ping_time,
        ping_at: tokio::time::Instant::now() + ping_time,
        beginning,
        watch,
        _control: control,
        over: false,
    };
    let bytes = futures_util::stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), stream))
    });
    events_response(bytes)
}

/// A response whose body is events as they come.
pub fn events_response(
    events: impl futures_util::Stream<Item = Result<String, std::convert::Infallible>> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Asks proxies not to gather events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
