//! Images in batches, beside each other and ahead of their question, with a network that notes what it is asked for.

use std::time::{Duration, Instant};

use super::*;
use crate::encoding::{EncoderWeights, Schedule};
use crate::memory::Memory;
use crate::request::{Event, Request};
use crate::testing::{Encoder, FakeNetwork, nano_files, picture};

fn engine(encoder: Encoder) -> Engine<FakeNetwork> {
    let mut network = FakeNetwork::new("x</s>");
    network.encoder = encoder;
    Engine::new(network, nano_files(), &[]).unwrap()
}

fn encoding(batch_tiles: usize, schedule: Schedule) -> Encoding {
    Encoding {
        batch_tiles,
        schedule,
        ..Encoding::default()
    }
}

/// A picture of 2 × 2 tiles and a thumbnail, all of which differ.
fn five_tiles() -> Picture {
    let mut picture = picture(16, 16, 200);
    for (at, byte) in picture.rgb.iter_mut().enumerate() {
        *byte = (at * 7 % 251) as u8;
    }
    picture
}

/// What a request leaves in the cache.
fn rows(engine: &Engine<FakeNetwork>, images: Vec<Picture>) -> Vec<[f32; 2]> {
    let mut memory = Memory::new();
    let request = Request::question(images, "hi");
    engine
        .generate_in(&mut memory, &request, &Cancel::new(), &mut |_| {})
        .unwrap();
    memory.cache().unwrap().rows.clone()
}

fn encoded(engine: &Engine<FakeNetwork>) -> Vec<usize> {
    engine.network().encoded.lock().unwrap().clone()
}

fn released(engine: &Engine<FakeNetwork>) -> usize {
    *engine.network().released.lock().unwrap()
}

/// Waits for something that another thread is about to do.
fn wait_until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(20), "in vain");
        std::thread::yield_now();
    }
}

#[test]
fn an_image_has_the_same_rows_in_batches_of_any_size_beside_each_other_or_not() {
    let whole = engine(Encoder::Ready)
        .encode(
            &five_tiles(),
            encoding(5, Schedule::Sequence),
            &Cancel::new(),
        )
        .unwrap();
    assert_eq!(whole.features.len(), 5 * 4 * 2);
    for schedule in [Schedule::Sequence, Schedule::Pipeline] {
        for (batch, expected) in [
            (1, vec![1; 5]),
            (2, vec![2, 2, 1]),
            (4, vec![4, 1]),
            (9, vec![5]),
        ] {
            for threads in [1, 2, 3] {
                let engine = engine(Encoder::Ready).with_threads(Threads::new(threads).unwrap());
                let encoding = encoding(batch, schedule);
                let found = engine
                    .encode(&five_tiles(), encoding, &Cancel::new())
                    .unwrap();
                assert_eq!(found.features, whole.features, "{encoding:?} {threads}");
                assert_eq!(encoded(&engine), expected);
                assert_eq!(*engine.network().embedded.lock().unwrap(), expected);
                // One goes through the blocks, at most one waits.
                let most = engine.network().batches.lock().unwrap().1;
                assert!(most <= 2, "{most} batches at once");
                if schedule == Schedule::Sequence {
                    assert_eq!(most, 1);
                }
            }
        }
    }
}

#[test]
fn the_rows_of_a_request_do_not_depend_on_how_its_images_are_encoded() {
    let images = || vec![five_tiles(), picture(8, 8, 9)];
    let expected = rows(&engine(Encoder::Ready), images());
    for (batch, threads) in [(1, 1), (3, 2), (4, 3)] {
        for overlap in [Overlap::None, Overlap::Steps] {
            let engine = engine(Encoder::Ready)
                .with_encoding(encoding(batch, Schedule::Pipeline))
                .unwrap()
                .with_threads(Threads::new(threads).unwrap())
                .with_overlap(overlap)
                .with_step_tokens(3);
            assert_eq!(rows(&engine, images()), expected, "{batch} {overlap:?}");
        }
    }
}

