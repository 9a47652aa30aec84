//! The worker over an engine whose network spells the alphabet: several clients at once, clients that go away, a bug, the end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{
    Cache, Cancel, Capacity, Engine, EngineError, ImageIds, Inputs, LogitRows, ModelFiles, Network,
    NetworkShape, Patches, PromptFiles, Request, Segment, Taps,
};
use server::{ApiError, Chat, Said, Submission, Ticket, Worker};

/// Says the letter after the last one, and `a` after anything else. Reading a `!` is its bug.
#[derive(Default)]
struct Alphabet {
    /// Conversations of each step.
    steps: Arc<Mutex<Vec<usize>>>,
    a: u32,
    bug: u32,
}

struct Ids(Vec<u32>);

impl Cache for Ids {
    fn tokens(&self) -> usize {
        self.0.len()
    }
    fn truncate(&mut self, tokens: usize) {
        self.0.truncate(tokens);
    }
}

impl Network for Alphabet {
    type Cache = Ids;

    fn shape(&self) -> NetworkShape {
        NetworkShape {
            hidden: 1,
            vocabulary: 528,
            context_tokens: 512,
            tokens_per_tile: 1,
            tile_side: 256,
            image_ids: None::<ImageIds>,
        }
    }
    fn embed_patches(&self, _: &[f32], _: (u32, u32)) -> Patches {
        unreachable!("it sees nothing")
    }
    fn encode_patches(&self, _: Patches, _: &Cancel) -> Result<Vec<f32>, EngineError> {
        unreachable!("it sees nothing")
    }
    fn embed(&self, ids: &[u32]) -> Vec<f32> {
        ids.iter().map(|&id| id as f32).collect()
    }
    fn new_cache(&self, _: usize) -> Ids {
        Ids(Vec::new())
    }

    fn forward(
        &self,
        inputs: Inputs,
        cache: &mut Ids,
        logits: LogitRows,
        _: &Cancel,
        _: &mut dyn Taps,
    ) -> Result<Vec<f32>, EngineError> {
        cache.0.extend(inputs.rows.iter().map(|&id| id as u32));
        assert!(!cache.0.contains(&self.bug), "the network's bug");
        let after = |id: u32| {
            let goes_on = (self.a..self.a + 25).contains(&id);
            let mut row = vec![0.0; 528];
            row[if goes_on { id + 1 } else { self.a } as usize] = 1.0;
            row
        };
        Ok(match logits {
            LogitRows::None => Vec::new(),
            LogitRows::Last => after(*cache.0.last().unwrap()),
            LogitRows::All => inputs
                .rows
                .iter()
                .flat_map(|&id| after(id as u32))
                .collect(),
        })
    }

    fn forward_batch(
        &self,
        batch: &mut [Segment<Ids>],
        _: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        // Slow enough that clients come while others are answered.
        std::thread::sleep(Duration::from_millis(1));
        self.steps.lock().unwrap().push(batch.len());
        let forward = |segment: &mut Segment<Ids>| {
            let (cache, logits) = (&mut *segment.cache, segment.logits);
            let inputs = Inputs::from(&segment.inputs[..]);
            self.forward(inputs, cache, logits, &Cancel::new(), &mut Silent)
        };
        batch.iter_mut().map(forward).collect()
    }
}

/// Wants nothing.
struct Silent;

impl Taps for Silent {
    fn tap(&mut self, _: &str, _: &[usize], _: &[f32]) {}
}

fn files() -> PromptFiles {
    PromptFiles::from_files(&ModelFiles {
        config: "".into(),
        weights: [].as_slice().into(),
        tokenizer: include_bytes!("../../../../configs/nano/tokenizer.json")
            .as_slice()
            .into(),
        tokenizer_config: include_str!("../../../../configs/nano/tokenizer_config.json").into(),
        template: include_str!("../../../../configs/nano/chat_template.jinja").into(),
        preprocessor: include_str!("../../../../configs/nano/preprocessor_config.json").into(),
        generation: "{}".into(),
    })
    .unwrap()
}

