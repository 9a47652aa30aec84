//! Which rows attend to which keys: tiles, and causal prefixes with branches, as blocks of rows and chunks of keys.

use std::ops::Range;

use kernels::training::LANES;

use crate::losses::IGNORE;

/// Keys of one chunk and rows of one block. Two panels of keys; blocks of a causal run see half of their last chunk.
pub(super) const CHUNK: usize = 64;

/// A run of query rows and the chunks of keys that it sees: all of `open`, and of `own` those up to the row itself.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub rows: Range<usize>,
    pub open: Range<usize>,
    pub own: Range<usize>,
    /// Keys of the open chunks together.
    pub open_keys: usize,
    /// Row of the first own key.
    pub own_start: usize,
    /// Whether any of its rows is supervised: behind the last layer's attention only those go on.
    supervised: bool,
}

/// Which blocks a pass computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// All.
    Every,
    /// Those with supervised rows; other rows of the output are not written.
    Supervised,
}

impl Pass {
    pub(super) fn takes(self, block: &Block) -> bool {
        self == Pass::Every || block.supervised
    }
}

/// Which rows meet which keys, for all sequences or tiles of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(super) chunks: Vec<Range<usize>>,
    /// One group per sequence or tile: its chunks and its blocks; groups share nothing.
    pub(super) groups: Vec<(Range<usize>, Range<usize>)>,
    pub(super) blocks: Vec<Block>,
    /// Most columns of one block's scores, padding included.
    pub(super) longest: usize,
    /// Most chunks of one group.
    pub(super) most_chunks: usize,
}

impl Plan {
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.groups.clear();
        self.blocks.clear();
        (self.longest, self.most_chunks) = (0, 0);
    }

    fn add_chunks(&mut self, rows: Range<usize>) -> Range<usize> {
        let first = self.chunks.len();
        self.chunks.extend(
            rows.clone()
                .step_by(CHUNK)
                .map(|start| start..rows.end.min(start + CHUNK)),
        );
        first..self.chunks.len()
    }

    fn finish_group(&mut self, first_chunk: usize, first_block: usize) {
        self.groups.push((
            first_chunk..self.chunks.len(),
            first_block..self.blocks.len(),
        ));
        self.most_chunks = self.most_chunks.max(self.chunks.len() - first_chunk);
        for block in &self.blocks[first_block..] {
            let own: usize = self.chunks[block.own.clone()]
                .iter()
                .map(ExactSizeIterator::len)
                .sum();
            self.longest = self
                .longest
                .max((block.open_keys + own).next_multiple_of(LANES));
        }
    }

    /// Rows that all see each other.
    pub fn add_tile(&mut self, rows: Range<usize>) {
        let (first_chunk, first_block) = (self.chunks.len(), self.blocks.len());
        let open = self.add_chunks(rows.clone());
        for chunk in open.clone() {
            let block_rows = self.chunks[chunk].clone();
            self.blocks.push(Block {
                rows: block_rows,
                open: open.clone(),
                own: 0..0,
                open_keys: rows.len(),
                own_start: 0,
                supervised: true,
            });
        }
        self.finish_group(first_chunk, first_block);
    }

    /// A causal prefix and branches that each see the prefix and their own past; `branch` is one number per row, never
    /// falling, 0 for the prefix. The rows lie from `first` on.
    pub fn add_sequence(&mut self, first: usize, branch: &[u32], labels: &[i32]) {
        let is_supervised = |rows: &Range<usize>| {
            labels[rows.start - first..rows.end - first]
                .iter()
                .any(|&label| label != IGNORE)
        };
        let (first_chunk, first_block) = (self.chunks.len(), self.blocks.len());
        let prefix_keys = branch.partition_point(|&number| number == 0);
        let prefix = self.add_chunks(first..first + prefix_keys);
        for chunk in prefix.clone() {
            let rows = self.chunks[chunk].clone();
            let (open, own) = (prefix.start..chunk, chunk..chunk + 1);
            let (open_keys, own_start) = (rows.start - first, rows.start);
            let supervised = is_supervised(&rows);
            self.blocks.push(Block {
                rows,
                open,
                own,
                open_keys,
                own_start,
                supervised,
            });
        }
        let mut start = first + prefix_keys;
        for run in branch[prefix_keys..].chunk_by(|a, b| a == b) {
            let chunks = self.add_chunks(start..start + run.len());
            for chunk in chunks.clone() {
                let rows = self.chunks[chunk].clone();
                let (open, own) = (prefix.clone(), chunks.start..chunk + 1);
                let supervised = is_supervised(&rows);
                self.blocks.push(Block {
                    rows,
                    open,
                    own,
                    open_keys: prefix_keys,
                    own_start: start,
                    supervised,
                });
            }
            start += run.len();
        }
        self.finish_group(first_chunk, first_block);
    }
}

impl Block {
    /// The chunks that its rows see, all or in part.
    pub fn chunks(&self) -> impl Iterator<Item = usize> {
        self.open.clone().chain(self.own.clone())
    }
}
