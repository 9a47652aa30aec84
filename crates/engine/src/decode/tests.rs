//! Thoughts kept within their budget, case by case, with a network that says what it is told to.

use std::time::Duration;

use crate::budget::{StopThinking, Thinking, ThinkingBudget, ThoughtEnd};
use crate::cancel::Cancel;
use crate::engine::Engine;
use crate::files::PromptFiles;
use crate::memory::Memory;
use crate::request::{AtEnd, Event, FinishReason, Reply, Request};
use crate::speculation::Speculation;
use crate::tags::ThinkingTags;
use crate::template::ChatTemplate;
use crate::testing::{FakeNetwork, nano_files, nano_tokenizer};

pub(super) const STOP_SENTENCE: &str = "Considering the limited time by the user, I have to give the solution based on the \
                             thinking directly now.";

/// Tags that are one token, two tokens that the vocabulary lacks as one, or none at all.
pub(super) fn files(tags: Option<(&str, &str)>) -> PromptFiles {
    let mut files = nano_files();
    files.generation.thinking = tags.map(|(start, end)| ThinkingTags::new(start, end));
    files
}

pub(super) fn one_token_tags() -> PromptFiles {
    files(Some(("<think>", "</think>")))
}

/// Files of a model whose prompt opens the thought.
pub(super) fn opening_files() -> PromptFiles {
    let mut files = one_token_tags();
    let source = "<s>{{ messages[0].content }}{% if enable_thinking is defined %}{% endif %}[|AI|]:<think>\n";
    files.template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
    files
}

pub(super) fn network(ids: Vec<u32>) -> FakeNetwork {
    let mut network = FakeNetwork::saying(ids);
    network.shape.context_tokens = 1024;
    network
}

fn engine(files: PromptFiles, answer: &str) -> Engine<FakeNetwork> {
    Engine::new(
        network(nano_tokenizer().encode(answer).unwrap()),
        files,
        &[],
    )
    .unwrap()
}

pub(super) fn request(tokens: usize) -> Request {
    Request {
        thinking: Some(true),
        budget: ThinkingBudget::of_tokens(tokens),
        max_tokens: Some(400),
        speculation: Speculation::Off,
        ..Request::question(vec![], "hi")
    }
}

/// Asks, and checks what holds for every answer: the cache saw the prompt and the tokens of the reply and nothing else, and
/// the events say what the reply says.
pub(super) fn ask(engine: &Engine<FakeNetwork>, request: &Request) -> Reply {
    let mut memory = Memory::new();
    let mut seen = (String::new(), String::new());
    let reply = engine
        .generate_in(
            &mut memory,
            request,
            &Cancel::new(),
            &mut |event| match event {
                Event::Reasoning(more) => seen.0.push_str(more),
                Event::Text(more) => seen.1.push_str(more),
                Event::Prefill { .. } | Event::Token(_) => {}
            },
        )
        .unwrap();
    let mut context = engine.prompt(request).unwrap().ids;
    context.extend(&reply.output_ids);
    let rows = &memory.cache().unwrap().rows;
    let cached: Vec<u32> = rows.iter().map(|row| row[0] as u32).collect();
    assert!(context.starts_with(&cached), "{context:?} {cached:?}");
    // All but the last token, which nothing comes after, has been read.
    assert!(context.len() - cached.len() <= 1, "{context:?} {cached:?}");
    assert_eq!(seen, (reply.reasoning.clone(), reply.text.clone()));
    assert_eq!(reply.usage.completion_tokens, reply.output_ids.len());
    reply
}

/// Thought, answer, tokens of the thought, how it ended.
pub(super) fn outcome(reply: &Reply) -> (&str, &str, usize, Option<ThoughtEnd>) {
    let tokens = reply.usage.reasoning_tokens;
    (&reply.reasoning, &reply.text, tokens, reply.thinking.ended)
}

pub(super) fn encode(text: &str) -> Vec<u32> {
    nano_tokenizer().encode(text).unwrap()
}

#[test]
fn a_thought_within_its_budget_is_left_alone() {
    let reply = ask(
        &engine(one_token_tags(), "<think>abc</think>12</s>"),
        &request(4),
    );
    assert_eq!(outcome(&reply), ("abc", "12", 3, Some(ThoughtEnd::Stop)));
    assert_eq!(
        reply.thinking,
        Thinking {
            ended: Some(ThoughtEnd::Stop),
            budget: Some(4),
            forced_tokens: 0
        }
    );
}

#[test]
fn a_thought_that_the_model_ends_exactly_at_its_budget_is_its_own() {
    let reply = ask(
        &engine(one_token_tags(), "<think>abc</think>12</s>"),
        &request(3),
    );
    assert_eq!(outcome(&reply), ("abc", "12", 3, Some(ThoughtEnd::Stop)));
    assert_eq!(reply.thinking.forced_tokens, 0);
}

