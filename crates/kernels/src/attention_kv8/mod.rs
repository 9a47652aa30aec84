//! Attention with INT8 keys and values, one scale for each token and head, and whole-number products: for a decoder's cache at
//! any depth, for a chunk of a prompt, and for an encoder whose tokens see each other.
//!
//! Queries are INT8 or INT16 with one scale each. Keys are met in blocks of 128 that begin at multiples of 128, so the scores of a
//! row are never all held; the softmax goes along (online softmax, [Milakov and Gimelshein](https://arxiv.org/abs/1805.02867)). In
//! each block a key's weight is multiplied by its value's scale and becomes a whole number, of 8 bits or of 16, with one scale for
//! the block.
//!
//! Contract, for a row of queries and one block after the other, `top` being the highest score so far:
//! score = (exact sum as f32) · key scale; weight = 2^fma(score, factor, -(top · factor)); fade = 2^((old top - top) · factor);
//! sum = fma(sum, fade, the block's sum); result = fma(exact sum as f32, block scale, result · fade); at last result / sum. Lanes are different keys or
//! different numbers of a result, blocks do not depend on who else is there: the bits are the same for every instruction
//! set and however a prompt is cut.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
mod memory;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod soften;

use crate::attention::{Reach, seen_by_any};
use crate::isa::{Dot, Isa, per_isa};
use crate::matmul_quantized::Precision;
use crate::matmul_quantized::quantizing::{factor_and_scale, largest_magnitude, rounded};
use crate::rows::LANES;
pub use memory::Memory;
use std::ops::Range;

/// Keys that share a scale of weights.
const BLOCK: usize = 128;
/// Keys, or numbers of a value, in a register's lanes.
const PANEL: usize = 16;
/// Bytes of a line: four for each lane.
const LINE: usize = 4 * PANEL;
/// The widest head.
pub const WIDEST: usize = 256;
/// Rows of INT8 queries at a time: their sums against two panels fill the registers. Of INT16 half as many.
const ROWS: usize = 12;

/// Query rows: `group` heads side by side at each position, all with the same keys.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// Rows, `group` for each position.
    pub count: usize,
    /// Row r begins at `r / group * stride + r % group * width`.
    pub data: &'a [f32],
    /// Numbers from one position to the next.
    pub stride: usize,
    /// Rows of a position; at least one.
    pub group: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// What they see.
    pub reach: Reach<'a>,
    /// What queries and weights are rounded to.
    pub precision: Precision,
}

/// Room for some rows that calls share.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// `[planes, width / 4, rows]` of fours of signed bytes, high ones first.
    queries: Vec<[u8; 4]>,
    /// 128 · the sum of a query, which keys' offset adds too much.
    extras: [i32; ROWS],
    /// Exact sums against a block of keys.
    scores: Box<[[i32; BLOCK]; ROWS]>,
    /// A block's weights; of 16 bits the high bytes and the low ones.
    weights: Box<[[[u8; BLOCK]; ROWS]; 2]>,
    progress: Progress,
    /// `[rows, width filled up to panels]`.
    results: Vec<f32>,
}

/// How far rows have come, each in a lane.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// What scores are multiplied by to be exponents of two.
    factors: [f32; LANES],
    /// The highest score.
    tops: [f32; LANES],
    /// The sum of weights.
    sums: [f32; LANES],
    /// What the results so far are multiplied by.
    fades: [f32; LANES],
    /// What this block's exact sums are multiplied by.
    steps: [f32; LANES],
}

/// Below every score, and finite: nothing of it is not a number.
const LOWEST: f32 = -1e30;

const FRESH: Progress = Progress {
    factors: [0.0; LANES],
    tops: [LOWEST; LANES],
    sums: [0.0; LANES],
    fades: [1.0; LANES],
    steps: [0.0; LANES],
};

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            queries: Vec::new(),
            extras: [0; ROWS],
            scores: Box::new([[0; BLOCK]; ROWS]),
            weights: Box::new([[[0; BLOCK]; ROWS]; 2]),
            progress: FRESH,
            results: Vec::new(),
        }
    }
}

