//! Cosines and sines of rotary positions.

/// One row of `head_dim / 2` cosines and sines per position, enlarged as longer sequences come.
#[derive(Default)]
pub(crate) struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Fills rows up to `positions`. Angles as the engine makes them: position times `base^(-2i/head_dim)` in f32.
    pub fn extend(&mut self, head_dim: usize, base: f64, positions: usize) {
        self.half = head_dim / 2;
        for position in self.cos.len() / self.half..positions {
            for index in 0..self.half {
                let frequency = (1.0 / base.powf(2.0 * index as f64 / head_dim as f64)) as f32;
                let angle = f64::from(position as f32 * frequency);
                self.cos.push(angle.cos() as f32);
                self.sin.push(angle.sin() as f32);
            }
        }
    }

    /// Cosines and sines of one position.
    pub fn row(&self, position: usize) -> (&[f32], &[f32]) {
        let at = position * self.half..(position + 1) * self.half;
        (&self.cos[at.clone()], &self.sin[at])
    }
}
