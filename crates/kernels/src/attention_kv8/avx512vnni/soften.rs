//! The weights of a block, 16 keys in a register: what [`super::super::soften`] does, number by number. That one, compiled for these
//! registers, falls apart into single numbers.

use super::super::soften::COEFFICIENTS;
use super::super::{PANEL, Part, Scratch, Visible, of_block};
use crate::isa::first_lanes;
use crate::matmul_quantized::quantizing::LEAST;
use crate::rows::{LANES, ROUND};
use std::arch::x86_64::*;
use std::ops::Range;

/// In three turns over the rows, so that one row's largest numbers are found while others are worked on.
///
/// # Safety
/// The processor has AVX-512F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(in super::super) unsafe fn soften(part: &Part, scratch: &mut Scratch, visible: &Visible) {
    let panels = part.keys.div_ceil(PANEL);
    let old = scratch.progress.tops;
    for (row, visible) in visible[..part.rows].iter().enumerate() {
        let visible = &of_block(visible, part.block);
        scratch.progress.tops[row] = if sees_all(visible, panels) {
            scale_scores::<true>(part, scratch, row, panels, visible)
        } else {
            scale_scores::<false>(part, scratch, row, panels, visible)
        };
    }
    let progress = &mut scratch.progress;
    let mut shifts = [0.0; LANES];
    // SAFETY: arrays of 16.
    unsafe {
        let tops = _mm512_loadu_ps(progress.tops.as_ptr());
        let factors = _mm512_loadu_ps(progress.factors.as_ptr());
        let rise = _mm512_sub_ps(_mm512_loadu_ps(old.as_ptr()), tops);
        let fades = powers_of_two(_mm512_mul_ps(rise, factors));
        _mm512_storeu_ps(progress.fades.as_mut_ptr(), fades);
        let shift = _mm512_mul_ps(tops, factors);
        _mm512_storeu_ps(shifts.as_mut_ptr(), negated(shift));
    }
    let (mut sums, mut largest) = ([0.0; LANES], [0.0; LANES]);
    for (row, visible) in visible[..part.rows].iter().enumerate() {
        let visible = &of_block(visible, part.block);
        (sums[row], largest[row]) = if sees_all(visible, panels) {
            weigh::<true>(part, scratch, (row, shifts[row]), panels, visible)
        } else {
            weigh::<false>(part, scratch, (row, shifts[row]), panels, visible)
        };
    }
    let progress = &mut scratch.progress;
    let mut factors = [0.0; LANES];
    // SAFETY: arrays of 16.
    unsafe {
        let fades = _mm512_loadu_ps(progress.fades.as_ptr());
        let old = _mm512_loadu_ps(progress.sums.as_ptr());
        let new = _mm512_fmadd_ps(old, fades, _mm512_loadu_ps(sums.as_ptr()));
        _mm512_storeu_ps(progress.sums.as_mut_ptr(), new);
        // As `factor_and_scale`.
        let largest = _mm512_loadu_ps(largest.as_ptr());
        let limit = _mm512_set1_ps(part.weight_limit());
        let tiny = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(largest, _mm512_set1_ps(LEAST));
        let infinity = _mm512_set1_ps(f32::INFINITY);
        let finite = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(largest, infinity);
        let factor = _mm512_maskz_div_ps(finite & !tiny, limit, largest);
        _mm512_storeu_ps(factors.as_mut_ptr(), factor);
        let step = _mm512_mask_div_ps(_mm512_set1_ps(f32::NAN), finite, largest, limit);
        let step = _mm512_maskz_mov_ps(!tiny, step);
        _mm512_storeu_ps(progress.steps.as_mut_ptr(), step);
    }
    for (row, factor) in factors[..part.rows].iter().enumerate() {
        round(part, scratch, row, panels, *factor);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn negated(x: __m512) -> __m512 {
    let sign = _mm512_set1_epi32(i32::MIN);
    _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), sign))
}

/// Whether all keys of so many panels are seen.
fn sees_all(visible: &Range<usize>, panels: usize) -> bool {
    visible.start == 0 && visible.end >= panels * PANEL
}

/// The lanes of a panel whose keys are seen.
#[inline(always)]
fn seen<const ALL: bool>(visible: &Range<usize>, panel: usize) -> __mmask16 {
    if ALL {
        !0
    } else {
        let before = |key: usize| first_lanes(key.saturating_sub(panel * PANEL));
        before(visible.end) & !before(visible.start)
    }
}

/// A row's exact sums to scores, in their place; the highest one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn scale_scores<const ALL: bool>(
    part: &Part,
    scratch: &mut Scratch,
    row: usize,
    panels: usize,
    visible: &Range<usize>,
) -> f32 {
    let [scales, _] = part.memory.block_scales(part.block);
    let (sums, _) = scratch.scores[row].as_chunks_mut::<PANEL>();
    let unseen = _mm512_set1_ps(f32::NEG_INFINITY);
    let mut lanes = _mm512_set1_ps(scratch.progress.tops[row]);
    let scales = scales.as_chunks::<PANEL>().0;
    for (panel, (sums, scales)) in sums[..panels].iter_mut().zip(scales).enumerate() {
        // SAFETY: 16 elements each.
        unsafe {
            let sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums.as_ptr().cast()));
            let scale = _mm512_loadu_ps(scales.as_ptr());
            let score = _mm512_mul_ps(sum, scale);
            let score = _mm512_mask_mov_ps(unseen, seen::<ALL>(visible, panel), score);
            lanes = _mm512_max_ps(score, lanes);
            _mm512_storeu_ps(sums.as_mut_ptr().cast(), score);
        }
    }
    highest(lanes)
}

