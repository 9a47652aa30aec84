//! Activations as INT8, or as INT16 in two planes of bytes.

use super::LONGEST_BLOCK;
use crate::isa::{Isa, per_isa};
use crate::rows::ROUND;

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
    pub(super) fn planes(self) -> usize {
        match self {
            Precision::Int8 => 1,
            Precision::Int16 => 2,
        }
    }

    /// The largest magnitude: the high byte never leaves -127 to 127.
    fn limit(self) -> f32 {
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
    block: usize,
    inputs: usize,
    rows: usize,
    /// `[planes, rows, inputs]`, high bytes first.
    values: Vec<i8>,
    /// `[rows, blocks]`.
    scales: Vec<f32>,
    /// `[planes, rows, blocks]`: the sum of each block's bytes, for weights are stored with an offset.
    sums: Vec<i32>,
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
            block,
            inputs: 0,
            rows: 0,
            values: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Takes the rows of `x`, `width` numbers each, filled up with zeros to whole multiples of `multiple` inputs.
    ///
    /// # Panics
    /// When `x` is no whole number of rows or `multiple` no multiple of the block.
    pub fn fill(&mut self, isa: Isa, x: &[f32], width: usize, multiple: usize) {
        assert!(
            width > 0 && x.len().is_multiple_of(width) && multiple.is_multiple_of(self.block),
            "{} numbers in rows of {width}, filled up to multiples of {multiple} in blocks of {}",
            x.len(),
            self.block
        );
        self.rows = x.len() / width;
        self.inputs = width.next_multiple_of(multiple);
        let blocks = self.inputs / self.block;
        let (planes, rows) = (self.precision.planes(), self.rows);
        self.values.clear();
        self.values.resize(planes * rows * self.inputs, 0);
        self.scales.clear();
        self.scales.resize(rows * blocks, 0.0);
        self.sums.clear();
        self.sums.resize(planes * rows * blocks, 0);
        let shape = Shape {
            width,
            inputs: self.inputs,
            block: self.block,
            limit: self.precision.limit(),
        };
        let (high, low) = self.values.split_at_mut(match self.precision {
            Precision::Int8 => 0,
            Precision::Int16 => rows * self.inputs,
        });
        let (high_sums, low_sums) = self.sums.split_at_mut(match self.precision {
            Precision::Int8 => 0,
            Precision::Int16 => rows * blocks,
        });
        quantize(
            isa,
            x,
            shape,
            (high, low),
            (high_sums, low_sums),
            &mut self.scales,
        );
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
        self.inputs
    }

    /// Inputs of a block.
    pub fn block(&self) -> usize {
        self.block
    }

    /// What activations are kept as.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn blocks(&self) -> usize {
        self.inputs / self.block
    }

    /// One row of one plane.
    pub(super) fn row(&self, plane: usize, row: usize) -> &[i8] {
        &self.values[(plane * self.rows + row) * self.inputs..][..self.inputs]
    }

    /// The scale of each block of a row.
    pub(super) fn row_scales(&self, row: usize) -> &[f32] {
        &self.scales[row * self.blocks()..][..self.blocks()]
    }

    /// The sum of each block of a row of one plane.
    pub(super) fn row_sums(&self, plane: usize, row: usize) -> &[i32] {
        &self.sums[(plane * self.rows + row) * self.blocks()..][..self.blocks()]
    }
}

/// What [`quantize`] works on.
#[derive(Clone, Copy)]
struct Shape {
    width: usize,
    inputs: usize,
    block: usize,
    limit: f32,
}

per_isa! {
    /// Scales, bytes and sums of every block; `high` planes are empty for INT8.
    quantize(x: &[f32], shape: Shape, planes: (&mut [i8], &mut [i8]), sums: (&mut [i32], &mut [i32]), scales: &mut [f32]) => quantize_body
}

#[inline(always)]
fn quantize_body(
    x: &[f32],
    shape: Shape,
    (high, low): (&mut [i8], &mut [i8]),
    (high_sums, low_sums): (&mut [i32], &mut [i32]),
    scales: &mut [f32],
) {
    let blocks = shape.inputs / shape.block;
    for (row, x) in x.chunks_exact(shape.width).enumerate() {
        for (block, x) in x.chunks(shape.block).enumerate() {
            let at = row * blocks + block;
            let from = row * shape.inputs + block * shape.block;
            let largest = x.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            scales[at] = largest / shape.limit;
            // Of a block of zeros nothing is left: a factor of 0 keeps it finite.
            let factor = if largest > 0.0 {
                shape.limit / largest
            } else {
                0.0
            };
            let low = &mut low[from..][..x.len()];
            if high.is_empty() {
                let mut sum = 0;
                for (to, value) in low.iter_mut().zip(x) {
                    let rounded = ((value * factor + ROUND) - ROUND) as i32;
                    *to = rounded as i8;
                    sum += rounded;
                }
                low_sums[at] = sum;
                continue;
            }
            let high = &mut high[from..][..x.len()];
            let mut sums = (0, 0);
            for ((high, low), value) in high.iter_mut().zip(low).zip(x) {
                let rounded = ((value * factor + ROUND) - ROUND) as i32;
                let upper = (rounded + 128) >> 8;
                let lower = rounded - (upper << 8);
                (*high, *low) = (upper as i8, lower as i8);
                sums.0 += upper;
                sums.1 += lower;
            }
            (high_sums[at], low_sums[at]) = sums;
        }
    }
}
