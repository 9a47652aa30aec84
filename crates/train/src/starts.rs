//! First values. Small encoders learn to read only if they need not first find out what a picture is: that neighbouring
//! pixels belong together and that a glyph's other half stands in the patch beside. Ordinary random values tell them
//! neither; three kinds of start do, and training is free to leave them again.
//!
//! * The patch embedding starts as cosine waves: random rows all answer to a patch's brightness and hardly to its strokes.
//! * Positions start as waves in features of their own, in which "one patch to the left" is a rotation.
//! * Heads of the first layers start looking at one neighbour each, by that rotation between queries and keys.

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
    /// A patch embedding `[width, 3, patch, patch]`: cosine waves in all rows but those that hold the position.
    Cosines {
        /// Pixels a side.
        patch: usize,
        /// Features of a row that hold the position.
        reserved: usize,
    },
    /// Positions `[side * side, width]`.
    Places(Places),
    /// Keys `[heads * head_dim, width]` that show where a row stands.
    Whereabouts {
        /// Where positions are kept.
        places: Places,
        /// Heads.
        heads: usize,
    },
    /// Queries `[heads * head_dim, width]` that ask for the neighbour of their row, another one for each head.
    Neighbours {
        /// Where positions are kept.
        places: Places,
        /// Heads.
        heads: usize,
        /// Which neighbours, by layer.
        layer: usize,
    },
}

/// Positions as waves: features `4 p ..` hold sine and cosine of wave p down, then across.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Places {
    /// Places a side.
    pub side: usize,
    /// Features of a row, of which the first hold the position.
    pub width: usize,
    /// Waves in each direction; wave p turns (p + 1) / 2 times over the side, so that as many as the side tell all places apart.
    pub pairs: usize,
}

/// Size of the position's features beside those of a patch, which are below one.
const LOUDNESS: f32 = 1.5;
/// Noise of queries and keys, so that heads do not stay alike.
const NOISE: f32 = 0.02;
/// Down and across, for the first layer's heads in turn and the next layer's.
const OFFSETS: [(i32, i32); 12] = [
    (0, -1),
    (0, 1),
    (-1, 0),
    (1, 0),
    (-1, -1),
    (-1, 1),
    (0, -1),
    (0, 1),
    (1, -1),
    (1, 1),
    (0, 2),
    (1, 0),
];

impl Places {
    /// As many waves as fit into a quarter of a head, at most one for each place.
    pub fn fitting(side: usize, width: usize, head_dim: usize) -> Places {
        Places {
            side,
            width,
            pairs: side.min(head_dim / 4),
        }
    }

    /// Features that hold the position.
    pub fn features(self) -> usize {
        4 * self.pairs
    }

    /// Sine and cosine of wave `pair` at `at`.
    fn wave(self, pair: usize, at: f32) -> [f32; 2] {
        let angle = PI * (pair + 1) as f32 * at / self.side as f32;
        [angle.sin(), angle.cos()]
    }
}

