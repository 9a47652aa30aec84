//! The AVX-512 kernel: blocks of 12 rows of A, turned so that a step of k reads them side by side, against 24 accumulators.
#![allow(unsafe_code)]

use super::pack::Values;
use super::{PANEL, View, Work, Write};
use crate::isa::first_lanes;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Steps of k between two visits of C: a block of A (12 x 384 numbers) and a panel of B stay in the nearest caches.
const DEPTH: usize = 384;
/// Rows of a full block.
const ROWS: usize = 12;
/// Lanes of a register.
const LANES: usize = 16;
/// Registers of a panel row.
const REGISTERS: usize = PANEL / LANES;

/// # Safety
/// The processor has AVX-512F; `work` was checked against the sizes of A and C.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn matmul(work: &Work, c: &mut [f32]) {
    let mut block = [const { MaybeUninit::uninit() }; DEPTH];
    // No rows at all still write zeros.
    for k0 in (0..work.depth.max(1)).step_by(DEPTH) {
        let steps = DEPTH.min(work.depth - k0);
        let fresh = k0 == 0 && work.write == Write::Replace;
        let mut row = 0;
        while row < work.m {
            let rows = ROWS.min(work.m - row);
            let a = Steps::new(&mut block, work.a, row, rows, k0, steps);
            let part = Part {
                work,
                row,
                k0,
                steps,
                fresh,
            };
            // SAFETY: `a` holds `steps` x `rows` numbers, as `super::matmul` checked, and the rows and panels lie inside C.
            unsafe {
                match rows {
                    1 => part.panels::<1, 4>(a, c),
                    2 => part.panels::<2, 4>(a, c),
                    3 => part.panels::<3, 2>(a, c),
                    4 => part.panels::<4, 2>(a, c),
                    5 => part.panels::<5, 1>(a, c),
                    6 => part.panels::<6, 1>(a, c),
                    7 => part.panels::<7, 1>(a, c),
                    8 => part.panels::<8, 1>(a, c),
                    9 => part.panels::<9, 1>(a, c),
                    10 => part.panels::<10, 1>(a, c),
                    11 => part.panels::<11, 1>(a, c),
                    _ => part.panels::<ROWS, 1>(a, c),
                }
            }
            row += rows;
        }
    }
}

/// Where a block of rows of A lies: row r at step s is `first[r * row + s * step]`.
#[derive(Clone, Copy)]
struct Steps {
    first: *const f32,
    row: usize,
    step: usize,
}

/// Room for gathered rows of A, step by step; not filled before it is needed, most calls read A in place.
type Block = [MaybeUninit<[f32; ROWS]>; DEPTH];

