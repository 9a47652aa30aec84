//! A block of the encoder whose matrices are all quantized: a chunk of rows goes from one product to the next, rounded and activated on the
//! way, while what passes between them is in the cache of one thread. Only attention needs all chunks.
//!
//! The numbers are those of the block computed layer by layer: products begin at what they are added to.

use super::Taken;
use super::block::{Block, activate_rows};
use crate::layers::Linear;
use crate::matrix::{Format, Intake, Quantized, with_scratch};
use crate::spec::VisionSpec;
use kernels::attention::Reach;
use kernels::attention_kv8::{Memory, Queries, Scratch, attend};
use kernels::isa::Isa;
use kernels::matmul::Write;
use kernels::matmul_quantized::{
    Columns, PANEL, Precision, QuantizedRows, Start, TILE, TileMut, matmul_quantized,
};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a chunk at most: with the numbers of a product's block, and the weights that pass, they stay in a second-level cache.
const CHUNK: usize = 12 * TILE;
/// Outputs of the wide product that are held as f32 at a time, about.
const COLUMNS: usize = 512;

/// A block ready for it.
pub(super) struct Chunked<'a> {
    isa: Isa,
    spec: &'a VisionSpec,
    precision: Precision,
    /// Rows of a tile.
    count: usize,
    block: &'a Block,
    projections: [(&'a Linear, &'a Quantized); 3],
    out: (&'a Linear, &'a Quantized),
    fc1: (&'a Linear, &'a Quantized),
    fc2: (&'a Linear, &'a Quantized),
}

/// Used again for the next block.
#[derive(Default)]
pub(super) struct Buffers {
    chunks: Vec<ChunkBuffers>,
    /// `[rows, d]`.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// One for each tile and head.
    heads: Vec<Head>,
}

#[derive(Default)]
struct ChunkBuffers {
    intake: Intake,
    inner: Intake,
}

/// What one head of one tile finds.
struct Head {
    memory: Memory,
    scratch: Scratch,
    /// `[patches, width]`.
    out: Vec<f32>,
}

