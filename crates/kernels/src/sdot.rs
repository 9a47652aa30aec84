//! The signed dot product of Arm, `sdot`, and the product of two rows of eight by two, `smmla`: their intrinsics are not stable.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

/// Four registers: 16 lanes of a panel.
pub(crate) type Lanes<T> = [T; 4];

/// Adds, for each of 16 lanes, four bytes of `line` times the four bytes of `four` that stand at `LANE`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn add_products<const LANE: usize>(
    sums: &mut Lanes<int32x4_t>,
    line: Lanes<int8x16_t>,
    fours: int8x16_t,
) {
    for (sum, bytes) in sums.iter_mut().zip(line) {
        // SAFETY: the instruction reads and writes these registers only, and the function is for processors that have it.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {bytes:v}.16b, {fours:v}.4b[{lane}]",
                sum = inout(vreg) *sum,
                bytes = in(vreg) bytes,
                fours = in(vreg) fours,
                lane = const LANE,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
}

/// Adds the products of two rows of eight bytes by two outputs' eight: row 0 by both, then row 1 by both.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(crate) fn add_pairs(sums: &mut int32x4_t, rows: int8x16_t, outputs: int8x16_t) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "smmla {sums:v}.4s, {rows:v}.16b, {outputs:v}.16b",
            sums = inout(vreg) *sums,
            rows = in(vreg) rows,
            outputs = in(vreg) outputs,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// The fours of two registers in turn, those of their first halves and those of their second.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn in_turn(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
    [
        vreinterpretq_s8_s32(vzip1q_s32(a, b)),
        vreinterpretq_s8_s32(vzip2q_s32(a, b)),
    ]
}

/// A line of 64 bytes, its offset taken away by flipping bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn load_line<T>(line: &[T; 64], flip: u8) -> Lanes<int8x16_t> {
    const { assert!(size_of::<T>() == 1) }
    let flip = vdupq_n_s8(flip as i8);
    let mut lanes = [flip; 4];
    for (at, lane) in lanes.iter_mut().enumerate() {
        // SAFETY: 64 bytes.
        *lane = unsafe { veorq_s8(vld1q_s8(line.as_ptr().cast::<i8>().add(at * 16)), flip) };
    }
    lanes
}

/// 16 bytes, their offset taken away by flipping bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn load_fours<T>(fours: &[[T; 4]; 4], flip: u8) -> int8x16_t {
    const { assert!(size_of::<T>() == 1) }
    // SAFETY: 16 bytes.
    unsafe { veorq_s8(vld1q_s8(fours.as_ptr().cast()), vdupq_n_s8(flip as i8)) }
}