/// Row r of the result, `softmax(scale · q·keysᵀ) · values` over the keys it sees, goes to
/// `out[r / group * out_stride + r % group * width ..]`.
///
/// # Panics
/// When a row sees no key or more than there are, or a slice is too small.
pub fn attend(
    isa: Isa,
    queries: &Queries,
    memory: &Memory,
    scratch: &mut Scratch,
    out: &mut [f32],
    out_stride: usize,
) {
    let together = ROWS / queries.precision.planes();
    for first in (0..queries.count).step_by(together) {
        let tile = Tile {
            isa,
            queries,
            memory,
            first,
            rows: together.min(queries.count - first),
        };
        tile.attend(scratch);
        tile.write(scratch, out, out_stride);
    }
}

/// What each row of a tile sees, of the keys of all blocks.
type Visible = [Range<usize>; ROWS];

/// What a row sees of a block.
fn of_block(visible: &Range<usize>, block: usize) -> Range<usize> {
    let within = |key: usize| key.saturating_sub(block * BLOCK).min(BLOCK);
    within(visible.start)..within(visible.end)
}

/// Some rows of queries.
struct Tile<'a> {
    isa: Isa,
    queries: &'a Queries<'a>,
    memory: &'a Memory,
    first: usize,
    rows: usize,
}

impl Tile<'_> {
    fn attend(&self, scratch: &mut Scratch) {
        let keys = self.memory.len();
        let visible: Visible = std::array::from_fn(|row| {
            let row = row.min(self.rows - 1);
            self.queries.reach.visible(self.first + row, keys)
        });
        let seen = seen_by_any(&visible[..self.rows], keys);
        self.take_queries(scratch);
        let dot = Dot::detect(self.isa);
        // Blocks of which a row sees nothing leave it as it is: it does not matter who else is there.
        let blocks = seen.start / BLOCK..seen.end.div_ceil(BLOCK);
        for block in blocks.clone() {
            let part = Part {
                rows: self.rows,
                planes: self.queries.precision.planes(),
                memory: self.memory,
                block,
                next: match block + 1 == blocks.end {
                    true => blocks.start,
                    false => block + 1,
                },
                keys: (seen.end - block * BLOCK).min(BLOCK),
            };
            match dot {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: detection found the instructions; scratch holds the rows that `take_queries` took.
                #[allow(unsafe_code)]
                Dot::Avx512Vnni => unsafe {
                    avx512vnni::score(&part, scratch);
                    avx512vnni::soften(&part, scratch, &visible);
                    avx512vnni::mix(&part, scratch);
                },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                #[allow(unsafe_code)]
                Dot::Avx2 => unsafe {
                    avx2::score(&part, scratch);
                    soften::soften(self.isa, &part, scratch, &visible);
                    avx2::mix(&part, scratch);
                },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: as above.
                #[allow(unsafe_code)]
                Dot::NeonDot => unsafe {
                    neon::score(&part, scratch);
                    soften::soften(self.isa, &part, scratch, &visible);
                    neon::mix(&part, scratch);
                },
                Dot::Scalar => {
                    scalar::score(&part, scratch);
                    soften::soften(self.isa, &part, scratch, &visible);
                    scalar::mix(&part, scratch);
                }
            }
        }
    }

    fn row_of(&self, row: usize, stride: usize) -> usize {
        let (row, group) = (self.first + row, self.queries.group);
        row / group * stride + row % group * self.memory.width()
    }

    /// Rounds the rows and begins their states anew.
    fn take_queries(&self, scratch: &mut Scratch) {
        let (width, fours, rows) = (self.memory.width(), self.memory.fours(), self.rows);
        let precision = self.queries.precision;
        scratch
            .queries
            .resize(precision.planes() * fours * rows, [0; 4]);
        scratch.results.clear();
        scratch
            .results
            .resize(rows * self.memory.panels() * PANEL, 0.0);
        scratch.progress = FRESH;
        let factor = self.queries.scale * std::f32::consts::LOG2_E;
        #[cfg(target_arch = "x86_64")]
        if rows == ROWS && Dot::detect(self.isa) == Dot::Avx512Vnni {
            let row = |row| &self.queries.data[self.row_of(row, self.queries.stride)..][..width];
            // SAFETY: detection found the instructions; there is room for so many rows.
            #[allow(unsafe_code)]
            unsafe {
                avx512vnni::take_queries(&std::array::from_fn(row), factor, scratch)
            };
            let coming = ROWS..(2 * ROWS).min(self.queries.count - self.first);
            avx512vnni::fetch(coming.map(row));
            return;
        }
        for row in 0..rows {
            let x = &self.queries.data[self.row_of(row, self.queries.stride)..][..width];
            take_query(self.isa, x, precision, rows, row, factor, scratch);
        }
    }

    fn write(&self, scratch: &Scratch, out: &mut [f32], out_stride: usize) {
        let width = self.memory.width();
        let results = scratch.results.chunks_exact(self.memory.panels() * PANEL);
        for (row, (results, sum)) in results.zip(&scratch.progress.sums).enumerate() {
            let out = &mut out[self.row_of(row, out_stride)..][..width];
            divide(self.isa, results, *sum, out);
        }
    }
}

