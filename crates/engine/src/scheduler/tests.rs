//! Requests answered together: whose turn it is, case by case, and that nobody's answer depends on the others.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::budget::ThinkingBudget;
use crate::sample::Sampling;
use crate::speculation::Speculation;
use crate::testing::{Encoder, FakeNetwork, nano_files, picture};

/// A network that goes on as its whole prompt and its last words say.
fn engine(habits: u64, step_tokens: usize) -> Engine<FakeNetwork> {
    let mut network = FakeNetwork::saying(vec![0]);
    network.habits = Some(habits);
    network.shape.context_tokens = 256;
    let engine = Engine::new(network, nano_files(), &[]).unwrap();
    engine.with_step_tokens(step_tokens)
}

fn capacity(requests: usize) -> Capacity {
    Capacity {
        requests,
        cache_tokens: 1024,
        chunk_tokens: 8,
    }
}

/// A request that goes on for at least so long: an end token does not end it.
fn question(text: &str, max_tokens: usize) -> Request {
    Request {
        max_tokens: Some(max_tokens),
        at_end: crate::request::AtEnd::Continue,
        ..Request::question(vec![], text)
    }
}

fn task<'a>(request: &Request, tag: usize) -> Task<'a, usize> {
    Task {
        request: Arc::new(request.clone()),
        cancel: Cancel::new(),
        events: Box::new(|_| {}),
        tag,
    }
}

/// Runs with a scheduler of its own.
fn with_scheduler<T>(
    engine: &Engine<FakeNetwork>,
    capacity: Capacity,
    work: impl for<'a, 'env> FnOnce(&mut Scheduler<'a, 'env, FakeNetwork, usize>) -> T,
) -> T {
    std::thread::scope(|scope| {
        // A reference that lives as long as the scope may be needed by its threads.
        work(&mut Scheduler::new(engine, scope, capacity, Waker::new()))
    })
}

/// Steps until somebody has come to the end.
fn until_end(scheduler: &mut Scheduler<FakeNetwork, usize>) -> Vec<Finished<usize>> {
    for _ in 0..10_000 {
        let step = scheduler.step();
        if !step.finished.is_empty() {
            return step.finished;
        }
        if !step.worked {
            scheduler.waker.wait(Duration::from_millis(20));
        }
    }
    panic!("nobody comes to an end: {:?}", scheduler.activity());
}

fn steps(engine: &Engine<FakeNetwork>) -> Vec<Vec<usize>> {
    std::mem::take(&mut *engine.network().shared_steps.lock().unwrap())
}

#[test]
fn an_answer_goes_on_in_every_step_while_a_newcomer_is_read_chunk_by_chunk() {
    let engine = engine(1, 32);
    let long = question(&"a".repeat(60), 5);
    let prompt = engine.prompt(&long).unwrap().ids.len();
    let new = with_scheduler(&engine, capacity(2), |scheduler| {
        assert!(scheduler.begin(task(&question("hi", 100), 0)).is_none());
        scheduler.step();
        assert_eq!(scheduler.activity().reading, 0);
        steps(&engine);
        assert!(scheduler.begin(task(&long, 1)).is_none());
        assert!(!scheduler.has_room());
        let finished = until_end(scheduler).remove(0);
        assert_eq!(finished.tag, 1);
        // The first tokens of all prompts are the same, and copied.
        prompt - finished.result.unwrap().usage.cached_tokens
    });
    let steps = steps(&engine);
    let mut chunks: Vec<usize> = vec![8; new / 8];
    chunks.extend(Some(new % 8).filter(|&rest| rest > 0));
    let expected: Vec<Vec<usize>> = chunks.iter().map(|&chunk| vec![1, chunk]).collect();
    assert_eq!(steps[..chunks.len()], expected);
    // Then both write; four more tokens of five.
    assert_eq!(steps[chunks.len()..], vec![vec![1, 1]; 4]);
}

#[test]
fn alone_a_prompt_is_read_in_whole_steps() {
    let engine = engine(1, 32);
    let long = question(&"a".repeat(70), 1);
    with_scheduler(&engine, capacity(2), |scheduler| {
        assert!(scheduler.begin(task(&long, 1)).is_none());
        until_end(scheduler);
    });
    let rest = engine.prompt(&long).unwrap().ids.len() - 64;
    assert_eq!(steps(&engine), [vec![32], vec![32], vec![rest]]);
}

