//! The seam between HTTP and the model: what a server needs of whoever answers, so that it is tested with a fake.

use engine::{
    CacheCounts, Cancel, Cheaper, Cost, EngineError, ImageInfo, Progress, Reply, Request,
    TokenLogprob,
};
use image_prep::{Picture, TilePlan};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::error::ApiError;

/// Somebody who answers requests.
pub trait Chat: Send + Sync {
    /// What answers.
    fn model(&self) -> &ModelCard;

    /// What a request would cost, without computing anything with the network. Errors are those that the answer would have
    /// before it begins.
    fn measure(&self, request: &Request) -> Result<Measure, EngineError>;

    /// What a request would cost, and ways that cost less. None where nobody can say more than [`Chat::measure`].
    fn explain(&self, request: &Request) -> Result<Option<Explained>, EngineError> {
        let _ = request;
        Ok(None)
    }

    /// What the cache of encoded images holds; none where there is none.
    fn image_cache(&self) -> Option<CacheCounts> {
        None
    }

    /// How a picture of this size is cut.
    fn plan(&self, width: u32, height: u32) -> (TilePlan, ImageInfo);

    /// The tokens of a text, which spells no control tokens, with what each stands for.
    fn tokenize(&self, text: &str) -> Result<Vec<(u32, String)>, EngineError>;

    /// Text of tokens.
    fn detokenize(&self, ids: &[u32]) -> Result<String, EngineError>;

    /// Puts a request into the queue; the answer comes as it is made. Dropping the ticket cancels it.
    fn submit(&self, submission: Submission) -> Result<Ticket, ApiError>;

    /// How many requests wait and run.
    fn load(&self) -> Load;

    /// Begins to encode a picture before the question about it. None where that is not offered: the picture is then encoded
    /// with the first question.
    fn encode_ahead(&self, picture: &Picture) -> Option<Box<dyn Ahead>> {
        let _ = picture;
        None
    }

    /// Cancels all work and takes no more.
    fn stop(&self);
}

/// A picture that is encoded ahead. Dropping it stops the work and forgets what was encoded.
pub trait Ahead: Send + Sync {
    /// Whether all of it is encoded.
    fn is_done(&self) -> bool;

    /// Whether it ended without all of it, so that the first question encodes it anew.
    fn has_failed(&self) -> bool;

    /// How far it is.
    fn progress(&self) -> Progress;
}

/// What clients are told of a model.
#[derive(Clone, Debug)]
pub struct ModelCard {
    /// Its name.
    pub id: String,
    /// Seconds since 1970 when it was loaded.
    pub created_s: u64,
    /// Positions of the decoder.
    pub context_tokens: usize,
    /// Side of a tile in pixels.
    pub tile_side: usize,
    /// What it takes beside text.
    pub sees: Sees,
    /// Whether it can think.
    pub thinks: Thinks,
    /// Bytes of key-value cache for each token.
    pub cache_bytes_per_token: usize,
}

/// Whether a model takes pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Text alone.
    Nothing,
    /// Pictures too.
    Pictures,
}

/// Whether a model's template has a mode for thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinks {
    /// Never, or as it likes.
    NotOnRequest,
    /// When told to.
    OnRequest,
}

/// The cost of a request.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens for images.
    pub image_tokens: usize,
    /// How each picture is cut.
    pub images: Vec<ImageInfo>,
    /// Where each picture lies on its tiles.
    pub plans: Vec<TilePlan>,
}

/// What a request would cost, and ways that cost less.
#[derive(Clone, Debug)]
pub struct Explained {
    /// As it is.
    pub cost: Cost,
    /// With fewer tiles.
    pub cheaper: Vec<Cheaper>,
}

/// A request with whose it is.
pub struct Submission {
    /// Whom to be fair to.
    pub client: u64,
    /// The request.
    pub request: Request,
    /// What the request's pictures take of the memory for requests in flight; given back when it is done.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Something that happens to a request.
#[derive(Debug)]
pub enum Said {
    /// So many tokens of the prompt are done.
    Prefill {
        /// Done, remembered ones included.
        done: usize,
        /// Of the prompt.
        total: usize,
    },
    /// More of the thought.
    Reasoning(String),
    /// More of the answer.
    Text(String),
    /// A token of the answer, if the request asks for log-probabilities; its text comes after it.
    Token(TokenLogprob),
    /// The end.
    Done(Box<Answer>),
    /// The end without an answer.
    Failed(ApiError),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the engine said.
    pub reply: Reply,
    /// The stop string that ended it, if one did.
    pub stop_sequence: Option<String>,
}

impl Answer {
    /// Tokens of the prompt that were remembered from an earlier request.
    pub fn cached_tokens(&self) -> usize {
        self.reply.usage.cached_tokens
    }
}

/// Waiting and running requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// In the queue.
    pub waiting: usize,
    /// Being answered.
    pub running: usize,
    /// Of these, those whose prompt or pictures are being read.
    pub reading: usize,
    /// Most that are answered at once.
    pub places: usize,
    /// Positions of key-value cache in use or remembered.
    pub cache_tokens: usize,
}

/// A place in the queue, and later the answer.
pub struct Ticket {
    events: UnboundedReceiver<Said>,
    cancel: Cancel,
}

impl Ticket {
    /// A ticket for work that sends what it says through `events` and watches `cancel`.
    pub fn new(events: UnboundedReceiver<Said>, cancel: Cancel) -> Self {
        Ticket { events, cancel }
    }

    /// What is said next. After the end, or when whoever answers is gone, that the server is ending.
    pub async fn next(&mut self) -> Said {
        match self.events.recv().await {
            Some(said) => said,
            None => Said::Failed(ApiError::ending()),
        }
    }

    /// What has been said already.
    pub fn ready(&mut self) -> Option<Said> {
        self.events.try_recv().ok()
    }

    /// The whole answer; `saw` sees all that is said.
    pub async fn answer(mut self, saw: &mut (dyn FnMut(&Said) + Send)) -> Result<Answer, ApiError> {
        loop {
            let said = self.next().await;
            saw(&said);
            match said {
                Said::Done(answer) => return Ok(*answer),
                Said::Failed(error) => return Err(error),
                Said::Prefill { .. } | Said::Reasoning(_) | Said::Text(_) | Said::Token(_) => {}
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
