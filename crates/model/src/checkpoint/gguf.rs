//! GGUF files as a checkpoint: their keys as a configuration, their tensors under the names of the native format.

use super::{Bytes, Checkpoint, File, Numbers, Place};
use crate::gguf::{Blocks, GgufFile, GgufTensor, TensorType, Tensors};
use crate::stored::Stored;
use crate::{ModelError, ModelSpec};
use std::collections::BTreeMap;
use std::ops::Range;

impl Checkpoint {
    /// A text model, and the image encoder with its projector ("mmproj") if there is one.
    pub fn from_gguf(
        text: GgufFile,
        projector: Option<GgufFile>,
    ) -> Result<Checkpoint, ModelError> {
        let config = text.config(projector.as_ref())?;
        let spec = ModelSpec::from_json(&config)?;
        let mut tensors = BTreeMap::new();
        let mut put = |file: &GgufFile, name: String, place: Place| {
            let twice = format!("tensor {name} stands there twice");
            match tensors.insert(name, place) {
                Some(_) => Err(file.wrong(twice)),
                None => Ok(()),
            }
        };
        for (tensor, part) in text.parts(&spec, Tensors::Text) {
            let place = Place::of(
                0,
                &tensor.shape,
                tensor.range.clone(),
                tensor.stored.clone(),
                &part,
            );
            put(&text, part.name, place)?;
        }
        if let Some(file) = &projector {
            let second = file.second_patch();
            for (tensor, part) in file.parts(&spec, Tensors::Projector) {
                let stored = tensor.stored.clone();
                let place = match second {
                    Some(second) if second == tensor => continue,
                    Some(second) if tensor.name == "v.patch_embd.weight" => {
                        interleaved(tensor, second).ok_or_else(|| {
                            file.wrong(format!("tensor {} has another shape", second.name))
                        })?
                    }
                    _ => Place::of(1, &tensor.shape, tensor.range.clone(), stored, &part),
                };
                put(file, part.name, place)?;
            }
        }
        let files = std::iter::once(text).chain(projector).map(|file| File {
            bytes: Bytes::Mapped(file.map),
            path: file.path,
            data: 0,
            prefix: String::new(),
        });
        Ok(Checkpoint {
            config,
            files: files.collect(),
            tensors,
        })
    }

    /// The blocks that a tensor is stored in; nothing where it is stored number by number, or is not there.
    pub(crate) fn blocks(&self, name: &str) -> Option<Blocks> {
        match self.tensors.get(name)?.stored {
            Stored::Blocks(blocks) => Some(blocks),
            _ => None,
        }
    }

    /// The type of GGUF that comes closest to a tensor's.
    pub(crate) fn nearest_type(&self, name: &str) -> TensorType {
        match self.tensors.get(name).map(|place| &place.stored) {
            Some(Stored::F16) => TensorType::F16,
            Some(Stored::Bf16) => TensorType::Bf16,
            Some(Stored::Blocks(Blocks::Q4_0)) => TensorType::Q4_0,
            Some(Stored::Blocks(_)) => TensorType::Q8_0,
            _ => TensorType::F32,
        }
    }

    /// Whole numbers and f16 scales of some rows of a tensor of symmetric blocks, refused when a scale is NaN or infinity.
    pub(crate) fn rows_whole(
        &self,
        name: &str,
        width: usize,
        rows: Range<usize>,
    ) -> Result<(Vec<i8>, Vec<u16>), ModelError> {
        let (place, first) = (&self.tensors[name], rows.start * width);
        let bytes = |numbers| place.stored.bytes_of(numbers);
        let Numbers::Blocks(blocks, bytes) =
            self.numbers_of(place, bytes(first)..bytes(rows.end * width))
        else {
            panic!("{name} has no blocks");
        };
        let (values, scales) = blocks.whole(&bytes);
        let number = |bits: &u16| half::f16::from_bits(*bits);
        match scales.iter().position(|bits| !number(bits).is_finite()) {
            Some(at) => Err(ModelError::NotFinite {
                name: name.into(),
                index: first + at * blocks.numbers(),
                found: number(&scales[at]).to_f32(),
            }),
            None => Ok((values, scales)),
        }
    }
}

/// A convolution over two pictures, whose halves `[outputs, 3, side, side]` are apart: `[outputs, 3, 2, side, side]`.
fn interleaved(first: &GgufTensor, second: &GgufTensor) -> Option<Place> {
    let [outputs, colors, rows, columns] = *<&[usize; 4]>::try_from(first.shape.as_slice()).ok()?;
    if (&first.shape, &first.stored) != (&second.shape, &second.stored) {
        return None;
    }
    let bytes = first.stored.bytes_of(rows * columns);
    let pieces = (0..outputs * colors).flat_map(|at| {
        let piece = |tensor: &GgufTensor| {
            let begin = tensor.range.start + at * bytes;
            begin..begin + bytes
        };
        [piece(first), piece(second)]
    });
    Some(Place {
        file: 1,
        stored: first.stored.clone(),
        shape: vec![outputs, colors, 2, rows, columns],
        pieces: pieces.collect(),
        transposed: false,
    })
}
