//! From a checkpoint to a bundle and back to logits.

use crate::support::random::{Tensor, file, numbers, tensors};
use crate::support::{WIDE, golden};
use kernels::isa::Isa;
use model::convert::{Conversion, Options, Origin, Recipe, Rounding, Sequence};
use model::{Bundle, Checkpoint, LogitRows, Model, ModelError, NoTaps, Storage};
use safetensors::{Dtype, SafeTensors};
use std::borrow::Cow;
use std::cell::Cell;
use std::path::Path;

const ROUNDINGS: [Rounding; 3] = [Rounding::Nearest, Rounding::Search, Rounding::Compensated];

/// Tensors of [`WIDE`] as bf16.
fn wide_bf16() -> Vec<Tensor> {
    let narrow = |tensor: Tensor| Tensor {
        dtype: Dtype::BF16,
        bytes: tensor
            .bytes
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|b| [b[2], b[3]])
            .collect(),
        ..tensor
    };
    tensors(WIDE).into_iter().map(narrow).collect()
}

fn checkpoint(config: &str, tensors: &[Tensor]) -> Checkpoint {
    Checkpoint::from_memory(config, Cow::Owned(file(tensors))).unwrap()
}

fn convert(
    mut checkpoint: Checkpoint,
    path: &Path,
    recipe: Recipe,
    rounding: Rounding,
) -> Result<u64, ModelError> {
    let config = checkpoint.config().to_string();
    let width = model::ModelSpec::from_json(&config).unwrap().hidden_size();
    let sequence = |seed| Sequence {
        shared: numbers(60 * width, seed),
        positions: None,
        branches: vec![numbers(30 * width, seed + 10), numbers(width, seed + 20)],
        branch_weight: 2.0,
    };
    Conversion {
        weights: Origin::Checkpoint(&mut checkpoint),
        files: &[("config.json".into(), config.into_bytes())],
        options: Options {
            recipe,
            group: 32,
            rounding,
        },
        sequences: (0..4).map(sequence).collect(),
        progress: &mut |_| {},
        cancel: &|| false,
    }
    .write(path)
}

fn opened(checkpoint: Checkpoint, recipe: Recipe, rounding: Rounding) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bluelm");
    convert(checkpoint, &path, recipe, rounding).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // What is mapped stays, whatever becomes of the name.
    Model::from_bundle(&Bundle::open(&path).unwrap()).unwrap()
}

fn features(model: &Model) -> Vec<f32> {
    let pixels = numbers(2 * 3 * model.spec().image_size().pow(2), 9);
    model
        .encode_tiles(&pixels, 2, &|| false, &mut NoTaps)
        .unwrap()
}

