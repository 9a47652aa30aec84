//! Budgets and what fits, with tiles of 8 pixels, grids up to 2 x 2, 4 tokens a tile and a context of 64.

use super::*;
use crate::cancel::Cancel;
use crate::engine::Engine;
use crate::memory::Memory;
use crate::request::Reply;
use crate::room::MemoryRoom;
use crate::testing::{FakeNetwork, nano_files, picture};

fn engine() -> Engine<FakeNetwork> {
    Engine::new(FakeNetwork::new("yes</s>"), nano_files(), &[]).unwrap()
}

fn ask(
    engine: &Engine<FakeNetwork>,
    pictures: usize,
    vision: Vision,
) -> Result<Reply, EngineError> {
    // Not square: two tiles side by side then show more of it than one.
    let pictures = (0..pictures).map(|level| picture(16, 12, level as u8));
    let request = Request {
        vision,
        max_tokens: Some(4),
        ..Request::question(pictures.collect(), "hi")
    };
    engine.generate(&request, &Cancel::new(), &mut |_| {})
}

fn reduced(reply: &Reply) -> Vec<(usize, Option<Because>)> {
    let one = |image: &ImageInfo| (image.tiles, image.reduced.map(|reduced| reduced.because));
    reply.images.iter().map(one).collect()
}

#[test]
fn each_picture_keeps_to_the_least_of_its_limits() {
    let chosen = |vision| reduced(&ask(&engine(), 2, vision).unwrap());
    let low = Vision {
        details: vec![Detail::Low, Detail::High],
        ..Vision::default()
    };
    assert_eq!(chosen(low), [(1, Some(Because::Detail)), (5, None)]);
    let tiles = Vision {
        details: vec![Detail::Low],
        max_tiles: Some(4),
        ..Vision::default()
    };
    assert_eq!(
        chosen(tiles),
        [(1, Some(Because::Detail)), (3, Some(Because::MaxTiles))]
    );
    // 15 tokens are three tiles of four.
    let tokens = Vision {
        max_tiles: Some(4),
        max_tokens: Some(15),
        ..Vision::default()
    };
    assert_eq!(chosen(tokens), [(3, Some(Because::MaxTokens)); 2]);
    let wide = Vision {
        max_tiles: Some(5),
        ..Vision::default()
    };
    assert_eq!(chosen(wide), [(5, None); 2]);
}

#[test]
fn pictures_get_fewer_tiles_where_the_context_is_too_short_and_the_reply_says_so() {
    // Three pictures of five tiles are 60 tokens, and the question has some too.
    let reply = ask(&engine(), 3, Vision::default()).unwrap();
    assert_eq!(reduced(&reply), [(3, Some(Because::Context)); 3]);
    assert_eq!(reply.images[0].reduced.unwrap().from_tiles, 5);
    assert_eq!(reply.usage.image_tokens, 36);
    let json = serde_json::to_string(&reply.images[0]).unwrap();
    assert_eq!(
        json,
        r#"{"width":16,"height":12,"grid":[2,1],"tiles":3,"tokens":12,"reduced":{"because":"context","from_tiles":5}}"#
    );
    // Those that must be seen closely are; the others make room.
    let vision = Vision {
        details: vec![Detail::High],
        ..Vision::default()
    };
    let reply = ask(&engine(), 3, vision).unwrap();
    assert_eq!(reduced(&reply)[0], (5, None));
    assert!(reduced(&reply)[1].0 < 5);
}

#[test]
fn who_wants_all_or_nothing_is_told_the_limit() {
    for vision in [
        Vision {
            policy: Policy::Refuse,
            ..Vision::default()
        },
        Vision {
            details: vec![Detail::High; 3],
            ..Vision::default()
        },
    ] {
        let error = ask(&engine(), 3, vision).unwrap_err().to_string();
        assert!(error.contains("the model's context is 64"), "{error}");
    }
    // Twelve pictures of one tile are too many all the same.
    let error = ask(&engine(), 12, Vision::default()).unwrap_err();
    assert!(
        matches!(error, EngineError::PromptTooLong { .. }),
        "{error}"
    );
}

#[test]
fn pictures_get_fewer_tiles_where_memory_is_short() {
    // The fake cache is of unknown size, so a position costs its input row: two numbers.
    let room = |tokens: u64| MemoryRoom::Bytes(8 * tokens);
    let tokens = ask(&engine(), 2, Vision::default())
        .unwrap()
        .usage
        .prompt_tokens;
    let within = |least: usize| engine().with_memory_room(room(least as u64 + 4));
    let reply = ask(&within(tokens), 2, Vision::default()).unwrap();
    assert_eq!(reduced(&reply), [(5, None); 2]);
    let reply = ask(&within(tokens - 1), 2, Vision::default()).unwrap();
    assert_eq!(reduced(&reply), [(3, Some(Because::Memory)); 2]);
    assert!(reply.usage.prompt_tokens < tokens);
    let refuse = Vision {
        policy: Policy::Refuse,
        ..Vision::default()
    };
    for (engine, vision) in [(within(tokens - 1), refuse), (within(9), Vision::default())] {
        let error = ask(&engine, 2, vision).unwrap_err().to_string();
        assert!(error.starts_with("vision: the prompt is "), "{error}");
        assert!(error.contains("the free memory suffices for "), "{error}");
    }
}

