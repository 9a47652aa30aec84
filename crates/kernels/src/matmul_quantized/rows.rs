//! Activations as INT8, or as INT16 in two planes of bytes, in tiles of rows as the products read them.

use super::LONGEST_BLOCK;
#[cfg(target_arch = "x86_64")]
use super::avx512vnni::quantize::quantize;
use super::blocks::Blocks;
use super::quantizing::{factor_and_scale, largest_magnitude, rounded};
#[cfg(target_arch = "x86_64")]
use crate::isa::Dot;
use crate::isa::{Isa, per_isa};
use std::ops::Range;

/// Rows of a tile: as many as a product holds sums of in 32 registers, two panels at a time.
pub const TILE: usize = 12;
/// How exactly activations are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// -127 to 127.
    Int8,
    /// -32512 to 32512, as 256 · high + low with both bytes signed: two products of INT8 each.
    Int16,
}

impl Precision {
    /// Planes of bytes.
    pub(crate) fn planes(self) -> usize {
        match self {
            Precision::Int8 => 1,
            Precision::Int16 => 2,
        }
    }

    /// The largest magnitude: the high byte never leaves -127 to 127.
    pub(crate) fn limit(self) -> f32 {
        match self {
            Precision::Int8 => 127.0,
            Precision::Int16 => 32512.0,
        }
    }
}

/// Rows of activations with one scale for each row and block of inputs. The buffers are reused from one filling to the next.
#[derive(Clone, Debug)]
pub struct QuantizedRows {
    precision: Precision,
    rows: usize,
    blocks: Blocks,
    /// Tiles of [`TILE`] rows, the last one lower; in each `[planes, inputs / 4, rows of the tile, 4]`, high bytes first.
    values: Vec<i8>,
    /// Tiles; in each `[blocks, rows of the tile]`.
    scales: Vec<f32>,
    /// Tiles; in each `[planes, blocks, rows of the tile]`: the sum of each block's bytes, for weights are stored with an offset.
    sums: Vec<i32>,
}

/// Some rows of [`QuantizedRows`] that are still to be filled, at most 12 of them; all of their blocks or some.
#[derive(Debug)]
pub struct TileMut<'a> {
    pub(super) precision: Precision,
    pub(super) blocks: Blocks,
    /// Which blocks are here.
    own: Range<usize>,
    /// Numbers of a row, without the filling up.
    width: usize,
    pub(super) rows: usize,
    /// Planes, high bytes first; with INT8 the first one is empty. In each `[inputs / 4, rows, 4]`.
    pub(super) values: [&'a mut [i8]; 2],
    /// `[blocks, rows]`.
    pub(super) scales: &'a mut [f32],
    /// As the values, `[blocks, rows]`.
    pub(super) sums: [&'a mut [i32]; 2],
}

impl QuantizedRows {
    /// No rows yet, in blocks of `block` inputs.
    ///
    /// # Panics
    /// When `block` is no multiple of 8 or longer than [`LONGEST_BLOCK`].
    pub fn new(precision: Precision, block: usize) -> QuantizedRows {
        assert!(
            block > 0 && block.is_multiple_of(8) && block <= LONGEST_BLOCK,
            "blocks of {block} inputs, expected a multiple of 8 up to {LONGEST_BLOCK}"
        );
        QuantizedRows {
            precision,
            rows: 0,
            blocks: Blocks::new(0, block, block),
            values: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Takes the rows of `x`, `width` numbers each, filled up with zeros to whole multiples of `span` inputs. Blocks begin anew in
    /// every span, the last one of each may be shorter. Of a block with something that is not finite, every product is not a number.
    ///
    /// # Panics
    /// When `x` is no whole number of rows or `span` no multiple of 8.
    pub fn fill(&mut self, isa: Isa, x: &[f32], width: usize, span: usize) {
        assert!(
            width > 0 && x.len().is_multiple_of(width),
            "{} numbers in rows of {width}",
            x.len()
        );
        let tiles = self.tiles_mut(x.len() / width, width, span);
        for (mut tile, x) in tiles.zip(x.chunks(TILE * width)) {
            tile.fill(isa, x, width);
        }
    }

    /// Makes room for `rows` rows of `width` numbers, as [`QuantizedRows::fill`], and gives them out in tiles of 12, so that
    /// threads can fill them.
    ///
    /// # Panics
    /// When `span` is no multiple of 8.
    pub fn tiles_mut(
        &mut self,
        rows: usize,
        width: usize,
        span: usize,
    ) -> impl Iterator<Item = TileMut<'_>> {
        self.rows = rows;
        self.blocks = Blocks::new(width.next_multiple_of(span), span, self.blocks.block);
        let (planes, inputs, blocks) = (
            self.precision.planes(),
            self.blocks.inputs,
            self.blocks.len(),
        );
        self.values.resize(planes * rows * inputs, 0);
        self.scales.resize(rows * blocks, 0.0);
        self.sums.resize(planes * rows * blocks, 0);
        let (precision, shape, this_many) = (self.precision, self.blocks, rows);
        let values = self.values.chunks_mut((planes * TILE * inputs).max(1));
        let scales = self.scales.chunks_mut((TILE * blocks).max(1));
        let sums = self.sums.chunks_mut((planes * TILE * blocks).max(1));
        let parts = values.zip(scales).zip(sums).enumerate();
        parts.map(move |(tile, ((values, scales), sums))| {
            let rows = TILE.min(this_many - tile * TILE);
            TileMut {
                precision,
                blocks: shape,
                own: 0..blocks,
                width,
                rows,
                values: values.split_at_mut((planes - 1) * rows * inputs).into(),
                scales,
                sums: sums.split_at_mut((planes - 1) * rows * blocks).into(),
            }
        })
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Inputs of a row, filled up.
    pub fn inputs(&self) -> usize {
        self.blocks.inputs
    }

    /// Inputs of a block that is not the last of its span.
    pub fn block(&self) -> usize {
        self.blocks.block
    }

    /// What activations are kept as.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn blocks(&self) -> Blocks {
        self.blocks
    }

    pub(super) fn tile(&self, tile: usize) -> Tile<'_> {
        let (first, planes, blocks) = (tile * TILE, self.precision.planes(), self.blocks.len());
        let rows = TILE.min(self.rows - first);
        Tile {
            blocks: self.blocks,
            rows,
            values: &self.values[planes * first * self.blocks.inputs..]
                [..planes * rows * self.blocks.inputs],
            scales: &self.scales[first * blocks..][..rows * blocks],
            sums: &self.sums[planes * first * blocks..][..planes * rows * blocks],
        }
    }

    /// One number, in units of its block's scale.
    pub(super) fn whole_at(&self, row: usize, input: usize) -> i32 {
        let tile = self.tile(row / TILE);
        let byte = |plane| {
            i32::from(tile.values(plane)[(input / 4 * tile.rows + row % TILE) * 4 + input % 4])
        };
        match self.precision {
            Precision::Int8 => byte(0),
            Precision::Int16 => byte(0) * 256 + byte(1),
        }
    }

    /// The scale of one block of a row.
    pub(super) fn scale_at(&self, row: usize, block: usize) -> f32 {
        let tile = self.tile(row / TILE);
        tile.scales[block * tile.rows + row % TILE]
    }
}

/// Some rows as the products read them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tile<'a> {
    blocks: Blocks,
    pub(super) rows: usize,
    values: &'a [i8],
    /// `[blocks, rows]`.
    pub(super) scales: &'a [f32],
    sums: &'a [i32],
}

