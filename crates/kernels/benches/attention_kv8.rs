//! Attention with INT8 keys and values at the shapes of a 2.7B decoder (20 query heads of 128 over 5 key heads) and a 400M encoder
//! (16 heads of 72, 729 tokens), one thread; what is computed is checked against the scalar twin on a few rows first.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kernels::attention::Reach;
use kernels::attention_kv8::{Memory, Queries, Scratch, attend};
use kernels::isa::Isa;
use kernels::matmul::View;
use kernels::matmul_quantized::Precision;

fn main() {
    divan::main();
}

const PRECISIONS: [Precision; 2] = [Precision::Int8, Precision::Int16];

fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|at| (at * 7919 % 2003) as f32 / 1000.0 - 1.0)
        .collect()
}

/// A layer's memories, one for each key head.
fn memories(heads: usize, width: usize, keys: usize) -> Vec<Memory> {
    let x = numbers(keys * width + heads * 64);
    (0..heads)
        .map(|head| {
            let mut memory = Memory::empty(width);
            let rows = View::rows(&x[head * 64..], width);
            memory.append(Isa::detect(), keys, rows, rows);
            memory
        })
        .collect()
}

/// Query positions and the memories of a layer.
struct Layer {
    positions: usize,
    group: usize,
    width: usize,
    reach: Reach<'static>,
    precision: Precision,
    memories: Vec<Memory>,
    queries: Vec<f32>,
    out: Vec<f32>,
    scratch: Scratch,
}

impl Layer {
    fn new(
        memories: Vec<Memory>,
        positions: usize,
        group: usize,
        reach: Reach<'static>,
        precision: Precision,
    ) -> Layer {
        let width = memories[0].width();
        let numbers_count = positions * group * width * memories.len();
        let mut layer = Layer {
            positions,
            group,
            width,
            reach,
            precision,
            queries: numbers(numbers_count),
            out: vec![0.0; numbers_count],
            memories,
            scratch: Scratch::default(),
        };
        layer.attend(Isa::detect(), 0, positions.min(3));
        let found = layer.out[..group * width].to_vec();
        layer.attend(Isa::available()[0], 0, positions.min(3));
        assert_eq!(found, layer.out[..group * width]);
        layer
    }

    fn attend(&mut self, isa: Isa, head: usize, positions: usize) {
        let (share, heads) = (self.group * self.width, self.memories.len());
        let queries = Queries {
            count: positions * self.group,
            data: &self.queries[head * share..],
            stride: heads * share,
            group: self.group,
            scale: 1.0 / (self.width as f32).sqrt(),
            reach: self.reach,
            precision: self.precision,
        };
        let out = &mut self.out[head * share..];
        attend(
            isa,
            &queries,
            &self.memories[head],
            &mut self.scratch,
            out,
            heads * share,
        );
    }

    fn attend_all(&mut self) {
        for head in 0..self.memories.len() {
            self.attend(Isa::detect(), head, self.positions);
        }
        black_box(&self.out);
    }
}

/// GB/s of keys, values and scales: one position at depth 2048, 32 layers one after the other, more than caches hold.
#[divan::bench(args = PRECISIONS, sample_count = 20)]
fn decode_at_2048(bencher: Bencher, precision: Precision) {
    let reach = Reach::Past {
        first: 2048,
        group: 4,
    };
    let layer = |_| Layer::new(memories(5, 128, 2048), 1, 4, reach, precision);
    let mut layers: Vec<Layer> = (0..32).map(layer).collect();
    bencher
        .counter(BytesCount::new(32usize * 5 * 2048 * (2 * 128 + 8)))
        .bench_local(|| layers.iter_mut().for_each(Layer::attend_all));
}

/// GOP/s of 128 positions behind so many others, counting the keys that they see.
#[divan::bench(args = [0, 2048], consts = [8, 16], sample_count = 20)]
fn chunk_of_128<const BITS: usize>(bencher: Bencher, depth: usize) {
    let reach = Reach::Past {
        first: depth + 1,
        group: 4,
    };
    let precision = if BITS == 8 {
        Precision::Int8
    } else {
        Precision::Int16
    };
    let mut layer = Layer::new(memories(5, 128, depth + 128), 128, 4, reach, precision);
    let seen: usize = (0..128).map(|position| depth + position + 1).sum();
    bencher
        .counter(ItemsCount::new(4 * seen * 20 * 128))
        .bench_local(|| layer.attend_all());
}

/// GOP/s of a tile of an encoder: 729 tokens see each other.
#[divan::bench(args = PRECISIONS, sample_count = 20)]
fn encoder_tile(bencher: Bencher, precision: Precision) {
    let mut layer = Layer::new(memories(16, 72, 729), 729, 1, Reach::Everything, precision);
    bencher
        .counter(ItemsCount::new(4usize * 729 * 729 * 16 * 72))
        .bench_local(|| layer.attend_all());
}

/// Numbers per second that are taken in as keys and values.
#[divan::bench(sample_count = 20)]
fn append_encoder_tile(bencher: Bencher) {
    let x = numbers(729 * 72);
    let mut memory = Memory::empty(72);
    bencher
        .counter(ItemsCount::new(2usize * 729 * 72))
        .bench_local(|| {
            memory.truncate(0);
            let rows = View::rows(&x, 72);
            memory.append(Isa::detect(), 729, rows, rows);
        });
}
