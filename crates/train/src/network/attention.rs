//! Attention forward and backward over runs of keys: whole tiles for the encoder, prefix and branches for the decoder.
//!
//! Scores are never kept: the forward pass keeps each row's log-sum and the backward pass computes the scores again,
//! which costs a seventh more arithmetic and saves most of the memory traffic. Work goes block by block: a block of
//! query rows meets only the chunks of keys that its mask lets through.

use std::ops::Range;

use kernels::isa::Isa;
use kernels::matmul::{Panels, View, Write, matmul};
use kernels::training::{self, LANES, ScoreBlock};

use super::buffers::sized;
use crate::losses::IGNORE;

/// Keys of one chunk and rows of one block. Two panels of keys; blocks of a causal run see half of their last chunk.
const CHUNK: usize = 64;

/// Where heads lie in a row of q, k and v.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl Heads {
    fn stride(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
    fn k_offset(&self, kv_head: usize) -> usize {
        (self.heads + kv_head) * self.head_dim
    }
    fn v_offset(&self, kv_head: usize) -> usize {
        (self.heads + self.kv_heads + kv_head) * self.head_dim
    }
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// A run of query rows and the chunks of keys that it sees: all of `open`, and of `own` those up to the row itself.
#[derive(Clone, Debug)]
struct Block {
    rows: Range<usize>,
    open: Range<usize>,
    own: Range<usize>,
    open_keys: usize,
    own_start: usize,
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
    fn takes(self, block: &Block) -> bool {
        self == Pass::Every || block.supervised
    }
}

/// Which rows meet which keys, for all sequences or tiles of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    chunks: Vec<Range<usize>>,
    /// One group per sequence or tile: its chunks and its blocks; groups share nothing.
    groups: Vec<(Range<usize>, Range<usize>)>,
    blocks: Vec<Block>,
    /// Most keys that one row block sees.
    longest: usize,
    most_chunks: usize,
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
    fn chunks(&self) -> impl Iterator<Item = usize> {
        self.open.clone().chain(self.own.clone())
    }
}

/// Buffers that attention reuses.
#[derive(Default)]
pub(crate) struct Scratch {
    chunks: Vec<ChunkPanels>,
    query: Panels2,
    scores: Vec<f32>,
    score_gradients: Vec<f32>,
    /// Per row and head: output gradient times output.
    dots: Vec<f32>,
}

#[derive(Default)]
struct Panels2 {
    q: Option<Panels>,
    output_gradient: Option<Panels>,
}

struct ChunkPanels {
    k_transposed: Panels,
    v: Panels,
    k: Panels,
    v_transposed: Panels,
}

impl Scratch {
    fn prepare(&mut self, plan: &Plan) {
        let empty = || ChunkPanels {
            k_transposed: Panels::empty(),
            v: Panels::empty(),
            k: Panels::empty(),
            v_transposed: Panels::empty(),
        };
        if self.chunks.len() < plan.most_chunks {
            self.chunks.resize_with(plan.most_chunks, empty);
        }
        let size = CHUNK * plan.longest;
        if self.scores.len() < size {
            self.scores.resize(size, 0.0);
            self.score_gradients.resize(size, 0.0);
        }
        self.query.q.get_or_insert_with(Panels::empty);
        self.query.output_gradient.get_or_insert_with(Panels::empty);
    }
}

/// One head's view of the rows.
#[derive(Clone, Copy)]
struct Head<'a> {
    isa: Isa,
    heads: Heads,
    qkv: &'a [f32],
    head: usize,
}