#[test]
fn without_overlap_the_decoder_begins_when_all_images_are_encoded() {
    let engine = engine(Encoder::Ready).with_step_tokens(2);
    let request = Request::question(vec![five_tiles(), picture(8, 8, 9)], "hi");
    let mut at_first_step = None;
    engine
        .generate(&request, &Cancel::new(), &mut |event| {
            if let Event::Prefill { .. } = event {
                at_first_step.get_or_insert_with(|| (encoded(&engine), released(&engine)));
            }
        })
        .unwrap();
    assert_eq!(at_first_step, Some((vec![4, 1, 1], 1)));
}

#[test]
fn an_encoder_is_released_after_the_last_image_unless_it_is_kept() {
    let images = || vec![five_tiles(), picture(8, 8, 9)];
    let engine = engine(Encoder::Ready);
    rows(&engine, images());
    assert_eq!(released(&engine), 1);
    rows(&engine, vec![]);
    engine
        .encode(&five_tiles(), Encoding::default(), &Cancel::new())
        .unwrap();
    assert_eq!(released(&engine), 2);
    let keep = Encoding {
        weights: EncoderWeights::Keep,
        ..Encoding::default()
    };
    let engine = engine.with_encoding(keep).unwrap();
    rows(&engine, images());
    assert_eq!(released(&engine), 2);
}

#[test]
fn an_image_is_encoded_before_there_is_a_question_and_not_again_with_it() {
    let engine = engine(Encoder::Layers(1));
    // Nobody has asked anything, and the encoder is in its first layer.
    let ahead = engine.encode_ahead(picture(8, 8, 7)).unwrap();
    let in_layer = &engine.network().in_layer;
    in_layer.wait();
    assert!(!ahead.is_done());
    // The same picture once more is the same work.
    let again = engine.encode_ahead(picture(8, 8, 7)).unwrap();
    let answered = std::thread::scope(|scope| {
        let request = scope.spawn(|| rows(&engine, vec![picture(8, 8, 7)]));
        in_layer.wait();
        request.join().unwrap()
    });
    assert_eq!(encoded(&engine), [1]);
    ahead.wait(&Cancel::new());
    assert!(ahead.is_done() && again.is_done());
    assert_eq!(answered, rows(&engine, vec![picture(8, 8, 7)]));
    assert_eq!(encoded(&engine), [1]);
    wait_until(|| released(&engine) > 0);
}

#[test]
fn another_picture_or_one_that_nobody_holds_any_more_is_encoded_with_its_request() {
    let engine = engine(Encoder::Ready);
    let ahead = engine.encode_ahead(five_tiles()).unwrap();
    ahead.wait(&Cancel::new());
    let expected = rows(&engine, vec![five_tiles()]);
    assert_eq!(encoded(&engine), [4, 1]);
    let mut other = five_tiles();
    other.rgb[700] ^= 1;
    rows(&engine, vec![other]);
    assert_eq!(encoded(&engine), [4, 1, 4, 1]);
    drop(ahead);
    assert_eq!(rows(&engine, vec![five_tiles()]), expected);
    assert_eq!(encoded(&engine), [4, 1, 4, 1, 4, 1]);
}

#[test]
fn what_fails_ahead_is_finished_by_the_request() {
    let expected = rows(&engine(Encoder::Ready), vec![five_tiles()]);
    // The second batch ahead fails; the request has the rows of the first, and makes all batches of its own, in other sizes.
    let engine = engine(Encoder::FailsAt(2))
        .with_encoding(encoding(2, Schedule::Pipeline))
        .unwrap();
    let ahead = engine.encode_ahead(five_tiles()).unwrap();
    ahead.wait(&Cancel::new());
    assert!(!ahead.is_done());
    let engine = engine
        .with_encoding(encoding(3, Schedule::Pipeline))
        .unwrap();
    assert_eq!(rows(&engine, vec![five_tiles()]), expected);
    assert_eq!(encoded(&engine), [2, 2, 3, 2]);
}

