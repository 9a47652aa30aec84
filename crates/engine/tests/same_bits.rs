//! The model inside gives the same bits on every processor: features, every row of logits that the engine ever sees, tokens.
//!
//! What it must give is stored in `snapshots/`, so that machines which never meet are compared with one another: x86 with each
//! instruction set that it has here, Arm under QEMU (`make test-arm`). The numbers belong to the weights; after a change of the
//! model inside they are made anew by `make same-bits`, on any machine.

use std::fmt::Write;
use std::path::Path;

use engine::{AtEnd, Cancel, Engine, Record, Request, read_small_files};
use image_prep::Limits;
use image_prep::tiling::Grid;
use model::convert::{Conversion, Options, Origin, Recipe, Rounding};
use model::{Checkpoint, LogitRows, NoTaps};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/model/bluelm-nano");
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/receipt.png");
/// Enough to be wrong in; emulated processors are slow.
const TOKENS: usize = 12;

/// A hash that depends on every bit and on the order: FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
fn fingerprint(numbers: &[f32]) -> String {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:5} numbers {hash:016x}", numbers.len())
}

/// What the model gives on its way to an answer, a line for each.
fn answer(model: &Path) -> String {
    // One tile is enough to be wrong in, and an emulated processor takes many seconds for it.
    let engine = Engine::load(model)
        .unwrap()
        .with_grids_at_most(Grid::SINGLE);
    let picture = image_prep::decode(&std::fs::read(PICTURE).unwrap(), &Limits::default()).unwrap();
    let request = Request {
        max_tokens: Some(TOKENS),
        at_end: AtEnd::Continue,
        ..Request::question(vec![picture], "What is the total?")
    };
    let mut record = Record::new();
    let reply = engine
        .generate_with_taps(&request, &Cancel::new(), &mut |_| {}, &mut record)
        .unwrap();
    let mut told = String::new();
    for name in ["pixel_values", "image_embeds", "prefill_logits"] {
        let numbers = record.numbers(name).unwrap();
        writeln!(told, "  {name:14} {}", fingerprint(numbers)).unwrap();
    }
    let prompt = record.numbers("inputs_embeds").unwrap();
    for line in decoded(&engine, prompt, &reply.output_ids) {
        writeln!(told, "  {line}").unwrap();
    }
    writeln!(told, "  {:?}", reply.text).unwrap();
    told
}

/// The logits before each token of the answer, computed again token by token.
fn decoded(engine: &Engine, prompt: &[f32], answer: &[u32]) -> Vec<String> {
    let model = engine.network();
    let rows = prompt.len() / model.spec().hidden_size();
    let mut cache = model.new_cache(rows + answer.len());
    let mut next = prompt.to_vec();
    let mut lines = Vec::new();
    for &id in answer {
        let logits = model
            .forward(&next, &mut cache, LogitRows::Last, &|| false, &mut NoTaps)
            .unwrap();
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(logits[id as usize], largest, "another token than answered");
        lines.push(format!("token {id:8} {}", fingerprint(&logits)));
        next = model.embed(&[id]);
    }
    lines
}

/// Makes a bundle of the model inside.
fn convert(recipe: Recipe, path: &Path) {
    let folder = Path::new(MODEL);
    let conversion = Conversion {
        weights: Origin::Checkpoint(&mut Checkpoint::open(folder).unwrap()),
        files: &read_small_files(folder).unwrap(),
        // The rounding is of no concern here, and this one is quick.
        options: Options {
            recipe,
            group: 64,
            rounding: Rounding::Nearest,
        },
        sequences: Vec::new(),
        progress: &mut |_| {},
        cancel: &|| false,
    };
    conversion.write(path).unwrap();
}

/// What a bundle of the model inside gives.
fn answer_of_bundle(recipe: Recipe) -> String {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(recipe.name());
    convert(recipe, &path);
    answer(&path)
}

// Three tests, because Arm processors without integer dot products are emulated too slowly for the bundles.

#[test]
fn the_model_inside_gives_the_stored_bits() {
    insta::assert_snapshot!("model_inside", answer(Path::new(MODEL)));
}

#[test]
fn its_fast_bundle_gives_the_stored_bits() {
    insta::assert_snapshot!("fast_bundle", answer_of_bundle(Recipe::Fast));
}

#[test]
fn its_paper_bundle_gives_the_stored_bits() {
    insta::assert_snapshot!("paper_bundle", answer_of_bundle(Recipe::Paper));
}

/// The choice of an instruction set holds for a whole process, so each gets one. An emulated program could not start another.
#[cfg(target_arch = "x86_64")]
#[test]
fn every_instruction_set_of_this_processor_gives_the_stored_bits() {
    for isa in ["scalar", "avx2", "avx512"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--skip", "every_instruction_set"])
            .envs([("BLUELM_ISA", isa), ("INSTA_UPDATE", "no")])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let absent = told.contains("expected one that this processor has");
        if absent && isa != "scalar" && std::env::var("EXPECT_ISA").as_deref() != Ok(isa) {
            println!("{isa}: this processor lacks it");
            continue;
        }
        assert!(output.status.success(), "{isa}:\n{told}");
        assert!(told.contains("3 passed"), "{isa}:\n{told}");
    }
}
