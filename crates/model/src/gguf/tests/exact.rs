//! What becomes of a file's numbers in a bundle: nothing, where they are whole ones in groups.

use super::*;
use crate::convert::{Conversion, Options, Origin, Recipe, Rounding};
use crate::spec::Role;
use crate::{Bundle, Checkpoint, Storage};

/// A file of `golden/gguf`, as a checkpoint and as a bundle with a recipe.
fn both(name: &str, recipe: Recipe) -> (Checkpoint, Bundle) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/gguf");
    let open = || {
        let file = GgufFile::open(&golden.join(name).join("model.gguf")).unwrap();
        Checkpoint::from_gguf(file, None).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bluelm");
    let mut checkpoint = open();
    let config = checkpoint.config().as_bytes().to_vec();
    let conversion = Conversion {
        weights: Origin::Checkpoint(&mut checkpoint),
        files: &[("config.json".into(), config)],
        options: Options {
            recipe,
            group: 64,
            rounding: Rounding::Search,
        },
        sequences: Vec::new(),
        progress: &mut |_| {},
        cancel: &|| false,
    };
    conversion.write(&path).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    bundle.check_data(&mut |_| {}, &|| false).unwrap();
    (open(), bundle)
}

#[test]
fn matrices_of_q4_0_and_q8_0_keep_every_number_in_a_bundle() {
    for (name, bits) in [("llama_q4_0", "Int4"), ("qwen3_q8_0", "Int8")] {
        for recipe in [Recipe::Paper, Recipe::Fast] {
            let (checkpoint, bundle) = both(name, recipe);
            for tensor in bundle.spec().tensors() {
                if matches!(tensor.role, Role::Numbers | Role::Unused) {
                    continue;
                }
                let stored = bundle.tensors().find(|known| known.name == tensor.name);
                let stored = format!("{:?}", stored.unwrap().storage);
                let matrix = tensor.role != Role::Embedding;
                assert!(
                    !matrix || stored.starts_with(bits),
                    "{}: {stored}",
                    tensor.name
                );
                let width = tensor.shape[1];
                let expected = checkpoint.tensor_f32(&tensor.name).unwrap();
                for (at, expected) in expected.chunks_exact(width).enumerate() {
                    let mut row = vec![f32::NAN; width];
                    match matrix {
                        true => bundle.matrix(&tensor.name).read_row(at, &mut row),
                        false => bundle.table(&tensor.name).read_row(at, &mut row),
                    }
                    assert_eq!(row, expected, "{} row {at}", tensor.name);
                }
            }
        }
    }
}

#[test]
fn a_recipe_of_bf16_has_bf16_whatever_the_file_has() {
    let (_, bundle) = both("llama_q4_0", Recipe::Bf16);
    let packed = |storage| matches!(storage, Storage::Int4(_) | Storage::Int8(_));
    assert!(!bundle.tensors().any(|tensor| packed(tensor.storage)));
}

#[test]
fn a_scale_that_is_no_number_is_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/gguf/llama_q4_0");
    let file = GgufFile::open(&golden.join("model.gguf")).unwrap();
    let tensors = file.contents.tensors.iter();
    let wanted = tensors
        .clone()
        .find(|tensor| tensor.name == "blk.1.ffn_up.weight");
    let place = wanted.unwrap().range.start + 5 * 18;
    let mut bytes = file.map.to_vec();
    bytes[place..place + 2].copy_from_slice(&0x7c00u16.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::from_gguf(GgufFile::open(&path).unwrap(), None).unwrap();
    let name = "model.layers.1.mlp.up_proj.weight";
    // A block of 32 is a row of this matrix.
    let error = checkpoint.rows_whole(name, 32, 4..8).unwrap_err();
    let expected = format!("tensor {name} holds inf at element 160, expected finite numbers");
    assert_eq!(error.to_string(), expected);
    assert!(checkpoint.tensor_f32(name).is_err());
}
