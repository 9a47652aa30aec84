//! `sdot`: 16 keys, or 16 numbers of a value, in four registers, four rows of queries at a time.
#![allow(unsafe_code)]

use super::{BLOCK, LINE, PANEL, Part, Scratch};
use crate::sdot::{Lanes, add_products, load_fours, load_line};
use std::arch::aarch64::*;

/// Rows at a time.
const ROWS: usize = 4;

/// Exact sums of queries times the keys of a block.
///
/// # Safety
/// The processor has the dot product.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn score(part: &Part, scratch: &mut Scratch) {
    let fours = part.memory.fours();
    let lines = part.memory.block_keys(part.block).as_chunks::<LINE>().0;
    for panel in 0..part.keys.div_ceil(PANEL) {
        let lines = &lines[panel * fours..][..fours];
        for row in (0..part.rows).step_by(ROWS) {
            let rows = ROWS.min(part.rows - row);
            let mut sums = [[vdupq_n_s32(0); 4]; ROWS];
            for plane in 0..part.planes {
                for sum in sums.as_flattened_mut() {
                    *sum = vshlq_n_s32::<8>(*sum);
                }
                for (four, line) in lines.iter().enumerate() {
                    let at = (plane * fours + four) * part.rows + row;
                    let mut queries = [[0; 4]; ROWS];
                    queries[..rows].copy_from_slice(&scratch.queries[at..][..rows]);
                    let (line, queries) = (load_line(line, 128), load_fours(&queries, 0));
                    let [first, second, third, fourth] = &mut sums;
                    add_products::<0>(first, line, queries);
                    add_products::<1>(second, line, queries);
                    add_products::<2>(third, line, queries);
                    add_products::<3>(fourth, line, queries);
                }
            }
            for (scores, sums) in scratch.scores[row..part.rows].iter_mut().zip(sums) {
                let places = scores[panel * PANEL..].as_chunks_mut::<4>().0;
                for (place, sum) in places.iter_mut().zip(sums) {
                    // SAFETY: four elements.
                    unsafe { vst1q_s32(place.as_mut_ptr(), sum) }
                }
            }
        }
    }
}

/// Adds a block's weighted values to the results. Weights have no sign: 128 less of each is multiplied, and 128 times the values' sum
/// is added.
///
/// # Safety
/// As [`score`].
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn mix(part: &Part, scratch: &mut Scratch) {
    let lines = part.memory.block_values(part.block).as_chunks::<LINE>().0;
    let width = part.memory.panels() * PANEL;
    // Fours of keys in whole registers; the weights behind the last key are zeros.
    let groups = part.keys.div_ceil(PANEL);
    for panel in 0..part.memory.panels() {
        let lines = lines[panel * (BLOCK / 4)..].as_chunks::<4>().0;
        let mut all = [vdupq_n_s32(0); 4];
        for line in lines[..groups].as_flattened() {
            add_products::<0>(&mut all, load_line(line, 0), vdupq_n_s8(1));
        }
        for row in 0..part.rows {
            let mut sums = [vdupq_n_s32(0); 4];
            for plane in 0..part.planes {
                for (sum, all) in sums.iter_mut().zip(all) {
                    *sum = vaddq_s32(vshlq_n_s32::<8>(*sum), vshlq_n_s32::<7>(all));
                }
                let weights = scratch.weights[plane][row].as_chunks().0.as_chunks().0;
                for (lines, weights) in lines[..groups].iter().zip(weights) {
                    add_four_lines(&mut sums, lines, load_fours(weights, 128));
                }
            }
            let results = &mut scratch.results[row * width + panel * PANEL..][..PANEL];
            let fade = vdupq_n_f32(scratch.progress.fades[row]);
            let step = vdupq_n_f32(scratch.progress.steps[row]);
            for (place, sum) in results.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
                // SAFETY: four elements.
                unsafe {
                    let old = vmulq_f32(vld1q_f32(place.as_ptr()), fade);
                    let new = vfmaq_f32(old, vcvtq_f32_s32(sum), step);
                    vst1q_f32(place.as_mut_ptr(), new);
                }
            }
        }
    }
}

/// Sixteen keys' values times a row's weights.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_four_lines(sums: &mut Lanes<int32x4_t>, lines: &[[i8; LINE]; 4], weights: int8x16_t) {
    add_products::<0>(sums, load_line(&lines[0], 0), weights);
    add_products::<1>(sums, load_line(&lines[1], 0), weights);
    add_products::<2>(sums, load_line(&lines[2], 0), weights);
    add_products::<3>(sums, load_line(&lines[3], 0), weights);
}
