//! HTTP and nothing else: the OpenAI and Anthropic APIs, streaming, the chat page.
//!
//! Life of a request: guard (host, origin, key) → body (length, time and memory bounded) → messages and pictures
//! (`conversation`, `pictures`, `settings`) → measured → queue ([`Worker`], [`Chat`]) → what the engine says, as one JSON
//! object or as events (`writer`). A client that goes away drops its ticket, which cancels its work and nobody else's.

mod about;
mod anthropic;
mod app;
mod body;
mod chat;
mod config;
mod control;
mod conversation;
mod error;
mod guard;
mod listen;
mod metrics;
mod openai_chat;
mod openai_responses;
mod page;
mod pictures;
mod pictures_api;
mod queue;
mod remote;
mod room;
mod sessions;
mod settings;
mod store;
mod worker;
mod writer;

pub use app::app;
pub use chat::{
    Ahead, Answer, Chat, Explained, Load, Measure, ModelCard, Said, Sees, Submission, Thinks,
    Ticket,
};
pub use config::{Config, Limits};
pub use error::{ApiError, Retry, Shape};
pub use listen::serve;
pub use remote::{PublicInternet, Reach, Remote, is_global};
pub use worker::Worker;
