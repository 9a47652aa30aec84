//! Answers kept to a grammar, by networks that say anything at all.

pub(crate) mod schemas;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Grammar, Guide, Thoughts};
use crate::budget::{ThinkingBudget, ThoughtEnd};
use crate::cancel::Cancel;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::files::PromptFiles;
use crate::memory::Memory;
use crate::request::{AtEnd, Event, FinishReason, Reply, Request};
use crate::speculation::Speculation;
use crate::tags::ThinkingTags;
use crate::template::ChatTemplate;
use crate::testing::{FakeNetwork, nano_files, nano_tokenizer};
use crate::thought::ThoughtSplitter;
use schemas::{schema, violation};

fn files(tags: Option<(&str, &str)>) -> PromptFiles {
    let mut files = nano_files();
    files.generation.thinking = tags.map(|(start, end)| ThinkingTags::new(start, end));
    files
}

/// An engine whose network says anything by this seed.
pub(crate) fn noisy(seed: u64, files: PromptFiles) -> Engine<FakeNetwork> {
    let mut network = FakeNetwork::saying(vec![0]);
    network.shape.context_tokens = 2048;
    network.noise = Some(seed);
    Engine::new(network, files, &[]).unwrap()
}

/// An engine whose network wants to say this.
fn saying(answer: &str) -> Engine<FakeNetwork> {
    let mut network = FakeNetwork::new(answer);
    network.shape.context_tokens = 2048;
    Engine::new(network, files(Some(("<think>", "</think>"))), &[]).unwrap()
}

fn request(grammar: Grammar) -> Request {
    Request {
        format: Some(grammar),
        max_tokens: Some(300),
        // A network that says what it is told counts its steps.
        speculation: Speculation::Off,
        ..Request::question(vec![], "hi")
    }
}

/// Asks; events and reply say the same, and the cache saw the tokens of the reply and nothing else.
pub(crate) fn ask(engine: &Engine<FakeNetwork>, request: &Request) -> Result<Reply, EngineError> {
    let mut memory = Memory::new();
    let mut seen = (String::new(), String::new());
    let events = &mut |event: Event| match event {
        Event::Reasoning(more) => seen.0.push_str(more),
        Event::Text(more) => seen.1.push_str(more),
        Event::Prefill { .. } | Event::Token(_) => {}
    };
    let reply = engine.generate_in(&mut memory, request, &Cancel::new(), events)?;
    assert_eq!(seen, (reply.reasoning.clone(), reply.text.clone()));
    let mut context = engine.prompt(request)?.ids;
    context.extend(&reply.output_ids);
    let rows = &memory.cache().unwrap().rows;
    let cached: Vec<u32> = rows.iter().map(|row| row[0] as u32).collect();
    assert!(context.starts_with(&cached), "{context:?} {cached:?}");
    assert!(reply.output_ids.len() <= request.max_tokens.unwrap());
    Ok(reply)
}

