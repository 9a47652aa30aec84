//! One file that holds a whole model, with its weights in the layout that they are computed with: mapped and used in place.
//!
//! docs/bundle.md describes the format. Opening checks the header, which is all that memory safety rests on; the data's
//! checksums are compared on request ([`Bundle::check_data`]), because reading two gigabytes takes longer than a start may.

mod checks;
mod header;
mod rows;
mod write;
mod xxh64;

use crate::mapped::map;
pub(crate) use crate::mapped::{Part, Shared};
use crate::matrix::{Format, Matrix, Quantized};
use crate::spec::{ModelSpec, Role};
use crate::weights::Table;
use crate::{ModelError, Numbers};
pub use header::{Activations, Packed, Scales, Storage};
use header::{Header, Lengths, Section, TensorLabel};
use kernels::matmul::Panels;
use kernels::matmul_quantized::Precision;
pub(crate) use rows::Whole;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub(crate) use write::{Layout, Writer};
use xxh64::Xxh64;

/// An open bundle.
pub struct Bundle {
    path: PathBuf,
    file: Arc<memmap2::Mmap>,
    header: Header,
    /// Where the data begins.
    data: usize,
    spec: ModelSpec,
    /// Places in the list of tensors.
    tensors: BTreeMap<String, usize>,
}

/// What [`Bundle::tensors`] tells of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct BundleTensor<'a> {
    /// As in the checkpoint.
    pub name: &'a str,
    /// As in the checkpoint.
    pub shape: &'a [usize],
    /// How it is stored.
    pub storage: Storage,
    /// Bytes that it takes.
    pub bytes: u64,
}

/// Bytes that are compared before the caller is asked whether to go on.
const CHECKED_AT_ONCE: usize = 16 << 20;

impl Bundle {
    /// Whether a file begins as a bundle does; its name does not matter.
    pub fn is_bundle(path: &Path) -> bool {
        let mut begin = [0; header::MAGIC.len()];
        let read = std::fs::File::open(path).and_then(|mut file| {
            // A pipe would lose what is read from it here.
            match file.metadata()?.is_file() {
                true => file.read_exact(&mut begin),
                false => Ok(()),
            }
        });
        read.is_ok() && begin == header::MAGIC
    }

    /// Maps the file and checks its header against the file and against the network that its config.json describes.
    pub fn open(path: &Path) -> Result<Bundle, ModelError> {
        let metadata = std::fs::metadata(path).map_err(ModelError::io("opening", path))?;
        let wrong = |problem: &str| ModelError::Bundle {
            path: path.into(),
            problems: vec![problem.into()],
        };
        if !metadata.is_file() {
            return Err(wrong("not a bundle: no regular file"));
        }
        if metadata.len() == 0 {
            return Err(wrong("not a bundle: it is empty"));
        }
        let file = Arc::new(map(path)?);
        let checked = checks::check(path, &file)?;
        let tensors = checked.header.tensors.iter().enumerate();
        Ok(Bundle {
            tensors: tensors
                .map(|(at, section)| (section.label.name.clone(), at))
                .collect(),
            path: path.into(),
            file,
            header: checked.header,
            data: checked.data,
            spec: checked.spec,
        })
    }

    /// The network.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// How the weights were made, in a word.
    pub fn recipe(&self) -> &str {
        &self.header.recipe
    }

