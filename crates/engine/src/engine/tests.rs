//! The engine's own logic, with a network whose answer is known.

use super::*;
use crate::budget::ThoughtEnd;
use crate::message::{Message, Part, Role};
use crate::request::{AtEnd, FinishReason, Timings, Usage};
use crate::sample::Sampling;
use crate::testing::{Encoder, FakeNetwork, nano_files, picture};

fn engine(answer: &str) -> Engine<FakeNetwork> {
    Engine::new(FakeNetwork::new(answer), nano_files(), &[]).unwrap()
}

fn ask(engine: &Engine<FakeNetwork>, request: &Request) -> Result<Reply, EngineError> {
    engine.generate(request, &Cancel::new(), &mut |_| {})
}

fn question() -> Request {
    Request::question(vec![], "hi")
}

#[test]
fn an_answer_ends_at_the_end_token() {
    let reply = ask(&engine("good day</s>never"), &question()).unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish_reason),
        ("good day", FinishReason::Stop)
    );
    assert_eq!(
        reply.usage,
        Usage {
            prompt_tokens: 6,
            image_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 9,
            reasoning_tokens: 0
        }
    );
    assert_eq!(reply.output_ids.last(), Some(&2));
}

#[test]
fn an_answer_is_cut_at_max_tokens() {
    let reply = ask(
        &engine("good day</s>"),
        &Request {
            max_tokens: Some(4),
            ..question()
        },
    )
    .unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish_reason),
        ("good", FinishReason::Length)
    );
    assert_eq!(reply.usage.completion_tokens, 4);
}

#[test]
fn an_answer_is_cut_where_the_context_is_full() {
    let reply = ask(&engine("aaa"), &question()).unwrap();
    // 64 positions, 6 of the prompt; the last token chosen takes none.
    assert_eq!(
        (reply.usage.completion_tokens, reply.finish_reason),
        (59, FinishReason::Length)
    );
}

#[test]
fn the_end_token_can_be_passed_over() {
    let request = Request {
        max_tokens: Some(5),
        at_end: AtEnd::Continue,
        ..question()
    };
    assert_eq!(ask(&engine("a</s>b</s>c"), &request).unwrap().text, "abc");
}

#[test]
fn a_stop_string_ends_the_answer_but_not_the_thought() {
    let request = Request {
        stop: vec!["day".into()],
        thinking: Some(true),
        ..question()
    };
    let reply = ask(&engine("<think>a day</think>good day</s>"), &request).unwrap();
    assert_eq!(
        (reply.reasoning.as_str(), reply.text.as_str()),
        ("a day", "good ")
    );
    assert_eq!(reply.finish_reason, FinishReason::Stop);
}

#[test]
fn a_thought_is_returned_apart_and_counted() {
    let mut seen = (String::new(), String::new());
    let request = Request {
        thinking: Some(true),
        ..question()
    };
    let reply = engine("<think>ab</think>\n12</s>")
        .generate(&request, &Cancel::new(), &mut |event| match event {
            Event::Reasoning(more) => seen.0.push_str(more),
            Event::Text(more) => seen.1.push_str(more),
            Event::Prefill { .. } | Event::Token(_) => {}
        })
        .unwrap();
    assert_eq!(
        (reply.reasoning.as_str(), reply.text.as_str()),
        ("ab", "12")
    );
    assert_eq!(seen, ("ab".into(), "12".into()));
    assert_eq!(
        (reply.usage.reasoning_tokens, reply.usage.completion_tokens),
        (2, 8)
    );
}

#[test]
fn a_thought_that_is_never_closed_is_all_there_is() {
    let request = Request {
        thinking: Some(true),
        max_tokens: Some(6),
        ..question()
    };
    let reply = ask(&engine("<think>abcdefgh"), &request).unwrap();
    assert_eq!(
        (reply.reasoning.as_str(), reply.text.as_str()),
        ("abcde", "")
    );
    assert_eq!(reply.usage.reasoning_tokens, 5);
    assert_eq!(reply.thinking.ended, Some(ThoughtEnd::Length));
    assert_eq!(reply.finish_reason, FinishReason::Length);
}

