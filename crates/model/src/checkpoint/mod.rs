//! A checkpoint's weights where they lie: one or several files of safetensors or of PyTorch, mapped into memory or given as bytes.
//!
//! Headers come from outside. The `safetensors` crate and [`torch`] check every offset against the file, so a tensor that is
//! handed out is really there; shapes are compared with the specification before anything is computed from them.

mod gguf;
mod torch;

use crate::ModelError;
use crate::error::TensorProblems;
use crate::gguf::Blocks;
use crate::mapped::map;
use crate::names::{Names, Part};
use crate::spec::{ModelSpec, Role};
use crate::stored::Stored;
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Files of weights, any of which a model folder has.
pub const WEIGHT_FILES: [&str; 4] = [
    "model.safetensors",
    // Says which shard holds which tensor.
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// A configuration and the bytes of its weights.
pub struct Checkpoint {
    config: String,
    files: Vec<File>,
    tensors: BTreeMap<String, Place>,
}

struct File {
    path: PathBuf,
    bytes: Bytes,
    /// Where the data begins, after the header.
    data: usize,
    /// Begins the names of its tensors in a model of several folders.
    prefix: String,
}

enum Bytes {
    Mapped(memmap2::Mmap),
    Memory(Cow<'static, [u8]>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }
}

struct Place {
    file: usize,
    stored: Stored,
    shape: Vec<usize>,
    /// Bytes of the file's data, one stretch after the other.
    pieces: Vec<Range<usize>>,
    /// The file has its columns as rows.
    transposed: bool,
}

/// The numbers of a tensor as they stand in the file, put together where they lie apart.
#[derive(Clone, Debug)]
pub enum Numbers<'a> {
    /// Little-endian f32.
    F32(Cow<'a, [u8]>),
    /// Little-endian bf16.
    Bf16(Cow<'a, [u8]>),
    /// Little-endian f16.
    F16(Cow<'a, [u8]>),
    /// Blocks that share scales.
    Blocks(Blocks, Cow<'a, [u8]>),
}

impl Checkpoint {
    /// The folder's config.json and the first of [`WEIGHT_FILES`] that it has; of a model of several folders those of all.
    pub fn open(folder: &Path) -> Result<Checkpoint, ModelError> {
        let config = folder_config(folder)?;
        let files = weight_files(folder)?.into_iter().map(|(path, prefix)| {
            Ok(File {
                bytes: Bytes::Mapped(map(&path)?),
                path,
                data: 0,
                prefix,
            })
        });
        Checkpoint::index(config, files.collect::<Result<_, _>>()?)
    }

    /// A configuration's text and the bytes of one safetensors file.
    pub fn from_memory(
        config: &str,
        safetensors: Cow<'static, [u8]>,
    ) -> Result<Checkpoint, ModelError> {
        Checkpoint::index(
            config.into(),
            vec![File {
                path: "model.safetensors (in memory)".into(),
                bytes: Bytes::Memory(safetensors),
                data: 0,
                prefix: String::new(),
            }],
        )
    }

    fn index(config: String, mut files: Vec<File>) -> Result<Checkpoint, ModelError> {
        let mut tensors = BTreeMap::new();
        // Whoever loads a model says what is wrong with a configuration; others only want to read tensors.
        let names = ModelSpec::from_json(&config).map_or(Names::default(), |spec| spec.names);
        for (at, file) in files.iter_mut().enumerate() {
            let wrong = |problem: String| ModelError::WeightFile {
                path: file.path.clone(),
                problem,
            };
            let bytes = file.bytes.get();
            let (data, infos) = match file.path.extension().is_some_and(|end| end == "bin") {
                true => (0, torch::tensors(bytes).map_err(wrong)?),
                false => safetensors(bytes).map_err(wrong)?,
            };
            let length = bytes.len() - data;
            for (name, info) in infos {
                let (begin, end) = info.data_offsets;
                if end > length || begin > end {
                    return Err(wrong(format!(
                        "tensor {name} ends at byte {end} of {length}"
                    )));
                }
                let rows = info.shape.first().copied().unwrap_or(1);
                for part in names.parts(&format!("{}{name}", file.prefix), rows) {
                    let place = Place::of(at, &info.shape, begin..end, info.dtype.into(), &part);
                    if tensors.insert(part.name, place).is_some() {
                        return Err(wrong(format!("tensor {name} stands in two files")));
                    }
                }
            }
            file.data = data;
        }
        Ok(Checkpoint {
            config,
            files,
            tensors,
        })
    }

    /// config.json's text.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Compares names, shapes and types with what `spec` needs; everything that differs is told at once.
    pub fn check(&self, spec: &ModelSpec) -> Result<(), ModelError> {
        let mut problems = TensorProblems::default();
        let mut expected = BTreeSet::new();
        for tensor in spec.tensors() {
            match self.tensors.get(&tensor.name) {
                // GGUF files leave out what nothing is computed with.
                None if tensor.role == Role::Unused => {}
                None => problems.missing.push(tensor.name.clone()),
                Some(place) if !place.fits(&tensor.shape) => problems.misshapen.push((
                    tensor.name.clone(),
                    tensor.shape,
                    place.shape.clone(),
                )),
                Some(place) => {
                    if let Stored::Other(kind) = &place.stored {
                        problems
                            .unreadable
                            .push((tensor.name.clone(), kind.clone()));
                    }
                }
            }
            expected.insert(tensor.name);
        }
        problems.extra = self
            .tensors
            .keys()
            .filter(|name| !expected.contains(*name))
            .cloned()
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ModelError::Tensors(problems))
        }
    }

    /// A tensor's bytes. `check` was called before, so an unknown name is a mistake of ours.
    pub fn numbers(&self, name: &str) -> Numbers<'_> {
        let place = &self.tensors[name];
        self.numbers_of(place, 0..place.pieces.iter().map(Range::len).sum())
    }

    /// Some bytes of a tensor, counted without the gaps between its pieces.
    fn numbers_of(&self, place: &Place, wanted: Range<usize>) -> Numbers<'_> {
        let file = &self.files[place.file];
        let data = &file.bytes.get()[file.data..];
        let bytes = match place.pieces.as_slice() {
            _ if place.transposed => Cow::Owned(place.transpose(data)[wanted].to_vec()),
            [one] => Cow::Borrowed(&data[one.clone()][wanted]),
            pieces => Cow::Owned(gather(data, pieces, wanted)),
        };
        match &place.stored {
            Stored::F32 => Numbers::F32(bytes),
            Stored::Bf16 => Numbers::Bf16(bytes),
            Stored::F16 => Numbers::F16(bytes),
            Stored::Blocks(blocks) => Numbers::Blocks(*blocks, bytes),
            Stored::Other(kind) => panic!("a tensor of {kind} was not checked"),
        }
    }

    /// Some rows of `width` numbers of a tensor as f32, refused when one is NaN or infinity.
    pub(crate) fn rows_f32(
        &self,
        name: &str,
        width: usize,
        rows: Range<usize>,
    ) -> Result<Vec<f32>, ModelError> {
        let (place, first) = (&self.tensors[name], rows.start * width);
        let bytes = |numbers| place.stored.bytes_of(numbers);
        let numbers = self.numbers_of(place, bytes(first)..bytes(rows.end * width));
        finite(name, first, numbers.to_f32())
    }

    /// Maps the files anew: pages that were read count no longer as this program's memory.
    pub(crate) fn give_back_pages(&mut self) -> Result<(), ModelError> {
        for file in &mut self.files {
            let Bytes::Mapped(old) = &file.bytes else {
                continue;
            };
            let new = map(&file.path)?;
            if new.len() != old.len() {
                return Err(ModelError::WeightFile {
                    path: file.path.clone(),
                    problem: format!(
                        "expected {} bytes, found {}: it was changed while it was read",
                        old.len(),
                        new.len()
                    ),
                });
            }
            file.bytes = Bytes::Mapped(new);
        }
        Ok(())
    }

    /// A tensor as f32, refused when it holds NaN or infinity.
    pub fn tensor_f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        finite(name, 0, self.numbers(name).to_f32())
    }
}

