//! Chunks give the bits of the block computed layer by layer.

use super::*;
use crate::bundled::bundle;
use crate::convert::Recipe;
use crate::encoder::Encoder;
use crate::encoder::places::Places;
use crate::random;
use crate::weights::Source;

/// 1200 inputs of the last matrix are three blocks; 64 patches are no whole number of tiles of rows.
const CONFIG: &str = r#"{"model_type": "bluelm_v",
  "vision_config": {"hidden_size": 96, "intermediate_size": 1200, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 64, "patch_size": 8, "hidden_act": "gelu_pytorch_tanh"},
  "vision_feature_layer": -1, "projector_config": {},
  "text_config": {"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 1, "vocab_size": 64},
  "image_token_id": 1, "image_start_token_id": 2, "image_end_token_id": 3}"#;

fn encoder(recipe: Recipe) -> Encoder {
    let bundle = bundle(CONFIG, recipe);
    let encoder = Encoder::load(Source::Bundle(&bundle), bundle.spec());
    encoder.unwrap().unwrap()
}

#[test]
fn chunks_give_the_bits_of_one_layer_after_the_other() {
    for recipe in [Recipe::Fast, Recipe::Paper] {
        let encoder = encoder(recipe);
        let places = Places::new(&encoder.spec, [8, 8], 64);
        for tiles in [1, 3] {
            let mut expected = random::numbers(tiles * 64 * 96, 5);
            let mut found = expected.clone();
            let (mut of_tiles, mut in_chunks) = Default::default();
            for (layer, block) in encoder.blocks.iter().enumerate() {
                let taken = Taken {
                    isa: Isa::detect(),
                    spec: &encoder.spec,
                    precision: encoder.precision,
                    count: 64,
                    places: &places,
                    layer,
                };
                for tile in expected.chunks_mut(64 * 96) {
                    block.apply(&taken, tile, &mut of_tiles);
                }
                let chunked = Chunked::of(taken, block).unwrap();
                chunked.apply(&mut found, &mut in_chunks);
                assert!(found == expected, "{recipe:?}, {tiles} tiles");
            }
        }
    }
}

#[test]
fn rows_are_cut_evenly_between_tiles_of_rows() {
    let found = shares(729, 2);
    let lengths: Vec<usize> = found.iter().map(Range::len).collect();
    assert_eq!(lengths, [120, 120, 120, 120, 120, 129]);
    assert_eq!(found[5], 600..729);
    assert_eq!(shares(30, 2), [0..12, 12..30]);
    assert_eq!(shares(13, 8), [0..12, 12..13]);
}
