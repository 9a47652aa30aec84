//! Rounding f32 to pairs of bf16, and B in panels of pairs: `[n / 32][k / 2][32]`, filled up with zeros.

use crate::isa::{Isa, per_isa};
use crate::matmul::{PANEL, View};

/// Packed B of `C[m, n] = A[m, k] · B[k, n]`.
#[derive(Clone, Debug, Default)]
pub struct PairPanels {
    /// Rows of B.
    pub k: usize,
    /// Columns of B.
    pub n: usize,
    pub(super) values: Vec<u32>,
}

per_isa! {
    /// Rounds `rows` rows of `width` numbers, `stride` apart, to pairs side by side: `[rows, width / 2]`, an odd width
    /// filled up with zero.
    pub round_along(rows: usize, width: usize, x: &[f32], stride: usize, pairs: &mut [u32]) => round_along_body
}
per_isa! {
    /// Rounds `rows` rows of `width` numbers, `stride` apart, to pairs of a row and the next: `[rows / 2, width]`, an odd
    /// number of rows filled up with zeros.
    pub round_across(rows: usize, width: usize, x: &[f32], stride: usize, pairs: &mut [u32]) => round_across_body
}
per_isa! {
    /// As [`round_across`], into panels.
    pack_rows(k: usize, n: usize, x: &[f32], stride: usize, values: &mut [u32]) => pack_rows_body
}

per_isa! {
    /// Rows of x into columns of the panels.
    pack_columns(k: usize, n: usize, x: &[f32], stride: usize, values: &mut [u32]) => pack_columns_body
}

/// The bf16 nearest to x, ties to even, in the upper half. Infinity stays; a NaN stays one as long as arithmetic made it
/// (its lower payload bits are not all ones).
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
}

#[inline(always)]
fn pair(even: f32, odd: f32) -> u32 {
    (rounded(even) >> 16) | (rounded(odd) & 0xffff_0000)
}

#[inline(always)]
fn round_along_body(rows: usize, width: usize, x: &[f32], stride: usize, pairs: &mut [u32]) {
    let half = width.div_ceil(2);
    for (row, pairs) in pairs.chunks_exact_mut(half.max(1)).take(rows).enumerate() {
        let (whole, rest) = x[row * stride..][..width].as_chunks::<2>();
        for (to, [even, odd]) in pairs.iter_mut().zip(whole) {
            *to = pair(*even, *odd);
        }
        if let Some(last) = rest.first() {
            pairs[half - 1] = pair(*last, 0.0);
        }
    }
}

#[inline(always)]
fn round_across_body(rows: usize, width: usize, x: &[f32], stride: usize, pairs: &mut [u32]) {
    for (row, pairs) in pairs
        .chunks_exact_mut(width.max(1))
        .take(rows.div_ceil(2))
        .enumerate()
    {
        let even = &x[2 * row * stride..][..width];
        if 2 * row + 1 < rows {
            let odd = &x[(2 * row + 1) * stride..][..width];
            for ((to, even), odd) in pairs.iter_mut().zip(even).zip(odd) {
                *to = pair(*even, *odd);
            }
        } else {
            for (to, even) in pairs.iter_mut().zip(even) {
                *to = pair(*even, 0.0);
            }
        }
    }
}

#[inline(always)]
fn pack_rows_body(k: usize, n: usize, x: &[f32], stride: usize, values: &mut [u32]) {
    let half = k.div_ceil(2);
    for (panel, values) in values.chunks_exact_mut((half * PANEL).max(1)).enumerate() {
        let columns = PANEL.min(n - panel * PANEL);
        for (row, values) in values.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let even = &x[2 * row * stride + panel * PANEL..];
            let odd = if 2 * row + 1 < k {
                &x[(2 * row + 1) * stride + panel * PANEL..]
            } else {
                &[0.0; PANEL][..]
            };
            match (even.first_chunk::<PANEL>(), odd.first_chunk::<PANEL>()) {
                (Some(even), Some(odd)) if columns == PANEL => {
                    for ((to, even), odd) in values.iter_mut().zip(even).zip(odd) {
                        *to = pair(*even, *odd);
                    }
                }
                _ => {
                    for ((to, even), odd) in values.iter_mut().zip(&even[..columns]).zip(odd) {
                        *to = pair(*even, *odd);
                    }
                }
            }
        }
    }
}