impl<'a> Chunked<'a> {
    /// `None` where a matrix is not quantized, or rounds its rows in another way than can be done on the way.
    pub fn of(taken: Taken<'a>, block: &'a Block) -> Option<Chunked<'a>> {
        let Taken {
            isa,
            spec,
            precision,
            count,
            places,
            ..
        } = taken;
        if !block.is_plain() || !places.is_plain() {
            return None;
        }
        let with_weights = |linear: &'a Linear| Some((linear, linear.matrix.quantized()?));
        let chunked = Chunked {
            isa,
            spec,
            precision: precision?,
            count,
            block,
            projections: [
                with_weights(&block.q)?,
                with_weights(&block.k)?,
                with_weights(&block.v)?,
            ],
            out: with_weights(&block.out)?,
            fc1: with_weights(&block.fc1)?,
            fc2: with_weights(&block.fc2)?,
        };
        let [(_, q), (_, k), (_, v)] = chunked.projections;
        let alike = q.format == k.format && q.format == v.format;
        let format = chunked.fc2.1.format;
        (alike && format.whole_blocks(spec.ffn).is_some()).then_some(chunked)
    }

    /// Attention among the patches of each tile, then the MLP, both added to `x`, rows of whole tiles.
    pub fn apply(&self, x: &mut [f32], buffers: &mut Buffers) {
        let d = self.spec.hidden;
        let rows = x.len() / d;
        let Buffers {
            chunks,
            q,
            k,
            v,
            heads,
        } = buffers;
        for buffer in [&mut *q, &mut *k, &mut *v] {
            buffer.resize(rows * d, 0.0);
        }
        let shares = shares(rows, rayon::current_num_threads());
        chunks.resize_with(shares.len(), ChunkBuffers::default);
        let projected = [&mut *q, &mut *k, &mut *v].map(|x| split(x, &shares, d));
        let [of_q, of_k, of_v] = projected;
        let tasks = shares
            .iter()
            .zip(&mut *chunks)
            .zip(of_q)
            .zip(of_k)
            .zip(of_v);
        let x_read: &[f32] = x;
        tasks
            .collect::<Vec<_>>()
            .into_par_iter()
            .for_each(|((((share, buffers), q), k), v)| {
                let x = &x_read[share.start * d..share.end * d];
                self.project(x, buffers, [q, k, v]);
            });
        self.attend([q, k, v], heads);
        let heads: &[Head] = heads;
        let tasks = shares.iter().zip(chunks).zip(split(x, &shares, d));
        tasks
            .collect::<Vec<_>>()
            .into_par_iter()
            .for_each(|((share, buffers), x)| self.finish(share.start, x, heads, buffers));
    }

    /// Queries, keys and values of a chunk.
    fn project(&self, x: &[f32], buffers: &mut ChunkBuffers, out: [&mut [f32]; 3]) {
        let d = self.spec.hidden;
        let norm = &self.block.norm_1;
        let rows = fill_rows(
            self.isa,
            &mut buffers.intake,
            x.len() / d,
            self.projections[0],
            |first, to| {
                norm.write(self.isa, &x[first * d..][..to.len()], to);
            },
        );
        for ((linear, weights), out) in self.projections.into_iter().zip(out) {
            let c = Columns::new(out, rows.len(), weights.outputs, weights.outputs);
            self.multiply(
                rows,
                weights,
                0..weights.outputs,
                linear.start(Write::Replace),
                c,
            );
        }
    }

    fn multiply(
        &self,
        rows: &QuantizedRows,
        weights: &Quantized,
        outputs: Range<usize>,
        start: Start,
        mut c: Columns,
    ) {
        let panels = outputs.start / PANEL..outputs.end.div_ceil(PANEL);
        let start = Start {
            bias: start.bias.map(|bias| &bias[outputs]),
            ..start
        };
        matmul_quantized(self.isa, rows, weights.weights(), panels, &mut c, start);
    }

    /// Every patch of a tile attends to all, in each head.
    fn attend(&self, [q, k, v]: [&[f32]; 3], heads: &mut Vec<Head>) {
        let (d, count) = (self.spec.hidden, self.count);
        let width = d / self.spec.heads;
        let tiles = q.len() / (count * d);
        heads.resize_with(tiles * self.spec.heads, || Head {
            memory: Memory::empty(width),
            scratch: Scratch::default(),
            out: vec![0.0; count * width],
        });
        heads.par_iter_mut().enumerate().for_each(|(at, head)| {
            let first = at / self.spec.heads * count * d + at % self.spec.heads * width;
            let [keys, values] = [k, v].map(|x| crate::layers::head_of(x, d, first));
            head.memory.truncate(0);
            head.memory.append(self.isa, count, keys, values);
            let queries = Queries {
                count,
                data: &q[first..],
                stride: d,
                group: 1,
                scale: 1.0 / (width as f32).sqrt(),
                reach: Reach::Everything,
                precision: self.precision,
            };
            let scratch = &mut head.scratch;
            attend(
                self.isa,
                &queries,
                &head.memory,
                scratch,
                &mut head.out,
                width,
            );
        });
    }

    /// What a chunk does after attention; its first row is row `first` of all.
    fn finish(&self, first: usize, x: &mut [f32], heads: &[Head], buffers: &mut ChunkBuffers) {
        let (d, ffn) = (self.spec.hidden, self.spec.ffn);
        let m = x.len() / d;
        let ChunkBuffers { intake, inner } = buffers;
        let rows = fill_rows(self.isa, intake, m, self.out, |row, to| {
            self.gather(first + row, heads, to);
        });
        let (linear, weights) = self.out;
        let c = Columns::new(x, m, d, d);
        self.multiply(rows, weights, 0..d, linear.start(Write::Add), c);
        let norm = &self.block.norm_2;
        let rows = fill_rows(self.isa, intake, m, self.fc1, |row, to| {
            norm.write(self.isa, &x[row * d..][..to.len()], to);
        });
        let (linear, weights) = self.fc2;
        let format = weights.format;
        let room = inner.room(format);
        let mut tiles: Vec<TileMut> = room.tiles_mut(m, ffn, format.multiple).collect();
        let at_once = (COLUMNS / format.block).max(1);
        while let Some(blocks) = tiles.first().map(TileMut::blocks).filter(|b| !b.is_empty()) {
            let end = (blocks.start + at_once).min(blocks.end);
            let (now, later) = tiles.into_iter().map(|tile| tile.split_at(end)).unzip();
            self.widen(rows, now);
            tiles = later;
        }
        let c = Columns::new(x, m, d, d);
        self.multiply(room, weights, 0..d, linear.start(Write::Add), c);
    }

    /// Some outputs of the wide product, activated and rounded to the inputs that the narrow one takes.
    fn widen(&self, rows: &QuantizedRows, mut into: Vec<TileMut>) {
        let outputs = into[0].inputs();
        let width = outputs.len();
        let (linear, weights) = self.fc1;
        with_scratch(rows.len() * width, |wide| {
            if width > 0 {
                let c = Columns::new(wide, rows.len(), width, width);
                self.multiply(rows, weights, outputs, linear.start(Write::Replace), c);
            }
            for (tile, wide) in into.iter_mut().zip(wide.chunks_mut((TILE * width).max(1))) {
                activate_rows(self.isa, self.spec.activation, wide);
                tile.fill(self.isa, wide, width);
            }
        });
    }

    /// Rows that hold all heads, from the given one of all on.
    fn gather(&self, first: usize, heads: &[Head], to: &mut [f32]) {
        let (d, count) = (self.spec.hidden, self.count);
        let width = d / self.spec.heads;
        for (row, to) in (first..).zip(to.chunks_exact_mut(d)) {
            let heads = &heads[row / count * self.spec.heads..][..self.spec.heads];
            for (head, to) in heads.iter().zip(to.chunks_exact_mut(width)) {
                to.copy_from_slice(&head.out[row % count * width..][..width]);
            }
        }
    }
}