#[test]
fn a_request_that_is_cancelled_does_not_begin_another_layer() {
    for overlap in [Overlap::None, Overlap::Steps] {
        let engine = engine(Encoder::Layers(6)).with_overlap(overlap);
        let (cancel, in_layer) = (Cancel::new(), &engine.network().in_layer);
        let request = Request::question(vec![picture(8, 8, 0)], "hi");
        let result = std::thread::scope(|scope| {
            let asked = scope.spawn(|| engine.generate(&request, &cancel, &mut |_| {}));
            (0..3).for_each(|_| {
                in_layer.wait();
            });
            // In the second layer.
            cancel.cancel();
            in_layer.wait();
            asked.join().unwrap()
        });
        assert!(matches!(result, Err(EngineError::Cancelled)));
        assert_eq!(*engine.network().layers.lock().unwrap(), 2);
    }
}

#[test]
fn an_image_ahead_that_is_dropped_does_not_begin_another_layer() {
    let engine = engine(Encoder::Layers(6));
    let ahead = engine.encode_ahead(picture(8, 8, 0)).unwrap();
    let in_layer = &engine.network().in_layer;
    in_layer.wait();
    // A copy holds it as well.
    drop(ahead.clone());
    in_layer.wait();
    in_layer.wait();
    drop(ahead);
    in_layer.wait();
    wait_until(|| released(&engine) == 1);
    assert_eq!(*engine.network().layers.lock().unwrap(), 2);
}

#[test]
fn a_request_can_be_cancelled_while_it_waits_for_an_image_ahead() {
    let engine = engine(Encoder::Layers(1));
    let ahead = engine.encode_ahead(picture(8, 8, 0)).unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let request = Request::question(vec![picture(8, 8, 0)], "hi");
    let result = engine.generate(&request, &cancel, &mut |_| {});
    assert!(matches!(result, Err(EngineError::Cancelled)));
    // The image goes on: another request may want it.
    engine.network().in_layer.wait();
    engine.network().in_layer.wait();
    ahead.wait(&Cancel::new());
    assert!(ahead.is_done());
}

#[test]
fn a_model_that_sees_nothing_and_batches_of_no_tile_are_mistakes() {
    let message = |result: Result<EncodedImage, EngineError>| result.unwrap_err().to_string();
    let encode = |engine: &Engine<FakeNetwork>, batch| {
        let encoding = encoding(batch, Schedule::Pipeline);
        message(engine.encode(&five_tiles(), encoding, &Cancel::new()))
    };
    let sees = engine(Encoder::Ready);
    assert_eq!(encode(&sees, 0), "batch: expected 1 to 4096 tiles, found 0");
    let mut network = FakeNetwork::new("x</s>");
    network.shape.image_ids = None;
    let blind = Engine::new(network, nano_files(), &[]).unwrap();
    assert_eq!(encode(&blind, 1), "images: this model takes none");
    let error = blind.encode_ahead(five_tiles()).err().unwrap();
    assert_eq!(error.to_string(), "images: this model takes none");
}

