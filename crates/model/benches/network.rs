//! How long the embedded model's network takes for a picture, for a prompt and for a token; weights are random.

#[path = "../tests/suite/support/random.rs"]
mod random;

use divan::{Bencher, counter::ItemsCount};
use model::{LogitRows, Model, NoTaps};
use std::sync::LazyLock;

const NANO: &str = include_str!("../../../configs/nano/config.json");
/// SigLIP So400m's tile at a third of its depth: 729 patches, heads of 72.
const LARGE_TILE: &str = r#"{"model_type": "bluelm_v",
  "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 2, "num_attention_heads": 16,
    "image_size": 384, "patch_size": 14},
  "vision_feature_layer": -1, "projector_config": {},
  "text_config": {"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 1, "vocab_size": 64},
  "image_token_id": 1, "image_start_token_id": 2, "image_end_token_id": 3}"#;

static MODEL: LazyLock<Model> = LazyLock::new(|| random::model(NANO));
static LARGE: LazyLock<Model> = LazyLock::new(|| random::model(LARGE_TILE));

fn main() {
    divan::main();
}

fn encode(bencher: Bencher, model: &Model, tiles: usize) {
    let pixels = random::numbers(tiles * 3 * model.spec().image_size().pow(2), 1);
    bencher
        .counter(ItemsCount::new(tiles))
        .bench_local(|| model.encode_tiles(&pixels, tiles, &|| false, &mut NoTaps));
}

#[divan::bench(args = [1, 5, 17])]
fn tiles(bencher: Bencher, count: usize) {
    encode(bencher, &MODEL, count);
}

#[divan::bench(args = [1], sample_count = 10)]
fn large_tiles(bencher: Bencher, count: usize) {
    encode(bencher, &LARGE, count);
}

/// A prompt in chunks of 128 tokens, as the engine gives it.
#[divan::bench(args = [128, 512, 2048])]
fn prefill(bencher: Bencher, tokens: usize) {
    let d = MODEL.spec().hidden_size();
    let rows = random::numbers(tokens * d, 1);
    bencher.counter(ItemsCount::new(tokens)).bench_local(|| {
        let mut cache = MODEL.new_cache(tokens);
        for chunk in rows.chunks(128 * d) {
            MODEL
                .forward(chunk, &mut cache, LogitRows::Last, &|| false, &mut NoTaps)
                .unwrap();
        }
    });
}

/// One token behind so many.
#[divan::bench(args = [64, 1024])]
fn token(bencher: Bencher, behind: usize) {
    let d = MODEL.spec().hidden_size();
    let rows = random::numbers((behind + 1) * d, 1);
    let mut cache = MODEL.new_cache(behind + 1);
    let (before, last) = rows.split_at(behind * d);
    MODEL
        .forward(before, &mut cache, LogitRows::None, &|| false, &mut NoTaps)
        .unwrap();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        cache.truncate(behind);
        MODEL.forward(last, &mut cache, LogitRows::Last, &|| false, &mut NoTaps)
    });
}
