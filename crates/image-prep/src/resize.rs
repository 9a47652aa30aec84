//! Resizing with antialiasing, equal to Pillow's `Image.resize` bit for bit.
use crate::Picture;

/// Interpolation kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Triangle, support 1 (Pillow's number 2).
    Bilinear,
    /// Cubic with a = -0.5, support 2 (Pillow's number 3).
    Bicubic,
    /// Windowed sinc, support 3 (Pillow's number 1).
    Lanczos3,
}

impl Filter {
    /// Pillow's number, as `resample` in preprocessor_config.json.
    pub fn pillow_number(self) -> u8 {
        match self {
            Filter::Lanczos3 => 1,
            Filter::Bilinear => 2,
            Filter::Bicubic => 3,
        }
    }

    /// The filter with this Pillow number.
    pub fn from_pillow_number(number: u64) -> Option<Filter> {
        match number {
            1 => Some(Filter::Lanczos3),
            2 => Some(Filter::Bilinear),
            3 => Some(Filter::Bicubic),
            _ => None,
        }
    }

    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos3 => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Filter::Bilinear => {
                let x = x.abs();
                if x < 1.0 { 1.0 - x } else { 0.0 }
            }
            Filter::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Filter::Lanczos3 => {
                if (-3.0..3.0).contains(&x) {
                    sinc(x) * sinc(x / 3.0)
                } else {
                    0.0
                }
            }
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

const PRECISION_BITS: u32 = 32 - 8 - 2;

struct Window {
    start: usize,
    weights: Vec<i32>,
}

fn windows(input: u32, output: u32, filter: Filter) -> Vec<Window> {
    let scale = f64::from(input) / f64::from(output);
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let inverse = 1.0 / filter_scale;
    (0..output)
        .map(|at| {
            let center = (f64::from(at) + 0.5) * scale;
            let start = ((center - support + 0.5) as i64).max(0);
            let end = ((center + support + 0.5) as i64).min(i64::from(input));
            let raw: Vec<f64> = (0..end - start)
                .map(|x| filter.weight(((x + start) as f64 - center + 0.5) * inverse))
                .collect();
            let sum: f64 = raw.iter().sum();
            let weights = raw
                .iter()
                .map(|&weight| {
                    let weight = if sum != 0.0 { weight / sum } else { weight };
                    let fixed = weight * f64::from(1 << PRECISION_BITS);
                    (if weight < 0.0 {
                        fixed - 0.5
                    } else {
                        fixed + 0.5
                    }) as i32
                })
                .collect();
            Window {
                start: start as usize,
                weights,
            }
        })
        .collect()
}

/// Resizes to `width` x `height` as Pillow does with the horizontal pass first; a pass whose size does not change is left out.
pub fn resize(picture: &Picture, width: u32, height: u32, filter: Filter) -> Picture {
    let mut current = picture.clone();
    if width != current.width {
        let windows = windows(current.width, width, filter);
        let mut rgb = Vec::with_capacity(3 * width as usize * current.height as usize);
        for row in current.rgb.chunks_exact(3 * current.width as usize) {
            for window in &windows {
                for channel in 0..3 {
                    let mut sum = 1i32 << (PRECISION_BITS - 1);
                    for (k, &weight) in window.weights.iter().enumerate() {
                        sum = sum.wrapping_add(
                            weight.wrapping_mul(i32::from(row[3 * (window.start + k) + channel])),
                        );
                    }
                    rgb.push((sum >> PRECISION_BITS).clamp(0, 255) as u8);
                }
            }
        }
        current = Picture {
            width,
            height: current.height,
            rgb,
        };
    }
    if height != current.height {
        let windows = windows(current.height, height, filter);
        let row = 3 * width as usize;
        let mut rgb = Vec::with_capacity(row * height as usize);
        for window in &windows {
            for x in 0..row {
                let mut sum = 1i32 << (PRECISION_BITS - 1);
                for (k, &weight) in window.weights.iter().enumerate() {
                    sum = sum.wrapping_add(
                        weight.wrapping_mul(i32::from(current.rgb[(window.start + k) * row + x])),
                    );
                }
                rgb.push((sum >> PRECISION_BITS).clamp(0, 255) as u8);
            }
        }
        current = Picture { width, height, rgb };
    }
    current
}
