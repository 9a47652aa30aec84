//! Where the weights of a bundle come from: a checkpoint, or a seed for a model that exists in shape only.

use crate::gguf::Blocks;
use crate::{Checkpoint, ModelError, ModelSpec};
use rayon::prelude::*;
use std::ops::Range;

/// Weights on their way into a bundle.
pub enum Origin<'a> {
    /// Trained ones; pages that were read are given back.
    Checkpoint(&'a mut Checkpoint),
    /// Random ones for a config.json: to measure speed and memory, for the answers mean nothing.
    Seed {
        /// The text of config.json.
        config: &'a str,
        /// Another seed, other weights.
        seed: u64,
    },
}

impl Origin<'_> {
    pub(super) fn config(&self) -> &str {
        match self {
            Origin::Checkpoint(checkpoint) => checkpoint.config(),
            Origin::Seed { config, .. } => config,
        }
    }

    pub(super) fn check(&self, spec: &ModelSpec) -> Result<(), ModelError> {
        match self {
            Origin::Checkpoint(checkpoint) => checkpoint.check(spec),
            Origin::Seed { .. } => Ok(()),
        }
    }

    /// What can be computed with on the way; nothing where weights are drawn.
    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Origin::Checkpoint(checkpoint) => Some(checkpoint),
            Origin::Seed { .. } => None,
        }
    }

    /// The blocks that a tensor is stored in already.
    pub(super) fn blocks(&self, name: &str) -> Option<Blocks> {
        self.checkpoint()?.blocks(name)
    }

    pub(super) fn give_back_pages(&mut self) -> Result<(), ModelError> {
        match self {
            Origin::Checkpoint(checkpoint) => checkpoint.give_back_pages(),
            Origin::Seed { .. } => Ok(()),
        }
    }

    /// Some rows of `width` numbers of a tensor.
    pub(super) fn rows_f32(
        &self,
        name: &str,
        width: usize,
        rows: Range<usize>,
    ) -> Result<Vec<f32>, ModelError> {
        match self {
            Origin::Checkpoint(checkpoint) => checkpoint.rows_f32(name, width, rows),
            Origin::Seed { seed, .. } => Ok(drawn(*seed, name, width, rows)),
        }
    }
}

/// Rows whose products keep the size of what goes in: even numbers between plus and minus √(3 / width); norms multiply by one,
/// biases add nothing. A row depends on the seed, the tensor's name and the row's place, not on which rows come with it.
fn drawn(seed: u64, name: &str, width: usize, rows: Range<usize>) -> Vec<f32> {
    let constant = match name {
        name if name.ends_with("bias") => Some(0.0),
        name if name.ends_with("norm.weight") || name.contains("layer_norm") => Some(1.0),
        _ if width == 1 => Some(1.0),
        _ => None,
    };
    if let Some(constant) = constant {
        return vec![constant; rows.len() * width];
    }
    // FNV-1a: a hash that stays the same.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3u64)
    });
    let reach = (3.0 / width as f32).sqrt();
    let mut out = vec![0.0; rows.len() * width];
    out.par_chunks_mut(width).zip(rows).for_each(|(row, at)| {
        let mut state = seed ^ hash ^ (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for pair in row.chunks_mut(2) {
            let bits = splitmix(&mut state);
            for (value, bits) in pair.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
                *value = reach * (bits as i32 as f32 / (1u32 << 31) as f32);
            }
        }
    });
    out
}

/// A small generator of even bits (Steele, Lea and Flood 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_rows_keep_the_size_of_what_goes_in_and_stay_when_others_come_with_them() {
        let width = 3000;
        let all = drawn(3, "mlp.up_proj.weight", width, 0..20);
        assert_eq!(
            drawn(3, "mlp.up_proj.weight", width, 7..9),
            all[7 * width..9 * width]
        );
        assert_ne!(drawn(4, "mlp.up_proj.weight", width, 0..20), all);
        assert_ne!(drawn(3, "mlp.down_proj.weight", width, 0..20), all);
        // The sum of 60,000 even squares with mean 1 / width: its deviation is √(60000 · 0.8) / 60000 = 0.4% of it.
        let squares: f32 = all.iter().map(|v| v * v).sum();
        assert!((squares / 20.0 - 1.0).abs() < 0.02, "{squares}");
        assert!(
            drawn(3, "post_layernorm.weight", 1, 0..9)
                .iter()
                .all(|v| *v == 1.0)
        );
        assert!(drawn(3, "q_proj.bias", 1, 0..9).iter().all(|v| *v == 0.0));
    }
}
