//! How the numbers of a tensor are stored in a file.

use crate::gguf::Blocks;
use safetensors::Dtype;

/// A type of numbers in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
    /// Blocks that share scales: GGUF.
    Blocks(Blocks),
    /// A type that nothing here computes with.
    Other(String),
}

impl Stored {
    /// Bytes of so many numbers, whole blocks of them. Those of a type that is not read have none.
    pub fn bytes_of(&self, numbers: usize) -> usize {
        match self {
            Stored::F32 => numbers * 4,
            Stored::F16 | Stored::Bf16 => numbers * 2,
            Stored::Blocks(blocks) => numbers / blocks.numbers() * blocks.bytes(),
            Stored::Other(_) => 0,
        }
    }
}

impl From<Dtype> for Stored {
    fn from(dtype: Dtype) -> Stored {
        match dtype {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::Bf16,
            other => Stored::Other(format!("{other:?}")),
        }
    }
}
