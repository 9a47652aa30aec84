//! What is remembered, restored, forced and guessed must be what reading it anew would give: the real networks with random
//! weights, bit by bit.

#[path = "support/loaded.rs"]
mod loaded;
#[path = "support/random_model.rs"]
mod support;

use engine::{
    AtEnd, Cancel, Engine, Memory, Reply, Request, Sampling, Speculation, ThinkingBudget,
    ThinkingTags, ThoughtEnd,
};
use loaded::{load, picture};
use model::Model;
use proptest::prelude::*;
use support::write_random_model;

fn ask(engine: &Engine, memory: &mut Memory<Model>, request: &Request) -> Reply {
    engine
        .generate_in(memory, request, &Cancel::new(), &mut |_| {})
        .unwrap()
}

/// A question that is answered with drawn tokens, whose log-probabilities tell apart what tokens do not.
fn request(text: &str, side: u32, seed: u64) -> Request {
    Request {
        max_tokens: Some(24),
        at_end: AtEnd::Continue,
        logprobs: Some(2),
        sampling: Sampling {
            temperature: 0.7,
            seed,
            ..Sampling::default()
        },
        ..Request::question(vec![picture(side, 20)], text)
    }
}

fn same(found: &Reply, expected: &Reply) {
    assert_eq!(found.output_ids, expected.output_ids);
    assert_eq!(found.logprobs, expected.logprobs);
    assert_eq!(
        (&found.text, &found.reasoning, &found.thinking),
        (&expected.text, &expected.reasoning, &expected.thinking)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_answer_after_any_history_has_the_bits_of_the_answer_alone(
        history in prop::collection::vec(("[ab]{1,6}", prop::sample::select(vec![20u32, 40]), 0u64..3, any::<bool>()), 0..4),
        text in "[ab]{1,6}", side in prop::sample::select(vec![20u32, 40]), seed in 0u64..3,
    ) {
        let engine = load();
        let mut memory = Memory::new();
        for (text, side, seed, guessing) in history {
            let mut request = request(&text, side, seed);
            if !guessing {
                request.speculation = Speculation::Off;
            }
            ask(&engine, &mut memory, &request);
        }
        let request = request(&text, side, seed);
        same(&ask(&engine, &mut memory, &request), &ask(&engine, &mut Memory::new(), &request));
    }
}

#[test]
fn a_restored_session_answers_with_the_bits_of_one_that_was_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    write_random_model(folder.path(), 1);
    let path = folder.path().join("talk.session");
    let engine = Engine::load(folder.path()).unwrap();
    let mut memory = Memory::new();
    ask(&engine, &mut memory, &request("first", 40, 1));
    engine.save_session(&memory, &path).unwrap();
    let next = request("first and second", 40, 2);
    // Another engine, as after a restart.
    let again = Engine::load(folder.path()).unwrap();
    let mut restored = again.restore_session(&path).unwrap();
    let found = ask(&again, &mut restored, &next);
    assert!(found.usage.cached_tokens > found.usage.image_tokens);
    same(&found, &ask(&engine, &mut Memory::new(), &next));

    // The same shape with other weights.
    let other = tempfile::tempdir().unwrap();
    write_random_model(other.path(), 2);
    let error = Engine::load(other.path())
        .unwrap()
        .restore_session(&path)
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .ends_with("the session was saved by another model"),
        "{error}"
    );
}

#[test]
fn guesses_leave_every_bit_as_it_is() {
    let engine = load();
    let mut accepted = 0;
    for seed in 0..8 {
        let mut plain = request("abcabcabcabcabcabc", 20, seed);
        plain.max_tokens = Some(80);
        plain.speculation = Speculation::Off;
        // Greedy random networks soon go in circles, which is where guesses come true.
        plain.sampling.temperature = if seed % 2 == 0 { 0.0 } else { 0.05 };
        let guessing = Request {
            speculation: Speculation::Lookup,
            ..plain.clone()
        };
        let found = ask(&engine, &mut Memory::new(), &guessing);
        accepted += found.speculation.unwrap().accepted_tokens;
        same(&found, &ask(&engine, &mut Memory::new(), &plain));
    }
    assert!(accepted > 50, "{accepted}");
}

#[test]
fn an_answer_after_a_forced_end_is_the_answer_to_that_text() {
    let engine = load();
    let mut request = request("why?", 20, 1);
    request.sampling.temperature = 0.0;
    request.thinking = Some(true);
    request.budget = ThinkingBudget::of_tokens(5);
    request.max_tokens = Some(300);
    // Random networks do not open thoughts by themselves: say that they must.
    let start = engine.files().tokenizer.token_to_id("<think>").unwrap();
    request.sampling.logit_bias = vec![(start, 100.0)];
    let mut memory = Memory::new();
    let reply = ask(&engine, &mut memory, &request);
    assert_eq!(reply.thinking.ended, Some(ThoughtEnd::Budget));
    assert!(reply.usage.reasoning_tokens <= 5);
    let tags = ThinkingTags::new("<think>", "</think>");
    let sentence = tags.stop_text.trim().trim_end_matches("</think>").trim();
    assert!(reply.reasoning.ends_with(sentence), "{:?}", reply.reasoning);
    // The same request, read from the cache of the first one, goes on as before: what is in the cache is what was said.
    same(&ask(&engine, &mut memory, &request), &reply);
}
