//! `vpdpbusd`: 16 keys, or 16 numbers of a value, in a register; rows of queries against some panels of them.
#![allow(unsafe_code)]

mod put;
mod soften;

use super::{BLOCK, LINE, PANEL, Part, Progress, ROWS, Scratch};
use crate::matmul_quantized::avx512vnni::quantize::quantize;
use crate::matmul_quantized::{BlockMut, Precision};
pub(super) use put::{Places, put_four};
pub(super) use soften::soften;
use std::arch::x86_64::*;

/// Panels at a time for many rows and for few.
const WIDE: [usize; 2] = [2, 4];

/// Calls a function with the number of rows, panels and planes as constants: with one plane up to 12 rows against up to two panels
/// or up to 6 against four, with two planes half of that.
macro_rules! with_constants {
    ($function:ident, $rows:expr, $panels:expr, $planes:expr, $arguments:tt) => {
        with_constants!(@all $function, ($rows, $panels, $planes), $arguments,
            [1 2 3 4 5 6 7 8 9 10 11 12] [1 2 3 4 5 6] [1 2 3])
    };
    (@all $function:ident, $key:expr, $arguments:tt, [$($r:literal)*] [$($few:literal)*] [$($fewest:literal)*]) => {
        match $key {
            $(($r, 1, 1) => with_constants!(@call $function, $r, 1, 1, $arguments),
            ($r, 2, 1) => with_constants!(@call $function, $r, 2, 1, $arguments),)*
            $(($few, 4, 1) => with_constants!(@call $function, $few, 4, 1, $arguments),
            ($few, 1, 2) => with_constants!(@call $function, $few, 1, 2, $arguments),
            ($few, 2, 2) => with_constants!(@call $function, $few, 2, 2, $arguments),)*
            $(($fewest, 4, 2) => with_constants!(@call $function, $fewest, 4, 2, $arguments),)*
            key => unreachable!("no function for rows, panels and planes {key:?}"),
        }
    };
    (@call $function:ident, $r:literal, $p:literal, $a:literal, ($($argument:expr),*)) => {
        $function::<$r, $p, $a>($($argument),*)
    };
}

/// How many panels of `left` come next.
fn width_of(part: &Part, left: usize) -> usize {
    let most = WIDE[usize::from(part.rows * part.planes <= 6)];
    match left {
        left if left >= most => most,
        2.. => 2,
        _ => 1,
    }
}

/// Asks for rows that lie too far apart to be guessed.
pub(super) fn fetch<'a>(rows: impl Iterator<Item = &'a [f32]>) {
    for row in rows {
        for line in row.chunks(PANEL) {
            // SAFETY: asking for memory changes nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
}

/// Rounds a full tile of rows, which are INT8: others have fewer.
///
/// # Safety
/// The processor has AVX-512F, BW, VL and VNNI; scratch has room for so many rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn take_queries(rows: &[&[f32]; ROWS], factor: f32, scratch: &mut Scratch) {
    let bytes = scratch.queries.as_flattened_mut();
    let into = BlockMut {
        precision: Precision::Int8,
        rows: ROWS,
        high: &mut [],
        // SAFETY: the same bytes with signs.
        low: unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) },
        scales: &mut scratch.progress.factors[..ROWS],
        high_sums: &mut [],
        low_sums: &mut scratch.extras,
    };
    // SAFETY: passed on.
    unsafe { quantize(into, rows) };
    for extra in &mut scratch.extras {
        *extra *= 128;
    }
    for scale in &mut scratch.progress.factors[..ROWS] {
        *scale *= factor;
    }
}

/// Exact sums of queries times the keys of a block.
///
/// # Safety
/// The processor has AVX-512F, BW and VNNI; scratch holds the rows of `part`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn score(part: &Part, scratch: &mut Scratch) {
    let fours = part.memory.fours();
    let keys = part.memory.block_keys(part.block);
    let values = part.memory.block_values(part.block);
    let panels = part.keys.div_ceil(PANEL);
    assert!(scratch.queries.len() == part.planes * fours * part.rows && part.rows <= ROWS);
    let mut panel = 0;
    while panel < panels {
        let wide = width_of(part, panels - panel);
        let block = ScoreBlock {
            queries: scratch.queries.as_ptr().cast(),
            extras: scratch.extras.as_ptr(),
            keys: keys[panel * fours * LINE..].as_ptr(),
            fours,
            ahead: values.as_ptr().wrapping_add(panel * fours * LINE).cast(),
            sums: scratch
                .scores
                .as_mut_ptr()
                .cast::<i32>()
                .wrapping_add(panel * PANEL),
        };
        // SAFETY: the block has so many panels, scratch so many rows.
        unsafe { with_constants!(score_block, part.rows, wide, part.planes, (block)) }
        panel += wide;
    }
}

struct ScoreBlock {
    /// `[planes, fours, rows, 4]`
    queries: *const i8,
    extras: *const i32,
    /// `[panels, fours, 16, 4]`
    keys: *const u8,
    fours: usize,
    /// Asked for meanwhile: what comes next.
    ahead: *const u8,
    /// `[rows, BLOCK]`
    sums: *mut i32,
}

