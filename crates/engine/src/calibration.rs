//! How fast a model is on a machine, measured once, and from that how long a request will take.
//!
//! A calibration holds for the weights, the machine and the number of threads that it was measured with. Between measured
//! points it is linear, beyond them it goes on with the nearest one. It knows nothing of what else the machine does.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::files::{read_capped, write_whole};

const VERSION: u32 = 1;
/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// A measured value: `x` is what it was measured at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Tiles of a batch, or rows, or positions in the cache.
    pub x: usize,
    /// Milliseconds, or tokens by second.
    pub y: f64,
}

/// Measured speeds of one model on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Of this file's form.
    pub version: u32,
    /// Name of the weights in hexadecimal.
    pub model: String,
    /// The machine, in words.
    pub machine: String,
    /// Threads that computed.
    pub threads: usize,
    /// Milliseconds of a tile, by the tiles of a batch; empty for a model that sees nothing.
    pub encode_ms_per_tile: Vec<Point>,
    /// Tokens by second over a whole prompt, by its rows, in steps of `step_tokens`.
    pub prefill_tokens_per_s: Vec<Point>,
    /// The same for the longest prompt, by the rows of a step.
    pub prefill_by_step: Vec<Point>,
    /// Rows of a step of [`Calibration::prefill_tokens_per_s`].
    pub step_tokens: usize,
    /// Tokens by second, by the positions in the cache.
    pub decode_tokens_per_s: Vec<Point>,
    /// Most bytes resident while all that was measured, without caches.
    pub base_bytes: u64,
    /// Bytes of cache for each position.
    pub cache_bytes_per_token: usize,
}

/// What a request will make the machine do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Tiles of each image that has to be encoded.
    pub tiles: Vec<usize>,
    /// Tiles of a batch.
    pub batch_tiles: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that are remembered.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub answer_tokens: usize,
}

/// What a request will take, as far as a calibration can say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Encoding its images.
    pub encode_ms: f64,
    /// Reading its prompt, remembered tokens apart.
    pub prefill_ms: f64,
    /// Until its first token: one after the other.
    pub first_token_ms: f64,
    /// Tokens after the first, by second.
    pub decode_tokens_per_s: f64,
    /// Until the last token of its answer, if that is as long as it may be.
    pub answer_ms: f64,
    /// Most memory at once.
    pub peak_bytes: u64,
}

impl Calibration {
    /// A calibration of this version.
    pub fn version() -> u32 {
        VERSION
    }

    /// Reads a file that [`Calibration::write`] wrote.
    ///
    /// Errors: no such file, or one that is no calibration of this version with finite speeds above 0.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let bytes = read_capped(path, MAX_BYTES)?;
        let wrong = |message: String| EngineError::Read {
            path: path.into(),
            source: std::io::Error::other(message),
        };
        let calibration: Calibration = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("not a calibration: {error}")))?;
        if calibration.version != VERSION {
            let found = calibration.version;
            let message = format!("expected a calibration of version {VERSION}, found {found}");
            return Err(wrong(message));
        }
        match calibration.is_sound() {
            true => Ok(calibration),
            false => Err(wrong("not a calibration: a speed that is none".into())),
        }
    }

    /// Writes a file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), EngineError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        write_whole(path, text.as_bytes()).map_err(|source| EngineError::Read {
            path: path.into(),
            source,
        })
    }

    fn is_sound(&self) -> bool {
        let rising = |points: &[Point]| points.is_sorted_by(|a, b| a.x < b.x);
        let all = [
            &self.encode_ms_per_tile,
            &self.prefill_tokens_per_s,
            &self.prefill_by_step,
            &self.decode_tokens_per_s,
        ];
        let speeds = all.iter().flat_map(|points| points.iter());
        speeds
            .map(|point| point.y)
            .all(|y| y.is_finite() && y > 0.0)
            && all.iter().all(|points| rising(points))
            && !self.prefill_tokens_per_s.is_empty()
            && !self.decode_tokens_per_s.is_empty()
    }

    /// What some work will take.
    pub fn predict(&self, work: &Work) -> Prediction {
        let encode_ms = work
            .tiles
            .iter()
            .map(|&tiles| self.encode_ms(tiles, work.batch_tiles))
            .sum();
        let prefill_ms = self.prefill_ms(work.prompt_tokens) - self.prefill_ms(work.cached_tokens);
        let first_token_ms = encode_ms + prefill_ms;
        let following = work.answer_tokens.saturating_sub(1);
        let depth = work.prompt_tokens + following / 2;
        let rate = at(&self.decode_tokens_per_s, depth);
        let positions = work.prompt_tokens + following;
        Prediction {
            encode_ms: to_micro(encode_ms),
            prefill_ms: to_micro(prefill_ms),
            first_token_ms: to_micro(first_token_ms),
            decode_tokens_per_s: (rate * 100.0).round() / 100.0,
            answer_ms: to_micro(first_token_ms + following as f64 / rate.max(1e-9) * 1e3),
            peak_bytes: self.base_bytes + (positions * self.cache_bytes_per_token) as u64,
        }
    }

    /// One image: whole batches, and the rest as one.
    fn encode_ms(&self, tiles: usize, batch: usize) -> f64 {
        if self.encode_ms_per_tile.is_empty() {
            return 0.0;
        }
        let batch = batch.max(1);
        let of = |tiles: usize| tiles as f64 * at(&self.encode_ms_per_tile, tiles);
        (tiles / batch) as f64 * of(batch) + of(tiles % batch)
    }

    /// A prompt from its beginning.
    fn prefill_ms(&self, tokens: usize) -> f64 {
        tokens as f64 / at(&self.prefill_tokens_per_s, tokens).max(1e-9) * 1e3
    }
}