impl Steps {
    /// Rows `row..row + rows` at steps `k0..k0 + steps`: in place when a row's numbers stand side by side, else gathered in `block`
    /// step by step.
    fn new(block: &mut Block, a: View, row: usize, rows: usize, k0: usize, steps: usize) -> Steps {
        if steps == 0 {
            return Steps {
                first: block.as_ptr().cast(),
                row: 0,
                step: 0,
            };
        }
        let from = &a.data[row * a.row_stride + k0 * a.column_stride..];
        if a.column_stride == 1 {
            return Steps {
                first: from.as_ptr(),
                row: a.row_stride,
                step: 1,
            };
        }
        for (step, to) in block[..steps].iter_mut().enumerate() {
            let from = &from[step * a.column_stride..];
            match from.first_chunk::<ROWS>() {
                Some(from) if a.row_stride == 1 => to.write(*from),
                _ => to.write(std::array::from_fn(|r| {
                    if r < rows {
                        from[r * a.row_stride]
                    } else {
                        0.0
                    }
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
    k0: usize,
    steps: usize,
    fresh: bool,
}

impl Part<'_> {
    /// `R` rows against all panels, `P` of them at a time so that enough sums are under way to hide a multiply-add's latency.
    #[target_feature(enable = "avx512f")]
    unsafe fn panels<const R: usize, const P: usize>(&self, a: Steps, c: &mut [f32]) {
        let mut panel = self.work.panels.start;
        // SAFETY: passed on.
        unsafe {
            while panel + P <= self.work.panels.end {
                self.group::<R, P>(panel, a, c);
                panel += P;
            }
            while panel < self.work.panels.end {
                self.group::<R, 1>(panel, a, c);
                panel += 1;
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn group<const R: usize, const P: usize>(&self, panel: usize, a: Steps, c: &mut [f32]) {
        let b = self.work.b;
        let at = (panel * b.k + self.k0) * PANEL;
        // SAFETY: panel `panel + P - 1` ends inside the packed numbers; see `Panels::pack`.
        unsafe {
            match &b.values {
                Values::F32(values) => self.tile::<R, P, f32>(panel, values.as_ptr().add(at), a, c),
                Values::Bf16(values) => {
                    self.tile::<R, P, u16>(panel, values.as_ptr().add(at), a, c)
                }
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn tile<const R: usize, const P: usize, T: Lanes>(
        &self,
        panel: usize,
        b: *const T,
        a: Steps,
        c: &mut [f32],
    ) {
        let work = self.work;
        // SAFETY: `matmul` checked that C holds these rows and columns; columns past the last are masked or not touched.
        unsafe {
            let c = c
                .as_mut_ptr()
                .wrapping_add(self.row * work.c_stride + (panel - work.panels.start) * PANEL);
            let mut sums = [[[_mm512_setzero_ps(); REGISTERS]; P]; R];
            if !self.fresh {
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (p, sums) in sums.iter_mut().enumerate() {
                        for (g, sum) in sums.iter_mut().enumerate() {
                            *sum = load(
                                c.wrapping_add(r * work.c_stride + p * PANEL + g * LANES),
                                left(work.b.n, panel + p, g),
                            );
                        }
                    }
                }
            }
            let rows: [*const f32; R] = std::array::from_fn(|r| a.first.add(r * a.row));
            let stride = work.b.k * PANEL;
            for step in 0..self.steps {
                let mut row = [[_mm512_setzero_ps(); REGISTERS]; P];
                for (p, row) in row.iter_mut().enumerate() {
                    for (g, value) in row.iter_mut().enumerate() {
                        *value = T::load(b.add(p * stride + step * PANEL + g * LANES));
                    }
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*rows[r].add(step * a.step));
                    for (sums, row) in sums.iter_mut().zip(&row) {
                        for (sum, value) in sums.iter_mut().zip(row) {
                            *sum = _mm512_fmadd_ps(x, *value, *sum);
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (p, sums) in sums.iter().enumerate() {
                    for (g, sum) in sums.iter().enumerate() {
                        store(
                            c.wrapping_add(r * work.c_stride + p * PANEL + g * LANES),
                            left(work.b.n, panel + p, g),
                            *sum,
                        );
                    }
                }
            }
        }
    }
}

/// Columns of B from register `g` of `panel` on, at most a register full.
fn left(n: usize, panel: usize, g: usize) -> usize {
    n.saturating_sub(panel * PANEL + g * LANES).min(LANES)
}

/// # Safety
/// `count` numbers can be read at `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(from: *const f32, count: usize) -> __m512 {
    // SAFETY: the mask covers `count` numbers only.
    unsafe { _mm512_maskz_loadu_ps(first_lanes(count), from) }
}

/// # Safety
/// `count` numbers can be written at `to`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(to: *mut f32, count: usize, value: __m512) {
    // SAFETY: the mask covers `count` numbers only.
    unsafe { _mm512_mask_storeu_ps(to, first_lanes(count), value) }
}

/// Packed numbers that widen to f32 lanes.
trait Lanes: Copy {
    /// # Safety
    /// A register full of numbers can be read at `from`.
    unsafe fn load(from: *const Self) -> __m512;
}

impl Lanes for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(from) }
    }
}

impl Lanes for u16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const u16) -> __m512 {
        // SAFETY: the caller's.
        unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
                _mm256_loadu_si256(from.cast()),
            )))
        }
    }
}