#[test]
fn a_kept_image_is_encoded_once_for_all_requests_and_answers_are_the_same_bits() {
    let expected = rows(&engine(Encoder::Ready), vec![five_tiles()]);
    let engine = engine(Encoder::Ready)
        .with_image_cache(ImageCache::new(1 << 20))
        .unwrap();
    for _ in 0..2 {
        assert_eq!(rows(&engine, vec![five_tiles()]), expected);
    }
    assert_eq!(encoded(&engine), [4, 1]);
    // What was encoded ahead is kept when nobody holds it any more, and what was kept need not be encoded ahead.
    let ahead = engine.encode_ahead(picture(8, 8, 3)).unwrap();
    ahead.wait(&Cancel::new());
    assert_eq!(
        (ahead.progress().tiles_done, ahead.progress().tiles),
        (1, 1)
    );
    drop(ahead);
    assert!(engine.knows_image(&picture(8, 8, 3)) && !engine.knows_image(&picture(8, 8, 4)));
    rows(&engine, vec![picture(8, 8, 3)]);
    let again = engine.encode_ahead(five_tiles()).unwrap();
    again.wait(&Cancel::new());
    assert!(again.is_done());
    assert_eq!(again.progress().tiles_done, 5);
    assert_eq!(encoded(&engine), [4, 1, 1]);
    let counts = engine.image_cache_counts().unwrap();
    assert_eq!((counts.images, counts.bytes), (2, 6 * 4 * 2 * 4));
}

#[test]
fn a_picture_that_two_requests_bring_at_once_is_encoded_once() {
    let expected = rows(&engine(Encoder::Ready), vec![five_tiles()]);
    let engine = engine(Encoder::Ready)
        .with_image_cache(ImageCache::new(1 << 20))
        .unwrap();
    std::thread::scope(|scope| {
        // Both look for it in vain before one of them has its turn.
        let turn = engine.ahead.turn();
        let ask = || scope.spawn(|| rows(&engine, vec![five_tiles()]));
        let asked = [ask(), ask()];
        wait_until(|| engine.image_cache_counts().unwrap().missed == 2);
        drop(turn);
        for answer in asked {
            assert_eq!(answer.join().unwrap(), expected);
        }
    });
    assert_eq!(encoded(&engine), [4, 1]);
}

#[test]
fn another_engine_of_the_same_weights_takes_images_from_the_folder_and_one_of_others_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let with_folder = |weights: u8| {
        let mut engine = engine(Encoder::Ready);
        engine.weights = crate::identity::Weights::Named([weights; 32]);
        let cache = ImageCache::new(0).with_folder(folder.path(), 1 << 20);
        engine.with_image_cache(cache.unwrap()).unwrap()
    };
    let first = with_folder(1);
    let expected = rows(&first, vec![five_tiles()]);
    drop(first);
    let second = with_folder(1);
    assert!(second.knows_image(&five_tiles()));
    assert_eq!(rows(&second, vec![five_tiles()]), expected);
    assert!(encoded(&second).is_empty());
    let other = with_folder(2);
    assert_eq!(rows(&other, vec![five_tiles()]), expected);
    assert_eq!(encoded(&other), [4, 1]);
}

#[test]
fn an_image_that_was_cancelled_half_way_is_not_kept() {
    let engine = engine(Encoder::FailsAt(2))
        .with_image_cache(ImageCache::new(1 << 20))
        .unwrap();
    let request = Request::question(vec![five_tiles()], "hi");
    let failed = engine.generate(&request, &Cancel::new(), &mut |_| {});
    assert!(matches!(failed, Err(EngineError::Cancelled)));
    assert_eq!(engine.image_cache_counts().unwrap().images, 0);
    assert!(!engine.knows_image(&five_tiles()));
}

#[test]
fn a_picture_is_encoded_ahead_as_its_request_will_look_at_it() {
    let engine = engine(Encoder::Ready);
    let vision = Vision {
        max_tiles: Some(1),
        ..Vision::default()
    };
    let ahead = engine.encode_ahead_as(five_tiles(), &vision).unwrap();
    ahead.wait(&Cancel::new());
    assert_eq!(ahead.progress().tiles, 1);
    let request = Request {
        vision,
        ..Request::question(vec![five_tiles()], "hi")
    };
    engine
        .generate(&request, &Cancel::new(), &mut |_| {})
        .unwrap();
    assert_eq!(encoded(&engine), [1]);
    // Looked at otherwise it is another image.
    rows(&engine, vec![five_tiles()]);
    assert_eq!(encoded(&engine), [1, 4, 1]);
}
