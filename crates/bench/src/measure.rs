//! The measurements themselves: encoding, prefill and decoding of one network, round by round so that a slow minute of the
//! machine falls on all of them.

use crate::ceilings::Ceilings;
use crate::error::BenchError;
use crate::figure::{Figure, Unit};
use crate::work::Work;
use engine::{Cache, Cancel, Network, Segment};
use model::{LogitRows, NoTaps};
use std::collections::BTreeMap;
use std::time::Instant;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tiles of the image that is encoded; 0 for none.
    pub tiles: usize,
    /// Tiles that go through the encoder at once.
    pub batches: Vec<usize>,
    /// Prompts of so many rows, in chunks of [`Plan::chunk`].
    pub prompts: Vec<usize>,
    /// Rows of a chunk.
    pub chunk: usize,
    /// Other chunks, on the longest prompt.
    pub chunks: Vec<usize>,
    /// Positions in the cache before decoding.
    pub depths: Vec<usize>,
    /// Answers written at once, each of these in turn, one reading of the weights for all of them.
    pub streams: Vec<usize>,
    /// Tokens that are decoded in one run, for each answer.
    pub decoded: usize,
    /// Rounds.
    pub runs: usize,
    /// What bounds encoding: `int8`, `bf16` or `f32`, and how many of its products one product takes.
    pub encoder: Bound,
    /// What bounds prefill.
    pub decoder: Bound,
}

/// Which ceiling bounds a product of matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Of which numbers.
    pub of: &'static str,
    /// Products of these numbers that make up one: two for INT16 by INT8.
    pub products: u32,
}

impl Bound {
    fn share(self, ceilings: &Ceilings, gop_s: f64) -> Option<f64> {
        let ceiling = match self.of {
            "int8" => ceilings.int8_gop_s?,
            "bf16" => ceilings.bf16_gop_s?,
            _ => ceilings.f32_gop_s,
        };
        Some(gop_s * f64::from(self.products) / ceiling)
    }
}

/// One thing to be measured in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Encode { batch: usize },
    Prefill { rows: usize, chunk: usize },
    Decode { depth: usize },
    Streams { count: usize },
}

/// Positions before each of several answers.
pub const STREAM_DEPTH: usize = 64;

/// Measures `network` as the plan says. `progress` hears the name of what comes next.
pub fn measure<N: Network>(
    network: &N,
    plan: &Plan,
    (work, ceilings): (&Work, &Ceilings),
    cancel: &Cancel,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>, BenchError> {
    let jobs = jobs(plan);
    let context = network.shape().context_tokens;
    for job in &jobs {
        let needed = match *job {
            Job::Encode { .. } => 0,
            Job::Prefill { rows, .. } => rows,
            Job::Decode { depth } => depth + plan.decoded,
            Job::Streams { .. } => STREAM_DEPTH + plan.decoded,
        };
        if needed > context {
            let what = name(*job, plan);
            return Err(BenchError::TooLong {
                what,
                needed,
                context,
            });
        }
    }
    let mut bench = Bench {
        network,
        plan,
        cancel,
        pixels: noise(pixel_count(network, plan)),
        caches: BTreeMap::new(),
    };
    let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); jobs.len()];
    // A round that does not count brings weights and code into memory.
    for round in 0..=plan.runs {
        for (job, seconds) in jobs.iter().zip(&mut seconds) {
            progress(&format!(
                "round {round} of {}: {}",
                plan.runs,
                name(*job, plan)
            ));
            let time = bench.time(*job)?;
            if round > 0 {
                seconds.push(time);
            }
        }
    }
    let figures = jobs.iter().zip(&seconds);
    Ok(figures
        .filter(|(_, seconds)| !seconds.is_empty())
        .map(|(job, seconds)| figure(*job, plan, seconds, work, ceilings))
        .collect())
}

