//! `sdot`: 16 outputs in four registers, four rows at a time, whose fours of inputs lie side by side. With `smmla`, which has
//! twice the products in an instruction, two fours of each output and of each row are brought together first.
#![allow(unsafe_code)]

use super::rows::{TILE, Tile};
use super::scales::{F16_BITS, F16_FACTOR};
use super::{Bits, Columns, PANEL, ScaleFormat, Work};
use crate::sdot::{Lanes, add_pairs, add_products, in_turn, load_fours, load_line};
use std::arch::aarch64::*;

/// Rows at a time: the fours of a register.
const ROWS: usize = 4;

/// # Safety
/// The processor has the dot product; `work` was checked against the sizes of A, W and C.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn matmul(work: &Work, c: &mut Columns) {
    let by_pairs = std::arch::is_aarch64_feature_detected!("i8mm");
    for panel in work.panels.clone() {
        for index in 0..work.rows.len().div_ceil(TILE) {
            let tile = work.rows.tile(index);
            for row in (0..tile.rows).step_by(ROWS) {
                let part = Part {
                    work,
                    tile,
                    first: index * TILE,
                    row,
                    rows: ROWS.min(tile.rows - row),
                    panel,
                    // A row alone would be one of two, and no faster.
                    by_pairs: by_pairs && tile.rows > 1,
                };
                part.multiply(c);
            }
        }
    }
}

/// Up to four rows of a tile against a panel.
struct Part<'a> {
    work: &'a Work<'a>,
    tile: Tile<'a>,
    /// The tile's first row.
    first: usize,
    row: usize,
    rows: usize,
    panel: usize,
    /// Whether by `smmla`, which the processor then has.
    by_pairs: bool,
}

