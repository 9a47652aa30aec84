//! Rounding f32 to pairs of bf16, and B in panels of pairs: `[n / 32][k / 2][32]`, filled up with zeros.

use crate::isa::per_isa;
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
    for (row, pairs) in pairs.chunks_exact_mut(width.max(1)).take(rows.div_ceil(2)).enumerate() {
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
            let odd = if 2 * row + 1 < k { &x[(2 * row + 1) * stride + panel * PANEL..] } else { &[0.0; PANEL][..] };
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
    pub fn pack_rows(&mut self, isa: crate::isa::Isa, k: usize, n: usize, b: View) {
        assert_eq!(b.column_stride, 1, "rows of numbers side by side");
        self.resize(k, n);
        pack_rows(isa, k, n, b.data, b.row_stride, &mut self.values);
    }

    /// A linear layer's weight `[out_features, in_features]`, row-major: B is its transpose.
    pub fn pack_linear(&mut self, out_features: usize, in_features: usize, weight: &[f32]) {
        assert_eq!(weight.len(), out_features * in_features, "a weight of {out_features} x {in_features}");
        self.resize(in_features, out_features);
        let half = self.pairs();
        for (row, weight) in weight.chunks_exact(in_features.max(1)).enumerate() {
            let first = row / PANEL * half * PANEL + row % PANEL;
            let (whole, rest) = weight.as_chunks::<2>();
            for (place, [even, odd]) in whole.iter().enumerate() {
                self.values[first + place * PANEL] = pair(*even, *odd);
            }
            if let Some(last) = rest.first() {
                self.values[first + whole.len() * PANEL] = pair(*last, 0.0);
            }
        }
    }

    /// Panels of 32 columns, the last one perhaps not full.
    pub fn panel_count(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    pub(super) fn at(&self, pair: usize, column: usize) -> u32 {
        self.values[((column / PANEL) * self.pairs() + pair) * PANEL + column % PANEL]
    }
}