/// A row's scores to weights times their values' scales, in their place; the weights' sum and the largest product.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn weigh<const ALL: bool>(
    part: &Part,
    scratch: &mut Scratch,
    (row, shift): (usize, f32),
    panels: usize,
    visible: &Range<usize>,
) -> (f32, f32) {
    let [_, scales] = part.memory.block_scales(part.block);
    let (scores, _) = scratch.scores[row].as_chunks_mut::<PANEL>();
    let factor = _mm512_set1_ps(scratch.progress.factors[row]);
    let shift = _mm512_set1_ps(shift);
    let mut lanes = _mm512_setzero_ps();
    let mut most = _mm512_setzero_si512();
    let scales = scales.as_chunks::<PANEL>().0;
    for (panel, (scores, scales)) in scores[..panels].iter_mut().zip(scales).enumerate() {
        let seen = seen::<ALL>(visible, panel);
        // SAFETY: 16 elements each.
        unsafe {
            let score = _mm512_loadu_ps(scores.as_ptr().cast());
            let weight = powers_of_two(_mm512_fmadd_ps(score, factor, shift));
            let weight = _mm512_maskz_mov_ps(seen, weight);
            lanes = _mm512_add_ps(lanes, weight);
            let scale = _mm512_loadu_ps(scales.as_ptr());
            let weight = _mm512_maskz_mul_ps(seen, weight, scale);
            // Not negative, or not a number and then above all.
            most = _mm512_max_epu32(most, _mm512_castps_si512(weight));
            _mm512_storeu_ps(scores.as_mut_ptr().cast(), weight);
        }
    }
    let largest = f32::from_bits(_mm512_reduce_max_epu32(most));
    (sum_of(lanes), largest)
}

/// A row's weights to bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn round(part: &Part, scratch: &mut Scratch, row: usize, panels: usize, factor: f32) {
    let (weights, _) = scratch.scores[row].as_chunks::<PANEL>();
    let [first, second] = &mut *scratch.weights;
    let first = first[row].as_chunks_mut::<PANEL>().0.iter_mut();
    let second = second[row].as_chunks_mut::<PANEL>().0.iter_mut();
    let (factor, round) = (_mm512_set1_ps(factor), _mm512_set1_ps(ROUND));
    for ((weight, first), second) in weights[..panels].iter().zip(first).zip(second) {
        // SAFETY: 16 elements each.
        unsafe {
            let weight = _mm512_loadu_ps(weight.as_ptr().cast());
            let whole = _mm512_add_ps(_mm512_mul_ps(weight, factor), round);
            let whole = _mm512_castps_si512(whole);
            let low = _mm512_cvtepi32_epi8(whole);
            if part.planes == 1 {
                _mm_storeu_si128(first.as_mut_ptr().cast(), low);
            } else {
                let high = _mm512_cvtepi32_epi8(_mm512_srli_epi32::<8>(whole));
                _mm_storeu_si128(first.as_mut_ptr().cast(), high);
                _mm_storeu_si128(second.as_mut_ptr().cast(), low);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn powers_of_two(x: __m512) -> __m512 {
    let round = _mm512_set1_ps(ROUND);
    let x = _mm512_max_ps(_mm512_set1_ps(-126.0), x);
    let shifted = _mm512_add_ps(x, round);
    let r = _mm512_sub_ps(x, _mm512_sub_ps(shifted, round));
    let [first, rest @ ..] = COEFFICIENTS;
    let mut p = _mm512_set1_ps(first);
    for c in rest {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    }
    let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent))
}

/// The highest lane as a tree of `other > this ? other : this`.
#[inline]
#[target_feature(enable = "avx512f")]
fn highest(lanes: __m512) -> f32 {
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes)));
    let lanes = _mm256_max_ps(upper, _mm512_castps512_ps256(lanes));
    let lanes = _mm_max_ps(
        _mm256_extractf128_ps::<1>(lanes),
        _mm256_castps256_ps128(lanes),
    );
    let lanes = _mm_max_ps(_mm_movehl_ps(lanes, lanes), lanes);
    _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(lanes), lanes))
}

/// The sum of lanes as a tree.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum_of(lanes: __m512) -> f32 {
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes)));
    let lanes = _mm256_add_ps(_mm512_castps512_ps256(lanes), upper);
    let lanes = _mm_add_ps(
        _mm256_castps256_ps128(lanes),
        _mm256_extractf128_ps::<1>(lanes),
    );
    let lanes = _mm_add_ps(lanes, _mm_movehl_ps(lanes, lanes));
    _mm_cvtss_f32(_mm_add_ss(lanes, _mm_movehdup_ps(lanes)))
}
