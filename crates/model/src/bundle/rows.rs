//! Rows of a bundle's tensors as numbers, for what is made of a bundle.

use super::{Bundle, Storage};
use crate::ModelError;
use crate::gguf::TensorType;
use std::ops::Range;

/// Inputs that share a scale in GGUF.
const BLOCK: usize = 32;

/// Rows as whole numbers, and a scale for every 32 of them.
pub(crate) struct Whole {
    pub values: Vec<i8>,
    pub scales: Vec<f32>,
}

impl Bundle {
    /// The type of GGUF that comes closest to a tensor's.
    pub(crate) fn nearest_type(&self, name: &str) -> TensorType {
        match self.tensor(name).0.storage {
            Storage::F32 => TensorType::F32,
            Storage::Bf16Panels | Storage::Bf16Rows => TensorType::Bf16,
            Storage::Int4(_) => TensorType::Q4_0,
            Storage::Int8(_) | Storage::Int8Rows { .. } => TensorType::Q8_0,
        }
    }

    /// Some rows of whole numbers; nothing where there are none, or where scales change inside of 32.
    pub(crate) fn rows_whole(&self, name: &str, k: usize, rows: Range<usize>) -> Option<Whole> {
        let (label, range) = self.tensor(name);
        let group = match label.storage {
            Storage::Int4(packed) | Storage::Int8(packed) => packed.group,
            Storage::Int8Rows { group, .. } => group,
            _ => return None,
        };
        if !k.is_multiple_of(BLOCK) || !(group.is_multiple_of(BLOCK) || group >= k) {
            return None;
        }
        let mut whole = Whole {
            values: Vec::with_capacity(rows.len() * k),
            scales: Vec::with_capacity(rows.len() * k / BLOCK),
        };
        if let Storage::Int8Rows { scales: format, .. } = label.storage {
            let (values, scales) = self.halves(label, range);
            let format = format.format();
            for row in rows {
                let values = &values.bytes()[row * k..][..k];
                whole.values.extend(values.iter().map(|value| *value as i8));
                let own = &scales.numbers()[row * k.div_ceil(group)..];
                let starts = (0..k).step_by(BLOCK);
                whole
                    .scales
                    .extend(starts.map(|at| format.number(own[at / group])));
            }
            return Some(whole);
        }
        let matrix = self.matrix(name);
        let weights = matrix.quantized()?.weights();
        for row in rows {
            // Whole numbers of up to 8 bits.
            whole
                .values
                .extend((0..k).map(|input| weights.whole_at(row, input) as i8));
            let starts = (0..k).step_by(BLOCK);
            whole
                .scales
                .extend(starts.map(|input| weights.scale_at(row, input)));
        }
        Some(whole)
    }

    /// Some rows as f32.
    pub(crate) fn rows_f32(
        &self,
        name: &str,
        k: usize,
        rows: Range<usize>,
    ) -> Result<Vec<f32>, ModelError> {
        if let Storage::F32 = self.tensor(name).0.storage {
            return Ok(self.numbers(name)?[rows.start * k..rows.end * k].to_vec());
        }
        let mut numbers = vec![0.0; rows.len() * k];
        let out = rows.zip(numbers.chunks_exact_mut(k.max(1)));
        match self.tensor(name).0.storage {
            Storage::Int8Rows { .. } | Storage::Bf16Rows => {
                let table = self.table(name);
                out.for_each(|(row, out)| table.read_row(row, out));
            }
            _ => {
                let matrix = self.matrix(name);
                out.for_each(|(row, out)| matrix.read_row(row, out));
            }
        }
        Ok(numbers)
    }
}
