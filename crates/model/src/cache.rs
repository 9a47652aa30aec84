//! Keys and values of the positions so far.

use kernels::attention::Memory;

/// Keys (rotated) and values of every layer, ready to be attended to.
pub struct KvCache {
    layers: Vec<LayerCache>,
    tokens: usize,
    capacity: usize,
}

/// One for each key head.
pub(crate) type LayerCache = Vec<Memory>;

impl KvCache {
    /// For up to `capacity` positions; memory is taken as they come.
    pub(crate) fn new(layers: usize, heads: usize, head_dim: usize, capacity: usize) -> KvCache {
        let layer = || vec![Memory::empty(head_dim); heads];
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
        for memory in self.layers.iter_mut().flatten() {
            memory.truncate(self.tokens);
        }
    }

    /// The memories of a layer, in the order of key heads.
    pub(crate) fn layer(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    /// All layers have taken in the positions up to `tokens`.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.tokens = tokens;
    }
}
