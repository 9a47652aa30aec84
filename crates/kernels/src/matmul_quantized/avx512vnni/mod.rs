//! `vpdpbusd`: four products per lane and instruction, 16 outputs in a register.
//!
//! A chunk of rows meets two panels at a time, one block of inputs after the other. A block of both panels is unpacked to bytes
//! once (INT4) and stays in the first-level cache while all tiles of the chunk pass it; so do the chunk's sums, which would lie
//! too far apart in C: the last block's go there.
#![allow(unsafe_code)]

pub(crate) mod quantize;
mod vector;

use super::rows::TILE;
use super::scales::{F16_BITS, F16_FACTOR};
use super::{Bits, Columns, LONGEST_BLOCK, PANEL, ScaleFormat, Start, Work};
use crate::isa::first_lanes;
use crate::matmul::Write;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Panels that a tile meets at a time.
const WIDE: usize = 2;
/// Tiles of a chunk at most: 144 rows by 32 outputs are 18 KB.
const CHUNK_TILES: usize = 12;
/// Bytes of a chunk's activations, so that they stay in the second-level cache while all panels pass.
const CHUNK_BYTES: usize = 512 * 1024;

/// # Safety
/// The processor has AVX-512F, BW and VNNI; `work` was checked against the sizes of A, W and C.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn matmul(work: &Work, c: &mut Columns) {
    if work.rows.len() == 1 {
        // SAFETY: passed on.
        return unsafe { vector::matmul(work, c) };
    }
    let mut room = MaybeUninit::uninit();
    let tiles = work.rows.len().div_ceil(TILE);
    let tile_bytes = TILE * work.rows.inputs() * work.rows.precision().planes();
    let most = (CHUNK_BYTES / tile_bytes).clamp(1, CHUNK_TILES);
    let chunks = tiles.div_ceil(most);
    for chunk in 0..chunks {
        let tiles = tiles * chunk / chunks..tiles * (chunk + 1) / chunks;
        for panel in work.panels.clone().step_by(WIDE) {
            let strip = Strip {
                work,
                tiles: tiles.clone(),
                panel,
            };
            // SAFETY: passed on; the tiles and at least one panel exist.
            unsafe {
                if work.panels.end - panel == 1 {
                    strip.multiply::<1>(c, &mut room);
                } else {
                    strip.multiply::<WIDE>(c, &mut room);
                }
            }
        }
    }
}

/// What stays in the first-level cache; written before it is read.
#[repr(align(64))]
struct Room {
    /// What all rows begin with.
    first: [f32; WIDE * PANEL],
    /// `[rows of the chunk, panels, 16]`.
    sums: [f32; CHUNK_TILES * TILE * WIDE * PANEL],
    /// A block of unpacked INT4 weights: `[panels, inputs / 4, 16, 4]`.
    bytes: [u8; WIDE * PANEL * LONGEST_BLOCK],
}

/// The tiles of a chunk against one or two panels.
struct Strip<'a> {
    work: &'a Work<'a>,
    tiles: Range<usize>,
    panel: usize,
}

/// What a part of a tile is multiplied with; pointers because the rest of the loop is made of them.
#[derive(Clone, Copy)]
struct Part {
    /// The block's activations, `[inputs / 4, rows, 4]`.
    a: *const i8,
    /// Distance to the other plane of activations.
    a_plane: usize,
    /// Bytes from four inputs to the next.
    a_step: usize,
    /// Activations that are needed next.
    next: *const i8,
    /// Fours of inputs.
    fours: usize,
    /// Bytes of weights, a line for each four of inputs.
    w: *const u8,
    /// Distance to the second panel's.
    w_panel: usize,
    /// The rows' sums of activations.
    sums: *const i32,
    /// Distance to those of the other plane.
    sums_plane: usize,
    /// The rows' scales.
    scales: *const f32,
    /// The power of two by which stored weights are too large.
    offset: u32,
    /// Sums so far: panels side by side, rows as far apart as the next number says.
    from: *const f32,
    from_row: usize,
    /// The same with this block's.
    to: *mut f32,
    to_row: usize,
}

