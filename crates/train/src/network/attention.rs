//! Attention forward and backward over runs of keys: whole tiles for the encoder, prefix and branches for the decoder.
//!
//! Scores are never kept: the forward pass keeps each row's log-sum and the backward pass computes the scores again,
//! which costs a seventh more arithmetic and saves most of the memory traffic. Work goes block by block: a block of
//! query rows meets only the chunks of keys that its mask lets through.

use std::ops::Range;

use kernels::matmul::Write;
use kernels::training::{self, LANES, ScoreBlock};

use super::buffers::sized;
use super::plan::{Block, CHUNK, Pass, Plan};
use super::product::{Arithmetic, Right, Rows};

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
    pub arithmetic: Arithmetic,
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
    q: Right,
    output_gradient: Right,
    /// A rounded left side.
    left: Vec<u32>,
    scores: Vec<f32>,
    score_gradients: Vec<f32>,
    /// Per row and head: output gradient times output.
    dots: Vec<f32>,
}

#[derive(Default)]
struct ChunkPanels {
    k_transposed: Right,
    v: Right,
    k: Right,
    v_transposed: Right,
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

impl Attention<'_> {
    /// `out[row, head·dim ..] = softmax(q·k)·v`; `log_sums[row, head]` is kept for the backward pass.
    pub fn forward(self, out: &mut [f32], log_sums: &mut [f32], scratch: &mut Scratch) {
        scratch.prepare(self.plan);
        self.each_head(|head, chunks, blocks| {
            for (chunk, packed) in head.keys(chunks).zip(&mut scratch.chunks) {
                let shape = [chunk.len(), self.heads.head_dim];
                self.arithmetic
                    .pack_columns(&mut packed.k_transposed, shape, head.k(chunk.start));
                self.arithmetic
                    .pack_rows(&mut packed.v, shape, head.v(chunk.start));
            }
            for block in blocks {
                head.forward(block, out, log_sums, scratch);
            }
        });
    }

    /// From the gradient of `out` to that of q, k and v (all of `dqkv` is overwritten).
    pub fn backward(self, saved: Saved, dout: &[f32], dqkv: &mut [f32], scratch: &mut Scratch) {
        scratch.prepare(self.plan);
        dqkv.fill(0.0);
        let dots = sized(&mut scratch.dots, dout.len() / self.heads.head_dim);
        training::dots(
            self.arithmetic.isa,
            dout,
            saved.out,
            self.heads.head_dim,
            dots,
        );
        self.each_head(|head, chunks, blocks| {
            for (chunk, packed) in head.keys(chunks).zip(&mut scratch.chunks) {
                let shape = [chunk.len(), self.heads.head_dim];
                let (k, v) = (head.k(chunk.start), head.v(chunk.start));
                self.arithmetic
                    .pack_columns(&mut packed.k_transposed, shape, k);
                self.arithmetic.pack_rows(&mut packed.k, shape, k);
                self.arithmetic
                    .pack_columns(&mut packed.v_transposed, shape, v);
            }
            for block in blocks {
                head.backward(block, saved, dout, dqkv, scratch);
            }
        });
    }

