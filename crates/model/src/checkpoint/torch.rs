//! `pytorch_model*.bin`: what `torch.save` writes of a state dict, since torch 1.6 a zip archive of a pickle that names the
//! tensors and of one file for each storage. The bytes of tensors stay where they lie; the pickle is never executed.
//! Source: torch/serialization.py, `_save` and `_load`.

mod archive;
mod pickle;

use archive::Archive;
use pickle::{Pickle, Tensor};
use safetensors::tensor::TensorInfo;
use std::ops::Range;

/// Longest pickle that is read: that of a file of 20000 tensors has 4 MB, and a hostile one takes up to 30 times its size in memory.
const MAX_PICKLE_BYTES: usize = 8 << 20;
/// Begins files of torch before 1.6: a pickle of this number.
const BEFORE_1_6: [u8; 14] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
];

/// Names of tensors, and what they are and where they lie, counted from the beginning of the file.
///
/// # Errors
/// What is wrong with the file, or what it asks for that no weights need.
pub(super) fn tensors(file: &[u8]) -> Result<Vec<(String, TensorInfo)>, String> {
    if file.starts_with(&BEFORE_1_6) {
        return Err("written by torch before 1.6: expected the zip archive of later versions; load and save it again".into());
    }
    let archive = Archive::open(file)?;
    let folders = archive
        .names()
        .filter_map(|name| name.strip_suffix("data.pkl"));
    let mut pickles = folders.filter(|folder| folder.ends_with('/'));
    let folder = match (pickles.next(), pickles.next()) {
        (Some(folder), None) => folder.to_owned(),
        _ => return Err("expected one data.pkl in the archive, as torch.save writes it".into()),
    };
    let order = archive.entry(&format!("{folder}byteorder"));
    if order.is_some_and(|range| file[range.clone()] != *b"little") {
        return Err("byteorder: expected little, as every current processor writes it".into());
    }
    let pickle = archive
        .entry(&format!("{folder}data.pkl"))
        .cloned()
        .unwrap_or(0..0);
    if pickle.len() > MAX_PICKLE_BYTES {
        return Err(format!(
            "data.pkl: expected at most {MAX_PICKLE_BYTES} bytes, found {}",
            pickle.len()
        ));
    }
    let tensors = Pickle::read(&file[pickle]).map_err(|problem| format!("data.pkl: {problem}"))?;
    let placed = tensors.into_iter().map(|(name, tensor)| {
        let storage = archive.entry(&format!("{folder}data/{}", tensor.storage));
        let info =
            place(&tensor, storage).map_err(|problem| format!("tensor {name}: {problem}"))?;
        Ok((name.to_owned(), info))
    });
    placed.collect()
}

/// Where a tensor lies in its storage, which must have its numbers side by side.
fn place(tensor: &Tensor, storage: Option<&Range<usize>>) -> Result<TensorInfo, String> {
    let storage = storage.ok_or_else(|| format!("the archive has no data/{}", tensor.storage))?;
    let size = tensor.dtype.bitsize() / 8;
    let begin = tensor.offset.checked_mul(size);
    let bytes = (tensor.shape.iter()).try_fold(size, |bytes, side| bytes.checked_mul(*side));
    let end = begin
        .zip(bytes)
        .and_then(|(begin, bytes)| begin.checked_add(bytes));
    let (Some(begin), Some(end)) = (begin, end.filter(|end| *end <= storage.len())) else {
        return Err(format!(
            "expected {:?} numbers of {size} bytes from number {} on in data/{}, found {} bytes",
            tensor.shape,
            tensor.offset,
            tensor.storage,
            storage.len()
        ));
    };
    if !rows_follow(&tensor.shape, &tensor.strides) {
        return Err(format!(
            "expected rows that follow each other, found strides {:?} for {:?}: save a contiguous copy",
            tensor.strides, tensor.shape
        ));
    }
    Ok(TensorInfo {
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        data_offsets: (storage.start + begin, storage.start + end),
    })
}

/// Whether the strides are those of a row-major tensor. The stride of a side of one, and of an empty tensor, means nothing.
fn rows_follow(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = Some(1usize);
    let sides = shape.iter().zip(strides).rev();
    shape.len() == strides.len()
        && (shape.contains(&0)
            || sides.filter(|(side, _)| **side != 1).all(|(side, stride)| {
                let fits = expected == Some(*stride);
                expected = expected.and_then(|stride| stride.checked_mul(*side));
                fits
            }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &[u8] = include_bytes!("../../tests/suite/torch/module.bin");
    const VIEWS: &[u8] = include_bytes!("../../tests/suite/torch/views.bin");

    /// Reads a file that may be wrong. What it gives lies in the file and has as many bytes as its shape says.
    fn read(file: &[u8]) {
        for (name, info) in tensors(file).unwrap_or_default() {
            let (begin, end) = info.data_offsets;
            let bytes: usize = info.shape.iter().product::<usize>() * (info.dtype.bitsize() / 8);
            assert!(
                end <= file.len() && end - begin == bytes,
                "{name}: {info:?}"
            );
        }
    }

    #[test]
    fn no_changed_byte_leads_out_of_the_file() {
        for whole in [MODULE, VIEWS] {
            for at in 0..whole.len() {
                for change in [1, 0x80, 0xff] {
                    let mut file = whole.to_vec();
                    file[at] ^= change;
                    read(&file);
                }
            }
        }
    }

    #[test]
    fn no_changed_number_leads_out_of_the_file() {
        for whole in [MODULE, VIEWS] {
            for at in 0..whole.len() - 8 {
                for number in [u64::MAX, u64::MAX / 2, 1 << 62, whole.len() as u64 - 1] {
                    let mut file = whole.to_vec();
                    file[at..at + 8].copy_from_slice(&number.to_le_bytes());
                    read(&file);
                    file.copy_from_slice(whole);
                    file[at..at + 4].copy_from_slice(&number.to_le_bytes()[4..]);
                    read(&file);
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_an_error() {
        for length in 0..MODULE.len() {
            assert!(tensors(&MODULE[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn strides_of_sides_of_one_mean_nothing() {
        assert!(rows_follow(&[2, 3], &[3, 1]));
        assert!(rows_follow(&[2, 1, 3], &[3, 77, 1]));
        assert!(rows_follow(&[], &[]));
        assert!(rows_follow(&[0, 5], &[9, 9]));
        assert!(!rows_follow(&[3, 2], &[1, 3]));
        assert!(!rows_follow(&[2, 3], &[0, 1]));
        assert!(!rows_follow(&[2, 3], &[1]));
    }
}
