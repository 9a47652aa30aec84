//! Where a network's numbers come from: a checkpoint, from which they are packed, or a bundle, in which they are used in place.

use crate::bundle::{Bundle, Part, Shared};
use crate::matrix::Matrix;
use crate::{Checkpoint, ModelError, Numbers};
use kernels::attention_kv8::WIDEST;
use kernels::matmul::Panels;
use kernels::matmul_quantized::{Precision, ScaleFormat};

/// A checkpoint or a bundle whose tensors were compared with the specification.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Checkpoint(&'a Checkpoint),
    Bundle(&'a Bundle),
    /// A checkpoint with other numbers for some of its weights.
    Overlaid(&'a Checkpoint, &'a dyn Overlay),
}

/// Numbers that stand for a checkpoint's, those that came out of rounding.
pub(crate) trait Overlay {
    /// Rows of weights, None where the checkpoint's are meant.
    fn weights(&self, name: &str) -> Option<Vec<f32>>;
}

/// An embedding of its own, row by row.
pub(crate) enum Table {
    F32(Vec<f32>),
    /// bf16 bits.
    Bf16(Vec<u16>),
    /// bf16 bits in a file.
    Bf16InPlace(Shared),
    /// Whole numbers, and scales for each row and group of them.
    Int8 {
        values: Part,
        scales: Shared,
        scale_format: ScaleFormat,
        group: usize,
    },
}

impl Source<'_> {
    /// A tensor as f32, refused when it holds NaN or infinity.
    pub fn numbers(self, name: &str) -> Result<Vec<f32>, ModelError> {
        match self {
            Source::Checkpoint(checkpoint) | Source::Overlaid(checkpoint, _) => {
                checkpoint.tensor_f32(name)
            }
            Source::Bundle(bundle) => bundle.numbers(name),
        }
    }

    /// A weight ready to multiply; of a checkpoint's, bf16 stays bf16 and f16 is widened.
    pub fn matrix(self, name: &str, outputs: usize, inputs: usize) -> Result<Matrix, ModelError> {
        let checkpoint = match self {
            Source::Bundle(bundle) => return Ok(bundle.matrix(name)),
            Source::Checkpoint(checkpoint) => checkpoint,
            Source::Overlaid(checkpoint, overlay) => match overlay.weights(name) {
                Some(weights) => {
                    let panels = Panels::from_linear_f32(outputs, inputs, &weights);
                    return Ok(Matrix::Panels(panels));
                }
                None => checkpoint,
            },
        };
        let panels = match checkpoint.numbers(name) {
            Numbers::Bf16(bytes) => {
                Panels::from_linear_bf16(outputs, inputs, &finite_bf16(name, &bytes)?)
            }
            _ => Panels::from_linear_f32(outputs, inputs, &checkpoint.tensor_f32(name)?),
        };
        Ok(Matrix::Panels(panels))
    }

    /// What attention among the layers whose names begin with `prefix` rounds its queries to, having heads of `width`
    /// numbers; None where it computes with f32.
    pub fn attention(self, prefix: &str, width: usize) -> Option<Precision> {
        match self {
            Source::Bundle(bundle) if width <= WIDEST => bundle.attention(prefix),
            _ => None,
        }
    }

    /// An embedding that is not the head.
    pub fn table(self, name: &str) -> Result<Table, ModelError> {
        let checkpoint = match self {
            Source::Checkpoint(checkpoint) | Source::Overlaid(checkpoint, _) => checkpoint,
            Source::Bundle(bundle) => return Ok(bundle.table(name)),
        };
        Ok(match checkpoint.numbers(name) {
            Numbers::Bf16(bytes) => Table::Bf16(finite_bf16(name, &bytes)?),
            _ => Table::F32(checkpoint.tensor_f32(name)?),
        })
    }
}

impl Table {
    /// Row `at`, as many numbers as `row` has room for.
    pub fn read_row(&self, at: usize, row: &mut [f32]) {
        let width = row.len();
        let widen = |row: &mut [f32], bits: &[u16]| {
            for (number, bits) in row.iter_mut().zip(&bits[at * width..][..width]) {
                *number = from_bf16(*bits);
            }
        };
        match self {
            Table::F32(numbers) => row.copy_from_slice(&numbers[at * width..][..width]),
            Table::Bf16(bits) => widen(row, bits),
            Table::Bf16InPlace(bits) => widen(row, bits.numbers()),
            Table::Int8 {
                values,
                scales,
                scale_format,
                group,
            } => {
                let groups = width.div_ceil(*group);
                let scales = &scales.numbers()[at * groups..][..groups];
                let values = &values.bytes()[at * width..][..width];
                for (index, (number, value)) in row.iter_mut().zip(values).enumerate() {
                    *number = f32::from(*value as i8) * scale_format.number(scales[index / group]);
                }
            }
        }
    }
}

/// The number that a bf16 stands for.
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// bf16 bits of a file, refused when one is NaN or infinity.
fn finite_bf16(name: &str, bytes: &[u8]) -> Result<Vec<u16>, ModelError> {
    let bits: Vec<u16> = bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|b| u16::from_le_bytes(*b))
        .collect();
    match bits.iter().position(|bits| !is_finite(*bits)) {
        Some(index) => Err(ModelError::NotFinite {
            name: name.into(),
            index,
            found: from_bf16(bits[index]),
        }),
        None => Ok(bits),
    }
}

/// Infinity and what is not a number have all exponent bits set.
fn is_finite(bits: u16) -> bool {
    bits & 0x7f80 != 0x7f80
}