/// # Safety
/// As [`score`]; the pointers reach over `R` rows, `A` planes and `P` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn score_block<const R: usize, const P: usize, const A: usize>(block: ScoreBlock) {
    let mut sums = [[[_mm512_setzero_si512(); P]; A]; R];
    // SAFETY: the caller's.
    unsafe {
        let (mut q, mut keys, mut ahead) = (block.queries, block.keys, block.ahead);
        for _ in 0..block.fours {
            let mut bytes = [_mm512_setzero_si512(); P];
            for (p, bytes) in bytes.iter_mut().enumerate() {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(p * block.fours * LINE).cast());
                *bytes = _mm512_loadu_si512(keys.add(p * block.fours * LINE).cast());
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                for (plane, sums) in sums.iter_mut().enumerate() {
                    let x = q.add((plane * block.fours * R + r) * 4);
                    let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
                    for (sum, bytes) in sums.iter_mut().zip(bytes) {
                        *sum = _mm512_dpbusd_epi32(*sum, bytes, x);
                    }
                }
            }
            q = q.add(R * 4);
            keys = keys.add(LINE);
            ahead = ahead.wrapping_add(LINE);
        }
        for (r, sums) in sums.iter().enumerate() {
            let extra = _mm512_set1_epi32(*block.extras.add(r));
            for (p, (sum, low)) in sums[0].iter().zip(sums[A - 1]).enumerate() {
                let mut sum = *sum;
                if A == 2 {
                    sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(sum), low);
                }
                let place = block.sums.add(r * BLOCK + p * PANEL);
                _mm512_storeu_si512(place.cast(), _mm512_sub_epi32(sum, extra));
            }
        }
    }
}

/// Adds a block's weighted values to the results.
///
/// # Safety
/// As [`score`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn mix(part: &Part, scratch: &mut Scratch) {
    let values = part.memory.block_values(part.block);
    let next = part.memory.block_keys(part.next);
    let panels = part.memory.panels();
    let width = panels * PANEL;
    assert!(scratch.results.len() == part.rows * width && part.rows <= ROWS);
    let mut panel = 0;
    while panel < panels {
        let wide = width_of(part, panels - panel);
        let block = MixBlock {
            weights: scratch.weights.as_ptr().cast(),
            values: values[panel * (BLOCK / 4) * LINE..].as_ptr(),
            fours: part.keys.div_ceil(4),
            ahead: next.as_ptr().wrapping_add(panel * (BLOCK / 4) * LINE),
            progress: &scratch.progress,
            results: scratch.results.as_mut_ptr().wrapping_add(panel * PANEL),
            width,
        };
        // SAFETY: the block has so many panels, scratch so many rows.
        unsafe { with_constants!(mix_block, part.rows, wide, part.planes, (block)) }
        panel += wide;
    }
}

struct MixBlock<'a> {
    /// `[planes, ROWS, BLOCK]`
    weights: *const u8,
    /// `[panels, BLOCK / 4, 16, 4]`
    values: *const i8,
    fours: usize,
    /// Asked for meanwhile: what comes next.
    ahead: *const u8,
    progress: &'a Progress,
    /// `[rows, width]`
    results: *mut f32,
    width: usize,
}

/// # Safety
/// As [`mix`]; the pointers reach over `R` rows, `A` planes and `P` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn mix_block<const R: usize, const P: usize, const A: usize>(block: MixBlock) {
    let mut sums = [[[_mm512_setzero_si512(); P]; A]; R];
    // SAFETY: the caller's.
    unsafe {
        let (mut weights, mut values, mut ahead) = (block.weights, block.values, block.ahead);
        for _ in 0..block.fours {
            let mut bytes = [_mm512_setzero_si512(); P];
            for (p, bytes) in bytes.iter_mut().enumerate() {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(p * (BLOCK / 4) * LINE).cast());
                *bytes = _mm512_loadu_si512(values.add(p * (BLOCK / 4) * LINE).cast());
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                for (plane, sums) in sums.iter_mut().enumerate() {
                    let x = weights.add((plane * ROWS + r) * BLOCK);
                    let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
                    for (sum, bytes) in sums.iter_mut().zip(bytes) {
                        *sum = _mm512_dpbusd_epi32(*sum, x, bytes);
                    }
                }
            }
            weights = weights.add(4);
            values = values.add(LINE);
            ahead = ahead.wrapping_add(LINE);
        }
        for (r, sums) in sums.iter().enumerate() {
            let (fade, step) = (
                _mm512_set1_ps(block.progress.fades[r]),
                _mm512_set1_ps(block.progress.steps[r]),
            );
            for (p, (sum, low)) in sums[0].iter().zip(sums[A - 1]).enumerate() {
                let mut sum = *sum;
                if A == 2 {
                    sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(sum), low);
                }
                let place = block.results.add(r * block.width + p * PANEL);
                let old = _mm512_mul_ps(_mm512_loadu_ps(place), fade);
                let new = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), step, old);
                _mm512_storeu_ps(place, new);
            }
        }
    }
}
