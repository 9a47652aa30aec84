//! Twelve rows to bytes, sixteen numbers of each at a time, and fours of four rows turned so that they lie side by side.

use super::super::quantizing::LEAST;
use super::super::rows::{BlockMut, Precision, TILE};
use crate::isa::first_lanes;
use crate::rows::ROUND;
use std::arch::x86_64::*;

/// Rows that are turned together.
const FOUR: usize = 4;

/// Numbers of a row that are turned at a time.
const WIDE: usize = 16;

/// Rounds twelve rows of at most as many numbers as the block has inputs.
///
/// # Safety
/// The processor has AVX-512F, BW, VL and VNNI; the block is one of twelve rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(crate) unsafe fn quantize(into: BlockMut, rows: &[&[f32]; TILE]) {
    let mut largest = [0.0; 16];
    for (largest, row) in largest.iter_mut().zip(rows) {
        *largest = largest_magnitude(row);
    }
    let (factors, scales) = factors_and_scales(largest, into.precision.limit());
    into.scales.copy_from_slice(&scales[..TILE]);
    let wide = into.precision == Precision::Int16;
    let fours = into.low.len() / TILE / 4;
    for first in (0..TILE).step_by(FOUR) {
        let mut sums = [_mm_setzero_si128(); 2];
        for at in (0..fours * 4).step_by(WIDE) {
            let mut whole = [_mm512_setzero_si512(); FOUR];
            for ((whole, row), factor) in
                whole.iter_mut().zip(&rows[first..]).zip(&factors[first..])
            {
                *whole = rounded(row, at, *factor);
            }
            let place = at * TILE + first * 4;
            let lines = (fours - at / 4).min(WIDE / 4);
            // SAFETY: the block has so many lines from here on.
            unsafe {
                sums[1] = turn(whole, into.low.as_mut_ptr().add(place), lines, sums[1]);
                if wide {
                    for whole in &mut whole {
                        let more = _mm512_add_epi32(*whole, _mm512_set1_epi32(128));
                        *whole = _mm512_srli_epi32::<8>(more);
                    }
                    sums[0] = turn(whole, into.high.as_mut_ptr().add(place), lines, sums[0]);
                }
            }
        }
        // SAFETY: the rows' four sums.
        unsafe {
            _mm_storeu_si128(into.low_sums[first..][..FOUR].as_mut_ptr().cast(), sums[1]);
            if wide {
                _mm_storeu_si128(into.high_sums[first..][..FOUR].as_mut_ptr().cast(), sums[0]);
            }
        }
    }
}

/// As `factor_and_scale` of [`super::super::quantizing`], for 16 rows.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn factors_and_scales(largest: [f32; 16], limit: f32) -> ([f32; 16], [f32; 16]) {
    let (mut factors, mut scales) = ([0.0; 16], [0.0; 16]);
    // SAFETY: arrays of 16.
    unsafe {
        let limit = _mm512_set1_ps(limit);
        let largest = _mm512_loadu_ps(largest.as_ptr());
        let tiny = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(largest, _mm512_set1_ps(LEAST));
        let infinity = _mm512_set1_ps(f32::INFINITY);
        let finite = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(largest, infinity);
        let factor = _mm512_maskz_div_ps(finite & !tiny, limit, largest);
        _mm512_storeu_ps(factors.as_mut_ptr(), factor);
        let scale = _mm512_mask_div_ps(_mm512_set1_ps(f32::NAN), finite, largest, limit);
        _mm512_storeu_ps(scales.as_mut_ptr(), _mm512_maskz_mov_ps(!tiny, scale));
    }
    (factors, scales)
}

/// Sixteen numbers of a row from `at` on, those behind its end being zeros, times a factor: rounded, in the low bits of a sum as
/// in `rounded` of [`super::super::quantizing`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn rounded(row: &[f32], at: usize, factor: f32) -> __m512i {
    let x = load(row, at);
    let product = _mm512_mul_ps(x, _mm512_set1_ps(factor));
    _mm512_castps_si512(_mm512_add_ps(product, _mm512_set1_ps(ROUND)))
}

/// The first lines of four rows' sixteen numbers, low bytes only, twelve fours apart; what they add to the rows' sums.
///
/// # Safety
/// `place` reaches over so many lines of twelve fours, but for those before the first.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512vnni")]
unsafe fn turn(whole: [__m512i; FOUR], place: *mut i8, count: usize, mut sums: __m128i) -> __m128i {
    let ones = _mm_set1_epi8(1);
    for (at, line) in turned(whole).into_iter().enumerate() {
        // Behind the last line there are zeros only.
        sums = _mm_dpbusd_epi32(sums, ones, line);
        if at < count {
            // SAFETY: the caller's.
            unsafe { _mm_storeu_si128(place.add(at * TILE * 4).cast(), line) };
        }
    }
    sums
}

/// The low bytes of four rows' sixteen numbers: four lines, in each a four of each row.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn turned([a, b, c, d]: [__m512i; FOUR]) -> [__m128i; FOUR] {
    let (a, b) = (_mm512_cvtepi32_epi8(a), _mm512_cvtepi32_epi8(b));
    let (c, d) = (_mm512_cvtepi32_epi8(c), _mm512_cvtepi32_epi8(d));
    let (left, right) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
    let (left_high, right_high) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
    [
        _mm_unpacklo_epi64(left, right),
        _mm_unpackhi_epi64(left, right),
        _mm_unpacklo_epi64(left_high, right_high),
        _mm_unpackhi_epi64(left_high, right_high),
    ]
}

/// As that of [`super::super::quantizing`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn largest_magnitude(x: &[f32]) -> f32 {
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let mut most = [_mm512_setzero_si512(); 2];
    for at in (0..x.len()).step_by(32) {
        for (half, most) in most.iter_mut().enumerate() {
            let x = _mm512_castps_si512(load(x, at + half * 16));
            *most = _mm512_max_epu32(*most, _mm512_and_si512(x, magnitude));
        }
    }
    let [even, odd] = most;
    f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(even, odd)))
}

/// Sixteen numbers from `at` on, those behind the end being zeros.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[f32], at: usize) -> __m512 {
    if let Some(numbers) = x.get(at..at + 16) {
        // SAFETY: 16 numbers. Most loads need no mask, which takes longer to make than the load.
        return unsafe { _mm512_loadu_ps(numbers.as_ptr()) };
    }
    let mask = first_lanes(x.len().saturating_sub(at));
    // SAFETY: the row has the numbers under the mask.
    unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr().wrapping_add(at)) }
}