impl<'a> Tile<'a> {
    /// `[inputs / 4, rows, 4]`.
    pub(super) fn values(&self, plane: usize) -> &'a [i8] {
        &self.values[plane * self.rows * self.blocks.inputs..][..self.rows * self.blocks.inputs]
    }

    /// `[blocks, rows]`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // others take the offset away beforehand
    pub(super) fn sums(&self, plane: usize) -> &'a [i32] {
        let blocks = self.blocks.len();
        &self.sums[plane * self.rows * blocks..][..self.rows * blocks]
    }
}

impl<'a> TileMut<'a> {
    /// Rows that belong here.
    #[allow(clippy::len_without_is_empty)] // there is always one
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Blocks that are here.
    pub fn blocks(&self) -> Range<usize> {
        self.own.clone()
    }

    /// Numbers of a row that the blocks here take in.
    pub fn inputs(&self) -> Range<usize> {
        let at = |block| self.blocks.inputs_of(block).start.min(self.width);
        at(self.own.start)..at(self.own.end)
    }

    /// The blocks before `block`, and the others.
    ///
    /// # Panics
    /// When the block is not here.
    pub fn split_at(self, block: usize) -> (TileMut<'a>, TileMut<'a>) {
        assert!(
            self.own.start <= block && block <= self.own.end,
            "block {block} of {:?}",
            self.own
        );
        let first = self.own.start;
        let start = |block| self.blocks.inputs_of(block).start;
        let bytes = (start(block) - start(first)) * self.rows;
        let numbers = (block - first) * self.rows;
        // A plane that is not there stays empty.
        let values = self.values.map(|v| v.split_at_mut(bytes.min(v.len())));
        let sums = self.sums.map(|s| s.split_at_mut(numbers.min(s.len())));
        let scales = self.scales.split_at_mut(numbers);
        let ([high, low], [high_sums, low_sums]) = (values, sums);
        let part = |own, values, scales, sums| TileMut {
            own,
            values,
            scales,
            sums,
            ..self
        };
        (
            part(
                first..block,
                [high.0, low.0],
                scales.0,
                [high_sums.0, low_sums.0],
            ),
            part(
                block..self.own.end,
                [high.1, low.1],
                scales.1,
                [high_sums.1, low_sums.1],
            ),
        )
    }