impl Strip<'_> {
    /// # Safety
    /// As [`matmul`]; `P` panels from `self.panel` on and the tiles exist.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn multiply<const P: usize>(&self, c: &mut Columns, room: &mut MaybeUninit<Room>) {
        let (work, rows) = (self.work, self.work.rows);
        let (weights, blocks) = (&work.weights, rows.blocks());
        let first_row = self.tiles.start * TILE;
        let count = (self.tiles.end * TILE).min(rows.len()) - first_row;
        let column = (self.panel - work.panels.start) * PANEL;
        let mut masks: [__mmask16; P] = [0; P];
        for (p, mask) in masks.iter_mut().enumerate() {
            *mask = first_lanes(weights.n.saturating_sub((self.panel + p) * PANEL));
        }
        let c_stride = c.stride();
        let place = c.as_mut_ptr().wrapping_add(first_row * c_stride + column);
        let planes = rows.precision().planes();
        let row_bytes = planes * rows.inputs();
        let tile = rows.tile(self.tiles.start);
        let (a, a_sums, scales) = (
            tile.values(0).as_ptr(),
            tile.sums(0).as_ptr(),
            tile.scales.as_ptr(),
        );
        // SAFETY: `matmul_quantized` checked that W has these panels and A and C these rows; masks leave out columns past the last,
        // and `room` holds a chunk of rows and a block of inputs.
        unsafe {
            let sums = (&raw mut (*room.as_mut_ptr()).sums).cast::<f32>();
            let bytes = (&raw mut (*room.as_mut_ptr()).bytes).cast::<u8>();
            let first = (&raw mut (*room.as_mut_ptr()).first).cast::<f32>();
            for (p, mask) in masks.iter().enumerate() {
                let column = column + p * PANEL;
                if work.start.write == Write::Replace {
                    let bias = begin(&work.start, column, *mask, place);
                    _mm512_store_ps(first.add(p * PANEL), bias);
                    continue;
                }
                for row in 0..count {
                    let place = place.wrapping_add(row * c_stride + p * PANEL);
                    let old = begin(&work.start, column, *mask, place);
                    _mm512_store_ps(sums.add((row * P + p) * PANEL), old);
                }
            }
            let full = masks == [!0; P];
            let panel_bytes = weights.panel_bytes();
            let values = weights.values.as_ptr().add(self.panel * panel_bytes);
            for block in 0..blocks.len() {
                let inputs = blocks.inputs_of(block);
                let (w, w_panel, offset) = match weights.bits {
                    Bits::Four => {
                        let lines = inputs.len() / 8;
                        let packed = values.add(inputs.start / 8 * 64);
                        unpack::<P>(packed, panel_bytes, lines, bytes);
                        (bytes.cast_const(), lines * 128, 3)
                    }
                    Bits::Eight => (values.add(inputs.start / 4 * 64), panel_bytes, 7),
                };
                let mut words = [_mm512_setzero_ps(); P];
                let group = inputs.start / weights.group;
                for (p, words) in words.iter_mut().enumerate() {
                    let at = (self.panel + p) * weights.panel_scales() + group * PANEL;
                    *words = widened(weights.scale_format, weights.scales.as_ptr().add(at));
                }
                let lines = inputs.len() * panel_bytes / rows.inputs() / 64;
                let coming = Coming {
                    values,
                    panel_bytes,
                    from: match block + 1 < blocks.len() {
                        true => inputs.end * panel_bytes / rows.inputs(),
                        false => P * panel_bytes,
                    },
                    lines,
                    portion: lines.div_ceil(self.tiles.len()),
                    bits: weights.bits,
                };
                for (index, row) in (0..count).step_by(TILE).enumerate() {
                    coming.fetch::<P>(index);
                    let tile_rows = TILE.min(count - row);
                    let held = sums.add(row * P * PANEL);
                    let (from, from_row) = match block {
                        0 if work.start.write == Write::Replace => (first, 0),
                        _ => (held, P * PANEL),
                    };
                    let (mut to, mut to_row) = (held, P * PANEL);
                    if block + 1 == blocks.len() {
                        let place = place.wrapping_add(row * c_stride);
                        fetch_rows::<P>(place, tile_rows, c_stride);
                        if full {
                            (to, to_row) = (place, c_stride);
                        }
                    }
                    // The next tile's block, or the first tile's next one.
                    let (next, next_input) = match row + TILE {
                        next if next < count => (next, inputs.start),
                        _ => (0, inputs.end),
                    };
                    let next_rows = TILE.min(count - next);
                    let part = Part {
                        a: a.add(row * row_bytes + inputs.start * tile_rows),
                        a_plane: tile_rows * rows.inputs(),
                        a_step: tile_rows * 4,
                        next: a.wrapping_add(next * row_bytes + next_input * next_rows),
                        fours: inputs.len() / 4,
                        w,
                        w_panel,
                        sums: a_sums.add(row * planes * blocks.len() + block * tile_rows),
                        sums_plane: blocks.len() * tile_rows,
                        scales: scales.add(row * blocks.len() + block * tile_rows),
                        offset,
                        from,
                        from_row,
                        to,
                        to_row,
                    };
                    part.all_rows::<P>(tile_rows, planes, words);
                }
            }
            if full {
                return;
            }
            for row in 0..count {
                for (p, mask) in masks.iter().enumerate() {
                    let place = place.wrapping_add(row * c_stride + p * PANEL);
                    let new = _mm512_load_ps(sums.add((row * P + p) * PANEL));
                    _mm512_mask_storeu_ps(place, *mask, new);
                }
            }
        }
    }
}

