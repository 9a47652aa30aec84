//! What several conversations left in their caches, for the next request that begins as one of them does.

use crate::engine::Prepared;
use crate::memory::{self, Row};
use crate::network::{Cache, Network};

/// Most that are kept: looking through them takes time too.
const MOST: usize = 64;

/// Caches that no request works in, the one used last at the end.
pub(crate) struct Memories<C>(Vec<Kept<C>>);

struct Kept<C> {
    rows: Vec<Row>,
    cache: C,
}

impl<C> Default for Memories<C> {
    fn default() -> Self {
        Memories(Vec::new())
    }
}

impl<C: Cache> Memories<C> {
    /// Positions remembered in all of them.
    pub fn tokens(&self) -> usize {
        self.0.iter().map(|kept| kept.rows.len()).sum()
    }

    /// The one that has most of a prompt, and how much that is; none where nobody has anything.
    pub fn best(&self, prepared: &Prepared) -> Option<(usize, usize)> {
        let shared = |kept: &Kept<C>| memory::shared(&kept.rows, &prepared.rows, &prepared.prompt);
        let all = self.0.iter().map(shared).enumerate();
        all.filter(|(_, shared)| *shared > 0)
            .max_by_key(|(_, shared)| *shared)
    }

    /// A cache with the first `shared` positions of one of them. It is a copy where most of the conversation would be lost, which
    /// may go on as well: copying takes a thousandth of the time that reading takes.
    pub fn take(&mut self, at: usize, shared: usize) -> C {
        let mut kept = self.0.remove(at);
        if 2 * shared < kept.rows.len()
            && let Some(copy) = kept.cache.copy(shared)
        {
            self.0.push(kept);
            return copy;
        }
        kept.cache.truncate(shared);
        kept.cache
    }

    /// Remembers what is in a cache, which nobody works in any more.
    pub fn keep(&mut self, rows: Vec<Row>, cache: C) {
        if rows.is_empty() {
            return;
        }
        // What is the beginning of another one is remembered there.
        self.0.retain(|kept| !rows.starts_with(&kept.rows));
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Kept { rows, cache });
    }

    /// Forgets those that were used longest ago until at most so many positions are remembered.
    pub fn shrink(&mut self, tokens: usize) {
        while self.tokens() > tokens {
            self.0.remove(0);
        }
    }
}

/// A cache for a prompt that nothing is remembered of.
pub(crate) fn empty<N: Network>(network: &N) -> N::Cache {
    network.new_cache(network.shape().context_tokens)
}