#[test]
fn characters_of_several_tokens_arrive_whole() {
    let mut pieces = Vec::new();
    let engine = engine("a😀é</s>");
    let keep = &mut |event: Event| {
        if let Event::Text(text) = event {
            pieces.push(text.to_owned());
        }
    };
    engine.generate(&question(), &Cancel::new(), keep).unwrap();
    assert_eq!(pieces, ["a", "😀", "é"]);
}

#[test]
fn the_decoder_reads_on_while_an_image_is_encoded() {
    let mut network = FakeNetwork::new("x</s>");
    // The encoder waits for the three rows before the image; were they to wait for it, both would stand still.
    network.encoder = Encoder::AfterRows(3);
    let engine = Engine::new(network, nano_files(), &[])
        .unwrap()
        .with_threads(Threads::new(2).unwrap())
        .with_overlap(Overlap::Steps)
        .with_step_tokens(3);
    let reply = ask(&engine, &Request::question(vec![picture(8, 8, 0)], "hi")).unwrap();
    assert_eq!(
        reply.images,
        [ImageInfo {
            width: 8,
            height: 8,
            grid: [1, 1],
            tiles: 1,
            tokens: 4,
            reduced: None,
        }]
    );
    assert_eq!(reply.usage.image_tokens, 4);
}

#[test]
fn the_rows_of_a_prompt_do_not_depend_on_its_steps() {
    let request = Request::question(
        vec![picture(16, 8, 10), picture(8, 8, 200)],
        "what is this?",
    );
    let rows = |step_tokens| {
        let engine = engine("x</s>").with_step_tokens(step_tokens);
        let mut memory = Memory::new();
        engine
            .generate_in(&mut memory, &request, &Cancel::new(), &mut |_| {})
            .unwrap();
        memory.cache().unwrap().rows.clone()
    };
    let whole = rows(1000);
    for step_tokens in [1, 2, 3, 7, 64] {
        assert_eq!(rows(step_tokens), whole, "steps of {step_tokens}");
    }
}

#[test]
fn steps_are_as_long_as_asked_for() {
    let engine = engine("x</s>").with_step_tokens(4);
    ask(&engine, &Request::question(vec![], "1234567")).unwrap();
    // 11 rows of prompt, then the answer's first token.
    assert_eq!(
        *engine.network().steps.lock().unwrap(),
        [(0, 4), (4, 4), (8, 3), (11, 1)]
    );
    // After the last row of the prompt, and after the one token.
    assert_eq!(*engine.network().logits.lock().unwrap(), 2);
}

#[test]
fn a_cancel_ends_the_answer() {
    let cancel = Cancel::new();
    let mut count = 0;
    let result = engine("aaaaaa").generate(&question(), &cancel, &mut |event| {
        count += usize::from(matches!(event, Event::Text(_)));
        if count == 3 {
            cancel.cancel();
        }
    });
    assert!(matches!(result, Err(EngineError::Cancelled)));
    assert_eq!(count, 3);
}

#[test]
fn the_next_turn_reads_only_what_is_new() {
    let engine = engine("yes</s>");
    let mut memory = Memory::new();
    let turn = |content| Message {
        role: Role::User,
        content,
    };
    let image = || picture(8, 8, 7);
    let first = turn(vec![Part::Image(0), Part::Text("one".into())]);
    let mut request = Request {
        messages: vec![first],
        images: vec![image()],
        ..Request::default()
    };
    let reply = engine
        .generate_in(&mut memory, &request, &Cancel::new(), &mut |_| {})
        .unwrap();
    request
        .messages
        .push(Message::text(Role::Assistant, reply.text));
    request.messages.push(Message::text(Role::User, "two"));
    engine.network().steps.lock().unwrap().clear();
    engine
        .generate_in(&mut memory, &request, &Cancel::new(), &mut |_| {})
        .unwrap();
    // 13 rows of the first prompt and "yes"; its end token was chosen but never read.
    assert_eq!(engine.network().steps.lock().unwrap()[0].0, 16);
    assert_eq!(engine.network().encoded.lock().unwrap().len(), 1);

    // Another picture: everything from its first row on.
    request.images = vec![picture(8, 8, 8)];
    engine.network().steps.lock().unwrap().clear();
    engine
        .generate_in(&mut memory, &request, &Cancel::new(), &mut |_| {})
        .unwrap();
    assert_eq!(engine.network().steps.lock().unwrap()[0].0, 3);
    assert_eq!(engine.network().encoded.lock().unwrap().len(), 2);
}