#[test]
fn a_thought_beyond_its_budget_is_ended_by_the_models_stop_text() {
    let reply = ask(
        &engine(one_token_tags(), "<think>abcd</think>12</s>"),
        &request(2),
    );
    let reasoning = format!("ab\n\n{STOP_SENTENCE}");
    // The network goes on with what it had to say: it is the answer now. "c" was asked for and not taken.
    assert_eq!(
        outcome(&reply),
        (
            reasoning.as_str(),
            "d</think>12",
            2,
            Some(ThoughtEnd::Budget)
        )
    );
    let forced = encode(&ThinkingTags::new("<think>", "</think>").stop_text);
    assert_eq!(reply.thinking.forced_tokens, forced.len());
    assert_eq!(reply.output_ids[..3], encode("<think>ab"));
    assert_eq!(reply.output_ids[3..3 + forced.len()], forced);
}

#[test]
fn the_stop_text_is_the_models_own() {
    let mut files = one_token_tags();
    files.generation.thinking.as_mut().unwrap().stop_text = " Enough.</think>".into();
    let reply = ask(&engine(files, "<think>abcdefgh</s>"), &request(3));
    assert_eq!(
        outcome(&reply),
        ("abc Enough.", "efgh", 3, Some(ThoughtEnd::Budget))
    );
}

#[test]
fn a_budget_of_nothing_leaves_an_empty_thought() {
    let reply = ask(
        &engine(one_token_tags(), "<think>abc</think>12</s>"),
        &request(0),
    );
    assert_eq!(
        outcome(&reply),
        ("", "bc</think>12", 0, Some(ThoughtEnd::Budget))
    );
    assert_eq!(reply.thinking.forced_tokens, encode("\n</think>\n\n").len());
}

#[test]
fn no_think_is_a_budget_of_nothing() {
    let request = Request {
        thinking: Some(false),
        ..request(100)
    };
    let reply = ask(&engine(one_token_tags(), "<think>abc</s>"), &request);
    assert_eq!(outcome(&reply), ("", "bc", 0, Some(ThoughtEnd::Budget)));
    assert_eq!(reply.thinking.budget, Some(0));
    let reply = ask(&engine(one_token_tags(), "abc</s>"), &request);
    assert_eq!(outcome(&reply), ("", "abc", 0, None));
}

#[test]
fn a_thought_opened_by_the_prompt_is_counted_from_its_first_token() {
    // The network's first word goes with the row before the prompt's last.
    let reply = ask(&engine(opening_files(), "_abcd</s>"), &request(3));
    let reasoning = format!("abc\n\n{STOP_SENTENCE}");
    assert_eq!(
        outcome(&reply),
        (reasoning.as_str(), "", 3, Some(ThoughtEnd::Budget))
    );
    let reply = ask(&engine(opening_files(), "_abcd</s>"), &request(0));
    assert_eq!(outcome(&reply), ("", "bcd", 0, Some(ThoughtEnd::Budget)));
}

#[test]
fn tags_of_several_tokens_are_not_counted_and_are_forced_whole() {
    let tags = || files(Some(("[[t]]", "[[/t]]")));
    let reply = ask(&engine(tags(), "[[t]]ab[[/t]]12</s>"), &request(9));
    assert_eq!(outcome(&reply), ("ab", "12", 2, Some(ThoughtEnd::Stop)));
    let reply = ask(&engine(tags(), "[[t]]abcdef</s>"), &request(3));
    let reasoning = format!("abc\n\n{STOP_SENTENCE}");
    assert_eq!(
        outcome(&reply),
        (reasoning.as_str(), "ef", 3, Some(ThoughtEnd::Budget))
    );
    // Half an end tag is a thought until the rest has come.
    let reply = ask(&engine(tags(), "[[t]]ab[[/t]]12</s>"), &request(4));
    let reasoning = format!("ab[[\n\n{STOP_SENTENCE}");
    assert_eq!(
        outcome(&reply),
        (reasoning.as_str(), "t]]12", 4, Some(ThoughtEnd::Budget))
    );
}

#[test]
fn a_character_that_is_not_complete_is_taken_back() {
    // The face is four tokens: with three of them the budget is spent. The fourth was asked for and not taken.
    let reply = ask(&engine(one_token_tags(), "<think>a😀b</s>"), &request(4));
    let reasoning = format!("a\n\n{STOP_SENTENCE}");
    assert_eq!(
        outcome(&reply),
        (reasoning.as_str(), "b", 1, Some(ThoughtEnd::Budget))
    );
    let reply = ask(&engine(one_token_tags(), "<think>a😀b</s>"), &request(5));
    let reasoning = format!("a😀\n\n{STOP_SENTENCE}");
    assert_eq!(
        outcome(&reply),
        (reasoning.as_str(), "", 5, Some(ThoughtEnd::Budget))
    );
}

