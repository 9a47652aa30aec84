//! `pytorch_model*.bin`: files that torch wrote (scripts/make_torch_fixture.py), and shards written here.

use crate::support::WIDE;
use crate::support::random::{Tensor, file, tensors};
use model::{Checkpoint, ModelError, ModelSpec, Numbers};
use safetensors::Dtype;
use std::borrow::Cow;
use std::fs::write;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/suite/torch")
        .join(name)
}

/// A model folder with this file as its weights.
fn open(name: &str) -> Result<Checkpoint, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("config.json"), "{}").unwrap();
    std::fs::copy(fixture(name), folder.path().join("pytorch_model.bin")).unwrap();
    Checkpoint::open(folder.path())
}

fn problem(name: &str) -> String {
    let error = open(name)
        .err()
        .expect("a file that must not be read")
        .to_string();
    error
        .split_once("pytorch_model.bin: ")
        .unwrap()
        .1
        .to_owned()
}

#[test]
fn the_state_of_a_module_is_read_in_every_number_format() {
    let checkpoint = open("module.bin").unwrap();
    let numbers = |name: &str| checkpoint.tensor_f32(name).unwrap();
    assert_eq!(numbers("full"), [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]);
    assert_eq!(numbers("brain"), [1.0, -2.0, 3.140625]);
    assert_eq!(numbers("halves"), [0.5, 65504.0]);
    assert_eq!(numbers("inner.weight"), [1.0, 2.0, 3.0, 4.0]);
    assert!(matches!(checkpoint.numbers("brain"), Numbers::Bf16(bytes) if bytes.len() == 6));
    assert!(matches!(checkpoint.numbers("halves"), Numbers::F16(_)));
}

#[test]
fn parts_of_a_storage_and_parameters_and_single_numbers_are_read() {
    let checkpoint = open("views.bin").unwrap();
    let numbers = |name: &str| checkpoint.tensor_f32(name).unwrap();
    assert_eq!(numbers("tail"), [8.0, 9.0, 10.0, 11.0]);
    assert_eq!(numbers("é"), [2.0, 3.0]);
    assert_eq!(numbers("parameter"), [0.0, 1.0]);
    assert_eq!(numbers("scalar"), [7.0]);
    assert_eq!(
        open("protocol_4.bin").unwrap().tensor_f32("a").unwrap(),
        [1.0; 2]
    );
}

#[test]
fn what_is_no_plain_state_is_refused_with_its_reason() {
    assert_eq!(
        problem("turned.bin"),
        "tensor turned: expected rows that follow each other, found strides [1, 2] for [2, 6]: save a contiguous copy"
    );
    assert_eq!(
        problem("epoch.bin"),
        "data.pkl: expected a tensor under epoch"
    );
    assert_eq!(
        problem("whole_module.bin"),
        "data.pkl: byte 2: it asks for __main__.Small, which no plain weights need; nothing was executed"
    );
    assert_eq!(
        problem("before_1_6.bin"),
        "written by torch before 1.6: expected the zip archive of later versions; load and save it again"
    );
}

#[test]
fn shards_of_torch_hold_the_same_model_as_safetensors() {
    let all = tensors(WIDE);
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| write(folder.path().join(name), bytes).unwrap();
    put("config.json", WIDE.as_bytes());
    let mut map = serde_json::Map::new();
    let (first, second) = all.split_at(all.len() / 2);
    for (shard, tensors) in [
        ("pytorch_model-1-of-2.bin", first),
        ("pytorch_model-2-of-2.bin", second),
    ] {
        put(shard, &archive(tensors));
        map.extend(
            tensors
                .iter()
                .map(|tensor| (tensor.name.clone(), shard.into())),
        );
    }
    put(
        "pytorch_model.bin.index.json",
        serde_json::json!({ "weight_map": map })
            .to_string()
            .as_bytes(),
    );
    let torch = Checkpoint::open(folder.path()).unwrap();
    torch.check(&ModelSpec::from_json(WIDE).unwrap()).unwrap();
    let other = Checkpoint::from_memory(WIDE, Cow::Owned(file(&all))).unwrap();
    for tensor in &all {
        assert_eq!(
            torch.tensor_f32(&tensor.name).unwrap(),
            other.tensor_f32(&tensor.name).unwrap()
        );
    }

    // An index that leads out of the folder, or to files of another kind, leads nowhere.
    for name in [
        "../pytorch_model-1-of-2.bin",
        "a/b.bin",
        "model.safetensors",
    ] {
        let index = serde_json::json!({"weight_map": {"x": name}}).to_string();
        put("pytorch_model.bin.index.json", index.as_bytes());
        let error = Checkpoint::open(folder.path()).err().unwrap().to_string();
        assert!(
            error.contains("must name .bin files of this folder"),
            "{error}"
        );
    }
}

/// What `torch.save` makes of a dict of f32 tensors, as small as it can be: a pickle and a file for each storage, with 32-bit
/// records of zip.
fn archive(tensors: &[Tensor]) -> Vec<u8> {
    let mut files = vec![("m/data.pkl".to_owned(), pickle(tensors))];
    let storage = |(at, tensor): (usize, &Tensor)| (format!("m/data/{at}"), tensor.bytes.clone());
    files.extend(tensors.iter().enumerate().map(storage));
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in &files {
        let size = (content.len() as u32).to_le_bytes();
        // Flags, method, time, date and checksum, which nobody asks for; both sizes; lengths of name and padding.
        let shared = [
            &[0; 12][..],
            &size,
            &size,
            &(name.len() as u16).to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        let local = (bytes.len() as u32).to_le_bytes();
        directory.extend(
            [
                &b"PK\x01\x02"[..],
                &[0; 4],
                &shared,
                &[0; 10],
                &local,
                name.as_bytes(),
            ]
            .concat(),
        );
        bytes.extend(
            [
                &b"PK\x03\x04"[..],
                &[0; 2],
                &shared,
                name.as_bytes(),
                content,
            ]
            .concat(),
        );
    }
    let sizes = [directory.len() as u32, bytes.len() as u32]
        .map(u32::to_le_bytes)
        .concat();
    bytes.extend(directory);
    bytes.extend([&b"PK\x05\x06"[..], &[0; 8], &sizes, &[0; 2]].concat());
    bytes
}

fn pickle(tensors: &[Tensor]) -> Vec<u8> {
    let text = |text: &str| {
        [
            b"X",
            &(text.len() as u32).to_le_bytes()[..],
            text.as_bytes(),
        ]
        .concat()
    };
    let tuple = |numbers: &[usize]| {
        let whole = |number: &usize| [b"J", &(*number as u32).to_le_bytes()[..]].concat();
        [
            b"(".to_vec(),
            numbers.iter().flat_map(whole).collect(),
            b"t".to_vec(),
        ]
        .concat()
    };
    let mut bytes = b"\x80\x02}(".to_vec();
    for (at, tensor) in tensors.iter().enumerate() {
        assert_eq!(tensor.dtype, Dtype::F32);
        let strides: Vec<usize> = (0..tensor.shape.len())
            .map(|side| tensor.shape[side + 1..].iter().product())
            .collect();
        let storage = [
            b"((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text(&at.to_string()),
        ]
        .concat();
        let rest = [
            text("cpu"),
            b"K\x01tQK\x00".to_vec(),
            tuple(&tensor.shape),
            tuple(&strides),
        ]
        .concat();
        let call = [
            b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(),
            storage,
            rest,
            b"\x89}tR".to_vec(),
        ]
        .concat();
        bytes.extend([text(&tensor.name), call].concat());
    }
    bytes.extend(b"u.");
    bytes
}
