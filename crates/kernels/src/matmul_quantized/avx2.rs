//! Eight outputs in a register. INT4 by `vpmaddubsw`, whose pairs of products of 15 by 128 stay far below its limit; INT8 by
//! `vpmaddwd` on widened numbers, for pairs of 255 by 128 would not.
#![allow(unsafe_code)]

use super::{Bits, PANEL, Precision, Work};
use crate::matmul::Write;
use std::arch::x86_64::*;

/// Outputs of a register.
const LANES: usize = 8;
/// Registers of a panel.
const HALVES: usize = PANEL / LANES;
/// Rows of a full tile: their sums leave registers for weights and products.
const ROWS: usize = 4;

/// # Safety
/// The processor has AVX2 and FMA; `work` was checked against the sizes of A, W and C.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn matmul(work: &Work, c: &mut [f32]) {
    for panel in work.panels.clone() {
        for row in (0..work.rows.len()).step_by(ROWS) {
            let tile = Tile { work, row, panel };
            match work.rows.len() - row {
                1 => tile.precision::<1>(c),
                2 => tile.precision::<2>(c),
                3 => tile.precision::<3>(c),
                _ => tile.precision::<ROWS>(c),
            }
        }
    }
}

/// Sums of rows, planes of activations and halves of a panel.
type Sums<const R: usize, const A: usize> = [[[__m256i; HALVES]; A]; R];

/// Some rows against a panel.
struct Tile<'a> {
    work: &'a Work<'a>,
    row: usize,
    panel: usize,
}