/// What the sums of a panel's outputs in a row begin with.
///
/// # Safety
/// `place` holds the numbers under the mask where the sums begin with them; a bias holds those from `column` on.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn begin(start: &Start, column: usize, mask: __mmask16, place: *const f32) -> __m512 {
    // SAFETY: passed on.
    unsafe {
        let old = match start.write {
            Write::Replace => _mm512_setzero_ps(),
            Write::Add => _mm512_maskz_loadu_ps(mask, place),
        };
        let Some(bias) = start.bias else {
            return old;
        };
        let bias = _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(column));
        match start.write {
            Write::Replace => bias,
            Write::Add => _mm512_add_ps(old, bias),
        }
    }
}

/// Weights of the next block, or of the next panels' first one.
struct Coming {
    values: *const u8,
    panel_bytes: usize,
    from: usize,
    lines: usize,
    /// Lines that are asked for at a time.
    portion: usize,
    bits: Bits,
}

impl Coming {
    /// Asks for one of the portions of each of `P` panels.
    #[inline(always)]
    fn fetch<const P: usize>(&self, at: usize) {
        let first = at * self.portion;
        for line in first..(first + self.portion).min(self.lines) {
            for p in 0..P {
                let at = p * self.panel_bytes + self.from + line * 64;
                let place = self.values.wrapping_add(at).cast();
                // SAFETY: asking for an address that is not there does nothing.
                unsafe {
                    match self.bits {
                        Bits::Four => _mm_prefetch::<_MM_HINT_T0>(place),
                        // Two blocks of bytes beside sums and activations are more than the first-level cache holds.
                        Bits::Eight => _mm_prefetch::<_MM_HINT_T1>(place),
                    }
                }
            }
        }
    }
}

/// Asks for the places of results.
#[inline(always)]
fn fetch_rows<const P: usize>(place: *mut f32, rows: usize, stride: usize) {
    for row in 0..rows {
        for p in 0..P {
            let place = place.wrapping_add(row * stride + p * PANEL);
            // SAFETY: asking for an address that is not there does nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
        }
    }
}

/// Calls `Part::multiply` with the number of rows as a constant.
macro_rules! with_rows {
    ($part:expr, $rows:expr, $panels:ident, $planes:literal, $words:ident, [$($r:literal)*]) => {
        match $rows {
            $($r => $part.multiply::<$r, $panels, $planes>($words),)*
            rows => unreachable!("no part of {rows} rows"),
        }
    };
}

