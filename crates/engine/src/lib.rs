//! One loaded model answering requests: prompt, chunked prefill, images encoded ahead, sampling.
//!
//! Life of a request: [`Request`] → template and tokenizer ([`Prompt`]: text tokens and places for images) → images encoded
//! in batches of tiles, perhaps ahead of their question ([`Engine::encode_ahead`]) → prefill in steps → tokens chosen one by one → thought and answer told apart →
//! [`Event`]s while it grows, [`Reply`] at the end.

mod ahead;
mod answer;
mod budget;
mod cancel;
mod decode;
mod disguise;
mod encoding;
mod engine;
mod error;
mod files;
mod identity;
mod logprobs;
mod memory;
mod message;
mod network;
mod picture;
mod prefill;
mod prompt;
mod record;
mod request;
pub mod request_json;
mod sample;
mod session;
mod speculation;
mod stop;
mod tags;
mod template;
#[cfg(test)]
mod testing;
mod text_stream;
mod thought;
mod threads;
mod tokenizer;
pub mod verify;
mod weights;

pub use ahead::ImageAhead;
pub use budget::{StopThinking, Thinking, ThinkingBudget, ThoughtEnd};
pub use cancel::Cancel;
pub use encoding::{EncoderWeights, Encoding, MOST_BATCH_TILES, Schedule};
pub use engine::{EncodedImage, Engine};
pub use error::EngineError;
pub use files::{GenerationConfig, ModelFiles, PromptFiles, read_small_files};
pub use logprobs::{Logprob, TokenLogprob};
pub use memory::Memory;
pub use message::{Message, Part, Role};
pub use network::{Cache, ImageIds, Network, NetworkShape};
pub use picture::{MAX_PICTURE_BYTES, read_picture, read_picture_stream};
pub use prefill::{Overlap, STEP_TOKENS};
pub use prompt::{ImageInfo, Piece, Prompt};
pub use record::Record;
pub use request::{AtEnd, Event, FinishReason, MAX_TOP_LOGPROBS, Reply, Request, Timings, Usage};
pub use sample::Sampling;
pub use speculation::{Guesses, Speculation};
pub use tags::ThinkingTags;
pub use template::ChatTemplate;
pub use text_stream::TextStream;
pub use threads::{MOST_THREADS, Threads, physical_cores};
pub use tokenizer::Tokenizer;
