//! Angles of rotary positions.

use crate::spec::{DecoderSpec, RopeAxes, RopeScaling};
use std::f64::consts::PI;

/// Cosines and sines of a stretch of positions, `[m, head_dim / 2]` each.
pub(crate) struct Angles {
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
}

/// The frequencies of some layers of a decoder, head_dim / 2 of them.
pub(crate) struct Rotary {
    frequencies: Vec<f64>,
    axes: RopeAxes,
    /// Of cosines and sines.
    magnitude: f64,
}

impl Rotary {
    /// Those of the layers in which rows see all before them.
    pub fn new(spec: &DecoderSpec) -> Rotary {
        let plain = plain(spec, spec.rope_base);
        let (frequencies, magnitude) = scaled(&spec.rope_scaling, plain);
        Rotary {
            frequencies,
            axes: spec.rope_axes,
            magnitude,
        }
    }

    /// Those of the layers with a window, where they are others.
    pub fn of_window(spec: &DecoderSpec) -> Option<Rotary> {
        Some(Rotary {
            frequencies: plain(spec, spec.window.as_ref()?.rope_base?),
            axes: spec.rope_axes,
            magnitude: 1.0,
        })
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
            cos: all().map(|a| (a.cos() * self.magnitude) as f32).collect(),
            sin: all().map(|a| (a.sin() * self.magnitude) as f32).collect(),
        }
    }

    /// Which of the three positions a frequency turns with.
    fn axis(&self, i: usize) -> usize {
        match self.axes {
            RopeAxes::One => 0,
            RopeAxes::Bands([time, row, _]) => {
                usize::from(i >= time) + usize::from(i >= time + row)
            }
            RopeAxes::Turns(counts) => match i % 3 {
                axis if i < 3 * counts[axis] => axis,
                _ => 0,
            },
        }
    }
}

fn plain(spec: &DecoderSpec, base: f64) -> Vec<f64> {
    let latent = spec.latent.as_ref();
    let width = latent.map_or(spec.head_dim, |latent| latent.rotated);
    let frequency = |i: usize| base.powf(-2.0 * i as f64 / width as f64);
    (0..width / 2).map(frequency).collect()
}

/// Frequencies as a scaling makes them, and the magnitude of cosines and sines.
fn scaled(scaling: &RopeScaling, plain: Vec<f64>) -> (Vec<f64>, f64) {
    let half = plain.len() as f64;
    let changed = |change: &dyn Fn(usize, f64) -> f64| {
        let numbered = plain.iter().enumerate();
        numbered
            .map(|(i, frequency)| change(i, *frequency))
            .collect()
    };
    match scaling {
        RopeScaling::None => (plain, 1.0),
        RopeScaling::Linear { factor } => (changed(&|_, f| f / factor), 1.0),
        RopeScaling::NtkMixed { factor, power } => {
            let a = factor.ln() / half.powf(*power);
            let divided = |i: usize, f| f / (a * (i as f64 + 1.0).powf(*power)).exp();
            (changed(&divided), 1.0)
        }
        RopeScaling::Bands {
            factor,
            turns: [slow, fast],
            context,
        } => {
            let mixed = |_, f: f64| {
                let turns = context * f / (2.0 * PI);
                let fast = ((turns - slow) / (fast - slow)).clamp(0.0, 1.0);
                fast * f + (1.0 - fast) * f / factor
            };
            (changed(&mixed), 1.0)
        }
        RopeScaling::Yarn {
            factor,
            ramp: [first, last],
            magnitude,
        } => {
            let mixed = |i: usize, f: f64| {
                let slow = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
                (1.0 - slow) * f + slow * f / factor
            };
            (changed(&mixed), *magnitude)
        }
        RopeScaling::Each { factors, magnitude } => (
            changed(&|i, f| f / factors.get(i).unwrap_or(&1.0)),
            *magnitude,
        ),
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
