//! Attention forward and backward over runs of keys: whole tiles for the encoder, prefix and branches for the decoder.
//!
//! Scores are never kept: the forward pass keeps each row's log-sum and the backward pass computes the scores again,
//! which costs a seventh more arithmetic and saves most of the memory traffic. Work goes block by block: a block of
//! query rows meets only the chunks of keys that its mask lets through.

use kernels::isa::Isa;
use kernels::matmul::{Panels, View, Write, matmul};
use kernels::training::{self, LANES, ScoreBlock};

use super::buffers::sized;
use super::plan::{Block, CHUNK, Pass, Plan};

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

/// One attention over all rows of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub isa: Isa,
    pub plan: &'a Plan,
    pub pass: Pass,
    pub heads: Heads,
    /// q, k and v of all heads side by side, one row behind the other.
    pub qkv: &'a [f32],
}

/// What the backward pass reads of the forward pass's results.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a> {
    pub out: &'a [f32],
    pub log_sums: &'a [f32],
}

/// Buffers that attention reuses.
#[derive(Default)]
pub(crate) struct Scratch {
    chunks: Vec<ChunkPanels>,
    q: Panels,
    output_gradient: Panels,
    scores: Vec<f32>,
    score_gradients: Vec<f32>,
    /// Per row and head: output gradient times output.
    dots: Vec<f32>,
}

#[derive(Default)]
struct ChunkPanels {
    k_transposed: Panels,
    v: Panels,
    k: Panels,
    v_transposed: Panels,
}

impl Scratch {
    fn prepare(&mut self, plan: &Plan) {
        if self.chunks.len() < plan.most_chunks {
            self.chunks
                .resize_with(plan.most_chunks, ChunkPanels::default);
        }
        sized(&mut self.scores, CHUNK * plan.longest);
        sized(&mut self.score_gradients, CHUNK * plan.longest);
    }
}

/// All of B's columns.
fn multiply(isa: Isa, rows: usize, a: View, b: &Panels, into: (&mut [f32], usize), write: Write) {
    matmul(isa, rows, a, b, 0..b.panel_count(), into.0, into.1, write);
}

impl<'a> Attention<'a> {
    /// `out[row, head·dim ..] = softmax(q·k)·v`; `log_sums[row, head]` is kept for the backward pass.
    pub fn forward(self, out: &mut [f32], log_sums: &mut [f32], scratch: &mut Scratch) {
        scratch.prepare(self.plan);
        for (chunks, blocks) in &self.plan.groups {
            for head in 0..self.heads.heads {
                let head = Head {
                    of: self,
                    head,
                    first_chunk: chunks.start,
                };
                if head.first_of_group() {
                    let dim = self.heads.head_dim;
                    for (chunk, panels) in self.plan.chunks[chunks.clone()]
                        .iter()
                        .zip(&mut scratch.chunks)
                    {
                        panels.k_transposed.pack(
                            dim,
                            chunk.len(),
                            head.k(chunk.start).transposed(),
                        );
                        panels.v.pack(chunk.len(), dim, head.v(chunk.start));
                    }
                }
                for block in self.plan.blocks[blocks.clone()]
                    .iter()
                    .filter(|block| self.pass.takes(block))
                {
                    head.forward(block, out, log_sums, scratch);
                }
            }
        }
    }

    /// From the gradient of `out` to that of q, k and v (all of `dqkv` is overwritten).
    pub fn backward(self, saved: Saved, dout: &[f32], dqkv: &mut [f32], scratch: &mut Scratch) {
        scratch.prepare(self.plan);
        dqkv.fill(0.0);
        let dots = sized(&mut scratch.dots, dout.len() / self.heads.head_dim);
        training::dots(self.isa, dout, saved.out, self.heads.head_dim, dots);
        for (chunks, blocks) in &self.plan.groups {
            for head in 0..self.heads.heads {
                let head = Head {
                    of: self,
                    head,
                    first_chunk: chunks.start,
                };
                if head.first_of_group() {
                    let dim = self.heads.head_dim;
                    for (chunk, panels) in self.plan.chunks[chunks.clone()]
                        .iter()
                        .zip(&mut scratch.chunks)
                    {
                        let (k, v) = (head.k(chunk.start), head.v(chunk.start));
                        panels.k_transposed.pack(dim, chunk.len(), k.transposed());
                        panels.k.pack(chunk.len(), dim, k);
                        panels.v_transposed.pack(dim, chunk.len(), v.transposed());
                    }
                }
                for block in self.plan.blocks[blocks.clone()]
                    .iter()
                    .filter(|block| self.pass.takes(block))
                {
                    head.backward(block, saved, dout, dqkv, scratch);
                }
            }
        }
    }
}

/// One query head in one group of rows.
#[derive(Clone, Copy)]
struct Head<'a> {
    of: Attention<'a>,
    head: usize,
    first_chunk: usize,
}

