//! Eight outputs in a register. INT4 by `vpmaddubsw`, whose pairs of products of 15 by 128 stay far below its limit; INT8 by
//! `vpmaddwd` on widened numbers, for pairs of 255 by 128 would not.
#![allow(unsafe_code)]

use super::rows::{TILE, Tile};
use super::scales::{F16_BITS, F16_FACTOR};
use super::{Bits, Columns, PANEL, ScaleFormat, Work};
use std::arch::x86_64::*;

/// Outputs of a register.
const LANES: usize = 8;
/// Rows at a time: their sums, two for each with INT8 weights, leave registers for weights and products.
const ROWS: usize = 4;

/// # Safety
/// The processor has AVX2 and FMA; `work` was checked against the sizes of A, W and C.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn matmul(work: &Work, c: &mut Columns) {
    for panel in work.panels.clone() {
        for index in 0..work.rows.len().div_ceil(TILE) {
            let tile = work.rows.tile(index);
            for row in (0..tile.rows).step_by(ROWS) {
                let part = Part {
                    work,
                    tile,
                    first: index * TILE,
                    row,
                    panel,
                };
                match tile.rows - row {
                    1 => part.blocks::<1>(c),
                    2 => part.blocks::<2>(c),
                    3 => part.blocks::<3>(c),
                    _ => part.blocks::<ROWS>(c),
                }
            }
        }
    }
}

/// Some rows of a tile against a panel.
struct Part<'a> {
    work: &'a Work<'a>,
    tile: Tile<'a>,
    /// The tile's first row.
    first: usize,
    row: usize,
    panel: usize,
}