#[test]
fn a_picture_seen_otherwise_is_another_picture_to_the_memory() {
    let (engine, mut memory) = (engine(), Memory::new());
    let mut ask = |vision: Vision| {
        let request = Request {
            vision,
            ..Request::question(vec![picture(16, 16, 9)], "hi")
        };
        let reply = engine.generate_in(&mut memory, &request, &Cancel::new(), &mut |_| {});
        let usage = reply.unwrap().usage;
        usage.prompt_tokens - usage.cached_tokens
    };
    let low = Vision {
        details: vec![Detail::Low],
        ..Vision::default()
    };
    ask(Vision::default());
    assert_eq!(ask(Vision::default()), 1);
    assert!(ask(low.clone()) > 4);
    assert_eq!(ask(low), 1);
    // A limit that does not bind changes nothing.
    ask(Vision::default());
    let wide = Vision {
        max_tiles: Some(99),
        ..Vision::default()
    };
    assert_eq!(ask(wide), 1);
}

/// Tiles, tokens and what was taken away of a picture that a model of another family is shown.
fn shown(
    family: &str,
    side: u32,
    vision: Vision,
) -> (usize, usize, Option<(Because, Option<usize>)>) {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/families/");
    let engine = Engine::load(format!("{golden}{family}/model").as_ref()).unwrap();
    let request = Request {
        vision,
        ..Request::question(vec![picture(side, side, 9)], "hi")
    };
    let look = engine.look(&request).unwrap();
    let image = &look.images[0];
    assert_eq!(look.prompt.ids.len(), {
        let text = look.prompt.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(places) => Some(places.len()),
            Piece::Image { .. } => None,
        });
        text.sum::<usize>() + image.tokens
    });
    let reduced = image
        .reduced
        .map(|reduced| (reduced.because, reduced.from_tokens));
    (image.tiles, image.tokens, reduced)
}

fn tokens(most: usize) -> Vision {
    Vision {
        max_tokens: Some(most),
        ..Vision::default()
    }
}

fn low() -> Vision {
    Vision {
        details: vec![Detail::Low],
        ..Vision::default()
    }
}

#[test]
fn a_picture_of_its_own_size_gets_fewer_pixels() {
    // A token is 28 x 28 pixels, a picture at most 40 and at least 4 of them.
    let shown = |vision| shown("qwen2_5_vl", 200, vision);
    assert_eq!(shown(Vision::default()), (1, 36, None));
    assert_eq!(shown(tokens(36)), (1, 36, None));
    let reduced = |because| Some((because, Some(36)));
    assert_eq!(shown(tokens(20)), (1, 16, reduced(Because::MaxTokens)));
    assert_eq!(shown(low()), (1, 4, reduced(Because::Detail)));
    let one = Vision {
        max_tiles: Some(1),
        ..Vision::default()
    };
    assert_eq!(shown(one), (1, 36, None));
}

#[test]
fn a_picture_of_several_resolutions_gets_a_smaller_one() {
    // Five tiles of 4 x 4 patches, of which four are a map of 8 lines with an end each.
    let shown = |vision| shown("llava_next", 112, vision);
    assert_eq!(shown(Vision::default()), (5, 16 + 8 * 9, None));
    // Of two tiles the picture covers one.
    let reduced = |because| Some((because, None));
    let small = 16 + 4 * 5;
    assert_eq!(shown(tokens(60)), (3, small, reduced(Because::MaxTokens)));
    // It has no smaller one.
    assert_eq!(shown(low()), (3, small, reduced(Because::Detail)));
}

#[test]
fn a_model_that_shows_all_pictures_alike_says_that_it_cannot_show_less() {
    let alike = image_prep::Recipe::Stretch {
        width: 8,
        height: 8,
    };
    let values = image_prep::PixelValues {
        filter: image_prep::resize::Filter::Bicubic,
        pad_color: [0; 3],
        rescale_factor: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let mut files = nano_files();
    files.preprocessor = Preprocessor::new(alike, values).unwrap();
    let engine = Engine::new(FakeNetwork::new("yes</s>"), files, &[]).unwrap();
    for vision in [Vision::default(), low(), tokens(4)] {
        assert_eq!(reduced(&ask(&engine, 2, vision).unwrap()), [(1, None); 2]);
    }
    assert_eq!(
        ask(&engine, 1, tokens(3)).unwrap_err().to_string(),
        "vision.max_tokens: this model shows every picture in 4 tokens, found a limit of 3"
    );
    // Nothing can be taken away to make room.
    let error = ask(&engine, 20, Vision::default()).unwrap_err().to_string();
    assert!(error.contains("the model's context is 64"), "{error}");
}
