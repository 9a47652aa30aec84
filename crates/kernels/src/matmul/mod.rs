//! C = A·B in f32, B packed in panels of 32 columns with f32 or bf16 values.
//!
//! Contract: every output is one chain of fused multiply-adds over k in ascending order, beginning at 0 or at the old
//! value. Lanes are different outputs and threads split outputs, so the bits depend neither on the instruction set nor
//! on how rows and panels are split, and one row alone gives what it gives among many.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
mod scalar;

use crate::isa::{Isa, Set};
pub use pack::Panels;
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
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * self.row_stride + (columns - 1) * self.column_stride;
            assert!(
                last < self.data.len(),
                "a view of {rows} x {columns} reaches element {last} of {}",
                self.data.len()
            );
        }
    }
}

/// What happens to the numbers that C holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// They are overwritten.
    Replace,
    /// The product continues their sums.
    Add,
}

/// The panels of B that a kernel works on, and where their columns go.
struct Work<'a> {
    m: usize,
    a: View<'a>,
    b: &'a Panels,
    panels: Range<usize>,
    c_stride: usize,
    write: Write,
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
    assert!(
        panels.end <= b.panel_count() && panels.start <= panels.end,
        "panels {panels:?} of {}",
        b.panel_count()
    );
    if m == 0 || panels.is_empty() {
        return;
    }
    a.assert_holds(m, b.k);
    let columns = (panels.end * PANEL).min(b.n) - panels.start * PANEL;
    assert!(
        (m == 1 || columns <= c_stride) && (m - 1) * c_stride + columns <= c.len(),
        "C holds {} numbers, expected {m} rows of {columns}, {c_stride} apart",
        c.len()
    );
    let work = Work {
        m,
        a,
        b,
        panels,
        c_stride,
        write,
    };
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
    }
}

#[cfg(test)]
mod tests;
