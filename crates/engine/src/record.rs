//! Keeps intermediate values of one request and writes them as safetensors, to compare with another implementation.

use std::collections::BTreeMap;
use std::path::Path;

use model::{Taps, TensorData};

use crate::error::EngineError;

/// Intermediate values by name. What comes in several steps is put one after another along the first axis.
#[derive(Default)]
pub struct Record {
    numbers: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    ids: BTreeMap<String, Vec<i64>>,
}

impl Record {
    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names and shapes of the numbers so far.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.numbers
            .iter()
            .map(|(name, (shape, _))| (name.as_str(), shape.as_slice()))
    }

    /// The numbers of a name.
    pub fn numbers(&self, name: &str) -> Option<&[f32]> {
        self.numbers.get(name).map(|(_, data)| data.as_slice())
    }

    /// The token ids of a name.
    pub fn ids(&self, name: &str) -> Option<&[i64]> {
        self.ids.get(name).map(Vec::as_slice)
    }

    /// Writes all as one safetensors file; the file appears whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), EngineError> {
        let numbers = self.numbers.iter().map(|(name, (shape, data))| {
            (
                name.clone(),
                shape.clone(),
                TensorData::F32(data.as_slice().into()),
            )
        });
        let ids = self.ids.iter().map(|(name, ids)| {
            (
                name.clone(),
                vec![ids.len()],
                TensorData::I64(ids.as_slice().into()),
            )
        });
        model::write_safetensors(path, numbers.chain(ids)).map_err(EngineError::from)
    }

    /// Adds rows of shape `[rows, ...]` to a name.
    pub(crate) fn append(&mut self, name: &str, shape: &[usize], data: &[f32]) {
        let (whole, numbers) = self
            .numbers
            .entry(name.to_owned())
            .or_insert_with(|| ([&[0], &shape[1..]].concat(), Vec::new()));
        match whole[1..] == shape[1..] {
            true => whole[0] += shape[0],
            // Views of different sizes: their numbers one after the other.
            false => *whole = vec![numbers.len() + data.len()],
        }
        numbers.extend_from_slice(data);
    }

    /// Keeps token ids.
    pub(crate) fn keep_ids(&mut self, name: &str, ids: &[u32]) {
        self.ids.insert(
            name.to_owned(),
            ids.iter().map(|&id| i64::from(id)).collect(),
        );
    }
}

impl Taps for Record {
    fn tap(&mut self, name: &str, shape: &[usize], data: &[f32]) {
        self.append(name, shape, data);
    }

    /// Of the network only the inputs of the decoder's layers; the engine adds the rest itself.
    fn wants(&self, name: &str) -> bool {
        name.starts_with("hidden.")
    }
}
