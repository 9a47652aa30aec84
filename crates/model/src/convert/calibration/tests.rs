//! What the inputs of matrices are told to have lost, on a small model whose matrices are rounded to nothing or to themselves.

use std::path::Path;

use super::*;

const GROUP: usize = 8;

fn checkpoint() -> Checkpoint {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/qwen2");
    Checkpoint::open(&folder).unwrap()
}

/// Two questions after a few shared rows, all different.
fn sequences(hidden: usize) -> Vec<Sequence> {
    let mut state = 7u32;
    let mut rows = |count: usize| -> Vec<f32> {
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count * hidden).map(|_| draw()).collect()
    };
    let sequence = Sequence {
        shared: rows(9),
        positions: None,
        branches: vec![rows(3), rows(4)],
        branch_weight: 2.0,
    };
    vec![sequence]
}

/// A matrix of ones and zeros in the places of its largest numbers: far from what it stands for.
fn coarse(weights: &[f32], k: usize) -> Rounded {
    let scales = weights.len() / k * k.div_ceil(GROUP);
    Rounded {
        values: weights.iter().map(|w| i8::from(w.abs() > 0.1)).collect(),
        // 0.5 in bf16.
        scales: vec![0x3f00; scales],
    }
}

/// Goes through all matrices of the decoder, rounding each coarsely or none, and gives the names of those whose inputs have lost
/// something: whose weights are moved before they are rounded.
fn moved(rounded: impl Fn(&str) -> bool) -> Vec<String> {
    let checkpoint = checkpoint();
    let spec = ModelSpec::from_json(checkpoint.config()).unwrap();
    let mut calibration = Calibration::new(&spec, sequences(spec.decoder.hidden)).unwrap();
    let mut moved = Vec::new();
    for tensor in spec.tensors() {
        let name = &tensor.name;
        let &[_, k] = &tensor.shape[..] else { continue };
        if !name.contains(".layers.") {
            continue;
        }
        let weights = checkpoint.tensor_f32(name).unwrap();
        let factors = calibration.factors(&checkpoint, name, &|| false).unwrap();
        if factors.shifted(&weights)[..] != weights[..] {
            moved.push(name.clone());
        }
        if rounded(name) {
            calibration.keep(name, coarse(&weights, k), k, GROUP);
        }
    }
    moved
}

#[test]
fn all_but_the_first_matrices_make_up_for_what_was_lost_before_them() {
    let moved = moved(|_| true);
    let first = |name: &&String| {
        let first = ["q_proj", "k_proj", "v_proj"];
        name.contains("layers.0.") && first.iter().any(|part| name.contains(part))
    };
    assert_eq!(moved.iter().filter(first).count(), 0, "{moved:?}");
    // Seven matrices in each of two blocks, less the three before which nothing can be lost.
    assert_eq!(moved.len(), 11, "{moved:?}");
}

#[test]
fn nothing_is_made_up_for_where_nothing_was_rounded() {
    assert!(moved(|_| false).is_empty());
}

#[test]
fn what_one_matrix_lost_shows_from_there_on() {
    let moved = moved(|name| name.contains("layers.0.mlp.gate_proj"));
    let expected = ["layers.0.mlp.down_proj", "layers.1."];
    let shows = |name: &String| expected.iter().any(|part| name.contains(part));
    assert!(moved.iter().all(shows), "{moved:?}");
    assert_eq!(moved.len(), 8, "{moved:?}");
}