/// Logits of a prompt of some rows and token 7, then of one row after the other.
fn logits(model: &Model) -> Vec<f32> {
    let d = model.spec().hidden_size();
    let mut rows = numbers(30 * d, 3);
    rows.extend(model.embed(&[7]));
    let mut cache = model.new_cache(rows.len() / d);
    let (prompt, rest) = rows.split_at(28 * d);
    let mut forward = |rows: &[f32]| {
        let all = LogitRows::All;
        model
            .forward(rows, &mut cache, all, &|| false, &mut NoTaps)
            .unwrap()
    };
    let mut logits = forward(prompt);
    for row in rest.chunks_exact(d) {
        logits.extend(forward(row));
    }
    logits
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn a_bf16_bundle_gives_the_bits_of_its_checkpoint() {
    let checkpoint = || checkpoint(WIDE, &wide_bf16());
    let folder = Model::load(&checkpoint()).unwrap();
    let bundle = opened(checkpoint(), Recipe::Bf16, Rounding::Nearest);
    assert_eq!(bits(&features(&folder)), bits(&features(&bundle)));
    assert_eq!(bits(&logits(&folder)), bits(&logits(&bundle)));
}

#[test]
fn a_bundle_gives_the_same_bits_on_every_instruction_set_and_any_number_of_threads() {
    for recipe in Recipe::ALL {
        let mut model = opened(checkpoint(WIDE, &wide_bf16()), recipe, Rounding::Search);
        let mut expected: Option<(Vec<u32>, Vec<u32>)> = None;
        for isa in Isa::available() {
            model = model.with_isa(isa);
            for threads in [1, 2, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let found = pool
                    .unwrap()
                    .install(|| (bits(&features(&model)), bits(&logits(&model))));
                let expected = expected.get_or_insert_with(|| found.clone());
                assert!(
                    *expected == found,
                    "{recipe:?}, {} on {threads} threads",
                    isa.name()
                );
            }
        }
    }
}

/// Bytes of a mapped file that are in this process's memory.
#[cfg(target_os = "linux")]
fn resident_bytes(path: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut of_file = false;
    let mut kibibytes = 0;
    for line in maps.lines() {
        if let Some(rss) = line.strip_prefix("Rss:") {
            let number = rss.split_whitespace().next().unwrap();
            kibibytes += usize::from(of_file) * number.parse::<usize>().unwrap();
        } else if line.split_whitespace().nth(4).is_some() {
            of_file = line.ends_with(path.to_str().unwrap());
        }
    }
    1024 * kibibytes
}

#[test]
fn an_encoder_that_is_released_gives_its_memory_back_and_the_same_bits_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bluelm");
    let source = checkpoint(WIDE, &wide_bf16());
    convert(source, &path, Recipe::Bf16, Rounding::Nearest).unwrap();
    let model = Model::from_bundle(&Bundle::open(&path).unwrap()).unwrap();
    let (before, said) = (bits(&features(&model)), bits(&logits(&model)));
    #[cfg(target_os = "linux")]
    let resident = resident_bytes(&path);
    let released = model.release_encoder();
    // Two blocks and the projector are 0.4 MB of bf16, less what shares its pages with something else.
    assert!(released > 200_000, "{released} bytes");
    #[cfg(target_os = "linux")]
    assert!(resident_bytes(&path) + released <= resident);
    assert!(before == bits(&features(&model)) && said == bits(&logits(&model)));
    let folder = Model::load(&checkpoint(WIDE, &wide_bf16())).unwrap();
    assert_eq!(folder.release_encoder(), 0);
}

#[test]
fn tiles_of_a_bundle_have_the_bits_that_they_have_alone() {
    for recipe in Recipe::ALL {
        let model = opened(checkpoint(WIDE, &wide_bf16()), recipe, Rounding::Nearest);
        let size = 3 * model.spec().image_size().pow(2);
        let pixels = numbers(5 * size, 4);
        let encode = |pixels: &[f32], tiles| {
            let features = model.encode_tiles(pixels, tiles, &|| false, &mut NoTaps);
            bits(&features.unwrap())
        };
        let alone: Vec<u32> = pixels
            .chunks_exact(size)
            .flat_map(|tile| encode(tile, 1))
            .collect();
        for batch in [2, 3, 5] {
            let together: Vec<u32> = pixels
                .chunks(batch * size)
                .flat_map(|tiles| encode(tiles, tiles.len() / size))
                .collect();
            assert!(alone == together, "{recipe:?}, {batch} tiles together");
        }
    }
}

#[test]
fn every_family_converts_and_stays_near() {
    for name in [
        "bluelm_v",
        "bluelm_2_5",
        "bluelm_v_first_layers",
        "llama",
        "qwen2",
        "qwen3",
    ] {
        let open = || Checkpoint::open(&golden(name)).unwrap();
        let reference = Model::load(&open()).unwrap();
        for recipe in [Recipe::Paper, Recipe::Fast] {
            for rounding in ROUNDINGS {
                let bundle = opened(open(), recipe, rounding);
                // INT4 of random weights in groups of 32 or fewer leaves an error of a tenth of the signal in each product;
                // a wrong layout leaves a cosine near 0.
                let cosine = cosine(&logits(&reference), &logits(&bundle));
                assert!(cosine > 0.9, "{name} {recipe:?} {rounding:?}: {cosine}");
            }
        }
    }
}

