//! Files that appear whole or not at all.

use model::{ModelError, TensorData, write_safetensors};
use safetensors::{Dtype, SafeTensors};

#[test]
fn written_tensors_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (floats, halves, ids) = ([1.5f32, -2.0, 3.25], [0x3f80u16, 0xc000], [7i64, -1]);
    // Twice: the second replaces the first.
    for first in [0.0, floats[0]] {
        let numbers = vec![first, floats[1], floats[2]];
        let tensors = [
            ("a".to_string(), vec![3], TensorData::F32(numbers.into())),
            (
                "b".to_string(),
                vec![2, 1],
                TensorData::Bf16(halves[..].into()),
            ),
            ("c".to_string(), vec![2], TensorData::I64(ids[..].into())),
        ];
        write_safetensors(&path, tensors).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let expected: [(&str, Dtype, &[usize], Vec<u8>); 3] = [
        (
            "a",
            Dtype::F32,
            &[3],
            floats.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
        (
            "b",
            Dtype::BF16,
            &[2, 1],
            halves.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
        (
            "c",
            Dtype::I64,
            &[2],
            ids.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
    ];
    for (name, dtype, shape, data) in expected {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(
            (tensor.dtype(), tensor.shape(), tensor.data()),
            (dtype, shape, &*data),
            "{name}"
        );
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file stays"
    );
}

#[test]
fn a_file_that_cannot_be_written_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not there").join("model.safetensors");
    let tensor = || [("a".to_string(), vec![1], TensorData::F32(vec![1.0].into()))];
    assert!(matches!(
        write_safetensors(&path, tensor()),
        Err(ModelError::Io { .. })
    ));
    let path = folder.path().join("model.safetensors");
    write_safetensors(&path, tensor()).unwrap();
    let before = std::fs::read(&path).unwrap();
    // A shape that its numbers do not fill.
    let wrong = [("a".to_string(), vec![2], TensorData::F32(vec![1.0].into()))];
    assert!(matches!(
        write_safetensors(&path, wrong),
        Err(ModelError::WeightFile { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_in_the_files_place_stays_and_no_half_file_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::create_dir(&path).unwrap();
    let tensor = [("a".to_string(), vec![1], TensorData::F32(vec![1.0].into()))];
    let error = write_safetensors(&path, tensor).unwrap_err();
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
    assert!(path.is_dir());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A megabyte of one number: a file that two versions cannot share.
fn write_version(path: &std::path::Path, version: f32) {
    let numbers = vec![version; 1 << 18];
    let tensor = [(
        "a".to_string(),
        vec![1 << 18],
        TensorData::F32(numbers.into()),
    )];
    write_safetensors(path, tensor).unwrap();
}

/// Names the file for the child of the next test.
const ENDLESS: &str = "WRITE_WITHOUT_END";

#[test]
fn a_writer_that_is_killed_leaves_a_whole_file() {
    if let Some(path) = std::env::var_os(ENDLESS) {
        for version in 0.. {
            write_version(path.as_ref(), version as f32);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write_version(&path, -1.0);
    for wait_ms in [60, 75, 90, 110] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["a_writer_that_is_killed_leaves_a_whole_file", "--nocapture"])
            .env(ENDLESS, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = file.tensor("a").unwrap();
        let (numbers, rest) = numbers.data().as_chunks::<4>();
        assert!(rest.is_empty() && numbers.len() == 1 << 18);
        assert!(
            numbers.iter().all(|number| *number == numbers[0]),
            "two versions in one file"
        );
    }
}