impl Head<'_> {
    fn kv_head(&self) -> usize {
        self.head / (self.of.heads.heads / self.of.heads.kv_heads)
    }
    fn first_of_group(&self) -> bool {
        self.head
            .is_multiple_of(self.of.heads.heads / self.of.heads.kv_heads)
    }
    fn q_offset(&self) -> usize {
        self.head * self.of.heads.head_dim
    }
    fn view(&self, row: usize, offset: usize) -> View<'_> {
        let stride = self.of.heads.stride();
        View::rows(&self.of.qkv[row * stride + offset..], stride)
    }
    fn k(&self, row: usize) -> View<'_> {
        self.view(row, self.of.heads.k_offset(self.kv_head()))
    }
    fn v(&self, row: usize) -> View<'_> {
        self.view(row, self.of.heads.v_offset(self.kv_head()))
    }

    /// Calls with every chunk of keys that a block sees: its panels' index, its keys, its first column of the scores.
    fn columns(&self, block: &Block, mut visit: impl FnMut(usize, std::ops::Range<usize>, usize)) {
        let mut column = 0;
        for chunk in block.chunks() {
            let keys = self.of.plan.chunks[chunk].clone();
            let length = keys.len();
            visit(chunk - self.first_chunk, keys, column);
            column += length;
        }
    }

    fn shape(&self, block: &Block) -> ScoreBlock {
        let mut columns = 0;
        self.columns(block, |_, keys, column| columns = column + keys.len());
        let causal = !block.own.is_empty();
        let own = if causal {
            block.rows.start - block.own_start + 1
        } else {
            0
        };
        ScoreBlock {
            rows: block.rows.len(),
            columns: columns.next_multiple_of(LANES),
            first: block.open_keys + own,
            step: usize::from(causal),
            scale: self.of.heads.scale(),
        }
    }

    /// Raw scores of a block, row by row: open keys, then own keys.
    fn scores(&self, block: &Block, shape: ScoreBlock, chunks: &[ChunkPanels], scores: &mut [f32]) {
        let q = self.view(block.rows.start, self.q_offset());
        self.columns(block, |chunk, _, column| {
            let into = (&mut scores[column..], shape.columns);
            multiply(
                self.of.isa,
                shape.rows,
                q,
                &chunks[chunk].k_transposed,
                into,
                Write::Replace,
            );
        });
    }

    fn forward(&self, block: &Block, out: &mut [f32], log_sums: &mut [f32], scratch: &mut Scratch) {
        let (isa, heads, shape) = (self.of.isa, self.of.heads, self.shape(block));
        self.scores(block, shape, &scratch.chunks, &mut scratch.scores);
        let log_sums = &mut log_sums[block.rows.start * heads.heads + self.head..];
        training::score_softmax(isa, shape, &mut scratch.scores, log_sums, heads.heads);
        let stride = heads.heads * heads.head_dim;
        let out = &mut out[block.rows.start * stride + self.q_offset()..];
        self.columns(block, |chunk, _, column| {
            let p = View::rows(&scratch.scores[column..], shape.columns);
            let write = if column == 0 {
                Write::Replace
            } else {
                Write::Add
            };
            multiply(
                isa,
                shape.rows,
                p,
                &scratch.chunks[chunk].v,
                (&mut *out, stride),
                write,
            );
        });
    }

    fn backward(
        &self,
        block: &Block,
        saved: Saved,
        dout: &[f32],
        dqkv: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (isa, heads, shape) = (self.of.isa, self.of.heads, self.shape(block));
        let (rows, columns, first) = (shape.rows, shape.columns, block.rows.start);
        self.scores(block, shape, &scratch.chunks, &mut scratch.scores);
        let out_stride = heads.heads * heads.head_dim;
        let dout = View::rows(&dout[first * out_stride + self.q_offset()..], out_stride);
        self.columns(block, |chunk, _, column| {
            let into = (&mut scratch.score_gradients[column..], columns);
            multiply(
                isa,
                rows,
                dout,
                &scratch.chunks[chunk].v_transposed,
                into,
                Write::Replace,
            );
        });
        let at = first * heads.heads + self.head;
        let (log_sums, dots) = (&saved.log_sums[at..], &scratch.dots[at..]);
        let (scores, gradients) = (&mut scratch.scores, &mut scratch.score_gradients);
        training::score_backward(isa, shape, scores, gradients, log_sums, dots, heads.heads);

        scratch
            .q
            .pack(rows, heads.head_dim, self.view(first, self.q_offset()));
        scratch.output_gradient.pack(rows, heads.head_dim, dout);
        let stride = heads.stride();
        let (k_offset, v_offset) = (
            heads.k_offset(self.kv_head()),
            heads.v_offset(self.kv_head()),
        );
        self.columns(block, |chunk, keys, column| {
            let p = View::rows(&scratch.scores[column..], columns);
            let dp = View::rows(&scratch.score_gradients[column..], columns);
            let dq = &mut dqkv[first * stride + self.q_offset()..];
            multiply(
                isa,
                rows,
                dp,
                &scratch.chunks[chunk].k,
                (dq, stride),
                Write::Add,
            );
            let dk = &mut dqkv[keys.start * stride + k_offset..];
            multiply(
                isa,
                keys.len(),
                dp.transposed(),
                &scratch.q,
                (dk, stride),
                Write::Add,
            );
            let dv = &mut dqkv[keys.start * stride + v_offset..];
            multiply(
                isa,
                keys.len(),
                p.transposed(),
                &scratch.output_gradient,
                (dv, stride),
                Write::Add,
            );
        });
    }
}
