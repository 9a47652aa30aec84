//! Keys and values of the positions so far.

use kernels::attention::{Memory, Queries, Scratch, attend};
use kernels::isa::Isa;

use crate::layers::head_of;

/// Keys (rotated) and values of every layer, ready to be attended to.
pub struct KvCache {
    layers: Vec<LayerCache>,
    tokens: usize,
    capacity: usize,
}

/// Keys and values of one layer. Nothing outside this module knows how they are kept.
pub(crate) struct LayerCache {
    /// One for each key head.
    heads: Vec<Memory>,
    head_dim: usize,
}

impl LayerCache {
    /// Takes in `m` rows of keys and of values, all heads side by side.
    pub fn append(&mut self, m: usize, k: &[f32], v: &[f32]) {
        if m == 0 {
            return;
        }
        let d = self.heads.len() * self.head_dim;
        for (head, memory) in self.heads.iter_mut().enumerate() {
            let at = head * self.head_dim;
            memory.append(m, head_of(k, d, at), head_of(v, d, at));
        }
    }

    /// What queries of one key head find: rows of `head_dim` numbers.
    pub fn attend(&self, isa: Isa, head: usize, queries: &Queries, out: &mut [f32]) {
        let (memory, scratch) = (&self.heads[head], &mut Scratch::default());
        attend(isa, queries, memory, scratch, out, self.head_dim);
    }

    fn truncate(&mut self, tokens: usize) {
        for memory in &mut self.heads {
            memory.truncate(tokens);
        }
    }
}

impl KvCache {
    /// For up to `capacity` positions; memory is taken as they come.
    pub(crate) fn new(layers: usize, heads: usize, head_dim: usize, capacity: usize) -> KvCache {
        let layer = || LayerCache {
            heads: vec![Memory::empty(head_dim); heads],
            head_dim,
        };
        KvCache {
            layers: (0..layers).map(|_| layer()).collect(),
            tokens: 0,
            capacity,
        }
    }

    /// Positions it holds.
    #[allow(clippy::len_without_is_empty)] // nothing asks whether a cache is empty
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Positions it may hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the positions from `tokens` on.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
        for layer in &mut self.layers {
            layer.truncate(self.tokens);
        }
    }

    /// What a layer remembers.
    pub(crate) fn layer(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    /// All layers have taken in the positions up to `tokens`.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.tokens = tokens;
    }
}
