//! One row: weights pass once, as fast as memory gives them.

use super::super::{Bits, Columns, PANEL, Precision, Work};
use super::{begin, widened};
use crate::isa::first_lanes;
use std::arch::x86_64::*;

/// Bytes ahead of the sum that weights are asked for.
const AHEAD: usize = 4096;

/// # Safety
/// As [`super::matmul`], and A has one row.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn matmul(work: &Work, c: &mut Columns) {
    for panel in work.panels.clone() {
        // SAFETY: passed on.
        unsafe {
            match (work.rows.precision(), work.weights.bits) {
                (Precision::Int8, Bits::Four) => multiply::<1, true>(work, panel, c),
                (Precision::Int8, Bits::Eight) => multiply::<1, false>(work, panel, c),
                (Precision::Int16, Bits::Four) => multiply::<2, true>(work, panel, c),
                (Precision::Int16, Bits::Eight) => multiply::<2, false>(work, panel, c),
            }
        }
    }
}

/// One panel with `A` planes of activations. Each has two sums, of lower and upper halves or of even and odd lines, because one
/// alone would wait for itself.
///
/// # Safety
/// As [`matmul`]; the panel exists.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply<const A: usize, const FOUR: bool>(work: &Work, panel: usize, c: &mut Columns) {
    let (weights, rows) = (&work.weights, work.rows);
    let blocks = rows.blocks();
    let tile = rows.tile(0);
    let mask = first_lanes(weights.n - panel * PANEL);
    let column = (panel - work.panels.start) * PANEL;
    let place = c.as_mut_ptr().wrapping_add(column);
    // SAFETY: the sizes of A, W and C were checked; the mask leaves out columns past the last.
    unsafe {
        let mut c = begin(&work.start, column, mask, place);
        let mut w = weights.values.as_ptr().add(panel * weights.panel_bytes());
        let scales = weights.scales.as_ptr().add(panel * weights.panel_scales());
        let half = _mm512_set1_epi8(15);
        for block in 0..blocks.len() {
            let inputs = blocks.inputs_of(block);
            let mut sums = [[_mm512_setzero_si512(); 2]; A];
            let mut a = [
                tile.values(0).as_ptr().add(inputs.start),
                tile.values(A - 1).as_ptr().add(inputs.start),
            ];
            for _ in 0..inputs.len() / 8 {
                let (even, odd);
                _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(AHEAD).cast());
                let line = _mm512_loadu_si512(w.cast());
                if FOUR {
                    even = _mm512_and_si512(line, half);
                    odd = _mm512_and_si512(_mm512_srli_epi16::<4>(line), half);
                    w = w.add(64);
                } else {
                    _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(AHEAD + 64).cast());
                    even = line;
                    odd = _mm512_loadu_si512(w.add(64).cast());
                    w = w.add(128);
                }
                for (sums, a) in sums.iter_mut().zip(&mut a) {
                    let x = a.cast::<[i32; 2]>().read_unaligned();
                    sums[0] = _mm512_dpbusd_epi32(sums[0], even, _mm512_set1_epi32(x[0]));
                    sums[1] = _mm512_dpbusd_epi32(sums[1], odd, _mm512_set1_epi32(x[1]));
                    *a = a.add(8);
                }
            }
            let mut sum = _mm512_setzero_si512();
            for (plane, sums) in sums.iter().enumerate() {
                // The offset of the stored weights added too much.
                let extra = tile.sums(plane)[block] * if FOUR { 8 } else { 128 };
                let plane = _mm512_add_epi32(sums[0], sums[1]);
                let plane = _mm512_sub_epi32(plane, _mm512_set1_epi32(extra));
                sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(sum), plane);
            }
            let at = inputs.start / weights.group * PANEL;
            let own = widened(weights.scale_format, scales.add(at));
            let factor = _mm512_mul_ps(_mm512_set1_ps(tile.scales[block]), own);
            c = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), factor, c);
        }
        _mm512_mask_storeu_ps(place, mask, c);
    }
}