/// Rows for a layer, tile by tile, on this thread.
fn fill_rows<'b>(
    isa: Isa,
    intake: &'b mut Intake,
    m: usize,
    (linear, weights): (&Linear, &Quantized),
    give: impl Fn(usize, &mut [f32]),
) -> &'b QuantizedRows {
    let Format { multiple, .. } = weights.format;
    let width = linear.inputs();
    let rows = intake.room(weights.format);
    with_scratch(TILE * width, |x| {
        for (at, mut tile) in rows.tiles_mut(m, width, multiple).enumerate() {
            let x = &mut x[..tile.len() * width];
            give(at * TILE, x);
            tile.fill(isa, x, width);
        }
    });
    rows
}

/// Cuts so many rows into chunks of whole tiles of rows, as even as they can be, the same number for each thread.
fn shares(rows: usize, threads: usize) -> Vec<Range<usize>> {
    let tiles = rows.div_ceil(TILE);
    let count = rows.div_ceil(CHUNK).next_multiple_of(threads.max(1));
    let start = |share: usize| (tiles * share / count * TILE).min(rows);
    (0..count)
        .map(|share| start(share)..start(share + 1))
        .filter(|share| !share.is_empty())
        .collect()
}

/// The rows of each share, `width` numbers each.
fn split<'x>(mut x: &'x mut [f32], shares: &[Range<usize>], width: usize) -> Vec<&'x mut [f32]> {
    let mut parts = Vec::with_capacity(shares.len());
    for share in shares {
        let (part, rest) = x.split_at_mut(share.len() * width);
        parts.push(part);
        x = rest;
    }
    parts
}

#[cfg(test)]
mod tests;
