//! Compares the networks with a reference's recorded intermediates.
//!
//! `cargo run --release -p model --example network_parity -- FOLDER...`: each folder has `model/`, a checkpoint, and
//! `cases/NAME/` with `oracle.json` (`input_ids`, `greedy_tokens`) and `oracle.safetensors` (`in.pixel_values` and the
//! intermediates). Prints the largest relative difference of every tensor and each case's first one above the bound.

#[path = "../tests/suite/support/reference.rs"]
mod reference;

use model::{Checkpoint, Model};
use reference::{Case, Tensors, compare, first_wrong};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn main() {
    let (mut worst, mut wrong, mut cases) = (BTreeMap::<String, (f32, String)>::new(), 0, 0);
    for folder in std::env::args_os().skip(1).map(PathBuf::from) {
        let checkpoint = Checkpoint::open(&folder.join("model"))
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let model =
            Model::load(&checkpoint).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for case in names(&folder.join("cases")) {
            cases += 1;
            let differences = compare(&model, &read(&case));
            if let Some(first) = first_wrong(&differences) {
                println!(
                    "{}: {} differs by {:.1e}",
                    case.display(),
                    first.name,
                    first.relative
                );
                wrong += 1;
            }
            for difference in differences {
                let known = worst.entry(difference.name).or_default();
                if difference.relative > known.0 {
                    *known = (difference.relative, case.display().to_string());
                }
            }
        }
    }
    for (name, (relative, case)) in &worst {
        println!("{name:<16} {relative:.1e}  {case}");
    }
    println!("{cases} cases, {wrong} wrong");
    std::process::exit(i32::from(wrong > 0 || cases == 0));
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

fn read(folder: &Path) -> Case {
    let text = std::fs::read(folder.join("oracle.json")).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    let ids = |key: &str| -> Vec<u32> {
        let list = json[key].as_array().unwrap().iter();
        list.map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let bytes = std::fs::read(folder.join("oracle.safetensors")).unwrap();
    let mut expected = Tensors::new();
    for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().iter() {
        if tensor.dtype() == Dtype::F32 {
            let numbers = tensor.data().as_chunks::<4>().0.iter();
            expected.insert(
                name.into(),
                numbers.map(|b| f32::from_le_bytes(*b)).collect(),
            );
        }
    }
    Case {
        ids: ids("input_ids"),
        pixels: expected.remove("in.pixel_values").unwrap_or_default(),
        greedy: ids("greedy_tokens"),
        expected,
    }
}
