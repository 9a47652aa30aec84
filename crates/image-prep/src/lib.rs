//! Image bytes in, normalised tiles out; no weights.
//!
//! ```text
//! bytes ── decode ──► Picture ── Preprocessor::tiles ──► TileReader: pixels [tiles, 3, tile, tile], some at a time
//!            │                         │
//!            │ size from the header,   ├─ tiling: which grid            (pure functions of two numbers)
//!            │ EXIF orientation,       ├─ plan:   where the picture lies on the grid, the thumbnail, the order
//!            │ alpha over white        ├─ resize: Pillow's, bit for bit
//!            ▼                         └─ prepare: paste, cut, normalise
//!         ImageError, with a hint
//! ```
//!
//! Decoders are the part that a hostile file reaches first, so they stand alone here, all in safe Rust. Where a picture
//! goes on a grid of tiles is arithmetic on its size alone: [`tiling`] and [`TileLayout::plan`] never look at a pixel.
//!
//! Deliberately absent: colour management (an ICC profile is ignored, as the training pipelines of these models ignore it)
//! and any format whose decoder would need C.

mod budget;
pub mod decode;
mod encode;
mod error;
mod picture;
mod plan;
mod prepare;
mod preprocessor;
pub mod recipe;
pub mod resize;
pub mod tiling;
mod views;

pub use budget::Reduction;
pub use decode::{Limits, decode, dimensions};
pub use encode::encode_png;
pub use error::ImageError;
pub use picture::Picture;
pub use plan::{Placement, ThumbnailPosition, TileLayout, TilePlan};
pub use prepare::{TileReader, Tiles};
pub use preprocessor::{PixelValues, Preprocessor};
pub use recipe::Recipe;
pub use views::{Canvas, Cut, View, Views};
