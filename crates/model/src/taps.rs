//! Named intermediates, for tests that say which one differs first and for `--taps`.

/// Receives intermediates as they are computed. A prompt that is prefilled in chunks gives each name once per chunk.
pub trait Taps: Send {
    /// Whether `name` is worth computing or copying.
    fn wants(&self, _name: &str) -> bool {
        true
    }

    /// One intermediate: row-major, `data.len()` is the product of `shape`.
    fn tap(&mut self, name: &str, shape: &[usize], data: &[f32]);
}

/// Wants nothing.
pub struct NoTaps;

impl Taps for NoTaps {
    fn wants(&self, _name: &str) -> bool {
        false
    }

    fn tap(&mut self, _name: &str, _shape: &[usize], _data: &[f32]) {}
}