fn parsed(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn text_of(answer: &str, grammar: Grammar) -> String {
    ask(&saying(answer), &request(grammar)).unwrap().text
}

fn error(grammar: Result<Grammar, EngineError>) -> String {
    let asked = grammar.and_then(|grammar| ask(&saying("x"), &request(grammar)));
    asked.unwrap_err().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever schema and network: an answer that ended by itself parses and holds; budgets are kept; guesses change nothing.
    #[test]
    fn every_answer_that_ended_by_itself_holds_its_schema(
        schema in schema(), seed: u64, temperature in prop::sample::select(vec![0.0f32, 0.7, 2.0]), top_k in 0usize..3,
        budget in prop::option::of(0usize..20), long_tags: bool, bias in 0u32..8,
    ) {
        let tags = if long_tags { ("[[t]]", "[[/t]]") } else { ("<think>", "</think>") };
        let engine = noisy(seed, files(Some(tags)));
        let mut request = request(Grammar::json_schema(&schema).unwrap());
        request.budget = ThinkingBudget { tokens: budget, ..Default::default() };
        request.logprobs = Some(1);
        request.sampling.temperature = temperature;
        request.sampling.top_k = top_k;
        request.sampling.seed = seed;
        request.sampling.repetition_penalty = 1.1;
        // Some of the time a thought is likely.
        let start = nano_tokenizer().encode(tags.0).unwrap()[0];
        request.sampling.logit_bias = vec![(start, bias as f32)];
        let reply = ask(&engine, &request).unwrap();
        if let Some(budget) = budget {
            prop_assert!(reply.usage.reasoning_tokens <= budget);
        }
        if reply.finish_reason == FinishReason::Stop {
            let value = parsed(&reply.text);
            prop_assert_eq!(violation(&schema, &schema, &value), None, "{}", reply.text);
        }
        let guessing = ask(&engine, &Request { speculation: Speculation::Lookup, ..request }).unwrap();
        prop_assert_eq!(&guessing.output_ids, &reply.output_ids);
        prop_assert_eq!((guessing.text, guessing.reasoning), (reply.text, reply.reasoning));
        prop_assert_eq!(guessing.logprobs, reply.logprobs);
    }
}

/// How often the property above has something to say: most answers end by themselves, and some have thoughts.
#[test]
fn noisy_networks_end_answers_and_think() {
    let grammar = Grammar::json_schema(&json!({"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}},
        "required": ["a", "b"], "additionalProperties": false})).unwrap();
    let mut request = request(grammar);
    request.budget = ThinkingBudget::of_tokens(12);
    let start = nano_tokenizer().token_to_id("<think>").unwrap();
    request.sampling.logit_bias = vec![(start, 6.0)];
    let (mut ended, mut thought) = (0, 0);
    for seed in 0..100 {
        let reply = ask(&noisy(seed, files(Some(("<think>", "</think>")))), &request).unwrap();
        ended += usize::from(reply.finish_reason == FinishReason::Stop);
        thought += usize::from(reply.usage.reasoning_tokens == 12);
    }
    assert!(ended > 80 && thought > 20, "{ended} {thought}");
}

#[test]
fn a_model_that_wants_to_say_something_else_is_kept_to_the_schema() {
    let schema = json!({"type": "object", "properties": {"total": {"type": "integer", "minimum": 0, "maximum": 9999}, "shop": {"enum": ["A", "B"]}}, "required": ["total", "shop"], "additionalProperties": false});
    let text = text_of("The total is 5", Grammar::json_schema(&schema).unwrap());
    assert_eq!(violation(&schema, &schema, &parsed(&text)), None, "{text}");
    assert!(text.starts_with("{\"total\": "), "{text}");
}

#[test]
fn plain_json_is_an_object_of_anything() {
    let grammar = Grammar::json_object();
    assert_eq!(
        text_of("{\"a\": [1, null, \"合😀\"]}</s>", grammar),
        "{\"a\": [1, null, \"合😀\"]}"
    );
}

#[test]
fn regular_expressions_and_grammars_of_rules_are_kept() {
    let regex = |expression| Grammar::regex(expression).unwrap();
    assert_eq!(
        text_of("2024-05-06 is the day</s>", regex(r"\d{4}-\d\d-\d\d")),
        "2024-05-06"
    );
    assert_eq!(text_of("a/b\n</s>", regex("a/b\n")), "a/b\n");
    let lark = "start: greeting \" \" NAME\ngreeting: \"Hello\" | \"Bye\"\nNAME: /[A-Z][a-z]+/\n";
    assert_eq!(
        text_of("Bye Anna</s>", Grammar::lark(lark).unwrap()),
        "Bye Anna"
    );
}

#[test]
fn an_answer_that_can_only_end_there_ends_without_a_step() {
    let engine = saying("yes, of course");
    let reply = ask(&engine, &request(Grammar::regex("yes|no").unwrap())).unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish_reason),
        ("yes", FinishReason::Stop)
    );
    let end = nano_tokenizer().token_to_id("</s>").unwrap();
    assert_eq!(reply.output_ids.last(), Some(&end));
    // One call for the prompt, and one for each token but the last and the end.
    let text_tokens = reply.output_ids.len() - 1;
    assert_eq!(engine.network().steps.lock().unwrap().len(), text_tokens);
}

#[test]
fn an_answer_that_is_cut_is_the_beginning_of_one() {
    let mut request = request(Grammar::json_object());
    request.max_tokens = Some(4);
    let reply = ask(&saying("{\"abcdef\": 1}"), &request).unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish_reason),
        ("{\"ab", FinishReason::Length)
    );
    request.max_tokens = Some(300);
    request.stop = vec!["cd".into()];
    let reply = ask(&saying("{\"abcdef\": 1}"), &request).unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish_reason),
        ("{\"ab", FinishReason::Stop)
    );
}

