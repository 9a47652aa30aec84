//! Four tokens' keys and values to bytes in the layout of the memory: what its `put_four` does, sixteen numbers of each at a time.

use super::super::{BLOCK, LINE, PANEL};
use crate::matmul_quantized::avx512vnni::quantize::{
    factors_and_scales, largest_magnitude, rounded, turned,
};
use std::arch::x86_64::*;

/// Where four tokens go: their places in the first line of keys, with all lines behind, and the first panel of values.
pub(in super::super) struct Places<'a> {
    pub keys: &'a mut [u8],
    /// Lines of a key.
    pub fours: usize,
    pub values: &'a mut [i8],
    /// Panels of a value.
    pub panels: usize,
}

/// Writes `tokens`, the first of which stands at a multiple of four; gives the scales of keys and of values.
///
/// # Safety
/// The processor has AVX-512F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(in super::super) unsafe fn put_four(
    places: Places,
    tokens: &[[&[f32]; 2]; 4],
    limit: f32,
) -> [[f32; 4]; 2] {
    let mut largest = [0.0; 16];
    for (at, [key, value]) in tokens.iter().enumerate() {
        largest[at] = largest_magnitude(key);
        largest[at + 4] = largest_magnitude(value);
    }
    let (factors, scales) = factors_and_scales(largest, limit);
    let sign = _mm_set1_epi8(-128);
    for four in (0..places.fours).step_by(4) {
        let mut whole = [_mm512_setzero_si512(); 4];
        for ((whole, [key, _]), factor) in whole.iter_mut().zip(tokens).zip(&factors) {
            *whole = rounded(key, four * 4, *factor);
        }
        let lines = places.keys[four * LINE..].chunks_mut(LINE);
        let lines = lines.take(places.fours - four).zip(turned(whole));
        for (place, line) in lines {
            // SAFETY: 16 bytes.
            unsafe {
                let place = place[..16].as_mut_ptr();
                _mm_storeu_si128(place.cast(), _mm_xor_si128(line, sign));
            }
        }
    }
    for panel in 0..places.panels {
        let mut bytes = [_mm_setzero_si128(); 4];
        for ((bytes, [_, value]), factor) in bytes.iter_mut().zip(tokens).zip(&factors[4..]) {
            *bytes = _mm512_cvtepi32_epi8(rounded(value, panel * PANEL, *factor));
        }
        let [a, b, c, d] = bytes;
        let (left, right) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
        let (left_high, right_high) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
        let quarters = [
            _mm_unpacklo_epi16(left, right),
            _mm_unpackhi_epi16(left, right),
            _mm_unpacklo_epi16(left_high, right_high),
            _mm_unpackhi_epi16(left_high, right_high),
        ];
        let line = &mut places.values[panel * (BLOCK / 4) * LINE..][..LINE];
        for (place, quarter) in line.chunks_exact_mut(16).zip(quarters) {
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(place.as_mut_ptr().cast(), quarter) };
        }
    }
    let [keys, values, ..] = *scales.as_chunks().0 else {
        unreachable!("sixteen scales");
    };
    [keys, values]
}
