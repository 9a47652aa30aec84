//! First values. Small encoders learn to read sooner if they need not first find out what a picture is, so the patch embedding
//! starts as cosine waves and the positions as sines. (Heads that start out looking at one neighbour each were tried too and
//! changed nothing: docs/log.md.)

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use std::f32::consts::PI;

/// How a tensor starts out. Variants carry what the rule needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// All zero (biases).
    Zeros,
    /// All one (norm weights).
    Ones,
    /// Normal with this standard deviation.
    Normal(f32),
    /// A patch embedding `[width, 3, patch, patch]`: two-dimensional cosine waves, low frequencies first. Neighbouring pixels are
    /// nearly equal, so random rows all answer to the patch's brightness and hardly to its strokes.
    Cosines {
        /// Pixels a side.
        patch: usize,
    },
    /// Positions `[side * side, width]`: sine and cosine waves down in the first half of the features, across in the second.
    SineGrid {
        /// Places a side.
        side: usize,
        /// Largest value.
        amplitude: f32,
    },
}

impl Start {
    /// Writes the first values of the tensor `name`; random ones come from a stream of its own.
    pub(crate) fn fill(self, values: &mut [f32], seed: u64, name: &str) {
        match self {
            Start::Zeros => {}
            Start::Ones => values.fill(1.0),
            Start::Normal(deviation) => fill_normal(values, deviation, seed, name),
            Start::Cosines { patch } => fill_cosines(values, patch),
            Start::SineGrid { side, amplitude } => fill_sine_grid(values, side, amplitude),
        }
    }
}

/// FNV-1a: a stable hash, unlike the standard library's.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn fill_normal(values: &mut [f32], deviation: f32, seed: u64, name: &str) {
    let mut random = ChaCha12Rng::seed_from_u64(seed ^ name_hash(name));
    let mut uniform = || ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    for pair in values.chunks_mut(2) {
        // Box-Muller: two uniform draws give two normal ones.
        let radius = (-2.0 * uniform().ln()).sqrt();
        let angle = std::f64::consts::TAU * uniform();
        let normal = [radius * angle.cos(), radius * angle.sin()];
        for (value, normal) in pair.iter_mut().zip(normal) {
            *value = normal as f32 * deviation;
        }
    }
}

/// One row in sixteen answers to colour (red against green, blue against both), the others to brightness, each with the next
/// wave in the order of its waves across plus down.
fn fill_cosines(values: &mut [f32], patch: usize) {
    const COLOURS: [[f32; 3]; 2] = [[0.7, -0.7, 0.0], [-0.4, -0.4, 0.8]];
    const GREY: [f32; 3] = [0.577; 3];
    /// Waves below which the amplitude falls, because pictures hold most of their energy there.
    const LOUD: f32 = 6.0;
    let mut waves: Vec<(usize, usize)> = (0..patch)
        .flat_map(|y| (0..patch).map(move |x| (y, x)))
        .collect();
    waves.sort_by_key(|(y, x)| (y + x, *y));
    let wave =
        |count: usize, at: usize| (PI * count as f32 * (at as f32 + 0.5) / patch as f32).cos();
    for (row, values) in values.chunks_mut(3 * patch * patch).enumerate() {
        let colour = row % 16 == 15;
        let (place, mix) = if colour {
            (row / 32, COLOURS[row / 16 % 2])
        } else {
            (row - row / 16, GREY)
        };
        let (down, across) = waves[place % waves.len()];
        let loudness = ((down + across) as f32 / LOUD).clamp(if colour { 0.2 } else { 0.04 }, 1.0);
        let norm = [down, across].map(|count| {
            if count == 0 {
                (1.0 / patch as f32).sqrt()
            } else {
                (2.0 / patch as f32).sqrt()
            }
        });
        for (at, value) in values.iter_mut().enumerate() {
            let (channel, y, x) = (at / (patch * patch), at / patch % patch, at % patch);
            *value = mix[channel] * loudness * norm[0] * norm[1] * wave(down, y) * wave(across, x);
        }
    }
}

/// Row-major places; geometrically falling frequencies from 1 to 1/20, because slower waves would hardly move over a tile.
fn fill_sine_grid(values: &mut [f32], side: usize, amplitude: f32) {
    const SLOWEST: f32 = 20.0;
    let width = values.len() / (side * side).max(1);
    let (half, quarter) = (width / 2, (width / 4).max(1));
    for (place, row) in values.chunks_mut(width.max(1)).enumerate() {
        for (feature, value) in row.iter_mut().enumerate() {
            let (along, feature) = if feature < half {
                (place / side, feature)
            } else {
                (place % side, feature - half)
            };
            let frequency = SLOWEST.powf(-((feature % quarter) as f32) / quarter as f32);
            let angle = along as f32 * frequency;
            *value = amplitude
                * if feature < quarter {
                    angle.sin()
                } else {
                    angle.cos()
                };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_grid_tells_rows_from_columns() {
        let mut values = vec![0.0; 16 * 8];
        Start::SineGrid {
            side: 4,
            amplitude: 0.5,
        }
        .fill(&mut values, 1, "positions");
        let rows: Vec<&[f32]> = values.chunks(8).collect();
        assert_eq!(rows[1][..4], rows[2][..4], "same y, same first half");
        assert_eq!(rows[1][4..], rows[5][4..], "same x, same second half");
        assert_ne!(rows[1], rows[4]);
    }

    #[test]
    fn the_rows_of_a_patch_embedding_take_a_patch_apart() {
        let mut weight = vec![0.0; 60 * 3 * 64];
        Start::Cosines { patch: 8 }.fill(&mut weight, 1, "patch");
        let rows: Vec<&[f32]> = weight.chunks(192).collect();
        let colour = |row: usize| row % 16 == 15;
        for a in 0..60 {
            for b in 0..a {
                let dot: f32 = rows[a].iter().zip(rows[b]).map(|(x, y)| x * y).sum();
                // Sums of 192 products of numbers below 0.3, each rounded at 2^-24: far below 1e-3. Two colour rows may overlap.
                assert!(
                    dot.abs() < 1e-3 || (colour(a) && colour(b)),
                    "rows {a} and {b} overlap by {dot}"
                );
            }
        }
    }
}
