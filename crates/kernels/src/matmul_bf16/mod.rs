//! C = A·B with both sides rounded to bf16 and sums in f32, for training: twice the rate of f32 where the processor has
//! `vdpbf16ps`.
//!
//! That instruction multiplies pairs, so numbers are stored as pairs along k in a u32 (the even one low). A matrix can be
//! paired along its rows ([`round_along`], when k runs over its columns) or across two rows ([`round_across`], when k
//! runs over its rows).
//!
//! Contract: every output is one chain over k in ascending pairs, in each pair the odd product before the even one, every
//! addition rounded once and subnormal numbers taken as zero. So the bits depend neither on how rows are split nor on who
//! computes: the processor's instruction or the scalar twin.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
mod scalar;

use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Set;
use crate::matmul::{Write, assert_c_holds, reach};
pub use pack::{PairPanels, round_across, round_along};

/// The proof that this processor multiplies bf16 pairs itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bf16Isa(Twin);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twin {
    #[cfg_attr(not(test), allow(dead_code))]
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Bf16Isa {
    /// The instruction, where there is one and `isa` is the set that has it. Without it, f32 is faster.
    pub fn detect(isa: Isa) -> Option<Bf16Isa> {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 if is_x86_feature_detected!("avx512bf16") => Some(Bf16Isa(Twin::Avx512)),
            _ => None,
        }
    }
}

/// A read-only matrix of pairs: pair j of row i is `data[i * row_stride + j * pair_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct PairView<'a> {
    /// The pairs.
    pub data: &'a [u32],
    /// Distance from one row to the next.
    pub row_stride: usize,
    /// Distance from one pair of a row to the next.
    pub pair_stride: usize,
}

/// Everything about a product but C.
struct Work<'a> {
    m: usize,
    a: PairView<'a>,
    b: &'a PairPanels,
    c_stride: usize,
    write: Write,
}

/// `m` rows of A times all columns of B: row i goes to `c[i * c_stride ..]`.
///
/// # Panics
/// When A or C is too small for the shape.
pub fn matmul_bf16(
    isa: Bf16Isa,
    m: usize,
    a: PairView,
    b: &PairPanels,
    c: &mut [f32],
    c_stride: usize,
    write: Write,
) {
    b.assert_whole();
    if m == 0 || b.n == 0 {
        return;
    }
    if b.pairs() > 0 {
        let last = reach(m - 1, a.row_stride, b.pairs() - 1, a.pair_stride);
        assert!(
            last.is_some_and(|last| last < a.data.len()),
            "A of {m} rows reaches past its {} pairs",
            a.data.len()
        );
    }
    assert_c_holds(c.len(), m, b.n, c_stride);
    let work = Work {
        m,
        a,
        b,
        c_stride,
        write,
    };
    match isa.0 {
        Twin::Scalar => scalar::matmul(&work, c),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Bf16Isa` exists only where the instruction does, and the sizes were checked above.
        #[allow(unsafe_code)]
        Twin::Avx512 => unsafe { avx512::matmul(&work, c) },
    }
}

#[cfg(test)]
mod tests;