/// Columns and pairs turned at once.
const SQUARE: usize = 16;

#[inline(always)]
fn pack_columns_body(k: usize, n: usize, x: &[f32], stride: usize, values: &mut [u32]) {
    let half = k.div_ceil(2);
    for column in (0..n).step_by(SQUARE) {
        let first = column / PANEL * half * PANEL + column % PANEL;
        let columns = SQUARE.min(n - column);
        for pairs in (0..half).step_by(SQUARE) {
            let mut square = [[0u32; SQUARE]; SQUARE];
            for (index, square) in square[..columns].iter_mut().enumerate() {
                let row = &x[(column + index) * stride..][..k][2 * pairs..];
                let (whole, rest) = row.as_chunks::<2>();
                for (to, [even, odd]) in square.iter_mut().zip(whole) {
                    *to = pair(*even, *odd);
                }
                if let (Some(to), Some(last)) = (square.get_mut(whole.len()), rest.first()) {
                    *to = pair(*last, 0.0);
                }
            }
            for at in 0..SQUARE.min(half - pairs) {
                let turned: [u32; SQUARE] = std::array::from_fn(|index| square[index][at]);
                let to = &mut values[first + (pairs + at) * PANEL..][..columns];
                to.copy_from_slice(&turned[..columns]);
            }
        }
    }
}

impl PairPanels {
    /// Nothing yet; for the packing functions, which reuse the memory.
    pub fn empty() -> PairPanels {
        PairPanels::default()
    }

    /// Pairs along k.
    pub fn pairs(&self) -> usize {
        self.k.div_ceil(2)
    }

    fn resize(&mut self, k: usize, n: usize) {
        let length = n.div_ceil(PANEL) * k.div_ceil(2) * PANEL;
        if self.values.len() != length || !n.is_multiple_of(PANEL) {
            self.values.clear();
            self.values.resize(length, 0);
        }
        (self.k, self.n) = (k, n);
    }

    /// `k` rows of `n` numbers, side by side in rows that may lie apart.
    ///
    /// # Panics
    /// When `b` has columns that lie apart, or is too small.
    pub fn pack_rows(&mut self, isa: Isa, k: usize, n: usize, b: View) {
        assert_eq!(b.column_stride, 1, "rows of numbers side by side");
        self.resize(k, n);
        pack_rows(isa, k, n, b.data, b.row_stride, &mut self.values);
    }

    /// `n` columns of `k` numbers, given as the rows of `columns`: a linear layer's weight `[n, k]`, or keys.
    ///
    /// # Panics
    /// When the rows' numbers lie apart, or are too few.
    pub fn pack_columns(&mut self, isa: Isa, k: usize, n: usize, columns: View) {
        assert_eq!(columns.column_stride, 1, "rows of numbers side by side");
        self.resize(k, n);
        pack_columns(
            isa,
            k,
            n,
            columns.data,
            columns.row_stride,
            &mut self.values,
        );
    }

    /// Panels of 32 columns, the last one perhaps not full.
    pub fn panel_count(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Panics when somebody gave `k` or `n` a value that the pairs do not fill: unsafe code relies on them.
    pub(super) fn assert_whole(&self) {
        let rows = self.pairs().checked_mul(self.panel_count());
        assert!(
            rows.and_then(|rows| rows.checked_mul(PANEL)) == Some(self.values.len()),
            "panels of {} x {} hold {} pairs",
            self.k,
            self.n,
            self.values.len()
        );
    }

    pub(super) fn at(&self, pair: usize, column: usize) -> u32 {
        self.values[((column / PANEL) * self.pairs() + pair) * PANEL + column % PANEL]
    }
}