#[test]
fn a_model_that_says_goodbye_in_its_thought_still_answers() {
    let reply = ask(
        &engine(one_token_tags(), "<think>ab</s>12</s>"),
        &request(9),
    );
    assert_eq!(outcome(&reply), ("ab", "12", 2, Some(ThoughtEnd::Stop)));
    assert!(reply.thinking.forced_tokens > 0);
    // Where end tokens mean nothing, they are part of the thought.
    let request = Request {
        at_end: AtEnd::Continue,
        max_tokens: Some(4),
        budget: ThinkingBudget::default(),
        ..request(9)
    };
    let reply = ask(&engine(one_token_tags(), "<think>ab</s>12</s>"), &request);
    assert_eq!(outcome(&reply), ("ab", "", 3, Some(ThoughtEnd::Length)));
}

#[test]
fn a_second_thought_has_what_the_first_one_left() {
    let engine = engine(one_token_tags(), "<think>ab</think><think>cdefgh</s>");
    let reply = ask(&engine, &request(5));
    let reasoning = format!("ab\n\ncde\n\n{STOP_SENTENCE}");
    assert_eq!(
        outcome(&reply),
        (reasoning.as_str(), "gh", 5, Some(ThoughtEnd::Budget))
    );
    // Nothing is left: the model must answer.
    let reply = ask(&engine, &request(2));
    let (reasoning, text, tokens, ended) = outcome(&reply);
    assert_eq!(
        (reasoning, tokens, ended),
        ("ab", 2, Some(ThoughtEnd::Stop))
    );
    assert!(
        text.ends_with("cdefgh") && !text.contains("<think>"),
        "{text}"
    );
}

#[test]
fn a_line_that_ends_near_the_budget_is_a_soft_landing() {
    let with_grace = |grace_tokens| Request {
        budget: ThinkingBudget {
            tokens: Some(10),
            grace_tokens,
            ..Default::default()
        },
        ..request(0)
    };
    let engine = engine(one_token_tags(), "<think>ab\ncdefg\nhijklmn</s>");
    let tokens = |grace| ask(&engine, &with_grace(grace)).usage.reasoning_tokens;
    // Lines end after 3 and 9 tokens.
    assert_eq!(tokens(None), 9);
    assert_eq!(tokens(Some(0)), 10);
    assert_eq!(tokens(Some(6)), 9);
    assert_eq!(tokens(Some(7)), 3);
    assert_eq!(tokens(Some(1000)), 3);
    let reply = ask(&engine, &with_grace(None));
    assert_eq!(reply.thinking.ended, Some(ThoughtEnd::Budget));
}

#[test]
fn an_answer_has_room_after_a_bounded_thought() {
    let request = Request {
        max_tokens: Some(40),
        ..request(1000)
    };
    let reply = ask(&engine(one_token_tags(), "<think>abc"), &request);
    // A quarter of the tokens is for the answer; the whole stop text would take more than half of what is left.
    assert_eq!(reply.thinking.ended, Some(ThoughtEnd::Length));
    assert_eq!(reply.thinking.forced_tokens, encode("\n</think>\n\n").len());
    assert_eq!(reply.text, "c".repeat(10));
    assert_eq!(reply.finish_reason, FinishReason::Length);
    // Without a bound the thought may take all.
    let unbounded = Request {
        budget: ThinkingBudget::default(),
        ..request
    };
    let reply = ask(&engine(one_token_tags(), "<think>abc"), &unbounded);
    assert_eq!(
        (reply.text.as_str(), reply.usage.reasoning_tokens),
        ("", 39)
    );
    assert_eq!(reply.thinking.ended, Some(ThoughtEnd::Length));
}

#[test]
fn a_thought_ends_before_its_time_is_over() {
    let mut network = network(encode("<think>a"));
    network.step_time = Duration::from_millis(5);
    let engine = Engine::new(network, one_token_tags(), &[]).unwrap();
    let request = Request {
        budget: ThinkingBudget {
            time: Some(Duration::from_millis(400)),
            ..Default::default()
        },
        max_tokens: Some(600),
        ..request(0)
    };
    let reply = ask(&engine, &request);
    assert_eq!(reply.thinking.ended, Some(ThoughtEnd::Time));
    // 80 steps of at least 5 ms fit; how many fewer were taken is the scheduler's affair.
    let tokens = reply.usage.reasoning_tokens;
    assert!((1..=80).contains(&tokens), "{tokens}");
    assert!(reply.reasoning.ends_with(STOP_SENTENCE));
}

