//! Comparing a bundle's header with the file that it stands in and with the network that it is for. The file comes from
//! outside: nothing is handed out before all of this was found in order.

use super::header::{
    ALIGNMENT, Header, Lengths, MAGIC, MAX_HEADER_BYTES, OLDEST_VERSION, PRELUDE_BYTES, Section,
    Storage, VERSION, align, prelude,
};
use crate::ModelError;
use crate::spec::{ModelSpec, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A header that fits its file.
pub(super) struct Checked {
    pub header: Header,
    /// Where the data begins.
    pub data: usize,
    pub spec: ModelSpec,
}

/// Reads and checks everything but the data.
pub(super) fn check(path: &Path, file: &[u8]) -> Result<Checked, ModelError> {
    let wrong = |problem: String| ModelError::Bundle {
        path: path.into(),
        problems: vec![problem],
    };
    let (header, data) = header(path, file)?;
    let room = (file.len() - data) as u64;
    let mut problems = Vec::new();
    let mut ranges = Vec::new();
    for section in &header.files {
        place(
            &section.label.name,
            section,
            room,
            &mut ranges,
            &mut problems,
        );
    }
    for section in &header.tensors {
        place(
            &section.label.name,
            section,
            room,
            &mut ranges,
            &mut problems,
        );
    }
    overlaps(&mut ranges, &mut problems);
    let mut names = BTreeSet::new();
    for section in &header.files {
        if !names.insert(section.label.name.as_str()) {
            problems.push(format!("file {} stands there twice", section.label.name));
        }
    }
    if !problems.is_empty() {
        return Err(ModelError::Bundle {
            path: path.into(),
            problems,
        });
    }
    let config = header
        .files
        .iter()
        .find(|section| section.label.name == "config.json")
        .ok_or_else(|| wrong("there is no config.json in it".into()))?;
    let begin = data + config.offset as usize;
    let config = std::str::from_utf8(&file[begin..begin + config.length as usize])
        .map_err(|_| wrong("its config.json is not UTF-8 text".into()))?;
    let spec = ModelSpec::from_json(config)?;
    tensors(&header, &spec, &mut problems);
    if !problems.is_empty() {
        return Err(ModelError::Bundle {
            path: path.into(),
            problems,
        });
    }
    Ok(Checked { header, data, spec })
}

/// The header and where the data begins.
fn header(path: &Path, file: &[u8]) -> Result<(Header, usize), ModelError> {
    let wrong = |problem: String| ModelError::Bundle {
        path: path.into(),
        problems: vec![problem],
    };
    if cfg!(target_endian = "big") {
        return Err(wrong(
            "bundles are read in place on little-endian processors, this one is big-endian".into(),
        ));
    }
    if !file.starts_with(&MAGIC) {
        return Err(wrong("not a bundle: it does not begin as one".into()));
    }
    let begin: &[u8; PRELUDE_BYTES] = file
        .first_chunk()
        .ok_or_else(|| wrong(format!("{} bytes, a bundle has more", file.len())))?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| begin[at + byte]));
    let version = u32::from_le_bytes(std::array::from_fn(|byte| begin[8 + byte]));
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(ModelError::BundleVersion {
            path: path.into(),
            expected: VERSION,
            found: version,
        });
    }
    let (length, file_bytes) = (number(16), number(32));
    if file_bytes != file.len() as u64 {
        return Err(wrong(format!(
            "expected {file_bytes} bytes, found {}",
            file.len()
        )));
    }
    let data = align(PRELUDE_BYTES as u64 + length.min(MAX_HEADER_BYTES)).unwrap_or(u64::MAX);
    if length > MAX_HEADER_BYTES || data > file_bytes {
        return Err(wrong(format!(
            "a header of {length} bytes in a file of {file_bytes}, expected at most {MAX_HEADER_BYTES}"
        )));
    }
    let (text, filling) = file[PRELUDE_BYTES..data as usize].split_at(length as usize);
    if *begin != prelude(version, text, file_bytes) || filling.iter().any(|byte| *byte != 0) {
        return Err(wrong("the header does not match its checksum".into()));
    }
    let header = serde_json::from_slice(text)
        .map_err(|error| wrong(format!("the header cannot be read: {error}")))?;
    Ok((header, data as usize))
}

/// Whether a section lies in the data, and where.
fn place<Label>(
    name: &str,
    section: &Section<Label>,
    room: u64,
    ranges: &mut Vec<(u64, u64, String)>,
    problems: &mut Vec<String>,
) {
    let Section { offset, length, .. } = section;
    match offset.checked_add(*length) {
        Some(end) if end <= room => ranges.push((*offset, end, name.into())),
        _ => problems.push(format!(
            "{name}: {length} bytes from byte {offset} on, and the data has {room}"
        )),
    }
    if !offset.is_multiple_of(ALIGNMENT) {
        problems.push(format!(
            "{name}: begins at byte {offset}, expected a multiple of {ALIGNMENT}"
        ));
    }
}

fn overlaps(ranges: &mut [(u64, u64, String)], problems: &mut Vec<String>) {
    ranges.sort();
    for pair in ranges.windows(2) {
        let [(_, end, first), (begin, _, second)] = pair else {
            continue;
        };
        if begin < end {
            problems.push(format!("{first} and {second} lie over each other"));
        }
    }
}

/// Names, shapes, kinds and sizes against what the network needs.
fn tensors(header: &Header, spec: &ModelSpec, problems: &mut Vec<String>) {
    let mut expected: BTreeMap<String, (Vec<usize>, Role)> = spec
        .tensors()
        .into_iter()
        .filter(|tensor| tensor.role != Role::Unused)
        .map(|tensor| (tensor.name, (tensor.shape, tensor.role)))
        .collect();
    for Section { label, length, .. } in &header.tensors {
        let name = &label.name;
        let Some((shape, role)) = expected.remove(name) else {
            problems.push(format!("{name}: not expected, or there twice"));
            continue;
        };
        if label.shape != shape {
            problems.push(format!(
                "{name}: expected shape {shape:?}, found {:?}",
                label.shape
            ));
            continue;
        }
        if !suits(role, &label.storage) {
            problems.push(format!("{name}: {:?} cannot be used for it", label.storage));
            continue;
        }
        match label.storage.lengths(&shape) {
            Ok(Lengths { values, scales }) if values + scales == *length => {}
            Ok(Lengths { values, scales }) => problems.push(format!(
                "{name}: expected {} bytes, found {length}",
                values + scales
            )),
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    problems.extend(expected.keys().map(|name| format!("{name}: missing")));
}

/// Whether a tensor of this role can be computed with from such a storage.
fn suits(role: Role, storage: &Storage) -> bool {
    match storage {
        Storage::F32 => role == Role::Numbers,
        Storage::Bf16Rows | Storage::Int8Rows { .. } => role == Role::Embedding,
        Storage::Bf16Panels | Storage::Int4(_) | Storage::Int8(_) => matches!(
            role,
            Role::Encoder | Role::Projector | Role::Decoder | Role::Head
        ),
    }
}