/// The mean squared difference of logits that INT4 leaves, the reference's being 1.
fn lost(reference: &Model, rounding: Rounding) -> f64 {
    let bundle = opened(checkpoint(WIDE, &wide_bf16()), Recipe::Paper, rounding);
    let (expected, found) = (logits(reference), logits(&bundle));
    let square = |a: f32| f64::from(a) * f64::from(a);
    let error: f64 = expected
        .iter()
        .zip(&found)
        .map(|(a, b)| square(a - b))
        .sum();
    error / expected.iter().map(|a| square(*a)).sum::<f64>()
}

#[test]
fn searching_loses_less_than_rounding_to_the_nearest() {
    let reference = Model::load(&checkpoint(WIDE, &wide_bf16())).unwrap();
    let [nearest, search, _] = ROUNDINGS.map(|rounding| lost(&reference, rounding));
    assert!(search < nearest, "{search} of {nearest}");
}

#[test]
fn an_embedding_of_its_own_is_read_row_by_row() {
    let open = || Checkpoint::open(&golden("llama")).unwrap();
    let reference = Model::load(&open()).unwrap();
    for (recipe, kept) in [(Recipe::Bf16, 1.0), (Recipe::Fast, 0.999)] {
        let bundle = opened(open(), recipe, Rounding::Nearest);
        let ids = [0, 5, 9, 5];
        let cosine = cosine(&reference.embed(&ids), &bundle.embed(&ids));
        // bf16 of f32 weights loses 2^-9 of each; INT8 a 254th of the largest in 64.
        assert!(cosine > kept - 1e-5, "{recipe:?}: {cosine}");
    }
}

#[test]
fn layers_that_nothing_computes_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let open = Checkpoint::open(&golden("bluelm_v_first_layers")).unwrap();
    let all = model::ModelSpec::from_json(open.config())
        .unwrap()
        .tensors()
        .len();
    convert(open, &path, Recipe::Fast, Rounding::Nearest).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    assert!(bundle.tensors().count() < all);
    assert!(
        bundle
            .tensors()
            .any(|tensor| matches!(tensor.storage, Storage::Int4(_)))
    );
}