#[test]
fn somebody_can_stop_the_thought_but_not_the_answer() {
    let stop_thinking = StopThinking::new();
    let request = Request {
        stop_thinking: stop_thinking.clone(),
        budget: ThinkingBudget::default(),
        ..request(0)
    };
    let mut letters = 0;
    let engine = engine(one_token_tags(), "<think>abcdefghij</s>");
    let reply = engine
        .generate(&request, &Cancel::new(), &mut |event| {
            letters += usize::from(matches!(event, Event::Reasoning(_)));
            if letters == 4 {
                stop_thinking.stop();
            }
        })
        .unwrap();
    let reasoning = format!("abcd\n\n{STOP_SENTENCE}");
    assert_eq!(
        outcome(&reply),
        (reasoning.as_str(), "fghij", 4, Some(ThoughtEnd::User))
    );
}

#[test]
fn stop_strings_do_not_see_the_stop_text() {
    let request = Request {
        stop: vec!["limited".into(), "think".into(), "h".into()],
        ..request(2)
    };
    let reply = ask(&engine(one_token_tags(), "<think>abcdefghij</s>"), &request);
    let reasoning = format!("ab\n\n{STOP_SENTENCE}");
    assert_eq!(
        outcome(&reply),
        (reasoning.as_str(), "defg", 2, Some(ThoughtEnd::Budget))
    );
    assert_eq!(reply.finish_reason, FinishReason::Stop);
}

#[test]
fn a_model_without_thoughts_has_nothing_to_bound() {
    let mut files = files(None);
    files.template = ChatTemplate::new("<s>{{ messages[0].content }}[|AI|]:", "", "").unwrap();
    let engine = engine(files, "<think>abc</think>12</s>");
    let request = Request {
        thinking: None,
        ..request(1)
    };
    let reply = ask(&engine, &request);
    assert_eq!(outcome(&reply), ("", "<think>abc</think>12", 0, None));
}

#[test]
fn a_budget_turns_thinking_on_where_nobody_said_otherwise() {
    let engine = engine(one_token_tags(), "x</s>");
    let prompt = |request: &Request| engine.prompt(request).unwrap().text;
    let open = |tokens| Request {
        thinking: None,
        ..request(tokens)
    };
    assert!(prompt(&open(5)).ends_with("[|BlueThink|]"));
    assert!(!prompt(&open(0)).ends_with("[|BlueThink|]"));
    let off = Request {
        thinking: Some(false),
        ..request(5)
    };
    assert!(!prompt(&off).ends_with("[|BlueThink|]"));
}

#[test]
fn log_probabilities_are_given_for_the_answer_alone() {
    let request = Request {
        logprobs: Some(1),
        ..request(9)
    };
    let engine = engine(one_token_tags(), "<think>ab</think>12</s>");
    let mut events = Vec::new();
    let reply = engine
        .generate(&request, &Cancel::new(), &mut |event| match event {
            Event::Token(token) => events.push(token.clone()),
            Event::Text(text) => assert_eq!(text, events.last().unwrap().chosen.token),
            _ => {}
        })
        .unwrap();
    let tokens = reply.logprobs.unwrap();
    assert_eq!(tokens, events);
    let texts: Vec<&str> = tokens
        .iter()
        .map(|token| token.chosen.token.as_str())
        .collect();
    assert_eq!(texts, ["1", "2"]);
    // The fake's logits are 1 for its word and 0 for 527 others.
    let expected = 1.0 - (527.0 + 1f64.exp()).ln();
    assert!((f64::from(tokens[0].chosen.logprob) - expected).abs() < 1e-6);
    assert_eq!(tokens[0].top_logprobs[0], tokens[0].chosen);
}

#[test]
fn a_network_that_repeats_itself_is_asked_less_often() {
    let mut network = network(vec![0]);
    // These habits are greedy in a circle that has no end token.
    network.habits = Some(1);
    let engine = Engine::new(network, one_token_tags(), &[]).unwrap();
    let calls = |speculation| {
        engine.network().steps.lock().unwrap().clear();
        let request = Request {
            speculation,
            at_end: AtEnd::Continue,
            thinking: None,
            budget: ThinkingBudget::default(),
            max_tokens: Some(200),
            ..request(0)
        };
        let reply = ask(&engine, &request);
        let calls = engine.network().steps.lock().unwrap().len();
        (
            calls,
            reply.speculation.map(|guesses| guesses.accepted_tokens),
        )
    };
    // The prompt, and a call for each token but the last.
    assert_eq!(calls(Speculation::Off), (200, None));
    let (count, accepted) = calls(Speculation::Lookup);
    assert!(count < 100, "{count} calls");
    assert!(accepted.unwrap() >= 200 - count, "{accepted:?}");
}