impl Part<'_> {
    #[target_feature(enable = "avx2,fma")]
    fn blocks<const R: usize>(&self, c: &mut Columns) {
        let (weights, rows) = (&self.work.weights, self.work.rows);
        let first = (self.panel - self.work.panels.start) * PANEL;
        let columns = (weights.n - self.panel * PANEL).min(PANEL);
        let mut results = [[0.0; PANEL]; R];
        for (r, result) in results.iter_mut().enumerate() {
            let old = &c.row_mut(self.first + self.row + r)[first..][..columns];
            self.work.start.fill(first, old, &mut result[..columns]);
        }
        for block in 0..rows.blocks().len() {
            for half in 0..PANEL / LANES {
                let mut sums = [_mm256_setzero_si256(); R];
                for plane in 0..rows.precision().planes() {
                    for sum in &mut sums {
                        *sum = _mm256_slli_epi32::<8>(*sum);
                    }
                    match weights.bits {
                        Bits::Four => self.four(block, half, plane, &mut sums),
                        Bits::Eight => self.eight(block, half, plane, &mut sums),
                    }
                }
                let group = rows.blocks().inputs_of(block).start / weights.group;
                let at = self.panel * weights.panel_scales() + group * PANEL + half * LANES;
                let scales = weights.scales[at..]
                    .first_chunk()
                    .expect("scales of a panel");
                let scales = widened(weights.scale_format, scales);
                for (r, (sum, result)) in sums.iter().zip(&mut results).enumerate() {
                    let scale = self.tile.scales[block * self.tile.rows + self.row + r];
                    let (halves, _) = result.as_chunks_mut();
                    add_scaled(&mut halves[half], *sum, scale, scales);
                }
            }
        }
        for (r, result) in results.iter().enumerate() {
            let place = &mut c.row_mut(self.first + self.row + r)[first..][..columns];
            place.copy_from_slice(&result[..columns]);
        }
    }

    /// A block's half lines: 8 outputs by 4 inputs of INT8 or by 8 of INT4.
    fn half_lines(&self, block: usize, half: usize) -> impl Iterator<Item = &[u8; 32]> {
        let weights = &self.work.weights;
        let inputs = self.work.rows.blocks().inputs_of(block);
        let line_inputs = match weights.bits {
            Bits::Four => 8,
            Bits::Eight => 4,
        };
        let from = self.panel * weights.panel_bytes() + inputs.start / line_inputs * 64;
        let bytes = &weights.values[from..][..inputs.len() / line_inputs * 64];
        bytes.as_chunks().0[half..].iter().step_by(2)
    }

    /// A block's activations of this part's first row and of all after it: fours of inputs.
    fn fours(&self, block: usize, plane: usize) -> &[[i8; 4]] {
        let fours = self.work.rows.blocks().inputs_of(block).start / 4;
        &self.tile.values(plane).as_chunks().0[fours * self.tile.rows + self.row..]
    }

    #[target_feature(enable = "avx2,fma")]
    fn four<const R: usize>(
        &self,
        block: usize,
        half: usize,
        plane: usize,
        sums: &mut [__m256i; R],
    ) {
        let (low_half, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let (fours, stride) = (self.fours(block, plane), self.tile.rows);
        let extra = &self.tile.sums(plane)[block * stride + self.row..][..R];
        // The offset of the stored weights adds too much.
        for (sum, extra) in sums.iter_mut().zip(extra) {
            *sum = _mm256_sub_epi32(*sum, _mm256_set1_epi32(8 * extra));
        }
        for (line, bytes) in self.half_lines(block, half).enumerate() {
            let w = load(bytes);
            let low = _mm256_and_si256(w, low_half);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(w), low_half);
            let first = &fours[line * 2 * stride..][..R];
            let second = &fours[(line * 2 + 1) * stride..][..R];
            for (sum, (first, second)) in sums.iter_mut().zip(first.iter().zip(second)) {
                // Two pairs of products are at most 4 · 15 · 128.
                let pairs = _mm256_add_epi16(
                    _mm256_maddubs_epi16(low, _mm256_set1_epi32(as_number(*first))),
                    _mm256_maddubs_epi16(high, _mm256_set1_epi32(as_number(*second))),
                );
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn eight<const R: usize>(
        &self,
        block: usize,
        half: usize,
        plane: usize,
        sums: &mut [__m256i; R],
    ) {
        let (fours, stride) = (self.fours(block, plane), self.tile.rows);
        let sign = _mm256_set1_epi8(-128);
        // Sums of even and of odd pairs of inputs stand side by side.
        let mut pairs = [[_mm256_setzero_si256(); 2]; R];
        for (line, bytes) in self.half_lines(block, half).enumerate() {
            let w = _mm256_xor_si256(load(bytes), sign);
            let first = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(w));
            let second = _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(w));
            for (pairs, x) in pairs.iter_mut().zip(&fours[line * stride..][..R]) {
                let x = _mm256_cvtepi8_epi16(_mm_set1_epi32(as_number(*x)));
                pairs[0] = _mm256_add_epi32(pairs[0], _mm256_madd_epi16(first, x));
                pairs[1] = _mm256_add_epi32(pairs[1], _mm256_madd_epi16(second, x));
            }
        }
        for (sum, pairs) in sums.iter_mut().zip(pairs) {
            // The horizontal sums stand as outputs 0 1 4 5 2 3 6 7.
            let mixed = _mm256_hadd_epi32(pairs[0], pairs[1]);
            *sum = _mm256_add_epi32(*sum, _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed));
        }
    }
}

/// `c = fma(sum, scale · scales, c)`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_scaled(c: &mut [f32; LANES], sum: __m256i, scale: f32, scales: __m256) {
    // SAFETY: the array has eight elements.
    unsafe {
        let scale = _mm256_mul_ps(_mm256_set1_ps(scale), scales);
        let old = _mm256_loadu_ps(c.as_ptr());
        let new = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, old);
        _mm256_storeu_ps(c.as_mut_ptr(), new);
    }
}

/// Eight scales as f32.
#[inline]
#[target_feature(enable = "avx2")]
fn widened(format: ScaleFormat, scales: &[u16; LANES]) -> __m256 {
    // SAFETY: the array has eight elements.
    let words = unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(scales.as_ptr().cast())) };
    match format {
        ScaleFormat::Bf16 => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)),
        ScaleFormat::F16 => {
            let [bits, sign] =
                F16_BITS.map(|mask| _mm256_and_si256(words, _mm256_set1_epi32(mask)));
            let bits = _mm256_castsi256_ps(_mm256_slli_epi32::<13>(bits));
            let sign = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(sign));
            _mm256_or_ps(_mm256_mul_ps(bits, _mm256_set1_ps(F16_FACTOR)), sign)
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Four inputs as one number.
#[inline(always)]
fn as_number(four: [i8; 4]) -> i32 {
    i32::from_ne_bytes(four.map(|byte| byte as u8))
}
