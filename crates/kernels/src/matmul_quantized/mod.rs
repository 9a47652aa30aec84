//! C = A·Wᵀ with INT4 or INT8 weights, read in place from one packed layout, and INT8 or INT16 activations.
//!
//! Weights are symmetric with one scale of 16 bits for each output and group of inputs; activations have one f32 scale for each
//! row and block of inputs, a block lying inside a group; where it does not divide the group, the group's last block is shorter
//! (a group may be all of k, however odd). Products and sums inside a block are exact integers.
//!
//! Contract: an output is a chain over its blocks in ascending order, `c = fma(sum as f32, row scale · weight scale, c)`,
//! beginning at 0, at a bias, at the old value, or at old value + bias. Lanes are different outputs and threads split outputs, so the bits depend neither on
//! the instruction set nor on how rows and panels are split, and one row alone gives what it gives among many.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512vnni;
mod blocks;
mod columns;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
pub(crate) mod quantizing;
mod rows;
mod scalar;
mod scales;

use crate::isa::{Dot, Isa};
use crate::matmul::Write;
pub use columns::Columns;
pub use pack::{PackedWeights, pack};
#[cfg(target_arch = "x86_64")]
pub(crate) use rows::BlockMut;
pub use rows::{Precision, QuantizedRows, TILE, TileMut};
pub use scales::ScaleFormat;
use std::ops::Range;

/// Outputs that stand side by side in the packed layout: the lanes of the widest register.
pub const PANEL: usize = 16;
/// Most inputs of a block of activations: with more, the exact sum of INT16 by INT8 would not fit 32 bits.
pub const LONGEST_BLOCK: usize = 512;

/// How many bits a weight has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// -8 to 7, two in a byte.
    Four,
    /// -128 to 127.
    Eight,
}

/// A matrix of quantized weights, `n` outputs by `k` inputs, in the packed layout.
///
/// `values`: panels of 16 outputs; in each, lines of 64 bytes; in each, four bytes for every output. INT8: a line holds 4 inputs,
/// each as value + 128. INT4: a line holds 8 inputs as value + 8, the first four in the low halves of the bytes, the other
/// four in the high halves. `scales`: `[panels, groups, 16]`. Missing outputs of the last panel have scale 0.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// Bits of a weight.
    pub bits: Bits,
    /// Outputs.
    pub n: usize,
    /// Inputs, a multiple of `group`.
    pub k: usize,
    /// Inputs that share a scale, a multiple of 8.
    pub group: usize,
    /// The packed weights.
    pub values: &'a [u8],
    /// The scales.
    pub scales: &'a [u16],
    /// What they are written in.
    pub scale_format: ScaleFormat,
}

impl Weights<'_> {
    /// Panels of 16 outputs, the last one filled up.
    pub fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Bytes of a panel's values.
    fn panel_bytes(&self) -> usize {
        match self.bits {
            Bits::Four => self.k * PANEL / 2,
            Bits::Eight => self.k * PANEL,
        }
    }

    /// Scales of a panel.
    fn panel_scales(&self) -> usize {
        self.k / self.group * PANEL
    }

    /// # Panics
    /// When sizes contradict each other.
    fn assert_whole(&self) {
        let whole = self.group > 0
            && self.group.is_multiple_of(8)
            && self.k.is_multiple_of(self.group)
            && Some(self.values.len()) == self.panels().checked_mul(self.panel_bytes())
            && Some(self.scales.len()) == self.panels().checked_mul(self.panel_scales());
        assert!(
            whole,
            "{:?} weights of {} x {} in groups of {}: {} bytes and {} scales do not fit",
            self.bits,
            self.n,
            self.k,
            self.group,
            self.values.len(),
            self.scales.len()
        );
    }
}

/// What sums begin at.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Whether with the numbers that C holds.
    pub write: Write,
    /// One number for each output that is written, the same for all rows.
    pub bias: Option<&'a [f32]>,
}

impl Start<'_> {
    /// With nothing.
    pub const ZERO: Start<'static> = Start {
        write: Write::Replace,
        bias: None,
    };
    /// With what C holds.
    pub const OLD: Start<'static> = Start {
        write: Write::Add,
        bias: None,
    };

    /// What the sums of some outputs, from `first` on, begin with where C holds `old`.
    fn fill(&self, first: usize, old: &[f32], sums: &mut [f32]) {
        let bias = self.bias.map(|bias| &bias[first..]);
        match (self.write, bias) {
            (Write::Replace, None) => sums.fill(0.0),
            (Write::Replace, Some(bias)) => sums.copy_from_slice(&bias[..sums.len()]),
            (Write::Add, None) => sums.copy_from_slice(old),
            (Write::Add, Some(bias)) => {
                for ((sum, old), bias) in sums.iter_mut().zip(old).zip(bias) {
                    *sum = old + bias;
                }
            }
        }
    }
}

/// Everything about a product but C.
struct Work<'a> {
    weights: Weights<'a>,
    rows: &'a QuantizedRows,
    panels: Range<usize>,
    start: Start<'a>,
}

/// All rows of A times the outputs of `panels`, whose columns C is. The last panel may have fewer than 16.
///
/// # Panics
/// When sizes contradict each other.
pub fn matmul_quantized(
    isa: Isa,
    rows: &QuantizedRows,
    weights: Weights,
    panels: Range<usize>,
    c: &mut Columns,
    start: Start,
) {
    let work = Work {
        weights,
        rows,
        panels,
        start,
    };
    work.assert_fits(c);
    if rows.is_empty() || work.panels.is_empty() {
        return;
    }
    match Dot::detect(isa) {
        Dot::Scalar => scalar::matmul(&work, c),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as below; a processor with AVX-512 has AVX2.
        #[allow(unsafe_code)]
        Dot::Avx2 => unsafe { avx2::matmul(&work, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: detection found the instructions, and the sizes were checked above.
        #[allow(unsafe_code)]
        Dot::Avx512Vnni => unsafe { avx512vnni::matmul(&work, c) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        #[allow(unsafe_code)]
        Dot::NeonDot => unsafe { neon::matmul(&work, c) },
    }
}

impl Work<'_> {
    fn assert_fits(&self, c: &Columns) {
        let (weights, rows, panels) = (&self.weights, self.rows, &self.panels);
        weights.assert_whole();
        assert!(
            rows.inputs() == weights.k && rows.blocks().lie_in_groups_of(weights.group),
            "rows of {:?}, weights of {} in groups of {}",
            rows.blocks(),
            weights.k,
            weights.group
        );
        assert!(
            panels.start <= panels.end && panels.end <= weights.panels(),
            "panels {panels:?} of {}",
            weights.panels()
        );
        let columns = self.columns();
        assert!(
            panels.is_empty() || (c.rows(), c.columns()) == (rows.len(), columns),
            "C is {} rows of {}, expected {} of {columns}",
            c.rows(),
            c.columns(),
            rows.len()
        );
        assert!(
            self.start.bias.is_none_or(|bias| bias.len() == columns),
            "a bias of {:?} numbers for {columns} outputs",
            self.start.bias.map(<[f32]>::len)
        );
    }

    /// Outputs that are written.
    fn columns(&self) -> usize {
        (self.panels.end * PANEL)
            .min(self.weights.n)
            .saturating_sub(self.panels.start * PANEL)
    }
}

#[cfg(test)]
mod tests;