#[test]
fn the_thought_is_free_and_the_grammar_begins_after_it() {
    let grammar = || Grammar::regex("[0-9]{2}").unwrap();
    let mut request = request(grammar());
    request.thinking = Some(true);
    let reply = ask(&saying("<think>so {x}\n</think>\n\n12</s>"), &request).unwrap();
    assert_eq!(
        (reply.reasoning.as_str(), reply.text.as_str()),
        ("so {x}", "12")
    );
    // The budget's own text passes by, too.
    request.budget = ThinkingBudget::of_tokens(2);
    let reply = ask(&saying("<think>abcdefgh</think>12</s>"), &request).unwrap();
    assert_eq!(reply.thinking.ended, Some(ThoughtEnd::Budget));
    assert_eq!((reply.usage.reasoning_tokens, reply.text.len()), (2, 2));
    // Who must not think answers at once.
    request.thinking = Some(false);
    let reply = ask(&saying("<think>abcdefgh</think>12</s>"), &request).unwrap();
    assert_eq!(
        (reply.usage.completion_tokens, reply.thinking.forced_tokens),
        (3, 0)
    );
}

/// A model that nobody told to think does so only if that is what it would say anyway.
#[test]
fn without_being_asked_a_model_thinks_only_if_it_would_anyway() {
    let grammar = || request(Grammar::regex("yes|no").unwrap());
    let own = ask(&saying("<think>ab</think>no</s>"), &grammar()).unwrap();
    assert_eq!((own.reasoning.as_str(), own.text.as_str()), ("ab", "no"));
    let tag = nano_tokenizer().token_to_id("<think>").unwrap();
    let thoughts = |thinking: Option<bool>| {
        let mut request = grammar();
        request.thinking = thinking;
        // More than the grammar's tokens, less than what the network wants to say.
        request.sampling.logit_bias = vec![(tag, 0.5)];
        ask(&saying("maybe"), &request)
            .unwrap()
            .usage
            .reasoning_tokens
    };
    assert_eq!(thoughts(None), 0);
    assert!(thoughts(Some(true)) > 0);
}

#[test]
fn a_thought_that_the_prompt_has_opened_is_free() {
    let source = "<s>{{ messages[0].content }}[|AI|]:<think>\n";
    let mut files = files(Some(("<think>", "</think>")));
    files.template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
    let mut network = FakeNetwork::new("\nabc</think>yes</s>");
    network.shape.context_tokens = 999;
    let engine = Engine::new(network, files, &[]).unwrap();
    let reply = ask(&engine, &request(Grammar::regex("yes|no").unwrap())).unwrap();
    assert!(
        reply.reasoning.ends_with("bc") && reply.text == "yes",
        "{reply:?}"
    );
}

#[test]
fn text_without_a_choice_is_known_ahead() {
    let schema = json!({"type": "object", "properties": {"name": {"type": "boolean"}}, "required": ["name"], "additionalProperties": false});
    let request = request(Grammar::json_schema(&schema).unwrap());
    let engine = saying("x");
    let tokenizer = &engine.files().tokenizer;
    let mut guide = engine.guide(&request).unwrap().unwrap();
    let thought = ThoughtSplitter::new(None, "");
    assert_eq!(guide.forced(tokenizer, 9), None);
    let take = |guide: &mut Guide, text: &str| {
        for id in tokenizer.encode(text).unwrap() {
            let masked = guide
                .mask(&[0.0; 528], &thought, Thoughts::Allowed)
                .unwrap()
                .unwrap();
            assert_eq!(masked[id as usize], 0.0, "{text}");
            guide.take(id).unwrap();
        }
    };
    take(&mut guide, "{");
    let forced = tokenizer.encode("\"name\": ").unwrap();
    assert_eq!(
        guide.forced(tokenizer, 99).unwrap(),
        forced[..forced.len().min(8)]
    );
    assert_eq!(guide.forced(tokenizer, 1).unwrap(), forced[..1]);
    take(&mut guide, "\"name\": ");
    assert_eq!(guide.forced(tokenizer, 9), None);
    take(&mut guide, "true}");
    assert!(guide.is_complete());
    assert_eq!(guide.forced(tokenizer, 9), None);
}

#[test]
fn log_probabilities_are_the_networks_own() {
    let mut request = request(Grammar::regex("[bc]").unwrap());
    request.logprobs = Some(1);
    let reply = ask(&saying("a</s>"), &request).unwrap();
    let token = &reply.logprobs.unwrap()[0];
    assert_eq!(
        (
            token.chosen.token.as_str(),
            token.top_logprobs[0].token.as_str()
        ),
        ("b", "a")
    );
    assert!(token.chosen.logprob < token.top_logprobs[0].logprob);
}

