//! What a conversation left in the key-value cache, so that its next turn need not be read from the beginning.

use crate::network::{Cache, Network};
use crate::prompt::{Piece, Prompt};

/// What stood at one position: a token, or a place of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub id: u32,
    /// 0 for text, else the name of the picture by its pixels and how they are prepared.
    pub picture: u128,
}

/// A cache and what is in it. A new one is empty; [`crate::Engine::generate_in`] fills it.
///
/// The next request begins where it first differs. This changes no bit of the answer, because the bits of a row depend
/// only on the rows before it.
pub struct Memory<N: Network> {
    rows: Vec<Row>,
    cache: Option<N::Cache>,
    /// The engine that filled it, whose weights the cache is made with.
    engine: u64,
}

impl<N: Network> Default for Memory<N> {
    fn default() -> Self {
        Memory {
            rows: Vec::new(),
            cache: None,
            engine: 0,
        }
    }
}

impl<N: Network> Memory<N> {
    /// Nothing remembered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Positions remembered.
    pub fn tokens(&self) -> usize {
        self.rows.len()
    }

    /// What an engine knows of a conversation.
    pub(crate) fn of(engine: u64, rows: Vec<Row>, cache: N::Cache) -> Self {
        Memory {
            rows,
            cache: Some(cache),
            engine,
        }
    }

    /// What stood at the positions.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Positions of a prompt with these rows that need not be read again.
    pub(crate) fn shared(&self, engine: u64, rows: &[Row], prompt: &Prompt) -> usize {
        if self.engine != engine {
            return 0;
        }
        shared(&self.rows, rows, prompt)
    }

    /// The cache, if there is one.
    pub(crate) fn cache(&self) -> Option<&N::Cache> {
        self.cache.as_ref()
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// A cache that holds as much of the beginning of this prompt as is remembered, at most all but its last row, whose
    /// logits are needed.
    ///
    /// The memory is empty until [`Memory::keep`], so that a request that fails leaves nothing half true behind. What another
    /// engine has put in is not used: its weights may be others.
    pub(crate) fn take(
        &mut self,
        engine: u64,
        network: &N,
        rows: &[Row],
        prompt: &Prompt,
    ) -> N::Cache {
        let shared = self.shared(engine, rows, prompt);
        self.rows.clear();
        self.engine = engine;
        let Some(mut cache) = self.cache.take().filter(|_| shared > 0) else {
            return network.new_cache(network.shape().context_tokens);
        };
        cache.truncate(shared);
        cache
    }

    /// Remembers what the cache now holds.
    pub(crate) fn keep(&mut self, rows: Vec<Row>, cache: N::Cache) {
        self.rows = rows;
        self.cache = Some(cache);
    }
}

/// How many positions of a prompt with these rows are what is remembered: at most all but its last row, whose logits are needed,
/// and no picture is cut.
pub(crate) fn shared(remembered: &[Row], rows: &[Row], prompt: &Prompt) -> usize {
    let all_but_last = &rows[..rows.len() - 1];
    let pairs = remembered.iter().zip(all_but_last);
    whole_pieces(prompt, pairs.take_while(|(a, b)| a == b).count())
}

/// The rows of a prompt whose pictures have these names.
pub(crate) fn rows(prompt: &Prompt, names: &[u128]) -> Vec<Row> {
    let mut rows: Vec<Row> = prompt
        .ids
        .iter()
        .map(|&id| Row { id, picture: 0 })
        .collect();
    for piece in &prompt.pieces {
        if let Piece::Image { image, places, .. } = piece {
            rows[places.clone()]
                .iter_mut()
                .for_each(|row| row.picture = names[*image]);
        }
    }
    rows
}

/// `count` positions, or fewer, so that no image is cut, not even between its stretches.
fn whole_pieces(prompt: &Prompt, count: usize) -> usize {
    let mut begun = 0;
    for piece in &prompt.pieces {
        if let Piece::Image {
            places, first_row, ..
        } = piece
        {
            if *first_row == 0 {
                begun = places.start;
            }
            if begun < count && count < places.end {
                return begun;
            }
        }
    }
    count
}