per_isa! {
    /// Rounds one of so many rows.
    take_query(x: &[f32], precision: Precision, rows: usize, row: usize, factor: f32, scratch: &mut Scratch) => take_query_body
}
per_isa! {
    divide(results: &[f32], sum: f32, out: &mut [f32]) => divide_body
}

#[inline(always)]
fn take_query_body(
    x: &[f32],
    precision: Precision,
    rows: usize,
    row: usize,
    factor: f32,
    scratch: &mut Scratch,
) {
    let (to_whole, scale) = factor_and_scale(largest_magnitude(x), precision.limit());
    scratch.progress.factors[row] = scale * factor;
    let (mut low, mut high) = ([0; WIDEST], [0; WIDEST]);
    let mut sum = 0i32;
    for (low, value) in low.iter_mut().zip(x) {
        let whole = rounded(value * to_whole);
        sum = sum.wrapping_add(whole);
        *low = whole as u8;
    }
    scratch.extras[row] = sum.wrapping_mul(128);
    let fours = x.len().div_ceil(4);
    if precision == Precision::Int8 {
        return scatter(&low, &mut scratch.queries[row..], rows);
    }
    for (high, value) in high.iter_mut().zip(x) {
        *high = (rounded(value * to_whole).wrapping_add(128) >> 8) as u8;
    }
    scatter(&high, &mut scratch.queries[row..fours * rows], rows);
    scatter(&low, &mut scratch.queries[fours * rows + row..], rows);
}

/// Fours of bytes to every `stride`-th place.
#[inline(always)]
fn scatter(bytes: &[u8; WIDEST], places: &mut [[u8; 4]], stride: usize) {
    let fours = bytes.as_chunks().0;
    for (place, four) in places.iter_mut().step_by(stride).zip(fours) {
        *place = *four;
    }
}

#[inline(always)]
fn divide_body(results: &[f32], sum: f32, out: &mut [f32]) {
    for (out, result) in out.iter_mut().zip(results) {
        // A zero's sign may depend on how many blocks passed.
        *out = result / sum + 0.0;
    }
}

/// The rows of a tile against a block of keys.
struct Part<'a> {
    rows: usize,
    planes: usize,
    memory: &'a Memory,
    block: usize,
    /// The block that comes next.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // fetched ahead by AVX-512 only
    next: usize,
    /// Keys that some row sees.
    keys: usize,
}

impl Part<'_> {
    /// The largest whole weight.
    fn weight_limit(&self) -> f32 {
        match self.planes {
            1 => 255.0,
            _ => 65535.0,
        }
    }
}

#[cfg(test)]
mod tests;
