//! The whole path against transformers, Jinja2 and Pillow: golden/engine_*, made by scripts/make_engine_golden.py.
//!
//! Prompt text, ids and pixels must be equal, features and the decoder's last rows within 1e-4 of the largest value, tokens
//! equal unless the reference itself was all but undecided. f32 sums of a few hundred products in another order differ by
//! some 1e-6; anything structural differs by 1e-2 and more.

#[path = "support/parity.rs"]
mod parity;

use std::path::Path;

fn compare(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../golden")
        .join(name);
    let worst = parity::compare_folder(&folder);
    assert!(worst.problems.is_empty(), "{}", worst.summary());
    assert_eq!(worst.cases, 6);
}

#[test]
fn a_sentencepiece_llama_with_tiles_that_leave_a_rest() {
    compare("engine_v");
}

#[test]
fn a_byte_level_qwen_with_other_preprocessing() {
    compare("engine_2_5");
}
