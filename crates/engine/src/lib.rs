//! One loaded model answering requests: prompt, chunked prefill, images encoded ahead, sampling.
//!
//! Life of a request: [`Request`] → template and tokenizer ([`Prompt`]: text tokens and places for images) → images encoded
//! in batches of tiles, perhaps ahead of their question ([`Engine::encode_ahead`]) → prefill in steps → tokens chosen one by one → thought and answer told apart →
//! [`Event`]s while it grows, [`Reply`] at the end.

mod ahead;
mod answer;
mod budget;
mod calibration;
mod cancel;
mod data_url;
mod decode;
mod disguise;
mod encoding;
mod engine;
mod error;
mod files;
mod gguf;
mod grammar;
mod identity;
mod image_cache;
mod image_rows;
mod logprobs;
mod memories;
mod memory;
mod message;
mod network;
mod picture;
mod prefill;
mod prompt;
mod record;
mod request;
pub mod request_json;
mod room;
mod sample;
mod scheduler;
mod sequence;
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
pub mod tools;
pub mod verify;
mod vision;
mod wake;
mod weights;

pub use ahead::{ImageAhead, Progress};
pub use budget::{StopThinking, Thinking, ThinkingBudget, ThoughtEnd};
pub use calibration::{Calibration, Point, Prediction, Work};
pub use cancel::Cancel;
pub use data_url::{DataUrlError, decode_base64, decode_data_url};
pub use encoding::{EncoderWeights, Encoding, MOST_BATCH_TILES, Schedule};
pub use engine::{Cheaper, Cost, EncodedImage, Engine, Look};
pub use error::EngineError;
pub use files::{GenerationConfig, ModelFiles, PromptFiles, read_small_files};
pub use gguf::{GgufModel, gguf_keys};
pub use grammar::{Grammar, MAX_GRAMMAR_BYTES};
pub use image_cache::{CacheCounts, ImageCache};
pub use logprobs::{Logprob, TokenLogprob};
pub use memory::Memory;
pub use message::{Message, Part, Role};
pub use model::{Inputs, LogitRows, Patches, Taps};
pub use network::{Cache, ImageIds, Network, NetworkShape, Segment};
pub use picture::{MAX_PICTURE_BYTES, read_picture, read_picture_stream};
pub use prefill::{Overlap, STEP_TOKENS};
pub use prompt::{ImageInfo, Piece, Prompt};
pub use record::Record;
pub use request::{AtEnd, Event, FinishReason, MAX_TOP_LOGPROBS, Reply, Request, Timings, Usage};
pub use room::{MemoryRoom, available_bytes};
pub use sample::Sampling;
pub use scheduler::{Activity, CHUNK_TOKENS, Capacity, Finished, Scheduler, Step, Task};
pub use speculation::{Guesses, Speculation};
pub use tags::ThinkingTags;
pub use template::ChatTemplate;
pub use text_stream::TextStream;
pub use threads::{MOST_THREADS, Threads, physical_cores};
pub use tokenizer::Tokenizer;
pub use vision::{Because, Detail, Policy, Reduced, Vision};
pub use wake::Waker;
