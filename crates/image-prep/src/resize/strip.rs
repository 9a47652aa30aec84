//! The inner loop of both passes: weighted sums of samples, 24 at a time.
//!
//! A strip holds the samples along one direction, 24 lanes wide: 8 rows by 3 channels for the horizontal pass, 24 bytes of
//! a row for the vertical. Two samples that follow each other stand side by side as 16-bit numbers, and weights come in two
//! 16-bit parts, because compilers turn `a*b + c*d` on such pairs into one multiply-add instruction on every x86-64 and on
//! Arm; a 32-bit multiplication would be several times slower on a plain x86-64, and safe code cannot ask for more.

use super::windows::{LOW_BITS, PRECISION_BITS, WeightPair, Window};
use std::ops::Range;

/// Rows of a strip in the horizontal pass.
pub(super) const ROWS: usize = 8;
/// Samples that are summed side by side.
pub(super) const LANES: usize = 3 * ROWS;

/// Two samples of each lane, one after the other: `pair[2 * lane]` and `pair[2 * lane + 1]`.
type Pair = [i16; 2 * LANES];

/// Samples along one direction, `LANES` wide.
pub(super) struct Strip {
    pairs: Vec<Pair>,
}

impl Strip {
    /// An empty strip for so many samples.
    pub fn new(length: usize) -> Strip {
        Strip {
            pairs: vec![[0; 2 * LANES]; length.div_ceil(2)],
        }
    }

    /// Takes a band of up to [`ROWS`] rows of `row` bytes; lane 3 * y + channel. Lanes without a row keep old samples.
    pub fn fill_with_rows(&mut self, band: &[u8], row: usize) {
        for (y, line) in band.chunks_exact(row).enumerate() {
            let lanes = 6 * y..6 * y + 6;
            let mut pixels = line.chunks_exact(6);
            for (pair, two) in self.pairs.iter_mut().zip(&mut pixels) {
                let samples = [two[0], two[3], two[1], two[4], two[2], two[5]];
                pair[lanes.clone()].copy_from_slice(&samples.map(i16::from));
            }
            if let (&[r, g, b], Some(pair)) = (pixels.remainder(), self.pairs.last_mut()) {
                let samples = [r, 0, g, 0, b, 0];
                pair[lanes].copy_from_slice(&samples.map(i16::from));
            }
        }
    }

    /// Takes the bytes `lanes` (at most [`LANES`]) of every row of `row` bytes.
    pub fn fill_with_columns(&mut self, rgb: &[u8], row: usize, lanes: Range<usize>) {
        let mut bytes = [[0; LANES]; 2];
        for (pair, lines) in self.pairs.iter_mut().zip(rgb.chunks(2 * row)) {
            // A last row without a neighbour is paired with what the buffer held: its weight is 0.
            for (bytes, line) in bytes.iter_mut().zip(lines.chunks_exact(row)) {
                bytes[..lanes.len()].copy_from_slice(&line[lanes.clone()]);
            }
            for (two, (&first, &second)) in pair
                .as_chunks_mut::<2>()
                .0
                .iter_mut()
                .zip(bytes[0].iter().zip(&bytes[1]))
            {
                *two = [i16::from(first), i16::from(second)];
            }
        }
    }

    /// One output sample of each lane.
    ///
    /// Sums wrap, which changes nothing: the whole sum fits into 32 bits, as Pillow's does.
    pub fn weigh(&self, window: &Window) -> [u8; LANES] {
        let mut low = [1i32 << (PRECISION_BITS - 1); LANES];
        let mut high = [0i32; LANES];
        let pairs = &self.pairs[window.first_pair..][..window.weights.len()];
        for (
            pair,
            WeightPair {
                low: low_weight,
                high: high_weight,
            },
        ) in pairs.iter().zip(&window.weights)
        {
            multiply_add(&mut low, pair, *low_weight);
            multiply_add(&mut high, pair, *high_weight);
        }
        std::array::from_fn(|lane| {
            let sum = low[lane].wrapping_add(high[lane] << LOW_BITS);
            (sum >> PRECISION_BITS).clamp(0, 255) as u8
        })
    }
}

/// Adds both samples of each lane, weighted.
#[inline(always)]
fn multiply_add(sums: &mut [i32; LANES], pair: &Pair, weights: [i16; 2]) {
    for (sum, two) in sums.iter_mut().zip(pair.as_chunks::<2>().0) {
        let product =
            i32::from(two[0]) * i32::from(weights[0]) + i32::from(two[1]) * i32::from(weights[1]);
        *sum = sum.wrapping_add(product);
    }
}
