//! Several conversations in one reading of the weights: each has the bits that it has alone, whoever else is there.

use crate::support::WIDE;
use crate::support::bundled::bundle;
use crate::support::random::{model, numbers};
use kernels::isa::Isa;
use model::convert::Recipe;
use model::{KvCache, LogitRows, Model, ModelError, NoTaps, Segment};
use proptest::prelude::*;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// f32; bf16; INT4 with an INT8 head, and rows of INT8 and of INT16: on every instruction set that is here.
static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let bundles = [Recipe::Bf16, Recipe::Fast, Recipe::Paper].map(|recipe| bundle(WIDE, recipe));
    let of_isa = |isa: Isa| {
        let bundles = bundles.iter().map(|b| Model::from_bundle(b).unwrap());
        let all = [model(WIDE)].into_iter().chain(bundles);
        all.map(move |model| model.with_isa(isa))
            .collect::<Vec<_>>()
    };
    Isa::available().into_iter().flat_map(of_isa).collect()
});

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// One conversation: its rows, cut into steps.
#[derive(Clone, Debug)]
struct Conversation {
    seed: u64,
    /// Rows of each step. 0: it has nothing to read in that one.
    steps: Vec<usize>,
    logits: LogitRows,
}

impl Conversation {
    fn rows(&self, model: &Model) -> Vec<f32> {
        numbers(
            self.steps.iter().sum::<usize>() * model.spec().hidden_size(),
            self.seed,
        )
    }

    fn alone(&self, model: &Model) -> Vec<Vec<u32>> {
        let d = model.spec().hidden_size();
        let (rows, mut at) = (self.rows(model), 0);
        let mut cache = model.new_cache(rows.len() / d);
        let mut found = Vec::new();
        for step in &self.steps {
            let inputs = &rows[at * d..][..step * d];
            at += step;
            if *step > 0 {
                let logits = model.forward(inputs, &mut cache, self.logits, &|| false, &mut NoTaps);
                found.push(bits(&logits.unwrap()));
            }
        }
        found
    }
}

fn together(model: &Model, conversations: &[Conversation]) -> Vec<Vec<Vec<u32>>> {
    let d = model.spec().hidden_size();
    let rows: Vec<Vec<f32>> = conversations.iter().map(|c| c.rows(model)).collect();
    let mut caches: Vec<KvCache> = rows.iter().map(|r| model.new_cache(r.len() / d)).collect();
    let mut found = vec![Vec::new(); conversations.len()];
    let steps = conversations.iter().map(|c| c.steps.len()).max().unwrap();
    for step in 0..steps {
        let (mut batch, mut whose) = (Vec::new(), Vec::new());
        for (at, (conversation, cache)) in conversations.iter().zip(&mut caches).enumerate() {
            let count = conversation.steps.get(step).copied().unwrap_or(0);
            if count == 0 {
                continue;
            }
            let first: usize = conversation.steps[..step].iter().sum();
            whose.push(at);
            batch.push(Segment {
                inputs: rows[at][first * d..][..count * d].into(),
                cache,
                logits: conversation.logits,
            });
        }
        let logits = model.forward_batch(&mut batch, &|| false).unwrap();
        assert_eq!(logits.len(), whose.len());
        for (at, logits) in whose.into_iter().zip(logits) {
            found[at].push(bits(&logits));
        }
    }
    found
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let logits = vec![LogitRows::None, LogitRows::Last, LogitRows::All];
    let step = prop_oneof![4 => Just(1usize), 1 => 0usize..4, 1 => 2usize..70];
    let steps = prop::collection::vec(step, 1..9);
    (0u64..1000, steps, prop::sample::select(logits)).prop_map(|(seed, steps, logits)| {
        Conversation {
            seed,
            steps,
            logits,
        }
    })
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn each_conversation_has_the_bits_that_it_has_alone(
        conversations in prop::collection::vec(conversation(), 1..6), threads in 1usize..4, which in 0..MODELS.len(),
    ) {
        let model = &MODELS[which];
        let found = on_threads(threads, || together(model, &conversations));
        for (conversation, found) in conversations.iter().zip(found) {
            let alone = on_threads(1, || conversation.alone(model));
            prop_assert!(found == alone, "{threads} threads: {conversation:?}");
        }
    }
}

#[test]
fn eight_deep_conversations_of_one_row_each_have_their_own_bits_on_any_number_of_threads() {
    let conversations: Vec<Conversation> = (0..8)
        .map(|at| Conversation {
            seed: at,
            // Past the first block of 128 keys, and of other depths than the others.
            steps: [vec![120 + 5 * at as usize], vec![1; 3]].concat(),
            logits: LogitRows::Last,
        })
        .collect();
    for model in &*MODELS {
        let alone: Vec<_> = conversations.iter().map(|c| c.alone(model)).collect();
        for threads in [1, 2, 3] {
            let found = on_threads(threads, || together(model, &conversations));
            assert!(found == alone, "{threads} threads");
        }
    }
}

#[test]
fn a_cancelled_batch_leaves_all_caches_as_they_were() {
    let model = &MODELS[2];
    let rows = numbers(9 * model.spec().hidden_size(), 3);
    let expected = [4, 5].map(|count| {
        let mut cache = model.new_cache(9);
        let rows = &rows[..count * model.spec().hidden_size()];
        let all = LogitRows::All;
        let logits = model.forward(rows, &mut cache, all, &|| false, &mut NoTaps);
        bits(&logits.unwrap())
    });
    let mut caches = [(); 2].map(|()| model.new_cache(9));
    let mut run = |rows: &[f32], cancel: &(dyn Fn() -> bool + Sync)| {
        let counts = [4, 5].into_iter();
        let segment = |(count, cache)| Segment {
            inputs: rows[..count * model.spec().hidden_size()].into(),
            cache,
            logits: LogitRows::All,
        };
        let mut batch: Vec<Segment> = counts.zip(&mut caches).map(segment).collect();
        let result = model.forward_batch(&mut batch, cancel);
        (
            result,
            batch.iter().map(|s| s.cache.len()).collect::<Vec<_>>(),
        )
    };
    // The second layer is where it stops: the first has written its keys already.
    let asked = AtomicUsize::new(0);
    let other = numbers(rows.len(), 4);
    let (result, lengths) = run(&other, &|| asked.fetch_add(1, Ordering::SeqCst) == 1);
    assert!(matches!(result, Err(ModelError::Cancelled)));
    assert_eq!(lengths, [0, 0]);
    let (result, lengths) = run(&rows, &|| false);
    let found: Vec<Vec<u32>> = result.unwrap().iter().map(|logits| bits(logits)).collect();
    assert_eq!(found, expected);
    assert_eq!(lengths, [4, 5]);
}