impl Head<'_> {
    fn kv_head(&self) -> usize {
        self.head / (self.heads.heads / self.heads.kv_heads)
    }
    fn first_of_group(&self) -> bool {
        self.head
            .is_multiple_of(self.heads.heads / self.heads.kv_heads)
    }
    fn view(&self, row: usize, offset: usize) -> View<'_> {
        let stride = self.heads.stride();
        View::rows(&self.qkv[row * stride + offset..], stride)
    }
    fn q(&self, row: usize) -> View<'_> {
        self.view(row, self.head * self.heads.head_dim)
    }
    fn k(&self, row: usize) -> View<'_> {
        self.view(row, self.heads.k_offset(self.kv_head()))
    }
    fn v(&self, row: usize) -> View<'_> {
        self.view(row, self.heads.v_offset(self.kv_head()))
    }

    /// Raw scores of a block, row by row: open keys, then own keys.
    fn scores(
        &self,
        plan: &Plan,
        block: &Block,
        chunks: &[ChunkPanels],
        first_chunk: usize,
        scores: &mut [f32],
    ) -> ScoreBlock {
        let columns = block
            .chunks()
            .map(|chunk| plan.chunks[chunk].len())
            .sum::<usize>()
            .next_multiple_of(LANES);
        let mut column = 0;
        for chunk in block.chunks() {
            let panels = &chunks[chunk - first_chunk].k_transposed;
            let (rows, into) = (block.rows.len(), &mut scores[column..]);
            matmul(
                self.isa,
                rows,
                self.q(block.rows.start),
                panels,
                0..panels.panel_count(),
                into,
                columns,
                Write::Replace,
            );
            column += plan.chunks[chunk].len();
        }
        let own = if block.own.is_empty() {
            0
        } else {
            block.rows.start - block.own_start + 1
        };
        let (rows, first, step) = (
            block.rows.len(),
            block.open_keys + own,
            usize::from(own > 0),
        );
        ScoreBlock {
            rows,
            columns,
            first,
            step,
            scale: self.heads.scale(),
        }
    }
}

/// `out[row, head·dim ..] = softmax(q·k)·v`; `log_sums[row, head]` is kept for the backward pass.
#[allow(clippy::too_many_arguments)]
pub(crate) fn forward(
    isa: Isa,
    plan: &Plan,
    pass: Pass,
    heads: Heads,
    qkv: &[f32],
    out: &mut [f32],
    log_sums: &mut [f32],
    scratch: &mut Scratch,
) {
    scratch.prepare(plan);
    for (chunks, blocks) in &plan.groups {
        for head in 0..heads.heads {
            let head = Head {
                isa,
                heads,
                qkv,
                head,
            };
            if head.first_of_group() {
                for (chunk, panels) in plan.chunks[chunks.clone()].iter().zip(&mut scratch.chunks) {
                    panels.k_transposed.pack(
                        heads.head_dim,
                        chunk.len(),
                        head.k(chunk.start).transposed(),
                    );
                    panels
                        .v
                        .pack(chunk.len(), heads.head_dim, head.v(chunk.start));
                }
            }
            for block in plan.blocks[blocks.clone()]
                .iter()
                .filter(|block| pass.takes(block))
            {
                forward_block(head, plan, block, chunks.start, out, log_sums, scratch);
            }
        }
    }
}

fn forward_block(
    head: Head,
    plan: &Plan,
    block: &Block,
    first_chunk: usize,
    out: &mut [f32],
    log_sums: &mut [f32],
    scratch: &mut Scratch,
) {
    let heads = head.heads;
    let shape = head.scores(
        plan,
        block,
        &scratch.chunks,
        first_chunk,
        &mut scratch.scores,
    );
    let log_sums = &mut log_sums[block.rows.start * heads.heads + head.head..];
    training::score_softmax(head.isa, shape, &mut scratch.scores, log_sums, heads.heads);
    let columns = shape.columns;
    let stride = heads.heads * heads.head_dim;
    let mut column = 0;
    for chunk in block.chunks() {
        let panels = &scratch.chunks[chunk - first_chunk].v;
        let scores = View::rows(&scratch.scores[column..], columns);
        let into = &mut out[block.rows.start * stride + head.head * heads.head_dim..];
        let write = if column == 0 {
            Write::Replace
        } else {
            Write::Add
        };
        matmul(
            head.isa,
            block.rows.len(),
            scores,
            panels,
            0..panels.panel_count(),
            into,
            stride,
            write,
        );
        column += plan.chunks[chunk].len();
    }
}

/// What the backward pass reads.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a> {
    pub qkv: &'a [f32],
    pub out: &'a [f32],
    pub log_sums: &'a [f32],
}

