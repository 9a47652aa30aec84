//! Weight files from people who mean harm, or from a disk that was full: errors, never a panic, never an allocation that
//! the header invents.

use crate::support::golden;
use model::{Checkpoint, ModelError};
use proptest::prelude::*;

/// Opens a file with this header before `data` zero bytes.
fn open(header: &str, data: usize) -> Result<Checkpoint, ModelError> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    Checkpoint::from_memory("{}", bytes.into())
}

#[test]
fn a_whole_header_is_read() {
    assert!(
        open(
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
            8
        )
        .is_ok()
    );
}

#[test]
fn headers_that_contradict_their_file_are_refused() {
    for (header, data) in [
        // Past the end; backwards; a hole; overlapping; bytes left over.
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
            4,
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            8,
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            8,
        ),
        // Shapes of another size, or of more than all memory.
        (
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            8,
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
            0,
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            4,
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}"#,
            8,
        ),
        // Not what a header is.
        (
            r#"{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}"#,
            8,
        ),
        (r#"{"a":7}"#, 8),
        ("[]", 0),
        ("{", 0),
    ] {
        let error = open(header, data).err();
        assert!(
            matches!(error, Some(ModelError::WeightFile { .. })),
            "{header} before {data} bytes: {error:?}"
        );
    }
}

#[test]
fn a_header_longer_than_the_file_or_than_any_is_refused() {
    for length in [0u64, 1, 9, 1 << 20, 1 << 40, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        let error = Checkpoint::from_memory("{}", bytes.into()).err();
        assert!(
            matches!(error, Some(ModelError::WeightFile { .. })),
            "{length}"
        );
    }
    for bytes in [vec![], vec![1, 0, 0]] {
        assert!(Checkpoint::from_memory("{}", bytes.into()).is_err());
    }
}

#[test]
fn an_empty_file_and_a_folder_in_its_place_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    std::fs::copy(golden("llama").join("config.json"), path("config.json")).unwrap();
    std::fs::write(path("model.safetensors"), "").unwrap();
    let error = Checkpoint::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("model.safetensors"), "{error}");
    std::fs::remove_file(path("model.safetensors")).unwrap();
    std::fs::create_dir(path("model.safetensors")).unwrap();
    assert!(Checkpoint::open(folder.path()).is_err());
}

proptest! {
    #[test]
    fn a_damaged_file_loads_or_gives_an_error(at in 0usize..3000, byte: u8, cut in 0usize..28088) {
        let folder = golden("qwen3");
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let mut bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        bytes[at] = byte;
        let load = |bytes: Vec<u8>| Checkpoint::from_memory(&config, bytes.into()).and_then(|c| model::Model::load(&c)).map(|_| ());
        // Either is right: a flipped bit of a weight is still a weight.
        let _ = load(bytes.clone());
        bytes.truncate(cut);
        prop_assert!(load(bytes).is_err());
    }
}
