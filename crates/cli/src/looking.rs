//! Arguments that say how closely pictures are looked at, and what is kept of them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::{Because, Detail, Engine, ImageCache, ImageInfo, MemoryRoom, Request};

/// Bytes of encoded images that are kept in memory when nobody says how many.
pub const USUAL_CACHE_BYTES: usize = 128_000_000;
/// The same for a folder.
pub const USUAL_FOLDER_BYTES: u64 = 1_000_000_000;

/// How closely pictures are looked at.
#[derive(Args, Clone, Debug, Default)]
pub struct LookArguments {
    /// Look at pictures on one tile (low), on as many as the model's settings say and fit (auto), or on all of them
    /// (high), which is refused where they do not fit (default: auto)
    #[arg(long, value_name = "DETAIL")]
    detail: Option<DetailName>,
    /// At most so many tiles for each picture, the one with all of it included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tiles: Option<u32>,
    /// At most so many tokens for each picture; one tile is always left
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_image_tokens: Option<u32>,
}

/// OpenAI's names.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DetailName {
    Low,
    Auto,
    High,
}

impl LookArguments {
    /// Puts what was given above what the request says. Its pictures must be there already.
    pub fn apply(&self, request: &mut Request) {
        if let Some(detail) = self.detail {
            let detail = match detail {
                DetailName::Low => Detail::Low,
                DetailName::Auto => Detail::Auto,
                DetailName::High => Detail::High,
            };
            request.vision.details = vec![detail; request.images.len()];
        }
        let number = |given: Option<u32>| given.map(|number| number as usize);
        let vision = &mut request.vision;
        vision.max_tiles = number(self.max_tiles).or(vision.max_tiles);
        vision.max_tokens = number(self.max_image_tokens).or(vision.max_tokens);
    }
}

/// What is kept of encoded images.
#[derive(Args, Clone, Debug, Default)]
pub struct KeepArguments {
    /// Keep what pictures were encoded to in this folder, for later runs with the same model
    #[arg(long, value_name = "FOLDER")]
    pub image_cache: Option<PathBuf>,
    /// At most so many millions of bytes of that (default: 1000)
    #[arg(long, value_name = "MB", requires = "image_cache")]
    pub image_cache_disk_mb: Option<u32>,
}

impl KeepArguments {
    /// The engine that keeps so many bytes of encoded images in memory, and takes no more memory than there is.
    pub fn apply(&self, engine: Engine, memory_bytes: usize) -> anyhow::Result<Engine> {
        let mut cache = ImageCache::new(memory_bytes);
        if let Some(folder) = &self.image_cache {
            let most = self.image_cache_disk_mb.map(|mb| u64::from(mb) * 1_000_000);
            cache = cache.with_folder(folder, most.unwrap_or(USUAL_FOLDER_BYTES))?;
        }
        Ok(engine
            .with_image_cache(cache)?
            .with_memory_room(MemoryRoom::System))
    }
}

/// What a picture has lost, and why, in words; nothing where it has lost nothing.
pub fn fewer(image: &ImageInfo) -> String {
    let Some(reduced) = image.reduced else {
        return String::new();
    };
    let because = match reduced.because {
        Because::Detail => "--detail low",
        Because::MaxTiles => "--max-tiles",
        Because::MaxTokens => "--max-image-tokens",
        Because::Context => "the context is full",
        Because::Memory => "memory is short",
    };
    let instead = match reduced.from_tokens {
        Some(tokens) => format!("{tokens} tokens"),
        None => reduced.from_tiles.to_string(),
    };
    format!(" instead of {instead} ({because})")
}
