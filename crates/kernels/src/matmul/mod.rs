//! C = A·B in f32, B packed in panels of 32 columns with f32 or bf16 values.
//!
//! Contract: every output is one chain of fused multiply-adds over k in ascending order, beginning at 0 or at the old
//! value. Lanes are different outputs and threads split outputs, so the bits depend neither on the instruction set nor
//! on how rows and panels are split, and one row alone gives what it gives among many.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod grow;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod scalar;

use crate::isa::{Isa, Set};
pub use pack::Panels;
pub(crate) use pack::from_bf16;
use std::ops::Range;

/// Columns of a panel.
pub const PANEL: usize = 32;

/// A read-only matrix over a slice: element (r, c) is `data[r * row_stride + c * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// Distance from one row to the next.
    pub row_stride: usize,
    /// Distance from one column to the next.
    pub column_stride: usize,
}

impl<'a> View<'a> {
    /// Rows that lie `row_stride` apart, columns side by side.
    pub fn rows(data: &'a [f32], row_stride: usize) -> View<'a> {
        View {
            data,
            row_stride,
            column_stride: 1,
        }
    }

    /// The same numbers with rows and columns exchanged.
    pub fn transposed(self) -> View<'a> {
        View {
            data: self.data,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.data[row * self.row_stride + column * self.column_stride]
    }

    fn assert_holds(&self, rows: usize, columns: usize) {
        let held = rows == 0
            || columns == 0
            || reach(rows - 1, self.row_stride, columns - 1, self.column_stride)
                .is_some_and(|last| last < self.data.len());
        assert!(
            held,
            "a view of {rows} x {columns} numbers, {} and {} apart, reaches past its {}",
            self.row_stride,
            self.column_stride,
            self.data.len()
        );
    }
}

/// The place `row * row_stride + column * column_stride`, unless that is past all numbers: unsafe code relies on it.
pub(crate) fn reach(
    row: usize,
    row_stride: usize,
    column: usize,
    column_stride: usize,
) -> Option<usize> {
    row.checked_mul(row_stride)?
        .checked_add(column.checked_mul(column_stride)?)
}

/// Panics unless `length` numbers hold `rows` rows of `columns`, `stride` apart and not over each other; there is at least one row.
pub(crate) fn assert_c_holds(length: usize, rows: usize, columns: usize, stride: usize) {
    assert!(
        (rows == 1 || columns <= stride)
            && reach(rows - 1, stride, columns, 1).is_some_and(|end| end <= length),
        "C holds {length} numbers, expected {rows} rows of {columns}, {stride} apart"
    );
}

/// What happens to the numbers that C holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// They are overwritten.
    Replace,
    /// The product continues their sums.
    Add,
}

/// What a kernel works on: rows of A, rows and panels of B, and where the columns go.
pub(crate) struct Work<'a> {
    /// Rows of A.
    pub m: usize,
    /// Of `depth` columns.
    pub a: View<'a>,
    /// The packed matrix.
    pub b: &'a Panels,
    /// Rows of B, counted from the first.
    pub depth: usize,
    /// Panels of B.
    pub panels: Range<usize>,
    /// Distance between rows of C.
    pub c_stride: usize,
    /// What becomes of C's numbers.
    pub write: Write,
}

/// `m` rows of A times the columns of `panels` of B: row i goes to `c[i * c_stride ..]`, beginning with the first column of the
/// first panel asked for. The last panel of B may have fewer than 32 columns; no more than those are written.
///
/// # Panics
/// When A or C is too small for the shape.
#[allow(clippy::too_many_arguments)] // the BLAS convention; a struct would only rename them
pub fn matmul(
    isa: Isa,
    m: usize,
    a: View,
    b: &Panels,
    panels: Range<usize>,
    c: &mut [f32],
    c_stride: usize,
    write: Write,
) {
    let work = Work {
        m,
        a,
        b,
        depth: b.k,
        panels,
        c_stride,
        write,
    };
    multiply(isa, work, c);
}

/// As [`matmul`], with some of B's rows.
pub(crate) fn multiply(isa: Isa, work: Work, c: &mut [f32]) {
    work.assert_fits(c.len());
    if work.m == 0 || work.panels.is_empty() {
        return;
    }
    match isa.0 {
        Set::Scalar => scalar::matmul(&work, c),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` exists only for sets that this processor has, and the sizes were checked above.
        #[allow(unsafe_code)]
        Set::Avx2 => unsafe { avx2::matmul(&work, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        #[allow(unsafe_code)]
        Set::Avx512 => unsafe { avx512::matmul(&work, c) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        #[allow(unsafe_code)]
        Set::Neon => unsafe { neon::matmul(&work, c) },
    }
}

impl Work<'_> {
    /// Panics unless A, B and a C of `length` numbers reach as far as the kernels will go.
    fn assert_fits(&self, length: usize) {
        let (b, panels) = (self.b, &self.panels);
        b.assert_whole();
        assert!(
            panels.start <= panels.end && panels.end <= b.panel_count(),
            "panels {panels:?} of {}",
            b.panel_count()
        );
        assert!(self.depth <= b.k, "{} rows of {}", self.depth, b.k);
        if self.m == 0 || panels.is_empty() {
            return;
        }
        self.a.assert_holds(self.m, self.depth);
        let columns = (panels.end * PANEL).min(b.n) - panels.start * PANEL;
        assert_c_holds(length, self.m, columns, self.c_stride);
    }
}

#[cfg(test)]
mod tests;