fn jobs(plan: &Plan) -> Vec<Job> {
    let batches = if plan.tiles > 0 {
        &plan.batches[..]
    } else {
        &[]
    };
    let encode = batches.iter().map(|&batch| Job::Encode { batch });
    let prompts = plan.prompts.iter().map(|&rows| Job::Prefill {
        rows,
        chunk: plan.chunk,
    });
    let longest = plan.prompts.iter().max().copied();
    let chunks = longest.into_iter().flat_map(|rows| {
        let others = plan.chunks.iter().filter(|chunk| **chunk != plan.chunk);
        others.map(move |&chunk| Job::Prefill { rows, chunk })
    });
    let decode = plan.depths.iter().map(|&depth| Job::Decode { depth });
    let streams = plan.streams.iter().map(|&count| Job::Streams { count });
    let of_prompts = prompts.chain(chunks);
    encode
        .chain(of_prompts)
        .chain(decode)
        .chain(streams)
        .collect()
}

fn name(job: Job, plan: &Plan) -> String {
    match job {
        Job::Encode { batch } => {
            format!("image of {} tiles, {batch} at once, each tile", plan.tiles)
        }
        Job::Prefill { rows, chunk } => format!("{rows} rows in chunks of {chunk}"),
        Job::Decode { depth } => format!("{} tokens after {depth}", plan.decoded),
        Job::Streams { count } => {
            format!("{count} at once, {} tokens each, in all", plan.decoded)
        }
    }
}

fn figure(job: Job, plan: &Plan, seconds: &[f64], work: &Work, ceilings: &Ceilings) -> Figure {
    let each = |value: &dyn Fn(f64) -> f64| seconds.iter().map(|s| value(*s)).collect::<Vec<_>>();
    let name = name(job, plan);
    let (figure, share) = match job {
        Job::Encode { batch } => {
            let tiles = plan.tiles as f64;
            let values = each(&|s| 1e3 * s / tiles);
            let figure = Figure::new("encode", name, Unit::Milliseconds, &values).at(batch);
            let gop_s = work.encode_operations as f64 / figure.median / 1e6;
            let share = plan.encoder.share(ceilings, gop_s);
            (figure, share.map(|share| (plan.encoder.of, share)))
        }
        Job::Prefill { rows, chunk } => {
            let values = each(&|s| rows as f64 / s);
            let group = if chunk == plan.chunk {
                "prefill"
            } else {
                "prefill in other chunks"
            };
            let x = if chunk == plan.chunk { rows } else { chunk };
            let figure = Figure::new(group, name, Unit::TokensPerSecond, &values).at(x);
            let gop_s = work.prefill_operations as f64 * figure.median / 1e9;
            let share = plan.decoder.share(ceilings, gop_s);
            let share = share.filter(|_| work.prefill_operations > 0);
            (figure, share.map(|share| (plan.decoder.of, share)))
        }
        Job::Decode { depth } => {
            let values = each(&|s| plan.decoded as f64 / s);
            let figure = Figure::new("decode", name, Unit::TokensPerSecond, &values).at(depth);
            let gb_s = work.decode_bytes as f64 * figure.median / 1e9;
            let known = work.decode_bytes > 0;
            (figure, known.then_some(("read", gb_s / ceilings.read_gb_s)))
        }
        Job::Streams { count } => {
            let values = each(&|s| (count * plan.decoded) as f64 / s);
            let unit = Unit::TokensPerSecond;
            let figure = Figure::new("decode of several", name, unit, &values).at(count);
            (figure, None)
        }
    };
    match share {
        Some((of, share)) => figure.of(of, share),
        None => figure,
    }
}

struct Bench<'a, N: Network> {
    network: &'a N,
    plan: &'a Plan,
    cancel: &'a Cancel,
    pixels: Vec<f32>,
    /// Filled to the depths that are decoded at.
    caches: BTreeMap<usize, N::Cache>,
}