/// Numbers of a tensor from element `first` on, unless one is NaN or infinity.
fn finite(name: &str, first: usize, values: Vec<f32>) -> Result<Vec<f32>, ModelError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(ModelError::NotFinite {
            name: name.into(),
            index: first + index,
            found: values[index],
        }),
        None => Ok(values),
    }
}

impl Place {
    /// A part of a tensor. Rows past its end are left out; its shape then tells.
    fn of(file: usize, shape: &[usize], bytes: Range<usize>, stored: Stored, part: &Part) -> Place {
        let mut shape = shape.to_vec();
        let rows = shape.first().copied().unwrap_or(1).max(1);
        let (begin, row) = (bytes.start, bytes.len() / rows);
        let pieces = match &part.rows {
            None => std::iter::once(bytes).collect(),
            Some(ranges) => {
                shape[0] = ranges.iter().map(Range::len).sum();
                let bytes = |r: &Range<usize>| begin + r.start * row..begin + r.end * row;
                ranges.iter().map(bytes).collect()
            }
        };
        if part.transposed {
            shape.reverse();
        }
        Place {
            file,
            stored,
            shape,
            pieces,
            transposed: part.transposed,
        }
    }

    /// Whether it has as many rows and numbers as wanted: convolutions and tables are written with more or fewer sides.
    fn fits(&self, wanted: &[usize]) -> bool {
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        self.shape == wanted
            || count(&self.shape) == count(wanted)
                && (self.shape.len() != wanted.len() || self.shape.contains(&1))
    }

    /// A matrix of the file with its columns as rows.
    fn transpose(&self, data: &[u8]) -> Vec<u8> {
        let data = &data[self.pieces[0].clone()];
        let (rows, columns) = (self.shape[0], self.shape[1..].iter().product::<usize>());
        let size = data.len() / (rows * columns).max(1);
        let number = |row: usize, column: usize| &data[(column * rows + row) * size..][..size];
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        places
            .flat_map(|(row, column)| number(row, column))
            .copied()
            .collect()
    }
}