/// The value at `x`: linear between points, the nearest beyond them. 0 without any.
fn at(points: &[Point], x: usize) -> f64 {
    let after = points.partition_point(|point| point.x < x);
    match (
        after.checked_sub(1).map(|before| points[before]),
        points.get(after),
    ) {
        (Some(a), Some(b)) => {
            let share = (x - a.x) as f64 / (b.x - a.x) as f64;
            a.y + share * (b.y - a.y)
        }
        (Some(only), None) => only.y,
        (None, Some(only)) => only.y,
        (None, None) => 0.0,
    }
}

fn to_micro(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(points: &[(usize, f64)]) -> Vec<Point> {
        points.iter().map(|&(x, y)| Point { x, y }).collect()
    }

    fn calibration() -> Calibration {
        Calibration {
            version: VERSION,
            model: "m".into(),
            machine: "a machine".into(),
            threads: 2,
            encode_ms_per_tile: points(&[(1, 30.0), (4, 20.0)]),
            prefill_tokens_per_s: points(&[(100, 100.0), (1000, 50.0)]),
            prefill_by_step: Vec::new(),
            step_tokens: 128,
            decode_tokens_per_s: points(&[(100, 10.0), (200, 5.0)]),
            base_bytes: 1000,
            cache_bytes_per_token: 10,
        }
    }

    #[test]
    fn times_add_up_from_measured_speeds() {
        let work = Work {
            tiles: vec![9, 2],
            batch_tiles: 4,
            prompt_tokens: 100,
            cached_tokens: 50,
            answer_tokens: 101,
        };
        let predicted = calibration().predict(&work);
        // Two batches of four at 20 and one tile at 30; two tiles at 30 - 10/3.
        let encode = 8.0 * 20.0 + 30.0 + 2.0 * (30.0 - 10.0 / 3.0);
        assert!((predicted.encode_ms - encode).abs() < 1e-3, "{predicted:?}");
        // One second for all, half a second for what is remembered.
        assert_eq!(predicted.prefill_ms, 500.0);
        assert!((predicted.first_token_ms - encode - 500.0).abs() < 1e-3);
        // A hundred tokens after the first, at 150 positions on average: 7.5 a second.
        assert_eq!(predicted.decode_tokens_per_s, 7.5);
        assert!((predicted.answer_ms - encode - 500.0 - 100.0 / 7.5 * 1e3).abs() < 2e-3);
        assert_eq!(predicted.peak_bytes, 1000 + 200 * 10);
    }

    #[test]
    fn values_are_linear_between_points_and_constant_beyond() {
        let line = points(&[(10, 1.0), (20, 2.0), (40, 6.0)]);
        for (x, y) in [
            (0, 1.0),
            (10, 1.0),
            (15, 1.5),
            (20, 2.0),
            (30, 4.0),
            (99, 6.0),
        ] {
            assert_eq!(at(&line, x), y, "{x}");
        }
    }

    #[test]
    fn a_file_is_read_back_and_what_is_no_calibration_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        calibration().write(&path).unwrap();
        assert_eq!(Calibration::read(&path).unwrap(), calibration());
        let with = |change: &dyn Fn(&mut Calibration)| {
            let mut wrong = calibration();
            change(&mut wrong);
            wrong.write(&path).unwrap();
            Calibration::read(&path).unwrap_err().to_string()
        };
        assert!(with(&|c| c.version = 9).contains("expected a calibration of version 1, found 9"));
        for change in [
            (|c| c.encode_ms_per_tile[0].y = 0.0) as fn(&mut Calibration),
            |c| c.decode_tokens_per_s.clear(),
            |c| c.prefill_tokens_per_s.reverse(),
            // Written as null, which is no number.
            |c| c.decode_tokens_per_s[0].y = f64::NAN,
        ] {
            let message = with(&change);
            assert!(message.contains("not a calibration"), "{message}");
        }
        std::fs::write(&path, "[").unwrap();
        assert!(Calibration::read(&path).is_err());
    }
}
