//! B in panels: `[n / 32][k][32]`, the last panel filled up with zeros, so that a kernel reads it from beginning to end.

use super::{PANEL, View};
use std::ops::Deref;
use std::sync::Arc;

/// Packed B of `C[m, n] = A[m, k] · B[k, n]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panels {
    /// Rows of B.
    pub k: usize,
    /// Columns of B.
    pub n: usize,
    pub(super) values: Values,
}

/// The numbers; bf16 is widened when it is read, which is exact.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    F32(Vec<f32>),
    Bf16(Shared),
}

/// Numbers in memory that somebody holds: a packed array of our own, or a mapped file.
#[derive(Clone)]
pub(super) struct Shared(Arc<dyn AsRef<[u16]> + Send + Sync>);

/// It is only read.
impl std::panic::RefUnwindSafe for Shared {}

impl Deref for Shared {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        (*self.0).as_ref()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.deref().fmt(out)
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Shared) -> bool {
        **self == **other
    }
}

impl Default for Values {
    fn default() -> Self {
        Values::F32(Vec::new())
    }
}

/// Rows and columns moved at once when B has to be turned: 16 x 16 numbers stay in the first cache.
const BLOCK: usize = 16;

impl Panels {
    /// Nothing yet; for [`Panels::pack`].
    pub fn empty() -> Panels {
        Panels::default()
    }

    /// `k` x `n` numbers of `b`.
    pub fn from_f32(k: usize, n: usize, b: View) -> Panels {
        let mut panels = Panels::empty();
        panels.pack(k, n, b);
        panels
    }

    /// A linear layer's weight `[out_features, in_features]`, row-major: B is its transpose.
    pub fn from_linear_f32(out_features: usize, in_features: usize, weight: &[f32]) -> Panels {
        Panels::from_f32(
            in_features,
            out_features,
            View::rows(weight, in_features).transposed(),
        )
    }

    /// As [`Panels::from_linear_f32`], from bf16 bits and kept so.
    pub fn from_linear_bf16(out_features: usize, in_features: usize, weight: &[u16]) -> Panels {
        assert_eq!(
            weight.len(),
            out_features * in_features,
            "a weight of {out_features} x {in_features}"
        );
        let mut values = vec![0; out_features.div_ceil(PANEL) * in_features * PANEL];
        let (row_stride, column_stride) = (1, in_features);
        fill(
            &mut values,
            weight,
            in_features,
            out_features,
            row_stride,
            column_stride,
        );
        Panels::packed_bf16(out_features, in_features, Arc::new(values))
    }

    /// A linear layer's weight as bf16 bits that are packed already, read where they lie.
    ///
    /// # Panics
    /// When they are not whole panels of `out_features` columns.
    pub fn packed_bf16(
        out_features: usize,
        in_features: usize,
        packed: Arc<dyn AsRef<[u16]> + Send + Sync>,
    ) -> Panels {
        let panels = Panels {
            k: in_features,
            n: out_features,
            values: Values::Bf16(Shared(packed)),
        };
        panels.assert_whole();
        panels
    }

    /// One weight of a linear layer.
    pub fn weight(&self, output: usize, input: usize) -> f32 {
        self.at(input, output)
    }

    /// Takes in other numbers, in f32, using the memory it has.
    pub fn pack(&mut self, k: usize, n: usize, b: View) {
        b.assert_holds(k, n);
        let mut values = match std::mem::take(&mut self.values) {
            Values::F32(values) => values,
            Values::Bf16(_) => Vec::new(),
        };
        let length = n.div_ceil(PANEL) * k * PANEL;
        if values.len() != length || !n.is_multiple_of(PANEL) {
            values.clear();
            values.resize(length, 0.0);
        }
        fill(&mut values, b.data, k, n, b.row_stride, b.column_stride);
        *self = Panels {
            k,
            n,
            values: Values::F32(values),
        };
    }

    /// Panels of 32 columns, the last one perhaps not full.
    pub fn panel_count(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Memory of the packed numbers in bytes.
    pub fn size_bytes(&self) -> usize {
        match &self.values {
            Values::F32(values) => values.len() * 4,
            Values::Bf16(values) => values.len() * 2,
        }
    }

    /// Panics when somebody gave `k` or `n` a value that the numbers do not fill: unsafe code relies on them.
    pub(super) fn assert_whole(&self) {
        let length = match &self.values {
            Values::F32(values) => values.len(),
            Values::Bf16(values) => values.len(),
        };
        let expected =
            (self.k.checked_mul(self.panel_count())).and_then(|rows| rows.checked_mul(PANEL));
        assert!(
            expected == Some(length),
            "panels of {} x {} hold {length} numbers",
            self.k,
            self.n
        );
    }

    pub(super) fn at(&self, k: usize, column: usize) -> f32 {
        let place = ((column / PANEL) * self.k + k) * PANEL + column % PANEL;
        match &self.values {
            Values::F32(values) => values[place],
            Values::Bf16(values) => from_bf16(values[place]),
        }
    }
}

/// The number that a bf16 stands for.
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn fill<T: Copy>(
    values: &mut [T],
    data: &[T],
    k: usize,
    n: usize,
    row_stride: usize,
    column_stride: usize,
) {
    if k == 0 {
        return;
    }
    for (panel, out) in values.chunks_exact_mut(k * PANEL).enumerate() {
        let first = panel * PANEL;
        let columns = PANEL.min(n - first);
        if column_stride == 1 {
            for (row, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                let from = &data[row * row_stride + first..];
                match from.first_chunk::<PANEL>() {
                    Some(from) if columns == PANEL => *out = *from,
                    _ => out[..columns].copy_from_slice(&from[..columns]),
                }
            }
        } else {
            turn(
                out,
                &data[first * column_stride..],
                k,
                columns,
                row_stride,
                column_stride,
            );
        }
    }
}

fn turn<T: Copy>(
    out: &mut [T],
    data: &[T],
    k: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
) {
    let rows = out.as_chunks_mut::<PANEL>().0;
    for (block, rows) in rows.chunks_mut(BLOCK).enumerate() {
        let first = block * BLOCK;
        debug_assert!(first < k);
        for column in 0..columns {
            let from = &data[first * row_stride + column * column_stride..];
            if row_stride == 1 {
                for (row, value) in rows.iter_mut().zip(from) {
                    row[column] = *value;
                }
            } else {
                for (at, row) in rows.iter_mut().enumerate() {
                    row[column] = from[at * row_stride];
                }
            }
        }
    }
}
