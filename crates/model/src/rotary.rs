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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelSpec;

    /// What a Llama with heads of 16 numbers makes of a `rope_scaling`.
    fn rotary(scaling: &str, base: f64, context: usize) -> Rotary {
        let config = format!(
            r#"{{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "rope_theta": {base},
            "max_position_embeddings": {context}, "rope_scaling": {scaling}}}"#
        );
        Rotary::new(&ModelSpec::from_json(&config).unwrap().decoder)
    }

    #[test]
    fn stretched_frequencies_are_those_of_transformers() {
        // transformers 5.23: ROPE_INIT_FUNCTIONS[rope_type](config), which computes in f32.
        let cases = [
            (
                rotary(
                    r#"{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192}"#,
                    500000.0,
                    131072,
                ),
                [
                    1.0,
                    0.193922758,
                    0.0376060307,
                    0.00729266508,
                    0.000524846022,
                    3.42810235e-05,
                    6.64786967e-06,
                    1.28917316e-06,
                ],
                1.0,
            ),
            (
                rotary(
                    r#"{"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}"#,
                    1e6,
                    131072,
                ),
                [
                    1.0,
                    0.177827939,
                    0.0316227786,
                    0.00421755994,
                    0.000500000024,
                    4.44569851e-05,
                    7.90569356e-06,
                    1.40585337e-06,
                ],
                1.138629436111989,
            ),
            (
                rotary(
                    r#"{"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "beta_fast": 32,
                    "beta_slow": 1, "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": false}"#,
                    10000.0,
                    4096,
                ),
                [
                    1.0,
                    0.316227764,
                    0.100000001,
                    0.0277108587,
                    0.00552406255,
                    0.000722638157,
                    2.49999994e-05,
                    7.90569447e-06,
                ],
                0.8721505655360163,
            ),
            (
                rotary(
                    r#"{"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0],
                    "long_factor": [2, 2, 2, 2, 2, 2, 2, 2], "original_max_position_embeddings": 512}"#,
                    10000.0,
                    4096,
                ),
                [
                    1.0,
                    0.287479758,
                    0.0769230798,
                    0.0197642352,
                    0.00499999989,
                    0.00126491114,
                    0.00033333333,
                    7.90569466e-05,
                ],
                1.1547005383792515,
            ),
        ];
        for (found, frequencies, magnitude) in cases {
            assert!((found.magnitude - magnitude).abs() < 1e-12, "{magnitude}");
            assert_eq!(found.frequencies.len(), frequencies.len());
            for (found, expected) in found.frequencies.iter().zip(frequencies) {
                // Some operations in f32, each wrong by 2^-24 of its result, powers of the base by some times that.
                let apart: f64 = (found - expected).abs() / expected;
                assert!(apart < 2e-6, "{found}, expected {expected}");
            }
        }
    }

    #[test]
    fn three_positions_take_turns_or_bands() {
        let axes = |axes: RopeAxes| {
            let mut rotary = rotary("null", 10000.0, 64);
            rotary.axes = axes;
            (0..8).map(|i| rotary.axis(i)).collect::<Vec<_>>()
        };
        assert_eq!(axes(RopeAxes::Bands([2, 3, 3])), [0, 0, 1, 1, 1, 2, 2, 2]);
        assert_eq!(axes(RopeAxes::Turns([4, 2, 2])), [0, 1, 2, 0, 1, 2, 0, 0]);
    }
}
