//! How many requests are answered at once, and what memory their keys and values may take.

use clap::Args;
use engine::{CHUNK_TOKENS, Capacity};

/// Requests at once where nobody says how many: beyond, a token more for each step costs about as much as it brings.
const DEFAULT_REQUESTS: usize = 4;

/// How many requests are answered at once.
#[derive(Args, Debug)]
pub struct ParallelArguments {
    /// Most requests answered at once; each reading of the weights serves all of them
    #[arg(long, value_name = "N", default_value_t = DEFAULT_REQUESTS as u16, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Memory for keys and values, of requests being answered and of earlier ones together, in millions of bytes; a
    /// quarter of the free memory at most unless given. One request alone may always fill the context
    #[arg(long, value_name = "MB")]
    cache_mb: Option<usize>,
}

impl ParallelArguments {
    /// What the scheduler is told, for a model with such a context and such a cache.
    pub fn capacity(&self, context_tokens: usize, bytes_per_token: usize) -> Capacity {
        let whole = context_tokens.saturating_mul(bytes_per_token);
        let all = whole.saturating_mul(usize::from(self.parallel));
        let bytes = match self.cache_mb {
            Some(mega) => mega.saturating_mul(1_000_000),
            None => available_bytes().map_or(all, |bytes| all.min(bytes / 4)),
        };
        Capacity {
            requests: usize::from(self.parallel),
            cache_tokens: bytes.max(whole) / bytes_per_token.max(1),
            chunk_tokens: CHUNK_TOKENS,
        }
    }
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

/// Memory that is free or can be freed; none where the system does not tell.
fn available_bytes() -> Option<usize> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilo: usize = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kilo.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_given_bounds_the_positions_but_one_context_is_always_there() {
        let capacity =
            |parallel, cache_mb| ParallelArguments { parallel, cache_mb }.capacity(1000, 2000);
        assert_eq!(capacity(3, Some(4)).cache_tokens, 2000);
        assert_eq!(capacity(3, Some(0)).cache_tokens, 1000);
        // 6 MB are there on every machine that these tests run on.
        assert_eq!(capacity(3, None).cache_tokens, 3000);
        assert_eq!(capacity(3, None).requests, 3);
    }

    #[test]
    fn what_it_takes_is_told() {
        let capacity = Capacity {
            requests: 4,
            cache_tokens: 8192,
            chunk_tokens: 64,
        };
        assert_eq!(
            told(&capacity, 1500),
            "up to 4 requests at once; keys and values take up to 13 MB (8192 tokens)"
        );
    }
}
