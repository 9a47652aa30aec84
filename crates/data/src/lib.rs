//! Makes, reads and mixes training examples.
//!
//! A [`Generator`] draws pictures of signs, receipts, tables, charts, forms and shapes with fonts that this crate
//! ships, and asks questions whose answers it knows because it drew them. An example depends only on the seed, the
//! [`Recipe`] and its index: the same bytes on every machine and for any number of threads. Pictures are drawn on the fly.

mod drawing;
mod effects;
mod error;
mod example;
mod fonts;
mod generator;
mod layout;
mod llava;
mod llava_read;
mod paint;
mod questions;
mod random;
mod recipe;
mod scenes;
mod stream;
mod style;
mod vocabulary;

pub use error::DataError;
pub use example::{Color, Example, Kind, Mark, MarkClass, Question, SceneKind, Shape, Sign};
pub use generator::Generator;
pub use image_prep::Picture;
pub use llava::{LlavaOptions, write_llava, write_llava_with};
pub use llava_read::{Conversation, Speaker, read_llava};
pub use recipe::Recipe;
pub use stream::Stream;