    /// Takes the numbers of its rows that stand in [`TileMut::inputs`]: the first of the first row is that of `x`, and rows are
    /// `stride` apart.
    ///
    /// # Panics
    /// When there are fewer numbers.
    pub fn fill(&mut self, isa: Isa, x: &[f32], stride: usize) {
        let inputs = self.inputs();
        let end = (self.rows - 1).checked_mul(stride);
        let end = end.and_then(|start| start.checked_add(inputs.len()));
        assert!(
            end.is_some_and(|end| end <= x.len()),
            "{} numbers for {} rows of {}, {stride} apart",
            x.len(),
            self.rows,
            inputs.len()
        );
        for block in self.own.clone() {
            let span = self.blocks.inputs_of(block);
            let (start, end) = (span.start.min(self.width), span.end.min(self.width));
            let from = Numbers {
                x: &x[start - inputs.start..],
                stride,
                count: end - start,
            };
            let into = self.block_mut(block);
            #[cfg(target_arch = "x86_64")]
            if into.rows == TILE && Dot::detect(isa) == Dot::Avx512Vnni {
                let row = |row| &from.x[row * from.stride..][..from.count];
                // SAFETY: detection found the instructions, and the block is a full tile's.
                #[allow(unsafe_code)]
                unsafe {
                    quantize(into, &std::array::from_fn(row))
                };
                continue;
            }
            quantize_block(isa, into, from);
        }
    }

    fn block_mut(&mut self, block: usize) -> BlockMut<'_> {
        let (rows, own) = (self.rows, &self.own);
        let start =
            |block| self.blocks.inputs_of(block).start - self.blocks.inputs_of(own.start).start;
        let bytes = start(block) * rows..(start(block) + self.blocks.inputs_of(block).len()) * rows;
        let numbers = (block - own.start) * rows..(block + 1 - own.start) * rows;
        let [high, low] = &mut self.values;
        let [high_sums, low_sums] = &mut self.sums;
        let (high, high_sums) = match self.precision {
            Precision::Int8 => Default::default(),
            Precision::Int16 => (&mut high[bytes.clone()], &mut high_sums[numbers.clone()]),
        };
        BlockMut {
            precision: self.precision,
            rows,
            high,
            low: &mut low[bytes],
            scales: &mut self.scales[numbers.clone()],
            high_sums,
            low_sums: &mut low_sums[numbers],
        }
    }
}

/// A tile's block that is to be filled; high bytes are empty with INT8.
pub(crate) struct BlockMut<'a> {
    pub(crate) precision: Precision,
    pub(crate) rows: usize,
    pub(crate) high: &'a mut [i8],
    pub(crate) low: &'a mut [i8],
    pub(crate) scales: &'a mut [f32],
    pub(crate) high_sums: &'a mut [i32],
    pub(crate) low_sums: &'a mut [i32],
}

/// What a block is filled with: `count` numbers of each row, behind them zeros.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    x: &'a [f32],
    stride: usize,
    count: usize,
}

per_isa! {
    quantize_block(into: BlockMut<'_>, from: Numbers<'_>) => quantize_block_body
}

#[inline(always)]
fn quantize_block_body(into: BlockMut<'_>, from: Numbers<'_>) {
    let (rows, numbers, limit) = (into.rows, from.count, into.precision.limit());
    let length = into.low.len() / rows;
    // The tile's bytes of one block, row after row.
    let (mut lower, mut upper) = ([EMPTY; TILE], [EMPTY; TILE]);
    for row in 0..rows {
        let x = &from.x[row * from.stride..][..numbers];
        let (factor, scale) = factor_and_scale(largest_magnitude(x), limit);
        into.scales[row] = scale;
        let low = lower[row].as_flattened_mut();
        for (to, value) in low.iter_mut().zip(x) {
            *to = rounded(value * factor) as i8;
        }
        into.low_sums[row] = sum_bytes(&low[..length]);
        if into.high.is_empty() {
            continue;
        }
        let high = upper[row].as_flattened_mut();
        for (to, value) in high.iter_mut().zip(x) {
            *to = (rounded(value * factor).wrapping_add(128) >> 8) as i8;
        }
        into.high_sums[row] = sum_bytes(&high[..length]);
    }
    interleave(&lower, rows, into.low.as_chunks_mut().0);
    if !into.high.is_empty() {
        interleave(&upper, rows, into.high.as_chunks_mut().0);
    }
}

/// A row's bytes of a block.
type Row = [[i8; 4]; LONGEST_BLOCK / 4];
const EMPTY: Row = [[0; 4]; LONGEST_BLOCK / 4];

#[inline(always)]
fn sum_bytes(bytes: &[i8]) -> i32 {
    let mut sum = 0;
    for byte in bytes {
        sum += i32::from(*byte);
    }
    sum
}

/// Fours of the first rows side by side.
#[inline(always)]
fn interleave(bytes: &[Row; TILE], rows: usize, places: &mut [[i8; 4]]) {
    if rows == TILE {
        // The same with a constant: most tiles are full.
        let (lines, _) = places.as_chunks_mut::<TILE>();
        for (four, line) in lines.iter_mut().enumerate() {
            for (place, row) in line.iter_mut().zip(bytes) {
                *place = row[four];
            }
        }
        return;
    }
    for (four, line) in places.chunks_exact_mut(rows).enumerate() {
        for (place, row) in line.iter_mut().zip(bytes) {
            *place = row[four];
        }
    }
}