#[test]
fn a_conversion_that_is_stopped_or_cannot_write_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bluelm");
    let mut source = checkpoint(WIDE, &wide_bf16());
    let asked = Cell::new(0);
    let conversion = Conversion {
        weights: Origin::Checkpoint(&mut source),
        files: &[("config.json".into(), WIDE.into())],
        options: Options {
            recipe: Recipe::Fast,
            group: 64,
            rounding: Rounding::Search,
        },
        sequences: Vec::new(),
        progress: &mut |_| {},
        cancel: &|| {
            asked.set(asked.get() + 1);
            asked.get() > 20
        },
    };
    assert!(matches!(
        conversion.write(&path),
        Err(ModelError::Cancelled)
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let source = || checkpoint(WIDE, &wide_bf16());
    let nowhere = folder.path().join("not there").join("x");
    let error = convert(source(), &nowhere, Recipe::Fast, Rounding::Nearest);
    assert!(matches!(error, Err(ModelError::Io { .. })));
    // A folder in its place: written, and not to be renamed.
    std::fs::create_dir(&path).unwrap();
    let error = convert(source(), &path, Recipe::Fast, Rounding::Nearest);
    assert!(matches!(error, Err(ModelError::Io { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn weights_that_are_not_finite_are_refused_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = wide_bf16();
    let damaged = tensors
        .iter_mut()
        .find(|t| t.name.ends_with("layers.1.mlp.up_proj.weight"));
    damaged.unwrap().bytes[2 * 1000..2 * 1001].copy_from_slice(&[0x80, 0x7f]);
    let path = folder.path().join("x");
    let error = convert(
        checkpoint(WIDE, &tensors),
        &path,
        Recipe::Fast,
        Rounding::Search,
    );
    match error {
        Err(ModelError::NotFinite { index: 1000, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Adds `size` to a few channels of what the encoder's norms give, and takes what that adds away behind the matrices: the same
/// function, with activations as real encoders have them.
fn with_outliers(mut tensors: Vec<Tensor>, size: f32) -> Vec<Tensor> {
    let channels = [5, 40, 177];
    let numbers = |tensor: &Tensor| -> Vec<f32> {
        tensor
            .bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    };
    for layer in 0..5 {
        let name = |part: &str| format!("vision_tower.vision_model.encoder.layers.{layer}.{part}");
        let after = [
            (
                "layer_norm1",
                vec!["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            ),
            ("layer_norm2", vec!["mlp.fc1"]),
        ];
        for (norm, matrices) in after {
            let mut edit = |part: String, change: &dyn Fn(&mut [f32])| {
                let tensor = tensors.iter_mut().find(|t| t.name == name(&part)).unwrap();
                let mut values = numbers(tensor);
                change(&mut values);
                *tensor = Tensor::f32(&tensor.name, &tensor.shape, &values);
                values
            };
            edit(format!("{norm}.bias"), &|bias| {
                channels.iter().for_each(|channel| bias[*channel] += size)
            });
            for matrix in matrices {
                let weight = edit(format!("{matrix}.weight"), &|_| {});
                edit(format!("{matrix}.bias"), &|bias| {
                    let width = weight.len() / bias.len();
                    for (bias, row) in bias.iter_mut().zip(weight.chunks_exact(width)) {
                        *bias -= size * channels.iter().map(|at| row[*at]).sum::<f32>();
                    }
                });
            }
        }
    }
    tensors
}

/// The tensors of the model inside the program, as f32: random weights would leave little to lose, for what blocks of
/// random weights add hardly matters.
fn nano() -> (String, Vec<Tensor>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/model/bluelm-nano");
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        let bits = view.data().as_chunks::<2>().0.iter();
        let values: Vec<f32> = bits
            .map(|b| half::bf16::from_le_bytes(*b).to_f32())
            .collect();
        Tensor::f32(name, view.shape(), &values)
    });
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    (config, tensors.collect())
}

/// Dark strokes on white, through the encoder.
fn seen(model: &Model) -> Vec<f32> {
    let side = model.spec().image_size();
    let pixel = |at: usize| match (at % side / 3 + at / side / 5) % 4 {
        0 => -1.0,
        _ => 1.0,
    };
    let pixels: Vec<f32> = (0..3 * side * side).map(pixel).collect();
    model
        .encode_tiles(&pixels, 1, &|| false, &mut NoTaps)
        .unwrap()
}

#[test]
fn rows_of_int16_survive_outlier_channels_and_rows_of_int8_do_not() {
    let (config, tensors) = nano();
    let reference = seen(&Model::load(&checkpoint(&config, &tensors)).unwrap());
    let kept = |recipe, size| {
        let source = checkpoint(&config, &with_outliers(tensors.clone(), size));
        cosine(
            &reference,
            &seen(&opened(source, recipe, Rounding::Nearest)),
        )
    };
    let [paper, fast] = [Recipe::Paper, Recipe::Fast].map(|recipe| kept(recipe, 80.0));
    let [plain_paper, plain_fast] = [Recipe::Paper, Recipe::Fast].map(|recipe| kept(recipe, 0.0));
    println!(
        "cosine of the features: paper {plain_paper:.5}, with outliers {paper:.5}; fast {plain_fast:.5}, with outliers {fast:.5}"
    );
    // Without outliers INT8 loses a 127th of the largest number of a row at most, and what is lost is spread over 192 sums.
    assert!(plain_paper > 0.999 && plain_fast > 0.999);
    assert!(paper > 0.99, "{paper}");
    assert!(fast < 0.99, "{fast}");
}
