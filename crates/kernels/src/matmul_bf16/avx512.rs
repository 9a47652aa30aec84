//! `vdpbf16ps`: 12 rows of A against a panel of 32 columns, 24 accumulators, two pairs' products per lane and instruction.
#![allow(unsafe_code)]

use super::{PairView, Work};
use crate::isa::first_lanes;
use crate::matmul::{PANEL, Write};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Pairs of k between two visits of C: a gathered block of A and a panel of B stay in the nearest caches.
const DEPTH: usize = 256;
/// Rows of a full block.
const ROWS: usize = 12;
/// Lanes of a register.
const LANES: usize = 16;
/// Registers of a panel row.
const REGISTERS: usize = PANEL / LANES;

/// # Safety
/// The processor has AVX-512F and AVX512-BF16; `work` was checked against the sizes of A and C.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn matmul(work: &Work, c: &mut [f32]) {
    let mut block = [const { MaybeUninit::uninit() }; DEPTH];
    let depth = work.b.pairs().max(1);
    for first in (0..depth).step_by(DEPTH) {
        let steps = DEPTH.min(work.b.pairs() - first);
        let fresh = first == 0 && work.write == Write::Replace;
        for row in (0..work.m).step_by(ROWS) {
            let rows = ROWS.min(work.m - row);
            let a = Steps::new(&mut block, work.a, row, rows, first, steps);
            let part = Part {
                work,
                row,
                first,
                steps,
                fresh,
            };
            // SAFETY: `a` reaches `steps` pairs of `rows` rows, and rows and panels lie inside C.
            unsafe {
                match rows {
                    1 => part.panels::<1>(a, c),
                    2 => part.panels::<2>(a, c),
                    3 => part.panels::<3>(a, c),
                    4 => part.panels::<4>(a, c),
                    5 => part.panels::<5>(a, c),
                    6 => part.panels::<6>(a, c),
                    7 => part.panels::<7>(a, c),
                    8 => part.panels::<8>(a, c),
                    9 => part.panels::<9>(a, c),
                    10 => part.panels::<10>(a, c),
                    11 => part.panels::<11>(a, c),
                    _ => part.panels::<ROWS>(a, c),
                }
            }
        }
    }
}

/// Room for gathered rows of A, step by step; not filled before it is needed.
type Block = [MaybeUninit<[u32; ROWS]>; DEPTH];

/// Where a block of rows of A lies: row r at step s is `first[r * row + s * step]`.
#[derive(Clone, Copy)]
struct Steps {
    first: *const u32,
    row: usize,
    step: usize,
}

impl Steps {
    /// In place when a row's pairs stand side by side, else gathered.
    fn new(
        block: &mut Block,
        a: PairView,
        row: usize,
        rows: usize,
        first: usize,
        steps: usize,
    ) -> Steps {
        if steps == 0 {
            return Steps {
                first: block.as_ptr().cast(),
                row: 0,
                step: 0,
            };
        }
        let from = &a.data[row * a.row_stride + first * a.pair_stride..];
        if a.pair_stride == 1 {
            return Steps {
                first: from.as_ptr(),
                row: a.row_stride,
                step: 1,
            };
        }
        for (step, to) in block[..steps].iter_mut().enumerate() {
            let from = &from[step * a.pair_stride..];
            match from.first_chunk::<ROWS>() {
                Some(from) if a.row_stride == 1 => to.write(*from),
                _ => to.write(std::array::from_fn(|r| {
                    if r < rows { from[r * a.row_stride] } else { 0 }
                })),
            };
        }
        Steps {
            first: block.as_ptr().cast(),
            row: 1,
            step: ROWS,
        }
    }
}

/// One block of rows and one stretch of k.
struct Part<'a> {
    work: &'a Work<'a>,
    row: usize,
    first: usize,
    steps: usize,
    fresh: bool,
}

impl Part<'_> {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn panels<const R: usize>(&self, a: Steps, c: &mut [f32]) {
        for panel in 0..self.work.b.panel_count() {
            // SAFETY: passed on.
            unsafe { self.tile::<R>(panel, a, c) }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile<const R: usize>(&self, panel: usize, a: Steps, c: &mut [f32]) {
        let (b, c_stride) = (self.work.b, self.work.c_stride);
        let masks = [0, 1].map(|g| first_lanes(b.n.saturating_sub(panel * PANEL + g * LANES)));
        // SAFETY: `matmul_bf16` checked that C holds these rows and columns, masks leave out columns past the last; panel
        // `panel` has `pairs` rows of 32 pairs, of which `first..first + steps` are read.
        unsafe {
            let c = c.as_mut_ptr().add(self.row * c_stride + panel * PANEL);
            let from = b
                .values
                .as_ptr()
                .add((panel * b.pairs() + self.first) * PANEL);
            let mut sums = [[_mm512_setzero_ps(); REGISTERS]; R];
            if !self.fresh {
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (g, sum) in sums.iter_mut().enumerate() {
                        *sum = _mm512_maskz_loadu_ps(
                            masks[g],
                            c.wrapping_add(r * c_stride + g * LANES),
                        );
                    }
                }
            }
            for step in 0..self.steps {
                let row = [0, 1].map(|g| {
                    pairs(_mm512_loadu_si512(
                        from.add(step * PANEL + g * LANES).cast(),
                    ))
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = pairs(_mm512_set1_epi32(
                        *a.first.add(r * a.row + step * a.step) as i32
                    ));
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum = _mm512_dpbf16_ps(*sum, x, value);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (g, sum) in sums.iter().enumerate() {
                    _mm512_mask_storeu_ps(c.wrapping_add(r * c_stride + g * LANES), masks[g], *sum);
                }
            }
        }
    }
}

/// The same bits as pairs of bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 plain bytes.
    unsafe { std::mem::transmute(bits) }
}
