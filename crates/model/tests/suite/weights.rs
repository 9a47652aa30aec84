//! Weight files that do not fit, told in one error, and weights that are no numbers.

use crate::support::random::{Tensor, load, tensors};
use crate::support::{WIDE, golden, golden_model};
use model::{Checkpoint, ModelError, NoTaps};
use safetensors::Dtype;

/// `load` of the wide model after a change, as its error.
fn error_after(change: impl FnOnce(&mut Vec<Tensor>)) -> ModelError {
    let mut tensors = tensors(WIDE);
    change(&mut tensors);
    load(WIDE, &tensors).err().expect("a change that matters")
}

fn position(tensors: &[Tensor], name: &str) -> usize {
    tensors.iter().position(|t| t.name == name).unwrap()
}

const FC1: &str = "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight";
const DOWN: &str = "language_model.model.layers.1.mlp.down_proj.weight";
const NORM: &str = "language_model.model.norm.weight";

#[test]
fn all_that_does_not_fit_is_told_at_once() {
    let error = error_after(|tensors| {
        let at = position(tensors, FC1);
        tensors.remove(at);
        let at = position(tensors, DOWN);
        tensors[at] = Tensor::f32(DOWN, &[200, 72], &vec![0.0; 72 * 200]);
        let at = position(tensors, NORM);
        tensors[at] = Tensor {
            name: NORM.into(),
            dtype: Dtype::I32,
            shape: vec![72],
            bytes: vec![0; 288],
        };
        tensors.push(Tensor::f32("visual.extra", &[1], &[0.0]));
    });
    assert_eq!(
        error.to_string(),
        format!(
            "the weights do not fit config.json:\n  1 missing:\n    {FC1}\n  1 not expected:\n    visual.extra\n  \
             1 wrong shape:\n    {DOWN}: expected [72, 200], found [200, 72]\n  \
             1 wrong type:\n    {NORM}: expected F32, BF16 or F16, found I32"
        )
    );
}

#[test]
fn a_long_list_is_cut_and_counted() {
    let error = error_after(|tensors| tensors.truncate(10)).to_string();
    let missing = tensors(WIDE).len() - 10;
    assert!(error.contains(&format!("{missing} missing:")), "{error}");
    assert!(
        error.contains(&format!("… and {} more", missing - 12)),
        "{error}"
    );
    assert!(error.lines().count() < 20, "{error}");
}

#[test]
fn weights_of_layers_that_nothing_computes_must_be_there_too() {
    let name = "vision_tower.vision_model.encoder.layers.2.mlp.fc2.bias";
    let folder = golden("bluelm_v");
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let kept = file.iter().filter(|(found, _)| *found != name);
    let bytes = safetensors::serialize(kept, None).unwrap();
    let checkpoint = Checkpoint::from_memory(&config, bytes.into()).unwrap();
    let error = model::Model::load(&checkpoint).err().unwrap().to_string();
    assert!(
        error.contains("1 missing") && error.contains(name),
        "{error}"
    );
}

#[test]
fn what_is_no_number_is_named_with_its_place_in_every_type() {
    let places = [
        (FC1, 31),
        (DOWN, 77),
        (NORM, 5),
        ("language_model.model.embed_tokens.weight", 100),
    ];
    for (name, place) in places {
        for (dtype, bits) in [
            (Dtype::F32, f32::NEG_INFINITY.to_bits()),
            (Dtype::BF16, 0x7fc0),
            (Dtype::F16, 0x7c00),
        ] {
            let size = dtype.bitsize() / 8;
            let error = error_after(|tensors| {
                let at = position(tensors, name);
                let tensor = &mut tensors[at];
                tensor.dtype = dtype;
                tensor.bytes = vec![0; tensor.bytes.len() / 4 * size];
                tensor.bytes[place * size..][..size].copy_from_slice(&bits.to_le_bytes()[..size]);
            });
            match error {
                ModelError::NotFinite {
                    name: found,
                    index,
                    found: value,
                } => {
                    assert_eq!((&*found, index), (name, place), "{dtype:?}");
                    assert!(!value.is_finite());
                }
                other => panic!("{name} as {dtype:?}: {other}"),
            }
        }
    }
}

/// Copies a golden folder, so that files can be changed.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

fn open_error(folder: &tempfile::TempDir) -> String {
    let error = Checkpoint::open(folder.path())
        .err()
        .expect("a folder with a mistake")
        .to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_folder_without_weights_misses_the_file_that_most_have() {
    let folder = copy("llama");
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert!(open_error(&folder).starts_with("opening model.safetensors: "));
}

#[test]
fn a_shard_that_is_missing_or_stands_outside_is_named() {
    let folder = copy("qwen2");
    std::fs::remove_file(folder.path().join("model-00002-of-00003.safetensors")).unwrap();
    assert!(open_error(&folder).starts_with("opening model-00002-of-00003.safetensors: "));
    let index = folder.path().join("model.safetensors.index.json");
    for map in [
        r#"{"weight_map": {"a": "../model.safetensors"}}"#,
        r#"{"weight_map": {"a": "/etc/model.safetensors"}}"#,
        r#"{"weight_map": {"a": 3}}"#,
        r#"{"weight_map": []}"#,
        "{}",
        "",
    ] {
        std::fs::write(&index, map).unwrap();
        let error = open_error(&folder);
        assert!(
            error.starts_with("model.safetensors.index.json: "),
            "{map}: {error}"
        );
    }
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let folder = copy("qwen2");
    let path = |at| {
        folder
            .path()
            .join(format!("model-0000{at}-of-00003.safetensors"))
    };
    std::fs::copy(path(1), path(2)).unwrap();
    let error = open_error(&folder);
    assert!(error.contains("stands in two files"), "{error}");
}

#[test]
#[should_panic(expected = "tiles of 20x20 pixels")]
fn pixels_of_another_size_are_a_mistake_of_the_caller() {
    let _ = golden_model("bluelm_v").encode_tiles(&[0.0; 1200], 2, &|| false, &mut NoTaps);
}
