//! Angles of rotary positions.

use crate::spec::{DecoderSpec, RopeAxes, RopeScaling};

/// Cosines and sines of a stretch of positions, `[m, head_dim / 2]` each.
pub(crate) struct Angles {
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
}

/// The frequencies of one decoder, head_dim / 2 of them.
pub(crate) struct Rotary {
    frequencies: Vec<f64>,
    axes: RopeAxes,
}

impl Rotary {
    pub fn new(spec: &DecoderSpec) -> Rotary {
        let d = spec
            .latent
            .as_ref()
            .map_or(spec.head_dim, |latent| latent.rotated);
        let frequency = |i: usize| {
            let plain = spec.rope_base.powf(-2.0 * i as f64 / d as f64);
            match spec.rope_scaling {
                RopeScaling::None => plain,
                RopeScaling::Linear { factor } => plain / factor,
                RopeScaling::NtkMixed { factor, power } => {
                    let a = factor.ln() / (d as f64 / 2.0).powf(power);
                    plain / (a * (i as f64 + 1.0).powf(power)).exp()
                }
            }
        };
        Rotary {
            frequencies: (0..d / 2).map(frequency).collect(),
            axes: spec.rope_axes,
        }
    }

    /// The reference multiplies position and frequency in f32; the angle is rounded there, its cosine only once.
    pub fn angles(&self, positions: &[[u32; 3]]) -> Angles {
        let all = || {
            positions.iter().flat_map(|position| {
                let frequencies = self.frequencies.iter().enumerate();
                frequencies.map(move |(i, frequency)| {
                    (position[self.axis(i)] as f32 * *frequency as f32) as f64
                })
            })
        };
        Angles {
            cos: all().map(|a| a.cos() as f32).collect(),
            sin: all().map(|a| a.sin() as f32).collect(),
        }
    }

    /// Which of the three positions a frequency turns with.
    fn axis(&self, i: usize) -> usize {
        match self.axes {
            RopeAxes::One => 0,
            RopeAxes::Bands([time, row, _]) => {
                usize::from(i >= time) + usize::from(i >= time + row)
            }
        }
    }
}

/// Turns each pair of neighbouring numbers of heads by one angle, `cos` and `sin` having one for each pair of a head.
pub(crate) fn turn_neighbours(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    for head in heads.chunks_exact_mut(2 * cos.len()) {
        for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
            let [a, b] = *pair;
            *pair = [a * cos - b * sin, b * cos + a * sin];
        }
    }
}