impl<N: Network> Bench<'_, N> {
    /// Seconds of one run.
    fn time(&mut self, job: Job) -> Result<f64, BenchError> {
        match job {
            Job::Encode { batch } => self.encode(batch),
            Job::Prefill { rows, chunk } => {
                let mut cache = self.network.new_cache(rows);
                let inputs = self.network.embed(&self.ids(rows));
                let started = Instant::now();
                self.fill(&mut cache, &inputs, chunk, LogitRows::Last)?;
                Ok(started.elapsed().as_secs_f64())
            }
            Job::Decode { depth } => self.decode(depth),
            Job::Streams { count } => self.streams(count),
        }
    }

    fn encode(&self, batch: usize) -> Result<f64, BenchError> {
        let tile = self.pixels.len() / self.plan.tiles;
        let started = Instant::now();
        for pixels in self.pixels.chunks(batch * tile) {
            let side = self.network.shape().tile_side as u32;
            let patches = self.network.embed_patches(pixels, (side, side));
            self.network.encode_patches(patches, self.cancel)?;
        }
        Ok(started.elapsed().as_secs_f64())
    }

    /// Rows into a cache, chunk by chunk; only the last chunk is asked for logits, as a prompt is.
    fn fill(
        &self,
        cache: &mut N::Cache,
        inputs: &[f32],
        chunk: usize,
        logits: LogitRows,
    ) -> Result<(), BenchError> {
        let step = chunk.max(1) * self.network.shape().hidden;
        let last = inputs.len().div_ceil(step).max(1) - 1;
        for (at, rows) in inputs.chunks(step).enumerate() {
            let logits = if at == last { logits } else { LogitRows::None };
            self.network
                .forward(rows.into(), cache, logits, self.cancel, &mut NoTaps)?;
        }
        Ok(())
    }

    fn decode(&mut self, depth: usize) -> Result<f64, BenchError> {
        let decoded = self.plan.decoded;
        let mut cache = match self.caches.remove(&depth) {
            Some(cache) => cache,
            None => {
                let mut cache = self.network.new_cache(depth + decoded);
                let inputs = self.network.embed(&self.ids(depth));
                self.fill(&mut cache, &inputs, 512, LogitRows::None)?;
                cache
            }
        };
        let ids = self.ids(decoded);
        let started = Instant::now();
        for id in ids {
            let row = self.network.embed(&[id]);
            let (row, logits) = (row.as_slice().into(), LogitRows::Last);
            self.network
                .forward(row, &mut cache, logits, self.cancel, &mut NoTaps)?;
        }
        let time = started.elapsed().as_secs_f64();
        cache.truncate(depth);
        self.caches.insert(depth, cache);
        Ok(time)
    }

    /// Several answers at once, from caches that are alike.
    fn streams(&self, count: usize) -> Result<f64, BenchError> {
        let (network, decoded) = (self.network, self.plan.decoded);
        let inputs = network.embed(&self.ids(STREAM_DEPTH));
        let mut caches = Vec::with_capacity(count);
        for _ in 0..count {
            let mut cache = network.new_cache(STREAM_DEPTH + decoded);
            self.fill(&mut cache, &inputs, STREAM_DEPTH, LogitRows::None)?;
            caches.push(cache);
        }
        let cancelled = || self.cancel.is_cancelled();
        let started = Instant::now();
        for id in self.ids(decoded) {
            let mut batch: Vec<Segment<N::Cache>> = caches
                .iter_mut()
                .map(|cache| Segment {
                    inputs: network.embed(&[id]),
                    positions: None,
                    pictures: Vec::new(),
                    cache,
                    logits: LogitRows::Last,
                })
                .collect();
            network.forward_batch(&mut batch, &cancelled)?;
        }
        Ok(started.elapsed().as_secs_f64())
    }

    fn ids(&self, count: usize) -> Vec<u32> {
        ids(count, self.network.shape().vocabulary)
    }
}

/// Ids all over a vocabulary.
pub(crate) fn ids(count: usize, vocabulary: usize) -> Vec<u32> {
    let most = vocabulary.max(1) as u32;
    (0..count).map(|at| spread(at) % most).collect()
}

fn pixel_count<N: Network>(network: &N, plan: &Plan) -> usize {
    plan.tiles * 3 * network.shape().tile_side.pow(2)
}

/// Pixels of a noisy picture, from -1 to 1.
fn noise(count: usize) -> Vec<f32> {
    (0..count)
        .map(|at| (spread(at) >> 8) as f32 / (1u32 << 23) as f32 - 1.0)
        .collect()
}

