//! The model inside gives the same bits on every processor: features, every row of logits that the engine ever sees, tokens.
//!
//! What it must give is stored in `snapshots/`, so that machines which never meet are compared with one another: x86 with each
//! instruction set that it has here, Arm under QEMU (`make test-arm`). The numbers belong to the weights; after a change of the
//! model inside they are made anew by `make same-bits`, on any machine.

use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;

use engine::{
    AtEnd, Cache, Cancel, Engine, EngineError, Network, NetworkShape, PromptFiles, Request,
    read_small_files,
};
use image_prep::tiling::Grid;
use model::convert::{Conversion, Options, Origin, Recipe, Rounding};
use model::{Bundle, Checkpoint, KvCache, LogitRows, Model, Taps};

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

/// The network, which writes down what it gives.
struct Watched {
    model: Model,
    features: Mutex<Vec<String>>,
    logits: Mutex<Vec<String>>,
}

impl Network for Watched {
    type Cache = KvCache;

    fn shape(&self) -> NetworkShape {
        Network::shape(&self.model)
    }

    fn encode(
        &self,
        pixels: &[f32],
        tiles: usize,
        cancel: &Cancel,
    ) -> Result<Vec<f32>, EngineError> {
        let features = self.model.encode(pixels, tiles, cancel)?;
        let mut seen = self.features.lock().unwrap();
        seen.push(format!("pixels   {}", fingerprint(pixels)));
        seen.push(format!("features {}", fingerprint(&features)));
        Ok(features)
    }

    fn embed(&self, ids: &[u32]) -> Vec<f32> {
        Network::embed(&self.model, ids)
    }

    fn new_cache(&self, tokens: usize) -> KvCache {
        Network::new_cache(&self.model, tokens)
    }

    fn forward(
        &self,
        inputs: &[f32],
        cache: &mut KvCache,
        rows: LogitRows,
        cancel: &Cancel,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, EngineError> {
        let logits = Network::forward(&self.model, inputs, cache, rows, cancel, taps)?;
        if !logits.is_empty() {
            let position = Cache::tokens(cache);
            let line = format!("logits at {position} {}", fingerprint(&logits));
            self.logits.lock().unwrap().push(line);
        }
        Ok(logits)
    }
}

/// What the network gives on its way to an answer, a line for each.
fn answer(model: Model, files: PromptFiles) -> String {
    let eos = model.spec().stop_token_ids.clone();
    let network = Watched {
        model,
        features: Mutex::default(),
        logits: Mutex::default(),
    };
    // One tile is enough to be wrong in, and an emulated processor takes many seconds for it.
    let engine = Engine::new(network, files, &eos)
        .unwrap()
        .with_grids_at_most(Grid::SINGLE);
    let picture = image_prep::decode(&std::fs::read(PICTURE).unwrap()).unwrap();
    let request = Request {
        max_tokens: Some(TOKENS),
        at_end: AtEnd::Continue,
        ..Request::question(vec![picture], "What is the total?")
    };
    let reply = engine
        .generate(&request, &Cancel::new(), &mut |_| {})
        .unwrap();
    let network = engine.network();
    let mut told = String::new();
    for line in network.features.lock().unwrap().iter() {
        writeln!(told, "  {line}").unwrap();
    }
    for line in network.logits.lock().unwrap().iter() {
        writeln!(told, "  {line}").unwrap();
    }
    writeln!(told, "  tokens {:?}", reply.output_ids).unwrap();
    writeln!(told, "  text {:?}", reply.text).unwrap();
    told
}

/// The model inside as a bundle.
fn bundle(recipe: Recipe, path: &Path) -> Bundle {
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
    Bundle::open(path).unwrap()
}

#[test]
fn the_model_inside_gives_the_stored_bits() {
    let folder = Path::new(MODEL);
    let model = Model::load(&Checkpoint::open(folder).unwrap()).unwrap();
    let mut told = format!(
        "weights as they come\n{}",
        answer(model, PromptFiles::open(folder).unwrap())
    );
    let place = tempfile::tempdir().unwrap();
    for recipe in [Recipe::Fast, Recipe::Paper] {
        let bundle = bundle(recipe, &place.path().join(recipe.name()));
        let model = Model::from_bundle(&bundle).unwrap();
        let files = PromptFiles::from_bundle(&bundle).unwrap();
        write!(told, "{}\n{}", recipe.name(), answer(model, files)).unwrap();
    }
    insta::assert_snapshot!("model_inside", told);
}

/// The choice of an instruction set holds for a whole process, so each gets one. An emulated program could not start another.
#[cfg(target_arch = "x86_64")]
#[test]
fn every_instruction_set_of_this_processor_gives_the_stored_bits() {
    for isa in ["scalar", "avx2", "avx512"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_model_inside_gives_the_stored_bits"])
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
        assert!(told.contains("1 passed"), "{isa}:\n{told}");
    }
}
