//! The NEON kernel: 3 rows of A against a panel of 32 columns, 24 accumulators.
#![allow(unsafe_code)]

use super::pack::Values;
use super::{PANEL, Work, Write};
use std::arch::aarch64::*;

/// Steps of k between two visits of C: a panel's steps (48 KB) stay in the nearest caches while all rows pass.
const DEPTH: usize = 384;
/// Rows of a full block: with 8 registers of B for each row of a panel, 24 of the 32 registers are sums.
const ROWS: usize = 3;
/// Lanes of a register.
const LANES: usize = 4;
/// Registers of a panel row.
const REGISTERS: usize = PANEL / LANES;

/// # Safety
/// The processor has NEON; `work` was checked against the sizes of A and C.
#[target_feature(enable = "neon")]
pub(super) unsafe fn matmul(work: &Work, c: &mut [f32]) {
    // No rows of B at all still write zeros.
    for k0 in (0..work.depth.max(1)).step_by(DEPTH) {
        let part = Part {
            work,
            k0,
            steps: DEPTH.min(work.depth - k0),
            fresh: k0 == 0 && work.write == Write::Replace,
        };
        for panel in work.panels.clone() {
            for row in (0..work.m).step_by(ROWS) {
                // SAFETY: rows and panel lie inside A, B and C, as `super::multiply` checked.
                unsafe {
                    match work.m - row {
                        1 => part.rows::<1>(row, panel, c),
                        2 => part.rows::<2>(row, panel, c),
                        _ => part.rows::<ROWS>(row, panel, c),
                    }
                }
            }
        }
    }
}

/// One stretch of k.
struct Part<'a> {
    work: &'a Work<'a>,
    k0: usize,
    steps: usize,
    fresh: bool,
}

impl Part<'_> {
    #[target_feature(enable = "neon")]
    unsafe fn rows<const R: usize>(&self, row: usize, panel: usize, c: &mut [f32]) {
        let (work, b) = (self.work, self.work.b);
        let first = row * work.c_stride + (panel - work.panels.start) * PANEL;
        let columns = PANEL.min(b.n - panel * PANEL);
        let at = (panel * b.k + self.k0) * PANEL;
        // NEON has no masked loads: C's columns, perhaps fewer than 32, pass through `tile`.
        let mut tile = [[0.0f32; PANEL]; R];
        if !self.fresh {
            for (r, tile) in tile.iter_mut().enumerate() {
                tile[..columns].copy_from_slice(&c[first + r * work.c_stride..][..columns]);
            }
        }
        // SAFETY: `steps` rows of the panel follow `at`, and `R` rows of A follow `row`.
        unsafe {
            match &b.values {
                Values::F32(values) => self.tile(row, values.as_ptr().add(at), &mut tile),
                Values::Bf16(values) => self.tile(row, values.as_ptr().add(at), &mut tile),
            }
        }
        for (r, tile) in tile.iter().enumerate() {
            c[first + r * work.c_stride..][..columns].copy_from_slice(&tile[..columns]);
        }
    }

    /// # Safety
    /// `steps` rows of 32 numbers can be read at `b`, `R` rows of A from `row` on.
    #[target_feature(enable = "neon")]
    unsafe fn tile<const R: usize, T: Lanes>(
        &self,
        row: usize,
        b: *const T,
        tile: &mut [[f32; PANEL]; R],
    ) {
        if self.steps == 0 {
            return;
        }
        let a = self.work.a;
        let first = &a.data[row * a.row_stride + self.k0 * a.column_stride..];
        let first = first.as_ptr();
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[vdupq_n_f32(0.0); REGISTERS]; R];
            for (sums, tile) in sums.iter_mut().zip(tile.iter()) {
                for (g, sum) in sums.iter_mut().enumerate() {
                    *sum = vld1q_f32(tile.as_ptr().add(g * LANES));
                }
            }
            for step in 0..self.steps {
                let from = first.add(step * a.column_stride);
                let x: [float32x4_t; R] =
                    std::array::from_fn(|r| vld1q_dup_f32(from.add(r * a.row_stride)));
                for g in 0..REGISTERS {
                    let value = T::load(b.add(step * PANEL + g * LANES));
                    for (sums, x) in sums.iter_mut().zip(x) {
                        sums[g] = vfmaq_f32(sums[g], x, value);
                    }
                }
            }
            for (sums, tile) in sums.iter().zip(tile) {
                for (g, sum) in sums.iter().enumerate() {
                    vst1q_f32(tile.as_mut_ptr().add(g * LANES), *sum);
                }
            }
        }
    }
}

/// Packed numbers that widen to f32 lanes.
trait Lanes: Copy {
    /// # Safety
    /// A register full of numbers can be read at `from`.
    unsafe fn load(from: *const Self) -> float32x4_t;
}

impl Lanes for f32 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(from: *const f32) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe { vld1q_f32(from) }
    }
}

impl Lanes for u16 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(from: *const u16) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from))) }
    }
}
