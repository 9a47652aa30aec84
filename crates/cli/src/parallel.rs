//! How many requests are answered at once, and what memory their keys and values may take.

use clap::Args;
use engine::{CHUNK_TOKENS, Capacity, available_bytes};

/// Requests at once where nobody says how many: beyond, a token more for each step costs about as much as it brings.
pub const DEFAULT_REQUESTS: usize = 4;

/// How many requests are answered at once.
#[derive(Args, Debug)]
pub struct ParallelArguments {
    /// Most requests answered at once; each reading of the weights serves all of them (default: 4)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallel: Option<u32>,
    /// Memory for keys and values, of requests being answered and of earlier ones together, in millions of bytes; a
    /// quarter of the free memory at most unless given. One request alone may always fill the context
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    pub cache_mb: Option<u32>,
}

/// What the scheduler is told, for a model with such a context and such a cache.
pub fn capacity(
    requests: usize,
    cache_mb: Option<usize>,
    context_tokens: usize,
    bytes_per_token: usize,
) -> Capacity {
    let whole = context_tokens.saturating_mul(bytes_per_token);
    let all = whole.saturating_mul(requests);
    let free = || available_bytes().and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = match cache_mb {
        Some(mega) => mega.saturating_mul(1_000_000),
        None => free().map_or(all, |bytes| all.min(bytes / 4)),
    };
    Capacity {
        requests,
        cache_tokens: bytes.max(whole) / bytes_per_token.max(1),
        chunk_tokens: CHUNK_TOKENS,
    }
}

/// Memory for bodies and pictures of all requests in flight where nobody says how much: a gigabyte, or a quarter of what is free
/// where that is less, as in a small container.
pub fn bodies_bytes() -> usize {
    let most = 1_000_000_000;
    let free = available_bytes().and_then(|bytes| usize::try_from(bytes / 4).ok());
    free.map_or(most, |free| free.min(most))
}

/// The line that tells it.
pub fn told(capacity: &Capacity, bytes_per_token: usize) -> String {
    let Capacity {
        requests,
        cache_tokens,
        ..
    } = capacity;
    let plural = if *requests == 1 { "" } else { "s" };
    let mega = (cache_tokens * bytes_per_token).div_ceil(1_000_000);
    format!(
        "up to {requests} request{plural} at once; keys and values take up to {mega} MB ({cache_tokens} tokens)"
    )
}