#[test]
fn a_cancelled_turn_leaves_nothing_remembered() {
    let engine = engine("yes</s>");
    let mut memory = Memory::new();
    engine
        .generate_in(&mut memory, &question(), &Cancel::new(), &mut |_| {})
        .unwrap();
    assert!(memory.tokens() > 0);
    let cancel = Cancel::new();
    cancel.cancel();
    engine
        .generate_in(&mut memory, &question(), &cancel, &mut |_| {})
        .unwrap_err();
    assert_eq!(memory.tokens(), 0);
}

#[test]
fn a_record_has_what_the_network_was_given() {
    let mut record = Record::new();
    let request = Request::question(vec![picture(8, 8, 255)], "hi");
    engine("x</s>")
        .with_step_tokens(3)
        .generate_with_taps(&request, &Cancel::new(), &mut |_| {}, &mut record)
        .unwrap();
    let shapes: Vec<(&str, &[usize])> = record.shapes().collect();
    assert_eq!(
        shapes,
        [
            ("image_embeds", [4, 2].as_slice()),
            ("inputs_embeds", &[12, 2]),
            ("pixel_values", &[1, 3, 8, 8]),
            ("prefill_logits", &[12, 528])
        ]
    );
    assert_eq!(record.numbers("pixel_values").unwrap()[0], 1.0);
    assert_eq!(record.ids("input_ids").unwrap().len(), 12);
    assert_eq!(record.ids("output_ids").unwrap()[1..], [2]);
}

#[test]
fn numbers_that_make_no_sense_are_refused_before_any_work() {
    let engine = engine("x</s>");
    let message = |request: Request| ask(&engine, &request).unwrap_err().to_string();
    let sampling = |temperature, top_p| Request {
        sampling: Sampling {
            temperature,
            top_p,
            ..Default::default()
        },
        ..question()
    };
    assert_eq!(
        message(sampling(-1.0, 1.0)),
        "temperature: expected a number from 0 up, found -1"
    );
    assert_eq!(
        message(sampling(f32::NAN, 1.0)),
        "temperature: expected a number from 0 up, found NaN"
    );
    assert_eq!(
        message(sampling(1.0, 1.5)),
        "top_p: expected a number from 0 to 1, found 1.5"
    );
    assert_eq!(
        message(Request {
            max_tokens: Some(0),
            ..question()
        }),
        "max_tokens: expected at least 1, found 0"
    );
    assert_eq!(
        message(Request::default()),
        "messages: expected at least one, found none"
    );
    assert!(engine.network().steps.lock().unwrap().is_empty());
}

#[test]
fn parts_of_different_models_do_not_fit() {
    let mut files = nano_files();
    let json = files.preprocessor.to_json().replace("8", "16");
    files.preprocessor = image_prep::Preprocessor::from_json(&json).unwrap();
    let error = Engine::new(FakeNetwork::new("x"), files, &[])
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "tile_size in preprocessor_config.json against image_size in config.json: expected 8, found 16"
    );
}

#[test]
fn a_tokenizer_with_more_ids_than_the_network_does_not_fit() {
    let mut network = FakeNetwork::new("x");
    network.shape.vocabulary = 500;
    let error = Engine::new(network, nano_files(), &[]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "token ids against vocab_size in config.json: expected ids below 500, found 516"
    );
}

#[test]
fn a_model_that_sees_nothing_refuses_pictures() {
    let mut network = FakeNetwork::new("x</s>");
    network.shape.image_ids = None;
    let engine = Engine::new(network, nano_files(), &[]).unwrap();
    assert_eq!(ask(&engine, &question()).unwrap().text, "x");
    let error = ask(&engine, &Request::question(vec![picture(8, 8, 0)], "hi")).unwrap_err();
    assert_eq!(error.to_string(), "images: this model takes none");
}

#[test]
fn a_reply_is_the_line_of_the_command_contract() {
    let mut reply = ask(
        &engine("x</s>"),
        &Request::question(vec![picture(16, 8, 0)], "hi"),
    )
    .unwrap();
    reply.timings = Timings {
        load_ms: 1.5,
        image_ms: 2.0,
        prefill_ms: 3.0,
        first_token_ms: 4.0,
        decode_tokens_per_s: 5.0,
    };
    insta::assert_snapshot!(serde_json::to_string(&reply).unwrap());
}