    /// Calls for every query head of every group: with the chunks to pack (none when the head before shares its keys) and
    /// the blocks to compute.
    fn each_head<'a>(
        &'a self,
        mut visit: impl FnMut(Head<'a>, Range<usize>, &mut dyn Iterator<Item = &'a Block>),
    ) {
        let shared = self.heads.heads / self.heads.kv_heads;
        for (chunks, blocks) in &self.plan.groups {
            for head in 0..self.heads.heads {
                let new_keys = if head % shared == 0 {
                    chunks.clone()
                } else {
                    0..0
                };
                let head = Head {
                    of: *self,
                    head,
                    first_chunk: chunks.start,
                };
                let blocks = &self.plan.blocks[blocks.clone()];
                visit(
                    head,
                    new_keys,
                    &mut blocks.iter().filter(|block| self.pass.takes(block)),
                );
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
    fn q_offset(&self) -> usize {
        self.head * self.of.heads.head_dim
    }
    fn rows(&self, row: usize, offset: usize) -> Rows<'_> {
        let stride = self.of.heads.stride();
        Rows {
            data: &self.of.qkv[row * stride + offset..],
            stride,
        }
    }
    fn k(&self, row: usize) -> Rows<'_> {
        self.rows(row, self.of.heads.k_offset(self.kv_head()))
    }
    fn v(&self, row: usize) -> Rows<'_> {
        self.rows(row, self.of.heads.v_offset(self.kv_head()))
    }
    fn keys(&self, chunks: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        self.of.plan.chunks[chunks].iter().cloned()
    }

    /// Calls with every chunk of keys that a block sees: its packed index, its keys, its first column of the scores.
    fn columns(&self, block: &Block, mut visit: impl FnMut(usize, Range<usize>, usize)) {
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

    /// Raw scores of a block, row by row, into `scratch.scores`: open keys, then own keys.
    fn scores(&self, block: &Block, shape: ScoreBlock, scratch: &mut Scratch) {
        let arithmetic = self.of.arithmetic;
        let q = self.rows(block.rows.start, self.q_offset());
        let q = arithmetic.rows([shape.rows, self.of.heads.head_dim], q, &mut scratch.left);
        self.columns(block, |chunk, _, column| {
            let into = (&mut scratch.scores[column..], shape.columns);
            arithmetic.multiply(
                shape.rows,
                q,
                &scratch.chunks[chunk].k_transposed,
                into,
                Write::Replace,
            );
        });
    }

    fn forward(&self, block: &Block, out: &mut [f32], log_sums: &mut [f32], scratch: &mut Scratch) {
        let (arithmetic, heads, shape) = (self.of.arithmetic, self.of.heads, self.shape(block));
        self.scores(block, shape, scratch);
        let log_sums = &mut log_sums[block.rows.start * heads.heads + self.head..];
        training::score_softmax(
            arithmetic.isa,
            shape,
            &mut scratch.scores,
            log_sums,
            heads.heads,
        );
        let stride = heads.heads * heads.head_dim;
        let out = &mut out[block.rows.start * stride + self.q_offset()..];
        self.columns(block, |chunk, keys, column| {
            let p = Rows {
                data: &scratch.scores[column..],
                stride: shape.columns,
            };
            let p = arithmetic.rows([shape.rows, keys.len()], p, &mut scratch.left);
            let write = if column == 0 {
                Write::Replace
            } else {
                Write::Add
            };
            arithmetic.multiply(
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
        let (arithmetic, heads, shape) = (self.of.arithmetic, self.of.heads, self.shape(block));
        let (rows, first, dim) = (shape.rows, block.rows.start, heads.head_dim);
        self.scores(block, shape, scratch);
        let out_stride = heads.heads * dim;
        let dout = Rows {
            data: &dout[first * out_stride + self.q_offset()..],
            stride: out_stride,
        };
        let left = arithmetic.rows([rows, dim], dout, &mut scratch.left);
        self.columns(block, |chunk, _, column| {
            let into = (&mut scratch.score_gradients[column..], shape.columns);
            arithmetic.multiply(
                rows,
                left,
                &scratch.chunks[chunk].v_transposed,
                into,
                Write::Replace,
            );
        });
        let at = first * heads.heads + self.head;
        let (log_sums, dots) = (&saved.log_sums[at..], &scratch.dots[at..]);
        let (scores, gradients) = (&mut scratch.scores, &mut scratch.score_gradients);
        training::score_backward(
            arithmetic.isa,
            shape,
            scores,
            gradients,
            log_sums,
            dots,
            heads.heads,
        );

        arithmetic.pack_rows(
            &mut scratch.q,
            [rows, dim],
            self.rows(first, self.q_offset()),
        );
        arithmetic.pack_rows(&mut scratch.output_gradient, [rows, dim], dout);
        let stride = heads.stride();
        let (k_offset, v_offset) = (
            heads.k_offset(self.kv_head()),
            heads.v_offset(self.kv_head()),
        );
        self.columns(block, |chunk, keys, column| {
            let (room, square) = (&mut scratch.left, [rows, keys.len()]);
            let p = Rows {
                data: &scratch.scores[column..],
                stride: shape.columns,
            };
            let dp = Rows {
                data: &scratch.score_gradients[column..],
                stride: shape.columns,
            };
            let dq = (&mut dqkv[first * stride + self.q_offset()..], stride);
            arithmetic.multiply(
                rows,
                arithmetic.rows(square, dp, room),
                &scratch.chunks[chunk].k,
                dq,
                Write::Add,
            );
            let dk = (&mut dqkv[keys.start * stride + k_offset..], stride);
            arithmetic.multiply(
                keys.len(),
                arithmetic.columns(square, dp, room),
                &scratch.q,
                dk,
                Write::Add,
            );
            let dv = (&mut dqkv[keys.start * stride + v_offset..], stride);
            let left = arithmetic.columns(square, p, room);
            arithmetic.multiply(keys.len(), left, &scratch.output_gradient, dv, Write::Add);
        });
    }
}