/// A worker that answers so many at once, and the conversations of each of its steps.
fn worker(requests: usize) -> (Worker<Alphabet>, Arc<Mutex<Vec<usize>>>) {
    let files = files();
    let id = |text: &str| files.tokenizer.encode(text).unwrap()[0];
    let network = Alphabet {
        a: id("a"),
        bug: id("!"),
        ..Alphabet::default()
    };
    let steps = network.steps.clone();
    let engine = Engine::new(network, files, &[]).unwrap();
    let capacity = Capacity {
        requests,
        cache_tokens: 4096,
        chunk_tokens: 16,
    };
    (Worker::start(engine, "alphabet", 4, 8, capacity), steps)
}

fn submit(worker: &Worker<Alphabet>, text: &str, max_tokens: usize) -> Ticket {
    let request = Request {
        max_tokens: Some(max_tokens),
        ..Request::question(vec![], text)
    };
    let submission = Submission {
        client: 1,
        request,
        room: None,
    };
    worker.submit(submission).unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn text(ticket: Ticket) -> Result<String, ApiError> {
    Ok(wait(ticket.answer(&mut |_| {}))?.reply.text)
}

/// What the network says in so many tokens.
fn alphabet(tokens: usize) -> String {
    ('a'..='z').cycle().take(tokens).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn several_requests_share_steps_and_each_has_its_answer() {
    let (worker, steps) = worker(3);
    let tickets = [60, 50, 70, 40].map(|tokens| (tokens, submit(&worker, "hi?", tokens)));
    for (tokens, ticket) in tickets {
        assert_eq!(text(ticket).unwrap(), alphabet(tokens));
    }
    let steps = steps.lock().unwrap();
    assert_eq!(steps.iter().max(), Some(&3), "{steps:?}");
    assert_eq!(worker.load().places, 3);
}

#[test]
fn a_client_that_goes_away_leaves_the_others_alone() {
    let (worker, _) = worker(2);
    let mut leaves = submit(&worker, "hi?", 480);
    let stays = submit(&worker, "ho?", 90);
    // It goes away in the middle of its answer.
    while !matches!(wait(leaves.next()), Said::Text(_)) {}
    drop(leaves);
    assert_eq!(text(stays).unwrap(), alphabet(90));
    until("somebody is still answered", || worker.load().running == 0);
    assert_eq!(text(submit(&worker, "hi?", 30)).unwrap(), alphabet(30));
}

#[test]
fn a_bug_ends_what_runs_and_the_next_request_is_answered() {
    let (worker, _) = worker(2);
    let bug = submit(&worker, "hi!", 9);
    assert_eq!(text(bug).unwrap_err().status, 500);
    assert_eq!(text(submit(&worker, "hi?", 9)).unwrap(), alphabet(9));
}

#[test]
fn the_end_of_the_server_ends_all_answers() {
    let (worker, _) = worker(2);
    let tickets = [(); 3].map(|()| submit(&worker, "hi?", 480));
    until("nobody is answered", || worker.load().running == 2);
    worker.stop();
    for ticket in tickets {
        assert!(text(ticket).is_err());
    }
    let refused = worker.submit(Submission {
        client: 1,
        request: Request::question(vec![], "hi?"),
        room: None,
    });
    assert_eq!(refused.err().unwrap().status, 503);
}

#[test]
fn what_is_remembered_is_told_before_a_request_and_is_what_it_then_has() {
    let (worker, _) = worker(2);
    let asked = |text: &str| Request {
        max_tokens: Some(9),
        ..Request::question(vec![], text)
    };
    let told = |text: &str| {
        let explained = worker.explain(&asked(text)).unwrap().unwrap();
        explained.cost.cached_tokens
    };
    assert_eq!(told("what is this?"), 0);
    // By one that is being answered,
    let mut running = submit(&worker, "what is this?", 480);
    while !matches!(wait(running.next()), Said::Text(_)) {}
    let while_running = told("what is that?");
    assert!(while_running > 0);
    // and by one that was.
    drop(running);
    until("somebody is still answered", || worker.load().running == 0);
    assert_eq!(told("what is that?"), while_running);
    let answer = wait(submit(&worker, "what is that?", 9).answer(&mut |_| {})).unwrap();
    assert_eq!(answer.cached_tokens(), while_running);
    worker.stop();
    assert_eq!(told("what is that?"), 0);
}