/// Bytes of pieces as if they lay side by side.
fn gather(data: &[u8], pieces: &[Range<usize>], wanted: Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(wanted.len());
    let mut before = 0;
    for piece in pieces {
        let from = wanted.start.clamp(before, before + piece.len()) - before;
        let to = wanted.end.clamp(before, before + piece.len()) - before;
        bytes.extend_from_slice(&data[piece.start + from..piece.start + to]);
        before += piece.len();
    }
    bytes
}

impl Numbers<'_> {
    /// Widened, which is exact.
    pub fn to_f32(self) -> Vec<f32> {
        match self {
            Numbers::F32(bytes) => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Numbers::Bf16(bytes) => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| half::bf16::from_le_bytes(*b).to_f32())
                .collect(),
            Numbers::F16(bytes) => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| half::f16::from_le_bytes(*b).to_f32())
                .collect(),
            Numbers::Blocks(blocks, bytes) => blocks.to_f32(&bytes),
        }
    }
}

/// Folders that a model may lie in instead of one, and what config.json of the whole calls their configurations.
const PARTS: [(&str, &str); 3] = [
    ("llm", "llm_config"),
    ("vision_tower", "vision_config"),
    ("mm_projector", "projector_config"),
];

/// A folder's config.json; where its parts have folders of their own, with theirs inside.
pub fn folder_config(folder: &Path) -> Result<String, ModelError> {
    let read = |folder: &Path| {
        let path = folder.join("config.json");
        std::fs::read_to_string(&path).map_err(ModelError::io("reading", &path))
    };
    let config = read(folder)?;
    if !folder.join(PARTS[0].0).is_dir() {
        return Ok(config);
    }
    let parse = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text)
            .map_err(|error| ModelError::Config(format!("not JSON: {error}")))
    };
    let mut whole = parse(&config)?;
    for (part, key) in PARTS {
        let of_part = parse(&read(&folder.join(part))?)?;
        if let Some(whole) = whole.as_object_mut() {
            whole.insert(key.into(), of_part);
        }
    }
    Ok(whole.to_string())
}

/// The files that [`Checkpoint::open`] reads the weights of a folder from.
///
/// # Errors
/// When an index cannot be read, or names files elsewhere.
pub fn weight_paths(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let files = weight_files(folder)?.into_iter();
    Ok(files.map(|(path, _)| path).collect())
}

/// The files of weights of a folder or of its parts, and what the names of their tensors begin with.
fn weight_files(folder: &Path) -> Result<Vec<(PathBuf, String)>, ModelError> {
    let mut files = Vec::new();
    if !folder.join(PARTS[0].0).is_dir() {
        let paths = weight_files_of(folder)?.into_iter();
        return Ok(paths.map(|path| (path, String::new())).collect());
    }
    for (part, _) in PARTS {
        let paths = weight_files_of(&folder.join(part))?.into_iter();
        files.extend(paths.map(|path| (path, format!("{part}."))));
    }
    Ok(files)
}

fn weight_files_of(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let there = WEIGHT_FILES.iter().find(|name| folder.join(name).exists());
    // Without any, the error names the file that most folders have.
    let path = folder.join(there.unwrap_or(&WEIGHT_FILES[0]));
    let names = match path
        .to_str()
        .and_then(|path| path.strip_suffix(".index.json"))
    {
        Some(single) if single.ends_with(".bin") => shards(&path, ".bin")?,
        Some(_) => shards(&path, ".safetensors")?,
        None => return Ok(vec![path]),
    };
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// Where the data of a safetensors file begins, and its tensors.
fn safetensors(bytes: &[u8]) -> Result<(usize, Vec<(String, TensorInfo)>), String> {
    let (header, metadata): (usize, Metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|e| format!("not a whole safetensors file: {e}"))?;
    let tensors = metadata.tensors().into_iter();
    Ok((
        header + 8,
        tensors.map(|(name, info)| (name, info.clone())).collect(),
    ))
}

/// The files that an index names, each once, all inside the folder.
fn shards(path: &Path, ending: &str) -> Result<BTreeSet<String>, ModelError> {
    let text = std::fs::read_to_string(path).map_err(ModelError::io("reading", path))?;
    let wrong = |problem: String| ModelError::WeightFile {
        path: path.into(),
        problem,
    };
    let index: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| wrong(format!("not JSON: {e}")))?;
    let map = index
        .get("weight_map")
        .and_then(|map| map.as_object())
        .ok_or_else(|| wrong("no weight_map".into()))?;
    let names = map.values().map(|name| {
        let inside = |name: &&str| !name.contains(['/', '\\']) && *name != "..";
        let name = name.as_str().filter(inside);
        name.filter(|name| name.ends_with(ending))
            .map(str::to_owned)
            .ok_or_else(|| {
                wrong(format!(
                    "weight_map must name {ending} files of this folder"
                ))
            })
    });
    names.collect()
}
