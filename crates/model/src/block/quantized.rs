//! A block whose matrices are all quantized: norms, and the gate's product with the other half, are rounded to what the next matrix takes in
//! while they are in the cache.

use super::{Block, multiply_gated};
use crate::layers::{Linear, Norm};
use crate::matrix::{self, Format, Intake, threads_for, with_scratch};
use crate::spec::{Activation, DecoderSpec};
use kernels::isa::Isa;
use kernels::matmul::Write;
use kernels::matmul_quantized::{
    Columns, PANEL, QuantizedRows, Start, TILE, TileMut, matmul_quantized,
};
use rayon::prelude::*;

/// Shares of the gated product that a thread takes, at least: one thread may be held up.
const SHARES: usize = 4;

/// A block ready for it.
pub(super) struct Quantized<'a> {
    /// How queries, keys and values take their rows.
    pub projections: Format,
    out: (&'a Linear, &'a matrix::Quantized),
    pub gate: &'a matrix::Quantized,
    up: &'a matrix::Quantized,
    down: (&'a Linear, &'a matrix::Quantized),
    activation: Activation,
    /// Blocks of the last matrix's inputs.
    blocks: usize,
}

impl<'a> Quantized<'a> {
    /// `None` where a matrix is not quantized, or rounds its rows in another way than can be done on the way, or where what is
    /// added is normed first.
    pub fn of(block: &'a Block, spec: &DecoderSpec) -> Option<Quantized<'a>> {
        if spec.branch_norms {
            return None;
        }
        let [q, k, v] = [&block.q, &block.k, &block.v].map(|linear| linear.matrix.quantized());
        let projections = q?.format;
        let (gate, up) = (block.gate.matrix.quantized()?, block.up.matrix.quantized()?);
        let down = block.down.matrix.quantized()?;
        let alike = projections == k?.format && projections == v?.format;
        let plain = block.gate.start(Write::Replace).bias.is_none()
            && block.up.start(Write::Replace).bias.is_none();
        let blocks = down.format.whole_blocks(spec.ffn)?;
        (alike && plain && gate.format == up.format).then_some(Quantized {
            projections,
            out: (&block.out, block.out.matrix.quantized()?),
            gate,
            up,
            down: (&block.down, down),
            activation: spec.activation,
            blocks,
        })
    }

    /// Adds the output projection of `m` rows, which `gather` writes from the given one on.
    pub fn add_attended(
        &self,
        isa: Isa,
        (m, gather): (usize, impl Fn(usize, &mut [f32]) + Sync),
        intake: &mut Intake,
        x: &mut [f32],
    ) {
        let (linear, weights) = self.out;
        let rows = intake.take(isa, (m, linear.inputs()), weights.format, gather);
        linear.add_rows_to(isa, rows, weights, x);
    }

    /// The gated product of the rows, rounded to `inner`, a share of its blocks after the other.
    pub fn multiply_gated(&self, isa: Isa, rows: &QuantizedRows, inner: &mut Intake) {
        let (linear, weights) = self.down;
        let format = weights.format;
        let room = inner.room(format);
        let mut rest: Vec<TileMut> = room
            .tiles_mut(rows.len(), linear.inputs(), format.multiple)
            .collect();
        let work = rows.len() * rows.inputs() * 2 * linear.inputs();
        let threads = threads_for(work);
        let shares = (threads * SHARES).min(self.blocks);
        let mut tasks = Vec::with_capacity(shares);
        for share in 1..=shares {
            let end = self.blocks * share / shares;
            let (now, later) = rest.into_iter().map(|tile| tile.split_at(end)).unzip();
            tasks.push(now);
            rest = later;
        }
        let gate = |tiles| self.gate_blocks(isa, rows, tiles);
        match threads {
            1 => tasks.into_iter().for_each(gate),
            _ => tasks.into_par_iter().for_each(gate),
        }
    }

    /// Some blocks of all tiles.
    fn gate_blocks(&self, isa: Isa, rows: &QuantizedRows, mut tiles: Vec<TileMut>) {
        while let Some(blocks) = tiles.first().map(TileMut::blocks)
            && !blocks.is_empty()
        {
            let next = blocks.start + 1;
            let (now, later): (Vec<_>, _) =
                tiles.into_iter().map(|tile| tile.split_at(next)).unzip();
            self.gate_block(isa, rows, now);
            tiles = later;
        }
    }

    fn gate_block(&self, isa: Isa, rows: &QuantizedRows, tiles: Vec<TileMut>) {
        let outputs = tiles[0].inputs();
        let (width, m) = (outputs.len(), rows.len());
        let panels = outputs.start / PANEL..outputs.end.div_ceil(PANEL);
        with_scratch(2 * m * width, |scratch| {
            let (gate, up) = scratch.split_at_mut(m * width);
            for (half, weights) in [(&mut *gate, self.gate), (&mut *up, self.up)] {
                let c = &mut Columns::new(half, m, width, width);
                let weights = weights.weights();
                matmul_quantized(isa, rows, weights, panels.clone(), c, Start::ZERO);
            }
            multiply_gated(isa, self.activation, gate, up);
            for (mut tile, gate) in tiles.into_iter().zip(gate.chunks((TILE * width).max(1))) {
                tile.fill(isa, gate, width);
            }
        });
    }

    /// Adds the last product.
    pub fn add_down(&self, isa: Isa, inner: &mut Intake, x: &mut [f32]) {
        let (linear, weights) = self.down;
        linear.add_rows_to(isa, inner.room(weights.format), weights, x);
    }
}

/// Rows, normed and rounded tile by tile.
pub(super) fn take_normed<'i>(
    isa: Isa,
    intake: &'i mut Intake,
    norm: &Norm,
    x: &[f32],
    format: Format,
) -> &'i QuantizedRows {
    let d = norm.width();
    intake.take(isa, (x.len() / d, d), format, |first, to| {
        norm.write(isa, &x[first * d..][..to.len()], to);
    })
}