#[test]
fn without_an_end_token_an_answer_ends_where_it_must() {
    let mut files = files(None);
    files.eos_token = None;
    files.generation.eos_token_ids.clear();
    let mut network = FakeNetwork::new("yes yes");
    network.shape.context_tokens = 999;
    let engine = Engine::new(network, files, &[]).unwrap();
    let reply = ask(
        &engine,
        &request(Grammar::regex("(yes|no) (yes|no)").unwrap()),
    )
    .unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish_reason),
        ("yes yes", FinishReason::Stop)
    );
}

#[test]
fn a_measurement_that_goes_on_at_the_end_stops_where_nothing_may_follow() {
    let mut request = request(Grammar::regex("ab*").unwrap());
    request.at_end = AtEnd::Continue;
    let reply = ask(&saying("ab</s>"), &request).unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish_reason),
        ("ab", FinishReason::Stop)
    );
}

#[test]
fn what_is_not_supported_is_named() {
    let of = |schema: Json| error(Grammar::json_schema(&schema));
    let mut seen = String::new();
    for message in [
        of(json!([])),
        of(json!({"type": "object", "x-guidance": {"lenient": true}})),
        of(json!({"type": "array", "uniqueItems": true})),
        of(json!({"not": {"type": "string"}})),
        of(json!({"type": "string", "format": "credit-card"})),
        of(json!({"type": "string", "pattern": "(?=x)y"})),
        of(json!({"$ref": "https://example.org/schema"})),
        of(json!({"$ref": "#/$defs/nowhere"})),
        of(json!({"type": "integer", "minimum": 5, "maximum": 3})),
        of(json!({"type": "thing"})),
        error(Grammar::regex("a(b")),
        error(Grammar::lark("")),
        error(Grammar::lark("begin: \"x\"")),
        error(Grammar::lark("start: <nothing>")),
    ] {
        seen += &format!("{message}\n");
    }
    insta::assert_snapshot!(seen);
}

/// Each is refused or kept to within seconds; a plain one takes milliseconds. Nothing overflows a stack.
#[test]
fn hostile_grammars_are_bounded_in_time_and_memory() {
    let nested = |levels: usize| {
        (0..levels).fold(
            json!({"type": "integer"}),
            |inner, _| json!({"type": "array", "items": inner}),
        )
    };
    let wide: serde_json::Map<String, Json> = (0..3000)
        .map(|at| {
            (
                format!("p{at}"),
                json!({"type": "string", "pattern": "^[a-z]{1,50}$"}),
            )
        })
        .collect();
    let grammars = [
        Grammar::json_schema(&nested(120)),
        Grammar::json_schema(&json!({"type": "object", "properties": wide})),
        Grammar::json_schema(
            &json!({"type": "array", "items": {"type": "integer"}, "minItems": 1_000_000_000}),
        ),
        Grammar::json_schema(&json!({"type": "string", "minLength": 1_000_000_000})),
        Grammar::json_schema(&json!({"enum": (0..20_000).collect::<Vec<u32>>()})),
        Grammar::json_schema(&json!({"$ref": "#"})),
        Grammar::json_schema(&json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]})),
        Grammar::json_schema(
            &json!({"allOf": (0..500).map(|at| json!({"properties": {format!("p{at}"): {"type": "string"}}})).collect::<Vec<Json>>()}),
        ),
        Grammar::json_schema(&json!({"x": "y".repeat(300_000)})),
        Grammar::regex("((((a{1,100}){1,100}){1,100}){1,100}){1,100}"),
        Grammar::regex(r"(a|b)*a(a|b){20}c"),
        Grammar::regex(r"\p{L}{1,1000}\p{N}{1,1000}"),
        Grammar::regex(&"(".repeat(100_000)),
        Grammar::lark("start: start start | \"a\" | "),
        Grammar::lark(&format!(
            "start: {}\"a\"{}",
            "(".repeat(120),
            ")".repeat(120)
        )),
        Grammar::lark("start: a{1000000000}\na: \"a\"{1000000000}"),
        Grammar::lark("start: \"a\" %json {\"type\": "),
        Grammar::lark("%import nothing.X\nstart: X"),
    ];
    for (index, grammar) in grammars.into_iter().enumerate() {
        let begun = Instant::now();
        let outcome = grammar.and_then(|grammar| {
            let mut request = request(grammar);
            request.max_tokens = Some(20);
            ask(&noisy(1, files(None)), &request)
        });
        let told = match &outcome {
            Ok(reply) => reply.text.clone(),
            Err(error) => error.to_string(),
        };
        println!("{index}: {:?} {told}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(20), "{index}");
        assert!(told.len() < 700, "{index}: {told}");
    }
}
