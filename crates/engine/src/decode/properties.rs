//! What holds for thoughts, budgets, guesses and memories whatever a network says.

use proptest::prelude::*;

use super::tests::{
    STOP_SENTENCE, ask, encode, files, network, one_token_tags, opening_files, outcome, request,
};
use crate::budget::{ThinkingBudget, ThoughtEnd};
use crate::cancel::Cancel;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::memory::Memory;
use crate::request::{Reply, Request};
use crate::speculation::Speculation;
use crate::tags::ThinkingTags;
use crate::testing::{FakeNetwork, nano_tokenizer};
use crate::thought::ThoughtSplitter;

/// What a network may say: tags, letters, pieces of a character, white space, the end.
fn words(extra: &'static [&'static str]) -> impl Strategy<Value = Vec<u32>> {
    let tokenizer = nano_tokenizer();
    let mut ids: Vec<u32> = ["<think>", "</think>", "</s>"]
        .iter()
        .map(|token| tokenizer.token_to_id(token).unwrap())
        .collect();
    ids.extend(encode("abcd "));
    ids.extend(extra.iter().flat_map(|text| encode(text)));
    prop::collection::vec(prop::sample::select(ids), 1..80)
}

/// Tokens inside thoughts by the plain reading of ids, for tags of one token, and how many of them are the engine's.
fn inside(ids: &[u32], opened: bool) -> (usize, usize) {
    let tokenizer = nano_tokenizer();
    let id = |token| tokenizer.token_to_id(token).unwrap();
    let (start, end, space) = (id("<think>"), id("</think>"), encode(" ")[0]);
    let blank = [space, encode("\n")[0], id("</s>")];
    let forced = encode(&format!("\n\n{STOP_SENTENCE}\n"));
    let (mut open, mut answer, mut count, mut engines) = (opened, false, 0, 0);
    let mut from = 0;
    for (at, &id) in ids.iter().enumerate() {
        match (open, answer) {
            (true, _) if id == end => {
                let thought = &ids[from..at];
                engines += match thought {
                    _ if thought.ends_with(&forced) => forced.len(),
                    // No word of these networks is the end of a line, but the bare end of a thought begins with one.
                    [.., last] if *last == blank[1] => 1,
                    _ => 0,
                };
                open = false;
            }
            // An end token stays in a thought only where nothing has room after it.
            (true, _) => count += usize::from(id != blank[2]),
            (false, true) => {}
            (false, false) if id == start => (open, from) = (true, at + 1),
            (false, false) => answer = !blank.contains(&id),
        }
    }
    (count, engines)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_network_thinks_beyond_its_budget(
        words in words(&[]), budget in 0usize..12, opened: bool, max_tokens in 1usize..400,
    ) {
        let files = if opened { opening_files() } else { one_token_tags() };
        let engine = Engine::new(network(words), files, &[]).unwrap();
        let request = Request { max_tokens: Some(max_tokens), ..request(budget) };
        let reply = ask(&engine, &request);
        prop_assert!(reply.usage.reasoning_tokens <= budget);
        prop_assert!(reply.output_ids.len() <= max_tokens);
        let (tokens, engines) = inside(&reply.output_ids, opened);
        prop_assert_eq!(tokens - engines, reply.usage.reasoning_tokens);
        prop_assert!(engines <= reply.thinking.forced_tokens);
        if matches!(reply.thinking.ended, Some(ThoughtEnd::Budget)) {
            prop_assert_eq!(reply.usage.reasoning_tokens, budget);
        }
    }

    /// Characters in pieces, lines that end, end tags in pieces: the text is that of the ids, and no character is broken by
    /// the engine.
    #[test]
    fn the_text_of_a_bounded_thought_is_the_text_of_its_ids(
        words in words(&["合😀", "\n", "[[/t]]"]), budget in 0usize..12, grace in 0usize..4, long_tags: bool,
        temperature in prop::sample::select(vec![0.0f32, 0.2]), repetition_penalty in prop::sample::select(vec![1.0f32, 1.5]),
    ) {
        let tags = if long_tags { ("[[t]]", "[[/t]]") } else { ("<think>", "</think>") };
        let said: Vec<u32> = encode(tags.0).into_iter().chain(words).collect();
        let engine = Engine::new(network(said), files(Some(tags)), &[]).unwrap();
        let mut request = request(budget);
        request.budget.grace_tokens = Some(grace);
        // At this temperature one token in five is any of all that there are.
        request.sampling.temperature = temperature;
        request.sampling.repetition_penalty = repetition_penalty;
        let reply = ask(&engine, &request);
        prop_assert!(reply.usage.reasoning_tokens <= budget);
        let whole = nano_tokenizer().decode(&reply.output_ids).unwrap();
        let mut splitter = ThoughtSplitter::new(Some(&ThinkingTags::new(tags.0, tags.1)), "");
        let first = splitter.push(&whole);
        let last = splitter.finish();
        prop_assert_eq!(&reply.reasoning, &(first.reasoning + &last.reasoning));
        prop_assert_eq!(&reply.text, &(first.text + &last.text));
    }

    /// What was said and thought before leaves no trace.
    #[test]
    fn an_answer_after_any_history_is_the_answer_alone(
        words in words(&["合\n"]), budgets in prop::collection::vec(0usize..9, 1..4), questions in prop::collection::vec("[ab]{1,3}", 4),
        cancelled: bool,
    ) {
        let engine = Engine::new(network(words), one_token_tags(), &[]).unwrap();
        let ask = |memory: &mut Memory<FakeNetwork>, question: &str, budget| -> Result<Reply, EngineError> {
            let request = Request { messages: Request::question(vec![], question).messages, ..request(budget) };
            engine.generate_in(memory, &request, &Cancel::new(), &mut |_| {})
        };
        let mut memory = Memory::new();
        for (budget, question) in budgets.iter().zip(&questions) {
            ask(&mut memory, question, *budget).unwrap();
        }
        if cancelled {
            let cancel = Cancel::new();
            cancel.cancel();
            engine.generate_in(&mut memory, &request(3), &cancel, &mut |_| {}).unwrap_err();
        }
        let (after, alone) = (ask(&mut memory, &questions[3], 4).unwrap(), ask(&mut Memory::new(), &questions[3], 4).unwrap());
        prop_assert_eq!(after.output_ids, alone.output_ids);
        prop_assert_eq!((after.text, after.reasoning, after.thinking), (alone.text, alone.reasoning, alone.thinking));
    }

    /// Guesses change how often the network is asked, and nothing else.
    #[test]
    fn an_answer_with_guesses_is_the_answer_without(
        habits: u64, budget in prop::option::of(0usize..40), max_tokens in 1usize..300, seed: u64,
        temperature in prop::sample::select(vec![0.0f32, 0.5, 2.0]), repetition_penalty in prop::sample::select(vec![1.0f32, 1.2]),
        text in "[abc]{0,12}", bare: bool,
    ) {
        let mut network = network(vec![0]);
        let mut tags = one_token_tags();
        if bare {
            // One token, which may have been guessed where a character is taken back.
            tags.generation.thinking.as_mut().unwrap().stop_text = "</think>".into();
        }
        network.habits = Some(habits);
        let engine = Engine::new(network, tags, &[]).unwrap();
        let mut plain = Request {
            messages: Request::question(vec![], text).messages,
            max_tokens: Some(max_tokens),
            logprobs: Some(1),
            budget: ThinkingBudget { tokens: budget, ..Default::default() },
            ..request(0)
        };
        plain.sampling.temperature = temperature;
        plain.sampling.repetition_penalty = repetition_penalty;
        plain.sampling.seed = seed;
        let guessing = Request { speculation: Speculation::Lookup, ..plain.clone() };
        let (plain, guessing) = (ask(&engine, &plain), ask(&engine, &guessing));
        prop_assert_eq!(&guessing.output_ids, &plain.output_ids);
        prop_assert_eq!(outcome(&guessing), outcome(&plain));
        prop_assert_eq!(guessing.thinking, plain.thinking);
        prop_assert_eq!(guessing.logprobs, plain.logprobs);
        prop_assert_eq!(guessing.usage, plain.usage);
    }
}
