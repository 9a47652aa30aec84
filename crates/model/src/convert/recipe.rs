//! Which precision each matrix gets.

use crate::TensorSpec;
use crate::bundle::{Activations, Packed, Scales, Storage};
use crate::gguf::Blocks;
use crate::spec::Role;
use kernels::matmul_quantized::LONGEST_BLOCK;

/// Groups that may be asked for.
pub const GROUPS: [usize; 3] = [32, 64, 128];

/// Numbers of an embedding's row that share a scale.
const EMBEDDING_GROUP: usize = 64;

/// Precisions of weights and of what goes into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Decoder INT4, encoder, projector and head INT8; rows INT16.
    Paper,
    /// The same weights; rows INT8.
    Fast,
    /// Weights bf16, rows f32: what a bf16 checkpoint gives, bit for bit.
    Bf16,
}

impl Recipe {
    /// Every recipe.
    pub const ALL: [Recipe; 3] = [Recipe::Paper, Recipe::Fast, Recipe::Bf16];

    /// `paper`, `fast` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::Paper => "paper",
            Recipe::Fast => "fast",
            Recipe::Bf16 => "bf16",
        }
    }

    /// What rows are quantized to; nothing where they are not.
    fn activations(self) -> Option<Activations> {
        match self {
            Recipe::Paper => Some(Activations::Int16),
            Recipe::Fast => Some(Activations::Int8),
            Recipe::Bf16 => None,
        }
    }

    /// How a tensor is stored whose numbers are these blocks already, so that they stay what they are; nothing where this
    /// recipe wants others.
    pub(super) fn exact(self, tensor: &TensorSpec, blocks: Blocks) -> Option<Storage> {
        let activations = self.activations()?;
        if !blocks.is_symmetric() || tensor.role == Role::Numbers {
            return None;
        }
        let (group, scales) = (blocks.numbers(), Scales::F16);
        let packed = Packed {
            group,
            block: group,
            activations,
            scales,
        };
        Some(match (tensor.role, blocks) {
            (Role::Embedding, _) => Storage::Int8Rows { group, scales },
            (_, Blocks::Q4_0) => Storage::Int4(packed),
            _ => Storage::Int8(packed),
        })
    }

    /// How a tensor is stored, INT4 in groups of `group` where they fit.
    pub(super) fn storage(self, tensor: &TensorSpec, group: usize) -> Storage {
        let Some(activations) = self.activations() else {
            return match tensor.role {
                Role::Numbers | Role::Unused => Storage::F32,
                Role::Embedding => Storage::Bf16Rows,
                _ => Storage::Bf16Panels,
            };
        };
        let scales = Scales::Bf16;
        let k = tensor.shape[1..].iter().product();
        match tensor.role {
            Role::Numbers | Role::Unused => Storage::F32,
            Role::Embedding => Storage::Int8Rows {
                group: EMBEDDING_GROUP,
                scales,
            },
            Role::Encoder | Role::Projector | Role::Head => {
                let block = long_block(k);
                Storage::Int8(Packed {
                    group: k.next_multiple_of(block),
                    block,
                    activations,
                    scales,
                })
            }
            Role::Decoder => {
                let group = fitting_group(k, group);
                Storage::Int4(Packed {
                    group,
                    block: group,
                    activations,
                    scales,
                })
            }
        }
    }
}

/// The largest group, halving the one asked for, that fills up a row by at most a sixteenth; groups of 8 always do.
fn fitting_group(k: usize, asked: usize) -> usize {
    let mut group = asked;
    while group > 8 && (k.next_multiple_of(group) - k) * 16 > k {
        group /= 2;
    }
    group
}

/// The longest block of 128 or more that divides a row, or that fills it up by at most a 64th, or the one that fills it up the
/// least: a row of an INT8 matrix has no groups to respect.
fn long_block(k: usize) -> usize {
    if k <= LONGEST_BLOCK {
        return k.next_multiple_of(8);
    }
    let filled = |block: usize| k.next_multiple_of(block) - k;
    let blocks = || (8..=LONGEST_BLOCK / 8).rev().map(|eighth| eighth * 8);
    blocks()
        .find(|block| *block >= 128 && filled(*block) == 0)
        .or_else(|| blocks().find(|block| filled(*block) * 64 <= k))
        .or_else(|| blocks().min_by_key(|block| filled(*block)))
        .unwrap_or(LONGEST_BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_halve_until_little_is_filled_up() {
        assert_eq!(fitting_group(2560, 128), 128);
        assert_eq!(fitting_group(192, 128), 64);
        assert_eq!(fitting_group(48, 64), 16);
        // 6912 + 64 would be within bounds, but it divides.
        assert_eq!(fitting_group(6912, 128), 128);
        assert_eq!(fitting_group(4304, 128), 128);
        assert_eq!(fitting_group(20, 32), 8);
    }

    #[test]
    fn blocks_of_int8_rows_fill_up_as_little_as_they_can() {
        for (k, block, padded) in [
            (1152, 384, 1152),
            (4304, 480, 4320),
            (588, 296, 592),
            (192, 192, 192),
            (768, 384, 768),
            (48, 48, 48),
            (20, 24, 24),
        ] {
            assert_eq!(long_block(k), block, "{k} inputs");
            assert_eq!(k.next_multiple_of(block), padded, "{k} inputs");
        }
    }
}
