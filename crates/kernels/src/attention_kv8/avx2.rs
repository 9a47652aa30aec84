//! Eight keys, or eight numbers of a value, in a register: `vpmaddwd` on bytes widened to 16 bits.
#![allow(unsafe_code)]

use super::{BLOCK, PANEL, Part, Scratch};
use std::arch::x86_64::*;

/// Keys or numbers in a register.
const LANES: usize = 8;
/// Registers of a panel.
const HALVES: usize = PANEL / LANES;
/// Rows at a time: their sums, two for each, leave registers for bytes and products.
const ROWS: usize = 4;

/// Exact sums of queries times the keys of a block.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn score(part: &Part, scratch: &mut Scratch) {
    let fours = part.memory.fours();
    let halves = part.memory.block_keys(part.block).as_chunks().0;
    for panel in 0..part.keys.div_ceil(PANEL) {
        let lines = &halves[panel * fours * HALVES..][..fours * HALVES];
        for half in 0..HALVES {
            for row in (0..part.rows).step_by(ROWS) {
                let mut sums = [_mm256_setzero_si256(); ROWS];
                for plane in 0..part.planes {
                    let x = Bytes {
                        fours: &scratch.queries[plane * fours * part.rows + row..],
                        four_stride: part.rows,
                        row_stride: 1,
                    };
                    let lines = &lines[half..];
                    let rows = part.rows - row;
                    dispatch::<true, u8>(rows, lines, fours, x, &mut sums);
                }
                for (scores, sum) in scratch.scores[row..part.rows].iter_mut().zip(sums) {
                    let place = &mut scores.as_chunks_mut().0[panel * HALVES + half];
                    store(place, sum);
                }
            }
        }
    }
}

/// Adds a block's weighted values to the results.
///
/// # Safety
/// As [`score`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn mix(part: &Part, scratch: &mut Scratch) {
    let halves = part.memory.block_values(part.block).as_chunks().0;
    let width = part.memory.panels() * PANEL;
    for panel in 0..part.memory.panels() {
        let lines = &halves[panel * (BLOCK / 4) * HALVES..][..BLOCK / 4 * HALVES];
        for half in 0..HALVES {
            for row in (0..part.rows).step_by(ROWS) {
                let mut sums = [_mm256_setzero_si256(); ROWS];
                for plane in 0..part.planes {
                    let weights = &scratch.weights[plane];
                    let x = Bytes {
                        fours: &weights.as_flattened().as_chunks().0[row * (BLOCK / 4)..],
                        four_stride: 1,
                        row_stride: BLOCK / 4,
                    };
                    let (lines, fours) = (&lines[half..], part.keys.div_ceil(4));
                    let rows = part.rows - row;
                    dispatch::<false, i8>(rows, lines, fours, x, &mut sums);
                }
                for (r, sum) in sums[..ROWS.min(part.rows - row)].iter().enumerate() {
                    let results = &mut scratch.results[(row + r) * width..][..width];
                    let place = &mut results.as_chunks_mut().0[panel * HALVES + half];
                    let progress = &scratch.progress;
                    add_scaled(
                        place,
                        *sum,
                        progress.fades[row + r],
                        progress.steps[row + r],
                    );
                }
            }
        }
    }
}

/// The other side of the products: four bytes for each row.
#[derive(Clone, Copy)]
struct Bytes<'a> {
    fours: &'a [[u8; 4]],
    four_stride: usize,
    row_stride: usize,
}

#[target_feature(enable = "avx2,fma")]
fn dispatch<const KEYS: bool, T>(
    rows: usize,
    halves: &[[T; 32]],
    fours: usize,
    x: Bytes,
    sums: &mut [__m256i; ROWS],
) {
    match rows {
        1 => add_products::<KEYS, 1, T>(halves, fours, x, sums),
        2 => add_products::<KEYS, 2, T>(halves, fours, x, sums),
        3 => add_products::<KEYS, 3, T>(halves, fours, x, sums),
        _ => add_products::<KEYS, ROWS, T>(halves, fours, x, sums),
    }
}

/// `sums = 256 · sums + products` of every second half line. Keys have an offset of 128 and signed partners, values the other way round.
#[target_feature(enable = "avx2,fma")]
fn add_products<const KEYS: bool, const R: usize, T>(
    halves: &[[T; 32]],
    fours: usize,
    x: Bytes,
    sums: &mut [__m256i; ROWS],
) {
    let offset = _mm256_set1_epi8(if KEYS { -128 } else { 0 });
    // Sums of even and of odd pairs of inputs stand side by side.
    let mut pairs = [[_mm256_setzero_si256(); 2]; R];
    for (four, half) in halves.iter().step_by(HALVES).take(fours).enumerate() {
        let w = _mm256_xor_si256(load(half), offset);
        let first = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(w));
        let second = _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(w));
        for (r, pairs) in pairs.iter_mut().enumerate() {
            let bytes = x.fours[four * x.four_stride + r * x.row_stride];
            let bytes = _mm_set1_epi32(i32::from_ne_bytes(bytes));
            let x = if KEYS {
                _mm256_cvtepi8_epi16(bytes)
            } else {
                _mm256_cvtepu8_epi16(bytes)
            };
            pairs[0] = _mm256_add_epi32(pairs[0], _mm256_madd_epi16(first, x));
            pairs[1] = _mm256_add_epi32(pairs[1], _mm256_madd_epi16(second, x));
        }
    }
    for (sum, pairs) in sums.iter_mut().zip(pairs) {
        // The horizontal sums stand as lanes 0 1 4 5 2 3 6 7.
        let mixed = _mm256_hadd_epi32(pairs[0], pairs[1]);
        let new = _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed);
        *sum = _mm256_add_epi32(_mm256_slli_epi32::<8>(*sum), new);
    }
}

/// `result = fma(sum, step, result · fade)`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_scaled(result: &mut [f32; LANES], sum: __m256i, fade: f32, step: f32) {
    // SAFETY: eight elements.
    unsafe {
        let old = _mm256_mul_ps(_mm256_loadu_ps(result.as_ptr()), _mm256_set1_ps(fade));
        let new = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(step), old);
        _mm256_storeu_ps(result.as_mut_ptr(), new);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load<T>(half: &[T; 32]) -> __m256i {
    const { assert!(size_of::<T>() == 1) }
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(place: &mut [i32; LANES], sum: __m256i) {
    // SAFETY: eight elements.
    unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), sum) }
}