    /// A small file of the model folder, such as `tokenizer.json`.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        let mut files = self.header.files.iter();
        let section = files.find(|section| section.label.name == name)?;
        Some(&self.file[self.range(section)])
    }

    /// Every tensor.
    pub fn tensors(&self) -> impl Iterator<Item = BundleTensor<'_>> {
        self.header.tensors.iter().map(|section| BundleTensor {
            name: &section.label.name,
            shape: &section.label.shape,
            storage: section.label.storage,
            bytes: section.length,
        })
    }

    /// Bytes of the whole file.
    pub fn size_bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// Reads all data: sections against their checksums, numbers that must be finite, zeros between the sections. Tells
    /// everything that is wrong at once. `progress` is told how many bytes are done.
    pub fn check_data(
        &self,
        progress: &mut dyn FnMut(u64),
        cancel: &dyn Fn() -> bool,
    ) -> Result<(), ModelError> {
        let mut problems = Vec::new();
        let files = self.header.files.iter().map(|section| {
            let name = section.label.name.as_str();
            (self.range(section), name, section.checksum.0, None)
        });
        let tensors = self.header.tensors.iter().map(|section| {
            let name = section.label.name.as_str();
            (
                self.range(section),
                name,
                section.checksum.0,
                Some(&section.label),
            )
        });
        let mut sections: Vec<_> = files.chain(tensors).collect();
        sections.sort_by_key(|(range, ..)| range.start);
        let mut end = self.data;
        for (range, name, expected, label) in sections {
            self.expect_zeros(end..range.start, &mut problems);
            end = range.end;
            let mut hash = Xxh64::new();
            for piece in self.file[range.clone()].chunks(CHECKED_AT_ONCE) {
                if cancel() {
                    return Err(ModelError::Cancelled);
                }
                hash.add(piece);
                progress(piece.len() as u64);
            }
            if hash.finish() != expected {
                problems.push(format!(
                    "{name}: expected checksum {expected:016x}, found {:016x}",
                    hash.finish()
                ));
            } else if let Some(label) = label {
                problems.extend(self.not_finite(label, range));
            }
        }
        self.expect_zeros(end..self.file.len(), &mut problems);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(ModelError::Bundle {
                path: self.path.clone(),
                problems,
            }),
        }
    }

    fn expect_zeros(&self, range: Range<usize>, problems: &mut Vec<String>) {
        if self.file[range.clone()].iter().any(|byte| *byte != 0) {
            problems.push(format!(
                "bytes {} to {} belong to nothing and are not zero",
                range.start, range.end
            ));
        }
    }

    /// What is wrong with a tensor's floating-point numbers.
    fn not_finite(&self, label: &TensorLabel, range: Range<usize>) -> Option<String> {
        let lengths = lengths(label);
        let numbers = match label.storage {
            Storage::F32 => {
                return self
                    .numbers(&label.name)
                    .err()
                    .map(|error| error.to_string());
            }
            Storage::Bf16Panels | Storage::Bf16Rows => range,
            _ => range.start + lengths.values as usize..range.end,
        };
        let numbers = Shared::new(Part::new(&self.file, numbers));
        let (kind, exponent) = match label.storage.scales() {
            Some(Scales::F16) => ("f16", 0x7c00),
            _ => ("bf16", 0x7f80),
        };
        let mut numbers = numbers.numbers().iter();
        // Infinity and what is not a number have all exponent bits set.
        let at = numbers.position(|bits| bits & exponent == exponent)?;
        Some(format!(
            "{}: number {at} of its {kind} is not finite",
            label.name
        ))
    }

    /// Where the matrices of encoder and projector lie, in one piece with the numbers between them, which are copied when a
    /// model is loaded and not read again.
    pub(crate) fn encoder_pages(&self) -> Vec<Part> {
        let roles: BTreeMap<String, Role> = self
            .spec
            .tensors()
            .into_iter()
            .map(|tensor| (tensor.name, tensor.role))
            .collect();
        let role = |section: &&Section<TensorLabel>| roles.get(&section.label.name).copied();
        let read_later = |section: &&Section<TensorLabel>| {
            matches!(
                role(section),
                Some(Role::Decoder | Role::Embedding | Role::Head)
            )
        };
        let of_encoder = |section: &&Section<TensorLabel>| {
            matches!(role(section), Some(Role::Encoder | Role::Projector))
        };
        let mut sections: Vec<_> = self.header.tensors.iter().collect();
        sections.sort_by_key(|section| section.offset);
        sections
            .chunk_by(|a, b| read_later(a) == read_later(b))
            .filter(|run| run.iter().any(of_encoder))
            .map(|run| {
                let range = self.range(run[0]).start..self.range(run[run.len() - 1]).end;
                Part::new(&self.file, range)
            })
            .collect()
    }

    /// Where a section lies in the file; opening has made sure that it does.
    fn range<Label>(&self, section: &Section<Label>) -> Range<usize> {
        let begin = self.data + section.offset as usize;
        begin..begin + section.length as usize
    }

    /// A tensor that the specification names.
    fn tensor(&self, name: &str) -> (&TensorLabel, Range<usize>) {
        let section = &self.header.tensors[self.tensors[name]];
        (&section.label, self.range(section))
    }

    /// A tensor of few numbers, refused when one is NaN or infinity.
    pub(crate) fn numbers(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let (_, range) = self.tensor(name);
        let values = Numbers::F32(self.file[range].into()).to_f32();
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(ModelError::NotFinite {
                name: name.into(),
                index,
                found: values[index],
            }),
            None => Ok(values),
        }
    }

    /// A weight, used where it lies.
    pub(crate) fn matrix(&self, name: &str) -> Matrix {
        let (label, range) = self.tensor(name);
        let (outputs, inputs) = (label.shape[0], label.shape[1..].iter().product());
        let (bits, packed) = match label.storage {
            Storage::Int4(packed) | Storage::Int8(packed) => (label.storage.bits(), packed),
            _ => {
                let numbers = Shared::new(Part::new(&self.file, range));
                let panels = Panels::packed_bf16(outputs, inputs, Arc::new(numbers));
                return Matrix::Panels(panels);
            }
        };
        let (values, scales) = self.halves(label, range);
        Matrix::Quantized(Quantized {
            bits: bits.expect("packed weights have bits"),
            outputs,
            inputs,
            group: packed.group,
            format: Format {
                precision: packed.activations.precision(),
                block: packed.block,
                multiple: packed.group,
            },
            values,
            scales,
            scale_format: packed.scales.format(),
        })
    }

    /// What the matrices around attention, in layers whose names begin with `prefix`, round their rows to: INT16 where one of
    /// them does, none where one takes rows as they are.
    pub(crate) fn attention(&self, prefix: &str) -> Option<Precision> {
        let matrices = self.tensors().filter(|tensor| {
            tensor.name.starts_with(prefix)
                && tensor.name.contains(".self_attn.")
                && tensor.name.ends_with("_proj.weight")
        });
        let mut found = None;
        for tensor in matrices {
            let precision = match tensor.storage {
                Storage::Int4(packed) | Storage::Int8(packed) => packed.activations.precision(),
                _ => return None,
            };
            if found != Some(Precision::Int16) {
                found = Some(precision);
            }
        }
        found
    }

    /// An embedding that is not the head.
    pub(crate) fn table(&self, name: &str) -> Table {
        let (label, range) = self.tensor(name);
        match label.storage {
            Storage::Int8Rows { group, scales } => {
                let scale_format = scales.format();
                let (values, scales) = self.halves(label, range);
                Table::Int8 {
                    values,
                    scales,
                    scale_format,
                    group,
                }
            }
            _ => Table::Bf16InPlace(Shared::new(Part::new(&self.file, range))),
        }
    }

    /// Values and scales.
    fn halves(&self, label: &TensorLabel, range: Range<usize>) -> (Part, Shared) {
        let middle = range.start + lengths(label).values as usize;
        (
            Part::new(&self.file, range.start..middle),
            Shared::new(Part::new(&self.file, middle..range.end)),
        )
    }
}

/// Opening has computed the same.
fn lengths(label: &TensorLabel) -> Lengths {
    let lengths = label.storage.lengths(&label.shape);
    lengths.expect("the header was checked")
}

#[cfg(test)]
mod tests;