#[test]
fn prompts_take_turns_and_a_newcomer_is_next() {
    let engine = engine(1, 8);
    let order = Rc::new(RefCell::new(Vec::new()));
    let watched = |tag: usize, letters: usize| {
        let order = order.clone();
        Task {
            events: Box::new(move |event| {
                if let Event::Prefill { .. } = event {
                    order.borrow_mut().push(tag);
                }
            }),
            ..task(&question(&"a".repeat(letters), 1), tag)
        }
    };
    std::thread::scope(|scope| {
        let mut scheduler = Scheduler::new(&engine, scope, capacity(3), Waker::new());
        assert!(scheduler.begin(watched(0, 40)).is_none());
        assert!(scheduler.begin(watched(1, 41)).is_none());
        for _ in 0..4 {
            scheduler.step();
        }
        assert!(scheduler.begin(watched(2, 42)).is_none());
        for _ in 0..4 {
            scheduler.step();
        }
    });
    assert_eq!(*order.borrow(), [0, 1, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn whoever_is_cancelled_is_gone_with_the_next_step_and_nobody_else() {
    let engine = engine(1, 8);
    with_scheduler(&engine, capacity(3), |scheduler| {
        let tasks = [0, 1, 2].map(|tag| task(&question("hello", 50), tag));
        let cancel = tasks[1].cancel.clone();
        for task in tasks {
            assert!(scheduler.begin(task).is_none());
        }
        for _ in 0..12 {
            assert!(scheduler.step().finished.is_empty());
        }
        cancel.cancel();
        let finished = scheduler.step().finished;
        assert_eq!((finished.len(), finished[0].tag), (1, 1));
        assert!(matches!(finished[0].result, Err(EngineError::Cancelled)));
        assert_eq!(scheduler.activity().requests, 2);
        let alone = engine
            .generate(&question("hello", 50), &Cancel::new(), &mut |_| {})
            .unwrap();
        let rest = [(); 2].map(|()| until_end(scheduler).remove(0));
        for finished in rest {
            assert_eq!(finished.result.unwrap().output_ids, alone.output_ids);
        }
    });
}

#[test]
fn others_go_on_while_an_image_is_encoded() {
    let mut network = FakeNetwork::saying(vec![0]);
    network.habits = Some(1);
    network.shape.context_tokens = 256;
    network.encoder = Encoder::Layers(1);
    let engine = Engine::new(network, nano_files(), &[]).unwrap();
    let seen = Request {
        images: vec![picture(8, 8, 3)],
        ..Request::question(vec![picture(8, 8, 3)], "hi")
    };
    with_scheduler(&engine, capacity(2), |scheduler| {
        assert!(scheduler.begin(task(&seen, 0)).is_none());
        // The encoder is in its layer, and stays there until the other is done.
        engine.network().in_layer.wait();
        assert!(!scheduler.step().worked);
        assert!(scheduler.begin(task(&question("hello", 20), 1)).is_none());
        assert_eq!(until_end(scheduler)[0].tag, 1);
        engine.network().in_layer.wait();
        assert_eq!(until_end(scheduler)[0].tag, 0);
    });
}

#[test]
fn a_request_waits_for_memory_and_so_does_who_comes_after_it() {
    let engine = engine(1, 64);
    let small = Capacity {
        cache_tokens: 100,
        ..capacity(3)
    };
    with_scheduler(&engine, small, |scheduler| {
        assert!(scheduler.begin(task(&question("a", 50), 0)).is_none());
        assert!(scheduler.begin(task(&question("b", 60), 1)).is_none());
        scheduler.step();
        assert!(!scheduler.has_room());
        assert_eq!(scheduler.activity().requests, 2);
        assert_eq!(until_end(scheduler)[0].tag, 0);
        assert!(scheduler.step().worked && scheduler.has_room());
        // Beyond all memory, and alone in the end: it is answered all the same.
        assert!(scheduler.begin(task(&question("c", 200), 2)).is_none());
        assert_eq!(until_end(scheduler)[0].tag, 1);
        let last = until_end(scheduler).remove(0);
        assert_eq!(last.result.unwrap().usage.completion_tokens, 200);
    });
}

#[test]
fn a_request_that_cannot_be_answered_comes_back_at_once() {
    let engine = engine(1, 64);
    with_scheduler(&engine, capacity(1), |scheduler| {
        let too_long = question(&"a".repeat(300), 1);
        let back = scheduler.begin(task(&too_long, 7)).unwrap();
        assert_eq!(back.tag, 7);
        assert!(back.result.is_err());
        assert!(scheduler.has_room());
    });
}

#[test]
fn the_beginning_of_a_prompt_is_taken_from_whoever_has_most_of_it() {
    let engine = engine(1, 64);
    let shared = "a".repeat(40);
    let asked = |end: &str| question(&format!("{shared}{end}"), 30);
    let cached = |finished: Vec<Finished<usize>>| {
        let usage = finished.into_iter().next().unwrap().result.unwrap().usage;
        usage.cached_tokens
    };
    with_scheduler(&engine, capacity(2), |scheduler| {
        assert!(scheduler.begin(task(&asked("b"), 0)).is_none());
        scheduler.step();
        // From one that is being answered.
        assert!(scheduler.begin(task(&asked("c"), 1)).is_none());
        assert_eq!(cached(until_end(scheduler)), 0);
        assert!(cached(until_end(scheduler)) >= 40);
        // From memory: all but the last row of the same prompt.
        for end in ["b", "c", "b"] {
            assert!(scheduler.begin(task(&asked(end), 2)).is_none());
            let tokens = engine.prompt(&asked(end)).unwrap().ids.len();
            assert_eq!(cached(until_end(scheduler)), tokens - 1, "{end}");
        }
    });
}

/// One request of a random mix.
#[derive(Clone, Debug)]
struct Guest {
    request: Request,
    /// Steps before it comes, counted from the one before.
    after: usize,
    /// Steps after which it goes away.
    leaves: Option<usize>,
}

fn guest() -> impl Strategy<Value = Guest> {
    let sampling = (
        prop::sample::select(vec![0.0f32, 0.7]),
        any::<u64>(),
        prop::sample::select(vec![1.0f32, 1.3]),
    );
    let request = (
        "[abc]{0,30}",
        prop::option::of(0u8..3),
        1usize..60,
        any::<bool>(),
        prop::option::of(0usize..9),
        sampling,
    );
    let times = (0usize..12, prop::option::weighted(0.25, 0usize..40));
    (request, times).prop_map(
        |((text, level, max_tokens, guess, budget, sampling), (after, leaves))| {
            let images: Vec<_> = level
                .map(|level| picture(24, 8, level))
                .into_iter()
                .collect();
            Guest {
                request: Request {
                    max_tokens: Some(max_tokens),
                    speculation: match guess {
                        true => Speculation::Lookup,
                        false => Speculation::Off,
                    },
                    thinking: budget.map(|_| true),
                    budget: budget.map(ThinkingBudget::of_tokens).unwrap_or_default(),
                    sampling: Sampling {
                        temperature: sampling.0,
                        seed: sampling.1,
                        repetition_penalty: sampling.2,
                        ..Sampling::default()
                    },
                    ..Request::question(images, text)
                },
                after,
                leaves,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// Whoever comes, goes away, guesses, thinks or sees: each answer is the one that its request has alone, streamed and whole.
    #[test]
    fn every_answer_is_the_one_that_its_request_has_alone(
        guests in prop::collection::vec(guest(), 1..9), habits: u64, step_tokens in 1usize..40, requests in 1usize..5,
        cache_tokens in 1usize..800, chunk_tokens in 1usize..40,
    ) {
        let engine = engine(habits, step_tokens);
        let alone: Vec<Reply> = guests
            .iter()
            .map(|guest| engine.generate(&guest.request, &Cancel::new(), &mut |_| {}).unwrap())
            .collect();
        let streamed: Vec<Rc<RefCell<(String, String)>>> = guests.iter().map(|_| Rc::default()).collect();
        let capacity = Capacity { requests, cache_tokens, chunk_tokens };
        let mut results: Vec<Option<Result<Reply, EngineError>>> = guests.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let mut scheduler = Scheduler::new(&engine, scope, capacity, Waker::new());
            let mut leaving: Vec<(usize, Cancel)> = Vec::new();
            let (mut next, mut wait, mut now) = (0, guests[0].after, 0);
            while results.iter().any(Option::is_none) {
                now += 1;
                assert!(now < 100_000, "no end: {:?}", scheduler.activity());
                while next < guests.len() && wait == 0 && scheduler.has_room() {
                    let (guest, seen) = (&guests[next], streamed[next].clone());
                    let mut task = task(&guest.request, next);
                    task.events = Box::new(move |event| match event {
                        Event::Reasoning(more) => seen.borrow_mut().0.push_str(more),
                        Event::Text(more) => seen.borrow_mut().1.push_str(more),
                        Event::Prefill { .. } | Event::Token(_) => {}
                    });
                    leaving.extend(guest.leaves.map(|leaves| (now + leaves, task.cancel.clone())));
                    assert!(scheduler.begin(task).is_none());
                    next += 1;
                    wait = guests.get(next).map_or(0, |guest| guest.after);
                }
                wait = wait.saturating_sub(1);
                leaving.iter().filter(|(at, _)| *at == now).for_each(|(_, cancel)| cancel.cancel());
                let step = scheduler.step();
                if !step.worked && step.finished.is_empty() {
                    scheduler.waker.wait(Duration::from_millis(1));
                }
                for finished in step.finished {
                    assert!(results[finished.tag].replace(finished.result).is_none());
                }
                let activity = scheduler.activity();
                assert!(activity.requests <= requests);
                assert!(activity.cache_tokens <= cache_tokens || activity.requests <= 2, "{activity:?}");
            }
        });
        for (at, (result, alone)) in results.into_iter().zip(alone).enumerate() {
            let seen = streamed[at].borrow();
            match result.unwrap() {
                Err(error) => {
                    prop_assert!(matches!(error, EngineError::Cancelled) && guests[at].leaves.is_some(), "{at}: {error}");
                    prop_assert!(alone.text.starts_with(&seen.1) && alone.reasoning.starts_with(&seen.0));
                }
                Ok(reply) => {
                    prop_assert_eq!(&reply.output_ids, &alone.output_ids, "{}", at);
                    prop_assert_eq!((&reply.reasoning, &reply.text), (&alone.reasoning, &alone.text));
                    prop_assert_eq!((&seen.0, &seen.1), (&alone.reasoning, &alone.text));
                    prop_assert_eq!((reply.finish_reason, reply.thinking), (alone.finish_reason, alone.thinking));
                    prop_assert_eq!(reply.usage.reasoning_tokens, alone.usage.reasoning_tokens);
                }
            }
        }
    }
}