impl Part<'_> {
    #[target_feature(enable = "neon,dotprod")]
    fn multiply(&self, c: &mut Columns) {
        let (weights, rows) = (&self.work.weights, self.work.rows);
        let first = (self.panel - self.work.panels.start) * PANEL;
        let columns = (weights.n - self.panel * PANEL).min(PANEL);
        let mut results = [[0.0; PANEL]; ROWS];
        for (r, result) in results[..self.rows].iter_mut().enumerate() {
            let old = &c.row_mut(self.first + self.row + r)[first..][..columns];
            self.work.start.fill(first, old, &mut result[..columns]);
        }
        for block in 0..rows.blocks().len() {
            let mut sums = [[vdupq_n_s32(0); 4]; ROWS];
            for plane in 0..rows.precision().planes() {
                for sum in sums.as_flattened_mut() {
                    *sum = vshlq_n_s32::<8>(*sum);
                }
                if self.by_pairs {
                    // SAFETY: detection found the instruction.
                    unsafe { self.add_block_by_pairs(block, plane, &mut sums) };
                } else {
                    self.add_block(block, plane, &mut sums);
                }
            }
            let group = rows.blocks().inputs_of(block).start / weights.group;
            let at = self.panel * weights.panel_scales() + group * PANEL;
            let scales = weights.scales[at..][..PANEL].as_chunks::<4>().0;
            for (r, (sums, result)) in sums.iter().zip(&mut results[..self.rows]).enumerate() {
                let scale = self.tile.scales[block * self.tile.rows + self.row + r];
                let quarters = result.as_chunks_mut::<4>().0.iter_mut();
                for ((place, sum), words) in quarters.zip(sums).zip(scales) {
                    // SAFETY: four elements each.
                    unsafe {
                        let own = widened(weights.scale_format, vld1_u16(words.as_ptr()));
                        let factor = vmulq_n_f32(own, scale);
                        let old = vld1q_f32(place.as_ptr());
                        let new = vfmaq_f32(old, vcvtq_f32_s32(*sum), factor);
                        vst1q_f32(place.as_mut_ptr(), new);
                    }
                }
            }
        }
        for (r, result) in results[..self.rows].iter().enumerate() {
            let place = &mut c.row_mut(self.first + self.row + r)[first..][..columns];
            place.copy_from_slice(&result[..columns]);
        }
    }

    /// Adds the products of a block of one plane.
    #[target_feature(enable = "neon,dotprod")]
    fn add_block(&self, block: usize, plane: usize, sums: &mut [Lanes<int32x4_t>; ROWS]) {
        let weights = &self.work.weights;
        let inputs = self.work.rows.blocks().inputs_of(block);
        let panel = &weights.values[self.panel * weights.panel_bytes()..][..weights.panel_bytes()];
        let lines = panel.as_chunks().0;
        for four in inputs.start / 4..inputs.end / 4 {
            let line = match weights.bits {
                Bits::Eight => load_line(&lines[four], 128),
                Bits::Four => self.halves(&lines[four / 2], four % 2),
            };
            let fours = self.fours(four, plane);
            let [first, second, third, fourth] = sums;
            add_products::<0>(first, line, fours);
            add_products::<1>(second, line, fours);
            add_products::<2>(third, line, fours);
            add_products::<3>(fourth, line, fours);
        }
    }

    /// The same by pairs of rows and outputs.
    #[target_feature(enable = "neon,dotprod,i8mm")]
    fn add_block_by_pairs(&self, block: usize, plane: usize, sums: &mut [Lanes<int32x4_t>; ROWS]) {
        let weights = &self.work.weights;
        let inputs = self.work.rows.blocks().inputs_of(block);
        let panel = &weights.values[self.panel * weights.panel_bytes()..][..weights.panel_bytes()];
        let lines = panel.as_chunks().0;
        let mut pairs = [[[vdupq_n_s32(0); 2]; 4]; 2];
        for eight in inputs.start / 8..inputs.end / 8 {
            let (first, second) = match weights.bits {
                Bits::Eight => (
                    load_line(&lines[eight * 2], 128),
                    load_line(&lines[eight * 2 + 1], 128),
                ),
                Bits::Four => (self.halves(&lines[eight], 0), self.halves(&lines[eight], 1)),
            };
            let fours = [eight * 2, eight * 2 + 1];
            let rows = in_turn(self.fours(fours[0], plane), self.fours(fours[1], plane));
            for (quarter, (first, second)) in first.iter().zip(second).enumerate() {
                let outputs = in_turn(*first, second);
                for (pairs, rows) in pairs.iter_mut().zip(rows) {
                    for (sum, outputs) in pairs[quarter].iter_mut().zip(outputs) {
                        add_pairs(sum, rows, outputs);
                    }
                }
            }
        }
        for (two, pairs) in pairs.iter().enumerate() {
            for (quarter, [left, right]) in pairs.iter().enumerate() {
                let even = vcombine_s32(vget_low_s32(*left), vget_low_s32(*right));
                let odd = vcombine_s32(vget_high_s32(*left), vget_high_s32(*right));
                let (first, second) = (two * 2, two * 2 + 1);
                sums[first][quarter] = vaddq_s32(sums[first][quarter], even);
                sums[second][quarter] = vaddq_s32(sums[second][quarter], odd);
            }
        }
    }

    /// The lower or the upper halves of a line of INT4, without their offset.
    #[target_feature(enable = "neon,dotprod")]
    fn halves(&self, line: &[u8; 64], upper: usize) -> Lanes<int8x16_t> {
        let mut line = load_line(line, 0);
        for bytes in &mut line {
            let unsigned = vreinterpretq_u8_s8(*bytes);
            let half = match upper {
                0 => vandq_u8(unsigned, vdupq_n_u8(15)),
                _ => vshrq_n_u8::<4>(unsigned),
            };
            *bytes = vsubq_s8(vreinterpretq_s8_u8(half), vdupq_n_s8(8));
        }
        line
    }

    /// The rows' four inputs; zeros for rows that are not there.
    #[target_feature(enable = "neon,dotprod")]
    fn fours(&self, four: usize, plane: usize) -> int8x16_t {
        let at = four * self.tile.rows + self.row;
        let held = &self.tile.values(plane).as_chunks::<4>().0[at..][..self.rows];
        match held.first_chunk() {
            Some(fours) => load_fours(fours, 0),
            None => {
                let mut fours = [[0; 4]; ROWS];
                fours[..self.rows].copy_from_slice(held);
                load_fours(&fours, 0)
            }
        }
    }
}

/// Four scales as f32.
#[inline]
#[target_feature(enable = "neon")]
fn widened(format: ScaleFormat, scales: uint16x4_t) -> float32x4_t {
    match format {
        ScaleFormat::Bf16 => vreinterpretq_f32_u32(vshll_n_u16::<16>(scales)),
        ScaleFormat::F16 => {
            let words = vmovl_u16(scales);
            let [bits, sign] = F16_BITS.map(|mask| vandq_u32(words, vdupq_n_u32(mask as u32)));
            let number = vmulq_n_f32(vreinterpretq_f32_u32(vshlq_n_u32::<13>(bits)), F16_FACTOR);
            let signed = vorrq_u32(vreinterpretq_u32_f32(number), vshlq_n_u32::<16>(sign));
            vreinterpretq_f32_u32(signed)
        }
    }
}
