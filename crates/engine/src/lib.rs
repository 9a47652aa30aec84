//! One loaded model answering requests: prompt, chunked prefill, images encoded ahead, sampling.

mod error;
mod files;
mod message;
mod template;
#[cfg(test)]
mod testing;
mod text_stream;
mod tokenizer;

pub use error::EngineError;
pub use files::{GenerationConfig, ModelFiles, PromptFiles, ThinkingTags};
pub use message::{Message, Part, Role};
pub use template::ChatTemplate;
pub use text_stream::TextStream;
pub use tokenizer::Tokenizer;
