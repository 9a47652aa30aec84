//! From numbers to the blocks of a GGUF file.

use super::Blocks;
use half::{bf16, f16};

/// A type of tensors that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// f32.
    F32,
    /// f16.
    F16,
    /// bf16.
    Bf16,
    /// 8 bits in blocks of 32.
    Q8_0,
    /// 4 bits in blocks of 32.
    Q4_0,
}

impl TensorType {
    /// Its number in files.
    pub(super) fn number(self) -> u32 {
        match self {
            TensorType::F32 => 0,
            TensorType::F16 => 1,
            TensorType::Bf16 => 30,
            TensorType::Q8_0 => Blocks::Q8_0.number(),
            TensorType::Q4_0 => Blocks::Q4_0.number(),
        }
    }

    /// Bytes of a row of so many numbers, whole blocks of them.
    pub(super) fn bytes_of(self, numbers: usize) -> usize {
        match self {
            TensorType::F32 => numbers * 4,
            TensorType::F16 | TensorType::Bf16 => numbers * 2,
            TensorType::Q8_0 => numbers / Blocks::Q8_0.numbers() * Blocks::Q8_0.bytes(),
            TensorType::Q4_0 => numbers / Blocks::Q4_0.numbers() * Blocks::Q4_0.bytes(),
        }
    }

    /// The blocks that it is made of.
    pub(super) fn blocks(self) -> Option<Blocks> {
        match self {
            TensorType::Q8_0 => Some(Blocks::Q8_0),
            TensorType::Q4_0 => Some(Blocks::Q4_0),
            _ => None,
        }
    }

    /// Numbers as this type, rounded to the nearest where it has fewer bits.
    pub(super) fn encode(self, numbers: &[f32]) -> Vec<u8> {
        let each = numbers.iter();
        match self {
            TensorType::F32 => each.flat_map(|v| v.to_le_bytes()).collect(),
            TensorType::F16 => each.flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            TensorType::Bf16 => each
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
            TensorType::Q8_0 => {
                let (values, scales) = rounded(numbers, |block| largest(block).abs() / 127.0, 127);
                blocks(Blocks::Q8_0, &values, &scales)
            }
            TensorType::Q4_0 => {
                // -8 for the outermost, whatever its sign: there is one whole number more below zero than above.
                let (values, scales) = rounded(numbers, |block| largest(block) / -8.0, 7);
                blocks(Blocks::Q4_0, &values, &scales)
            }
        }
    }
}

/// The number that is farthest from zero.
fn largest(block: &[f32]) -> f32 {
    let farther = |most: f32, v: &f32| if v.abs() > most.abs() { *v } else { most };
    block.iter().fold(0.0, farther)
}

/// Blocks of 32 as whole numbers up to `most`, and f16 scales.
fn rounded(numbers: &[f32], scale: impl Fn(&[f32]) -> f32, most: i8) -> (Vec<i8>, Vec<u16>) {
    let (mut values, mut scales) = (Vec::with_capacity(numbers.len()), Vec::new());
    for block in numbers.chunks_exact(Blocks::Q8_0.numbers()) {
        let scale = f16::from_f32(scale(block));
        let factor = 1.0 / scale.to_f32();
        let factor = if factor.is_finite() { factor } else { 0.0 };
        let (low, high) = (-f32::from(most) - 1.0, f32::from(most));
        // The cast of a number in bounds is exact.
        values.extend(
            block
                .iter()
                .map(|v| (v * factor).round_ties_even().clamp(low, high) as i8),
        );
        scales.push(scale.to_bits());
    }
    (values, scales)
}

/// Whole numbers and f16 scales as symmetric blocks.
pub(super) fn blocks(kind: Blocks, values: &[i8], scales: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(scales.len() * kind.bytes());
    for (values, scale) in values.chunks_exact(kind.numbers()).zip(scales) {
        bytes.extend(scale.to_le_bytes());
        match kind {
            Blocks::Q8_0 => bytes.extend(values.iter().map(|value| *value as u8)),
            _ => {
                let (low, high) = values.split_at(kind.numbers() / 2);
                let pairs = low.iter().zip(high);
                bytes.extend(pairs.map(|(low, high)| (low + 8) as u8 | ((high + 8) as u8) << 4));
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_within_half_a_step() {
        let numbers: Vec<f32> = (0..128)
            .map(|at| ((at * 37 % 61) as f32 - 30.0) * 0.013)
            .collect();
        for (kind, steps) in [(TensorType::Q8_0, 127.0), (TensorType::Q4_0, 8.0)] {
            let bytes = kind.encode(&numbers);
            assert_eq!(bytes.len(), kind.bytes_of(numbers.len()));
            let blocks = kind.blocks().unwrap();
            let back = blocks.to_f32(&bytes);
            for (block, back) in numbers.chunks(32).zip(back.chunks(32)) {
                // The scale is rounded to 11 bits; at the other end of the range there is one whole number less.
                let step = largest(block).abs() / steps;
                for (v, back) in block.iter().zip(back) {
                    let allowed = if v.abs() > 7.4 * step { 1.0 } else { 0.5 };
                    let allowed =
                        step * if steps == 8.0 { allowed } else { 0.5 } + v.abs() / 2048.0;
                    assert!((v - back).abs() <= allowed, "{kind:?} {v} {back}");
                }
            }
            let (values, scales) = blocks.whole(&bytes);
            assert_eq!(super::blocks(blocks, &values, &scales), bytes);
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for kind in [TensorType::Q8_0, TensorType::Q4_0] {
            let back = kind.blocks().unwrap().to_f32(&kind.encode(&[0.0; 32]));
            assert_eq!(back, [0.0; 32]);
        }
    }
}
