//! `vpdpbusd`: a block of rows against panels of 16 outputs, four products per lane and instruction.
#![allow(unsafe_code)]

use super::{Bits, PANEL, Precision, Work};
use crate::isa::first_lanes;
use crate::matmul::Write;
use std::arch::x86_64::*;

/// Rows whose activations stay in the second-level cache while all panels pass: about so many bytes of them.
const CACHED_BYTES: usize = 384 * 1024;

/// # Safety
/// The processor has AVX-512F, BW and VNNI; `work` was checked against the sizes of A, W and C.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn matmul(work: &Work, c: &mut [f32]) {
    let rows = work.rows;
    let planes = rows.precision().planes();
    let tall = if planes == 1 { 12 } else { 6 };
    let together = (CACHED_BYTES / (rows.inputs() * planes).max(1)).max(tall) / tall * tall;
    for start in (0..rows.len()).step_by(together) {
        let end = rows.len().min(start + together);
        let mut panel = work.panels.start;
        while panel < work.panels.end {
            let wide = match (end - start, work.panels.end - panel) {
                (1, 4..) => 4,
                (_, 2..) => 2,
                _ => 1,
            };
            for row in (start..end).step_by(tall) {
                let tile = Tile { work, row, panel };
                // SAFETY: rows `row..end` and panels `panel..panel + wide` exist.
                unsafe { tile.dispatch(tall.min(end - row), wide, c) }
            }
            panel += wide;
        }
    }
}

/// Some rows against some panels.
struct Tile<'a> {
    work: &'a Work<'a>,
    row: usize,
    panel: usize,
}

/// Calls a tile function with the number of rows and panels, the precision and the bits as constants.
macro_rules! with_constants {
    ($self:ident, $rows:expr, $wide:expr, $c:ident, [$($r:literal)*]) => {
        match ($rows, $wide) {
            (1, 4) => $self.precision::<1, 4>($c),
            $(($r, 2) => $self.precision::<$r, 2>($c),
            ($r, 1) => $self.precision::<$r, 1>($c),)*
            (rows, wide) => unreachable!("no tile of {rows} rows and {wide} panels"),
        }
    };
}

impl Tile<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn dispatch(&self, rows: usize, wide: usize, c: &mut [f32]) {
        // SAFETY: passed on.
        unsafe { with_constants!(self, rows, wide, c, [1 2 3 4 5 6 7 8 9 10 11 12]) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn precision<const R: usize, const P: usize>(&self, c: &mut [f32]) {
        // SAFETY: passed on.
        unsafe {
            match (self.work.rows.precision(), self.work.weights.bits) {
                (Precision::Int8, Bits::Four) => self.blocks::<R, P, 1, true>(c),
                (Precision::Int8, Bits::Eight) => self.blocks::<R, P, 1, false>(c),
                (Precision::Int16, Bits::Four) => self.blocks::<R, P, 2, true>(c),
                (Precision::Int16, Bits::Eight) => self.blocks::<R, P, 2, false>(c),
            }
        }
    }

    /// All blocks of `R` rows and `P` panels with `A` planes of activations. Loops instead of closures and one function instead
    /// of three: a closure with these instructions inside of `array::from_fn` stays a call, and the sums then live in memory.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn blocks<const R: usize, const P: usize, const A: usize, const FOUR: bool>(
        &self,
        c: &mut [f32],
    ) {
        let (weights, rows) = (&self.work.weights, self.work.rows);
        let (inputs, block, blocks) = (rows.inputs(), rows.block(), rows.blocks());
        let lines = if FOUR { block / 8 } else { block / 4 };
        let offset = if FOUR { 8 } else { 128 };
        let (panel_bytes, panel_scales) = (weights.panel_bytes(), weights.panel_scales());
        let first = (self.panel - self.work.panels.start) * PANEL;
        let mut masks: [__mmask16; P] = [0; P];
        for (p, filled) in masks.iter_mut().enumerate() {
            *filled = first_lanes(weights.n.saturating_sub((self.panel + p) * PANEL));
        }
        let (a, sums_of, scales_of) = (
            [rows.row(0, self.row), rows.row(A - 1, self.row)].map(<[i8]>::as_ptr),
            [rows.row_sums(0, self.row), rows.row_sums(A - 1, self.row)].map(<[i32]>::as_ptr),
            rows.row_scales(self.row).as_ptr(),
        );
        // SAFETY: `matmul_quantized` checked that W has these panels and A and C these rows; masks leave out columns past the last.
        unsafe {
            let values = weights.values.as_ptr().add(self.panel * panel_bytes);
            let scales = weights.scales.as_ptr().add(self.panel * panel_scales);
            let c = c.as_mut_ptr().add(self.row * self.work.c_stride + first);
            for at in 0..blocks {
                let values = values.add(at * lines * 64);
                // Sums begin at what the offset of the stored weights adds too much.
                let mut sums = [[[_mm512_setzero_si512(); P]; A]; R];
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (plane, sums) in sums.iter_mut().enumerate() {
                        let sum = *sums_of[plane].add(r * blocks + at);
                        *sums = [_mm512_set1_epi32(-offset * sum); P];
                    }
                }
                for line in 0..lines {
                    let mut w = [_mm512_setzero_si512(); P];
                    for (p, w) in w.iter_mut().enumerate() {
                        *w = _mm512_loadu_si512(values.add(p * panel_bytes + line * 64).cast());
                    }
                    if FOUR {
                        let half = _mm512_set1_epi8(15);
                        let (mut low, mut high) = (w, w);
                        for (low, high) in low.iter_mut().zip(&mut high) {
                            *low = _mm512_and_si512(*low, half);
                            *high = _mm512_and_si512(_mm512_srli_epi16::<4>(*high), half);
                        }
                        add_products(&mut sums, a, inputs, at * block + line * 8, low);
                        add_products(&mut sums, a, inputs, at * block + line * 8 + 4, high);
                    } else {
                        add_products(&mut sums, a, inputs, at * block + line * 4, w);
                    }
                }
                let fresh = at == 0 && self.work.write == Write::Replace;
                let scales = scales.add(at * block / weights.group * PANEL);
                for p in 0..P {
                    let halves = _mm256_loadu_si256(scales.add(p * panel_scales).cast());
                    let words = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves));
                    for (r, sums) in sums.iter().enumerate() {
                        let scale = _mm512_set1_ps(*scales_of.add(r * blocks + at));
                        let scale = _mm512_mul_ps(scale, _mm512_castsi512_ps(words));
                        let mut sum = sums[0][p];
                        if A == 2 {
                            sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(sum), sums[A - 1][p]);
                        }
                        let place = c.wrapping_add(r * self.work.c_stride + p * PANEL);
                        let old = _mm512_maskz_loadu_ps(if fresh { 0 } else { masks[p] }, place);
                        let new = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, old);
                        _mm512_mask_storeu_ps(place, masks[p], new);
                    }
                }
            }
        }
    }
}

/// Four inputs from `input` on: every row's bytes against every panel's.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn add_products<const R: usize, const P: usize, const A: usize>(
    sums: &mut [[[__m512i; P]; A]; R],
    a: [*const i8; 2],
    stride: usize,
    input: usize,
    w: [__m512i; P],
) {
    for (r, sums) in sums.iter_mut().enumerate() {
        for (sums, a) in sums.iter_mut().zip(a) {
            // SAFETY: the caller's rows reach four inputs further.
            let x = unsafe { a.add(r * stride + input).cast::<i32>().read_unaligned() };
            let x = _mm512_set1_epi32(x);
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm512_dpbusd_epi32(*sum, w, x);
            }
        }
    }
}
