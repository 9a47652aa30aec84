//! Writing safetensors files that appear whole or not at all.

use crate::ModelError;
use safetensors::Dtype;
use safetensors::tensor::View;
use std::borrow::Cow;
use std::path::Path;

/// Numbers to be written.
#[derive(Clone, Debug)]
pub enum TensorData<'a> {
    /// f32.
    F32(Cow<'a, [f32]>),
    /// bf16 bits.
    Bf16(Cow<'a, [u16]>),
    /// i64.
    I64(Cow<'a, [i64]>),
}

struct Tensor<'a> {
    shape: Vec<usize>,
    data: TensorData<'a>,
}

impl View for &Tensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.data {
            TensorData::F32(_) => Dtype::F32,
            TensorData::Bf16(_) => Dtype::BF16,
            TensorData::I64(_) => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.data {
            TensorData::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            TensorData::Bf16(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            TensorData::I64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    fn data_len(&self) -> usize {
        match &self.data {
            TensorData::F32(values) => values.len() * 4,
            TensorData::Bf16(values) => values.len() * 2,
            TensorData::I64(values) => values.len() * 8,
        }
    }
}

/// Writes names, shapes and numbers to `path`: under a temporary name beside it, synced, then renamed.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, Vec<usize>, TensorData<'a>)>,
) -> Result<(), ModelError> {
    let tensors: Vec<(String, Tensor)> = tensors
        .into_iter()
        .map(|(name, shape, data)| (name, Tensor { shape, data }))
        .collect();
    let wrong = |e: safetensors::SafeTensorError| ModelError::WeightFile {
        path: path.into(),
        problem: e.to_string(),
    };
    let metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(
        tensors.iter().map(|(name, tensor)| (name, tensor)),
        Some(metadata),
    )
    .map_err(wrong)?;
    let partial = path.with_extension("safetensors.partial");
    let write = || -> std::io::Result<()> {
        use std::io::Write;
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|e| {
        // A half-written temporary file is of no use; that it cannot be removed either changes nothing.
        let _ = std::fs::remove_file(&partial);
        ModelError::io("writing", path)(e)
    })
}
