//! The engine over the real networks with random weights: what must hold for any weights.

#[path = "support/loaded.rs"]
mod loaded;
#[path = "support/random_model.rs"]
mod support;

use std::time::{Duration, Instant};

use engine::{Cancel, Engine, EngineError, Event, Memory, Message, Record, Reply, Request, Role};
use loaded::{load, picture};
use proptest::prelude::*;
use support::{write_changed_model, write_random_model};

fn answer(engine: &Engine, request: &Request) -> Reply {
    engine
        .generate(request, &Cancel::new(), &mut |_| {})
        .unwrap()
}

fn logit_bits(engine: &Engine, request: &Request) -> (Vec<u32>, Vec<u32>) {
    let mut record = Record::new();
    let reply = engine
        .generate_with_taps(request, &Cancel::new(), &mut |_| {}, &mut record)
        .unwrap();
    (
        record
            .numbers("prefill_logits")
            .unwrap()
            .iter()
            .map(|logit| logit.to_bits())
            .collect(),
        reply.output_ids,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn prefill_in_any_steps_gives_the_bits_of_prefill_in_one(
        step_tokens in prop_oneof![Just(1usize), 2..200usize],
        text in "[a-z ]{1,120}",
        sizes in prop::collection::vec((1u32..100, 1u32..100), 0..3),
    ) {
        let images = sizes.iter().map(|&(width, height)| picture(width, height)).collect();
        let request = Request { max_tokens: Some(4), ..Request::question(images, text) };
        let whole = logit_bits(&load().with_step_tokens(100_000), &request);
        prop_assert_eq!(logit_bits(&load().with_step_tokens(step_tokens), &request), whole);
    }
}

#[test]
fn tokens_taken_one_by_one_have_the_bits_of_a_prompt() {
    // What decoding leaves in the cache must be what prefill would have put there: a conversation builds on it.
    let engine = load();
    let mut memory = Memory::new();
    let mut request = Request {
        max_tokens: Some(12),
        ..Request::question(vec![picture(40, 30)], "first")
    };
    for turn in ["second", "third"] {
        let remembered = engine
            .generate_in(&mut memory, &request, &Cancel::new(), &mut |_| {})
            .unwrap();
        assert_eq!(remembered.output_ids, answer(&engine, &request).output_ids);
        request
            .messages
            .push(Message::text(Role::Assistant, remembered.text));
        request.messages.push(Message::text(Role::User, turn));
    }
    let before = memory.tokens();
    let remembered = engine
        .generate_in(&mut memory, &request, &Cancel::new(), &mut |_| {})
        .unwrap();
    assert!(before > 30 && memory.tokens() > before);
    assert_eq!(remembered.output_ids, answer(&engine, &request).output_ids);
}

#[test]
fn a_record_leaves_the_answer_as_it_is() {
    let engine = load();
    let request = Request {
        max_tokens: Some(6),
        ..Request::question(vec![picture(70, 20)], "what?")
    };
    assert_eq!(
        logit_bits(&engine, &request).1,
        answer(&engine, &request).output_ids
    );
}

#[test]
fn a_cancel_ends_prefill_and_decoding() {
    let engine = load();
    let cancel = Cancel::new();
    cancel.cancel();
    let request = Request::question(vec![picture(40, 30)], "hi");
    assert!(matches!(
        engine.generate(&request, &cancel, &mut |_| {}),
        Err(EngineError::Cancelled)
    ));
    // From inside the answer.
    let cancel = Cancel::new();
    let result = engine.generate(&request, &cancel, &mut |event| {
        if matches!(event, Event::Prefill { done, total } if done == total) {
            cancel.cancel();
        }
    });
    assert!(matches!(result, Err(EngineError::Cancelled)));
}

#[test]
fn the_timings_of_a_reply_are_of_this_world() {
    let engine = load();
    let started = Instant::now();
    let timings = answer(&engine, &Request::question(vec![picture(40, 30)], "hi")).timings;
    let wall = Duration::as_secs_f64(&started.elapsed()) * 1e3;
    assert!(timings.load_ms > 0.0);
    for part in [timings.image_ms, timings.prefill_ms, timings.first_token_ms] {
        assert!(part > 0.0 && part <= wall, "{timings:?} in {wall} ms");
    }
    assert!(timings.decode_tokens_per_s > 0.0);
}

#[test]
fn a_model_in_memory_answers_as_one_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    write_random_model(folder.path(), 1);
    let text = |name: &str| {
        std::fs::read_to_string(folder.path().join(name))
            .unwrap()
            .into()
    };
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap().into();
    let files = engine::ModelFiles {
        config: text("config.json"),
        weights: bytes("model.safetensors"),
        tokenizer: bytes("tokenizer.json"),
        tokenizer_config: text("tokenizer_config.json"),
        template: text("chat_template.jinja"),
        preprocessor: text("preprocessor_config.json"),
        generation: text("generation_config.json"),
    };
    let request = Request {
        max_tokens: Some(8),
        ..Request::question(vec![picture(33, 64)], "hi")
    };
    let inside = Engine::from_files(files).unwrap();
    assert_eq!(
        answer(&inside, &request).output_ids,
        answer(&load(), &request).output_ids
    );
}

#[test]
fn an_output_that_is_no_number_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    // Every weight is finite, but what passes them overflows.
    write_changed_model(folder.path(), 0, |tensors| {
        for (name, _, values) in tensors {
            if name.contains("up_proj") || name.contains("down_proj") {
                values
                    .iter_mut()
                    .for_each(|value| *value = *value & 0x8000 | 0x7F00);
            }
        }
    });
    let engine = Engine::load(folder.path()).unwrap();
    let error = engine
        .generate(
            &Request::question(vec![], "hi"),
            &Cancel::new(),
            &mut |_| {},
        )
        .unwrap_err();
    assert!(matches!(error, EngineError::NotFinite { .. }), "{error}");
    assert!(error.hint().is_some());
}