impl Tile<'_> {
    #[target_feature(enable = "avx2,fma")]
    fn precision<const R: usize>(&self, c: &mut [f32]) {
        match self.work.rows.precision() {
            Precision::Int8 => self.blocks::<R, 1>(c),
            Precision::Int16 => self.blocks::<R, 2>(c),
        }
    }

    /// All blocks of `R` rows with `A` planes of activations.
    #[target_feature(enable = "avx2,fma")]
    fn blocks<const R: usize, const A: usize>(&self, c: &mut [f32]) {
        for block in 0..self.work.rows.blocks() {
            let sums = match self.work.weights.bits {
                Bits::Four => self.four::<R, A>(block),
                Bits::Eight => self.eight::<R, A>(block),
            };
            self.add_to(c, block, sums);
        }
    }

    /// The lines of a block, each in two halves.
    fn lines(&self, block: usize) -> &[[[u8; 32]; HALVES]] {
        let weights = &self.work.weights;
        let bytes = weights.panel_bytes() / self.work.rows.blocks();
        let from = self.panel * weights.panel_bytes() + block * bytes;
        let (halves, _) = weights.values[from..][..bytes].as_chunks::<32>();
        halves.as_chunks::<HALVES>().0
    }

    /// The activations of a block.
    fn activations<const R: usize, const A: usize>(&self, block: usize) -> [[&[i8]; A]; R] {
        let rows = self.work.rows;
        std::array::from_fn(|r| {
            std::array::from_fn(|plane| {
                &rows.row(plane, self.row + r)[block * rows.block()..][..rows.block()]
            })
        })
    }

    #[target_feature(enable = "avx2,fma")]
    fn four<const R: usize, const A: usize>(&self, block: usize) -> Sums<R, A> {
        let (lines, a) = (self.lines(block), self.activations::<R, A>(block));
        let (low_half, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        // Sums begin at what the offset of the stored weights adds too much.
        let mut sums: Sums<R, A> = std::array::from_fn(|r| {
            std::array::from_fn(|plane| {
                let sum = self.work.rows.row_sums(plane, self.row + r)[block];
                [_mm256_set1_epi32(-8 * sum); HALVES]
            })
        });
        for (line, halves) in lines.iter().enumerate() {
            for (half, bytes) in halves.iter().enumerate() {
                let w = load(bytes);
                let low = _mm256_and_si256(w, low_half);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(w), low_half);
                for (sums, a) in sums.iter_mut().zip(&a) {
                    for (sums, a) in sums.iter_mut().zip(a) {
                        let x = |input: usize| _mm256_set1_epi32(four_bytes(a, line * 8 + input));
                        // Two pairs of products are at most 4 · 15 · 128.
                        let pairs = _mm256_add_epi16(
                            _mm256_maddubs_epi16(low, x(0)),
                            _mm256_maddubs_epi16(high, x(4)),
                        );
                        sums[half] = _mm256_add_epi32(sums[half], _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
        }
        sums
    }

    #[target_feature(enable = "avx2,fma")]
    fn eight<const R: usize, const A: usize>(&self, block: usize) -> Sums<R, A> {
        let (lines, a) = (self.lines(block), self.activations::<R, A>(block));
        let sign = _mm256_set1_epi8(-128);
        let mut sums: Sums<R, A> = [[[_mm256_setzero_si256(); HALVES]; A]; R];
        for (line, halves) in lines.iter().enumerate() {
            for (half, bytes) in halves.iter().enumerate() {
                let w = _mm256_xor_si256(load(bytes), sign);
                let first = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(w));
                let second = _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(w));
                for (sums, a) in sums.iter_mut().zip(&a) {
                    for (sums, a) in sums.iter_mut().zip(a) {
                        let x = _mm256_cvtepi8_epi16(_mm_set1_epi32(four_bytes(a, line * 4)));
                        let sum = _mm256_hadd_epi32(
                            _mm256_madd_epi16(first, x),
                            _mm256_madd_epi16(second, x),
                        );
                        sums[half] = _mm256_add_epi32(sums[half], sum);
                    }
                }
            }
        }
        // The horizontal sums stand as outputs 0 1 4 5 2 3 6 7.
        sums.map(|sums| {
            sums.map(|sums| sums.map(|sum| _mm256_permute4x64_epi64::<0b11_01_10_00>(sum)))
        })
    }

    /// Adds a block's sums to C.
    #[target_feature(enable = "avx2,fma")]
    fn add_to<const R: usize, const A: usize>(
        &self,
        c: &mut [f32],
        block: usize,
        sums: Sums<R, A>,
    ) {
        let (weights, rows) = (&self.work.weights, self.work.rows);
        let group = block * rows.block() / weights.group;
        let from = self.panel * weights.panel_scales() + group * PANEL;
        let first = (self.panel - self.work.panels.start) * PANEL;
        let columns = (weights.n - self.panel * PANEL).min(PANEL);
        let fresh = block == 0 && self.work.write == Write::Replace;
        for (r, sums) in sums.iter().enumerate() {
            let scale = rows.row_scales(self.row + r)[block];
            let place = &mut c[(self.row + r) * self.work.c_stride + first..][..columns];
            let mut panel = [0.0; PANEL];
            if !fresh {
                panel[..columns].copy_from_slice(place);
            }
            let (halves, _) = panel.as_chunks_mut::<LANES>();
            let (scales, _) = weights.scales[from..][..PANEL].as_chunks::<LANES>();
            for (half, (c, scales)) in halves.iter_mut().zip(scales).enumerate() {
                let sum = match A {
                    1 => sums[0][half],
                    _ => _mm256_add_epi32(_mm256_slli_epi32::<8>(sums[0][half]), sums[A - 1][half]),
                };
                add_scaled(c, sum, scale, scales);
            }
            place.copy_from_slice(&panel[..columns]);
        }
    }
}

/// `c = fma(sum, scale · scales, c)`.
#[target_feature(enable = "avx2,fma")]
fn add_scaled(c: &mut [f32; LANES], sum: __m256i, scale: f32, scales: &[u16; LANES]) {
    // SAFETY: both arrays have eight elements.
    unsafe {
        let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(scales.as_ptr().cast()));
        let scales = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words));
        let scale = _mm256_mul_ps(_mm256_set1_ps(scale), scales);
        let old = _mm256_loadu_ps(c.as_ptr());
        let new = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, old);
        _mm256_storeu_ps(c.as_mut_ptr(), new);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Four inputs from `input` on, as one number.
#[inline(always)]
fn four_bytes(a: &[i8], input: usize) -> i32 {
    let bytes: [i8; 4] = a[input..input + 4].try_into().expect("four of them");
    i32::from_ne_bytes(bytes.map(|byte| byte as u8))
}