/// From the gradient of `out` to that of q, k and v (all of `dqkv` is overwritten).
#[allow(clippy::too_many_arguments)]
pub(crate) fn backward(
    isa: Isa,
    plan: &Plan,
    pass: Pass,
    heads: Heads,
    saved: Saved,
    dout: &[f32],
    dqkv: &mut [f32],
    scratch: &mut Scratch,
) {
    scratch.prepare(plan);
    dqkv.fill(0.0);
    let dots = sized(&mut scratch.dots, dout.len() / heads.head_dim);
    training::dots(isa, dout, saved.out, heads.head_dim, dots);
    for (chunks, blocks) in &plan.groups {
        for head in 0..heads.heads {
            let head = Head {
                isa,
                heads,
                qkv: saved.qkv,
                head,
            };
            if head.first_of_group() {
                for (chunk, panels) in plan.chunks[chunks.clone()].iter().zip(&mut scratch.chunks) {
                    let (k, v) = (head.k(chunk.start), head.v(chunk.start));
                    panels
                        .k_transposed
                        .pack(heads.head_dim, chunk.len(), k.transposed());
                    panels.k.pack(chunk.len(), heads.head_dim, k);
                    panels
                        .v_transposed
                        .pack(heads.head_dim, chunk.len(), v.transposed());
                }
            }
            for block in plan.blocks[blocks.clone()]
                .iter()
                .filter(|block| pass.takes(block))
            {
                backward_block(head, plan, block, chunks.start, saved, dout, dqkv, scratch);
            }
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn backward_block(
    head: Head,
    plan: &Plan,
    block: &Block,
    first_chunk: usize,
    saved: Saved,
    dout: &[f32],
    dqkv: &mut [f32],
    scratch: &mut Scratch,
) {
    let heads = head.heads;
    let (isa, dim, rows) = (head.isa, heads.head_dim, block.rows.len());
    let out_stride = heads.heads * dim;
    let out_start = block.rows.start * out_stride + head.head * dim;
    let dout_block = View::rows(&dout[out_start..], out_stride);
    let shape = head.scores(
        plan,
        block,
        &scratch.chunks,
        first_chunk,
        &mut scratch.scores,
    );
    let columns = shape.columns;
    let mut column = 0;
    for chunk in block.chunks() {
        let panels = &scratch.chunks[chunk - first_chunk].v_transposed;
        let into = &mut scratch.score_gradients[column..];
        matmul(
            isa,
            rows,
            dout_block,
            panels,
            0..panels.panel_count(),
            into,
            columns,
            Write::Replace,
        );
        column += plan.chunks[chunk].len();
    }
    let at = block.rows.start * heads.heads + head.head;
    let (log_sums, dots) = (&saved.log_sums[at..], &scratch.dots[at..]);
    training::score_backward(
        isa,
        shape,
        &mut scratch.scores,
        &mut scratch.score_gradients,
        log_sums,
        dots,
        heads.heads,
    );
    let Panels2 {
        q: Some(q_panels),
        output_gradient: Some(dout_panels),
    } = &mut scratch.query
    else {
        unreachable!("prepare made the panels");
    };
    q_panels.pack(rows, dim, head.q(block.rows.start));
    dout_panels.pack(rows, dim, dout_block);
    let stride = heads.stride();
    let mut column = 0;
    for chunk in block.chunks() {
        let keys = plan.chunks[chunk].clone();
        let (p, dp) = (
            View::rows(&scratch.scores[column..], columns),
            View::rows(&scratch.score_gradients[column..], columns),
        );
        let k = &scratch.chunks[chunk - first_chunk].k;
        let dq = &mut dqkv[block.rows.start * stride + head.head * dim..];
        matmul(isa, rows, dp, k, 0..k.panel_count(), dq, stride, Write::Add);
        let dk = &mut dqkv[keys.start * stride + heads.k_offset(head.kv_head())..];
        matmul(
            isa,
            keys.len(),
            dp.transposed(),
            q_panels,
            0..q_panels.panel_count(),
            dk,
            stride,
            Write::Add,
        );
        let dv = &mut dqkv[keys.start * stride + heads.v_offset(head.kv_head())..];
        matmul(
            isa,
            keys.len(),
            p.transposed(),
            dout_panels,
            0..dout_panels.panel_count(),
            dv,
            stride,
            Write::Add,
        );
        column += keys.len();
    }
}