/// Numbers that lie all over 32 bits (Knuth's multiplicative hashing); nothing that is measured depends on more.
pub(crate) fn spread(at: usize) -> u32 {
    (at as u32).wrapping_mul(0x9e37_79b1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{EngineError, NetworkShape};
    use model::{Inputs, Patches, Taps};
    use std::sync::Mutex;

    /// Notes what it is asked to do: tiles of an encode, or positions before and after a forward.
    #[derive(Default)]
    struct Fake(Mutex<Vec<(usize, usize)>>);

    struct Tokens(usize);

    impl Cache for Tokens {
        fn tokens(&self) -> usize {
            self.0
        }

        fn truncate(&mut self, tokens: usize) {
            self.0 = self.0.min(tokens);
        }
    }

    impl Network for Fake {
        type Cache = Tokens;

        fn shape(&self) -> NetworkShape {
            NetworkShape {
                hidden: 2,
                vocabulary: 5,
                context_tokens: 100,
                tokens_per_tile: 1,
                tile_side: 2,
                image_ids: None,
            }
        }

        fn embed_patches(&self, pixels: &[f32], size: (u32, u32)) -> Patches {
            assert_eq!(size, (2, 2));
            Patches {
                tiles: pixels.len() / 12,
                grid: [1, 1],
                rows: Vec::new(),
            }
        }

        fn encode_patches(&self, patches: Patches, _: &Cancel) -> Result<Vec<f32>, EngineError> {
            let tiles = patches.tiles;
            self.0.lock().unwrap().push((tiles, tiles));
            Ok(Vec::new())
        }

        fn embed(&self, ids: &[u32]) -> Vec<f32> {
            assert!(ids.iter().all(|id| *id < 5));
            vec![0.0; ids.len() * 2]
        }

        fn new_cache(&self, _: usize) -> Tokens {
            Tokens(0)
        }

        fn forward(
            &self,
            inputs: Inputs,
            cache: &mut Tokens,
            _: LogitRows,
            _: &Cancel,
            _: &mut dyn Taps,
        ) -> Result<Vec<f32>, EngineError> {
            let before = cache.0;
            cache.0 += inputs.rows.len() / 2;
            self.0.lock().unwrap().push((before, cache.0));
            Ok(Vec::new())
        }
    }

    fn plan() -> Plan {
        let bound = Bound {
            of: "f32",
            products: 1,
        };
        Plan {
            tiles: 3,
            batches: vec![2],
            prompts: vec![10],
            chunk: 8,
            chunks: vec![4, 8],
            depths: vec![6],
            streams: vec![2],
            decoded: 2,
            runs: 2,
            encoder: bound,
            decoder: bound,
        }
    }

    fn run(fake: &Fake, plan: &Plan) -> Result<Vec<Figure>, BenchError> {
        let work = Work {
            encode_operations: 1,
            prefill_operations: 1,
            decode_bytes: 1,
        };
        let ceilings = Ceilings {
            threads: 1,
            read_gb_s: 1.0,
            int8_gop_s: None,
            bf16_gop_s: None,
            f32_gop_s: 1.0,
        };
        measure(fake, plan, (&work, &ceilings), &Cancel::new(), &mut |_| {})
    }

    #[test]
    fn every_round_does_the_same_work() {
        let fake = Fake::default();
        let figures = run(&fake, &plan()).expect("a plan that fits");
        let groups: Vec<_> = figures.iter().map(|f| (f.group, f.x, f.runs)).collect();
        assert_eq!(
            groups,
            [
                ("encode", Some(2), 2),
                ("prefill", Some(10), 2),
                ("prefill in other chunks", Some(4), 2),
                ("decode", Some(6), 2),
                ("decode of several", Some(2), 2)
            ]
        );
        let round = [(2, 2), (1, 1), (0, 8), (8, 10), (0, 4), (4, 8), (8, 10)];
        let (fill, decode) = ([(0, 6)], [(6, 7), (7, 8)]);
        let streams = [(0, 64), (0, 64), (64, 65), (64, 65), (65, 66), (65, 66)];
        let first = [&round[..], &fill, &decode, &streams].concat();
        let other = [&round[..], &decode, &streams].concat();
        assert_eq!(
            *fake.0.lock().unwrap(),
            [first, other.clone(), other].concat()
        );
    }

    #[test]
    fn a_depth_past_the_context_is_a_mistake() {
        let mut plan = plan();
        plan.depths.push(99);
        let error = run(&Fake::default(), &plan).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2 tokens after 99 needs 101 positions, expected at most the model's context of 100"
        );
    }
}