impl Start {
    /// Writes the first values of the tensor `name`; random ones come from a stream of its own.
    pub(crate) fn fill(self, values: &mut [f32], seed: u64, name: &str) {
        match self {
            Start::Zeros => {}
            Start::Ones => values.fill(1.0),
            Start::Normal(deviation) => fill_normal(values, deviation, seed, name),
            Start::Cosines { patch, reserved } => fill_cosines(values, patch, reserved),
            Start::Places(places) => fill_places(values, places),
            Start::Whereabouts { places, heads } => {
                fill_normal(values, NOISE, seed, name);
                add_rotations(values, places, heads, |_| (0, 0));
            }
            Start::Neighbours {
                places,
                heads,
                layer,
            } => {
                fill_normal(values, NOISE, seed, name);
                add_rotations(values, places, heads, |head| {
                    OFFSETS[(layer * heads + head) % OFFSETS.len()]
                });
            }
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
fn fill_cosines(values: &mut [f32], patch: usize, reserved: usize) {
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
    for (row, values) in values
        .chunks_mut(3 * patch * patch)
        .skip(reserved)
        .enumerate()
    {
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

fn fill_places(values: &mut [f32], places: Places) {
    for (place, row) in values.chunks_mut(places.width).enumerate() {
        let (y, x) = ((place / places.side) as f32, (place % places.side) as f32);
        for (pair, features) in row[..places.features()]
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .enumerate()
        {
            let ([a, b], [c, d]) = (places.wave(pair, y), places.wave(pair, x));
            *features = [a, b, c, d].map(|value| value * LOUDNESS);
        }
    }
}

/// Adds to each head the matrix that turns a position's waves by the head's offset: a query for the place beside.
fn add_rotations(
    values: &mut [f32],
    places: Places,
    heads: usize,
    offset: impl Fn(usize) -> (i32, i32),
) {
    let width = places.width;
    let head_rows = values.len() / heads / width;
    for (head, rows) in values.chunks_mut(head_rows * width).enumerate() {
        let (down, across) = offset(head);
        for pair in 0..places.pairs {
            for (at, by) in [(4 * pair, down), (4 * pair + 2, across)] {
                let [sine, cosine] = places.wave(pair, by as f32);
                for (row, turned) in [[cosine, sine], [-sine, cosine]].into_iter().enumerate() {
                    for (column, value) in turned.into_iter().enumerate() {
                        rows[(at + row) * width + at + column] += value;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_for_the_left_neighbour_matches_that_place_best() {
        let places = Places::fitting(8, 40, 32);
        let mut rows = vec![0.0; 64 * 40];
        Start::Places(places).fill(&mut rows, 1, "positions");
        let (mut q, mut k) = (vec![0.0; 64 * 40], vec![0.0; 64 * 40]);
        Start::Neighbours {
            places,
            heads: 2,
            layer: 0,
        }
        .fill(&mut q, 1, "q");
        Start::Whereabouts { places, heads: 2 }.fill(&mut k, 1, "k");
        let project = |weight: &[f32], place: usize| -> Vec<f32> {
            weight
                .chunks(40)
                .take(32)
                .map(|w| w.iter().zip(&rows[place * 40..]).map(|(a, b)| a * b).sum())
                .collect()
        };
        let query = project(&q, 3 * 8 + 5);
        let scores: Vec<f32> = (0..64)
            .map(|place| {
                query
                    .iter()
                    .zip(project(&k, place))
                    .map(|(a, b)| a * b)
                    .sum()
            })
            .collect();
        let best = (0..64)
            .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
            .unwrap();
        assert_eq!(best, 3 * 8 + 4);
        let second = (0..64)
            .filter(|place| *place != best)
            .map(|place| scores[place])
            .fold(f32::MIN, f32::max);
        // Of 32 matching features a place in the same row or column shares about half.
        assert!(
            second < 0.6 * scores[best],
            "{second} against {}",
            scores[best]
        );
    }

    #[test]
    fn the_rows_of_a_patch_embedding_take_a_patch_apart() {
        let mut weight = vec![0.0; 60 * 3 * 64];
        Start::Cosines {
            patch: 8,
            reserved: 4,
        }
        .fill(&mut weight, 1, "patch");
        let rows: Vec<&[f32]> = weight.chunks(192).collect();
        assert!(
            rows[..4].iter().all(|row| row.iter().all(|v| *v == 0.0)),
            "reserved features are left to the position"
        );
        for a in 4..60 {
            for b in 4..a {
                let dot: f32 = rows[a].iter().zip(rows[b]).map(|(x, y)| x * y).sum();
                assert!(
                    dot.abs() < 1e-3 || (a + 1 - 4) % 16 == 0 || (b + 1 - 4) % 16 == 0,
                    "rows {a} and {b} overlap by {dot}"
                );
            }
        }
    }
}