impl Part {
    /// All rows of a tile, as many at a time as sums fit into registers.
    ///
    /// # Safety
    /// The pointers are those of a tile of so many rows and planes and of `P` panels.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn all_rows<const P: usize>(self, rows: usize, planes: usize, words: [__m512; P]) {
        // SAFETY: passed on; every part lies inside of the tile.
        unsafe {
            if planes == 1 {
                return with_rows!(self, rows, P, 1, words, [1 2 3 4 5 6 7 8 9 10 11 12]);
            }
            let low = rows.min(TILE / 2);
            with_rows!(self, low, P, 2, words, [1 2 3 4 5 6]);
            if rows > low {
                let rest = Part {
                    a: self.a.add(low * 4),
                    sums: self.sums.add(low),
                    scales: self.scales.add(low),
                    from: self.from.add(low * self.from_row),
                    to: self.to.add(low * self.to_row),
                    ..self
                };
                with_rows!(rest, rows - low, P, 2, words, [1 2 3 4 5 6]);
            }
        }
    }

    /// A block of `R` rows with `A` planes of activations against `P` panels. Loops instead of closures: a closure with these
    /// instructions inside of `array::from_fn` stays a call, and the sums then live in memory.
    ///
    /// # Safety
    /// As [`Part::all_rows`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn multiply<const R: usize, const P: usize, const A: usize>(self, words: [__m512; P]) {
        let mut sums = [[[_mm512_setzero_si512(); P]; A]; R];
        // SAFETY: the caller's pointers reach over the block, its rows and its panels.
        unsafe {
            // Sums begin at what the offset of the stored weights adds too much.
            let offset = _mm_cvtsi32_si128(self.offset as i32);
            for (r, sums) in sums.iter_mut().enumerate() {
                for (plane, sums) in sums.iter_mut().enumerate() {
                    let sum = _mm512_set1_epi32(*self.sums.add(plane * self.sums_plane + r));
                    let sum = _mm512_sll_epi32(sum, offset);
                    *sums = [_mm512_sub_epi32(_mm512_setzero_si512(), sum); P];
                }
            }
            let (mut a, mut w, mut next) = (self.a, self.w, self.next);
            for _ in 0..self.fours {
                _mm_prefetch::<_MM_HINT_T0>(next);
                let mut bytes = [_mm512_setzero_si512(); P];
                for (p, bytes) in bytes.iter_mut().enumerate() {
                    *bytes = _mm512_loadu_si512(w.add(p * self.w_panel).cast());
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (plane, sums) in sums.iter_mut().enumerate() {
                        let x = a.add(plane * self.a_plane + r * 4);
                        let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
                        for (sum, bytes) in sums.iter_mut().zip(bytes) {
                            *sum = _mm512_dpbusd_epi32(*sum, bytes, x);
                        }
                    }
                }
                a = a.add(self.a_step);
                w = w.add(64);
                next = next.wrapping_add(self.a_step);
            }
            for (r, sums) in sums.iter().enumerate() {
                let scale = _mm512_set1_ps(*self.scales.add(r));
                for (p, words) in words.iter().enumerate() {
                    let mut sum = sums[0][p];
                    if A == 2 {
                        sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(sum), sums[A - 1][p]);
                    }
                    let factor = _mm512_mul_ps(scale, *words);
                    let old = _mm512_loadu_ps(self.from.add(r * self.from_row + p * PANEL));
                    let new = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), factor, old);
                    _mm512_storeu_ps(self.to.add(r * self.to_row + p * PANEL), new);
                }
            }
        }
    }
}

/// Sixteen scales as f32.
///
/// # Safety
/// There are as many at this place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn widened(format: ScaleFormat, scales: *const u16) -> __m512 {
    // SAFETY: passed on.
    let words = unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(scales.cast())) };
    match format {
        ScaleFormat::Bf16 => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)),
        ScaleFormat::F16 => {
            let [bits, sign] =
                F16_BITS.map(|mask| _mm512_and_si512(words, _mm512_set1_epi32(mask)));
            let bits = _mm512_castsi512_ps(_mm512_slli_epi32::<13>(bits));
            let number = _mm512_mul_ps(bits, _mm512_set1_ps(F16_FACTOR));
            let sign = _mm512_slli_epi32::<16>(sign);
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(number), sign))
        }
    }
}

/// INT4 to bytes: `lines` of each panel, `panel_bytes` apart.
///
/// # Safety
/// `packed` reaches over all lines of all panels, `bytes` over twice as many.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn unpack<const P: usize>(
    packed: *const u8,
    panel_bytes: usize,
    lines: usize,
    bytes: *mut u8,
) {
    let half = _mm512_set1_epi8(15);
    for p in 0..P {
        for line in 0..lines {
            // SAFETY: passed on.
            unsafe {
                let w = _mm512_loadu_si512(packed.add(p * panel_bytes + line * 64).cast());
                let to = bytes.add((p * lines + line) * 128);
                let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(w), half);
                _mm512_store_si512(to.cast(), _mm512_and_si512(w, half));
                _mm512_store_si512(to.add(64).cast(), upper);
            }
        }
    }
}
