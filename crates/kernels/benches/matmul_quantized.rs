//! The product of quantized weights at the shapes of a 2.7B decoder and a 400M encoder, one thread, checked against the scalar twin
//! on a few outputs before it is timed; and what the machine can do at most, measured in the same run.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kernels::ceiling::{self, Numbers};
use kernels::isa::Isa;
use kernels::matmul_quantized::{
    Bits, Columns, PANEL, PackedWeights, Precision, QuantizedRows, ScaleFormat, Start,
    matmul_quantized,
};
use std::fmt;

fn main() {
    divan::main();
}

/// What is multiplied: rows, inputs, outputs, group, block, and how.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    k: usize,
    n: usize,
    group: usize,
    block: usize,
    bits: Bits,
    precision: Precision,
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} rows, {} x {}, {:?} bits in groups of {}, {:?} in blocks of {}",
            self.rows, self.k, self.n, self.bits, self.group, self.precision, self.block
        )
    }
}

impl Shape {
    const fn group(self, group: usize) -> Shape {
        Shape {
            group,
            block: group,
            ..self
        }
    }
    const fn precision(self, precision: Precision) -> Shape {
        Shape { precision, ..self }
    }
    const fn size(self, k: usize, n: usize) -> Shape {
        Shape { k, n, ..self }
    }
    const fn eight(self) -> Shape {
        Shape {
            bits: Bits::Eight,
            ..self
        }
    }
    const fn whole_groups(self, block: usize) -> Shape {
        Shape {
            group: self.k,
            block,
            ..self
        }
    }
}

/// A chunk of a prompt through a decoder's layer.
const CHUNK: Shape = Shape {
    rows: 128,
    k: 2560,
    n: 6912,
    group: 128,
    block: 128,
    bits: Bits::Four,
    precision: Precision::Int8,
};
/// A tile of 729 tokens through an encoder's layer.
const TILE: Shape = Shape {
    rows: 729,
    k: 1152,
    n: 4304,
    group: 1152,
    block: 384,
    bits: Bits::Eight,
    precision: Precision::Int8,
};

const SHAPES: [Shape; 12] = [
    CHUNK,
    CHUNK.size(6912, 2560),
    CHUNK.size(2560, 640),
    CHUNK.group(64),
    CHUNK.group(32),
    CHUNK.precision(Precision::Int16),
    CHUNK.eight().whole_groups(256),
    TILE,
    TILE.size(4304, 1152).whole_groups(512),
    TILE.size(1152, 1152),
    TILE.whole_groups(192),
    TILE.precision(Precision::Int16),
];

/// One row through a decoder's head: far more than caches hold.
const HEAD: Shape = Shape {
    rows: 1,
    k: 2560,
    n: 100_352,
    group: 128,
    block: 128,
    bits: Bits::Four,
    precision: Precision::Int8,
};

const VECTORS: [Shape; 6] = [
    HEAD,
    HEAD.group(32),
    HEAD.precision(Precision::Int16),
    HEAD.size(6912, 2560 * 8),
    HEAD.eight().whole_groups(256),
    HEAD.eight().whole_groups(256).precision(Precision::Int16),
];

/// Bytes of every value, and one scale for all: what they are does not matter to the time.
fn weights(shape: Shape) -> PackedWeights {
    let panels = shape.n.div_ceil(PANEL);
    let bytes = match shape.bits {
        Bits::Four => shape.k * PANEL / 2,
        Bits::Eight => shape.k * PANEL,
    };
    PackedWeights {
        bits: shape.bits,
        n: shape.n,
        k: shape.k,
        group: shape.group,
        values: (0..panels * bytes)
            .map(|at| (at * 37 % 251) as u8)
            .collect(),
        scales: vec![0x3c00; panels * PANEL * shape.k / shape.group],
        scale_format: ScaleFormat::Bf16,
    }
}

/// The product as a function of instruction set and the number of panels, checked on the first panel.
fn multiply(shape: Shape, weights: &PackedWeights) -> impl FnMut(Isa, usize) {
    let x: Vec<f32> = (0..shape.rows * shape.k)
        .map(|at| (at * 7919 % 2003) as f32 - 1000.0)
        .collect();
    let mut rows = QuantizedRows::new(shape.precision, shape.block);
    rows.fill(Isa::detect(), &x, shape.k, shape.group);
    let mut c = vec![0.0; shape.rows * shape.n];
    let mut multiply = move |isa, panels: usize, seen: &mut [f32; 2]| {
        let weights = weights.view();
        let mut columns = Columns::new(&mut c, shape.rows, shape.n.min(panels * PANEL), shape.n);
        matmul_quantized(isa, &rows, weights, 0..panels, &mut columns, Start::ZERO);
        *seen = [c[0], c[shape.rows * shape.n - shape.n + PANEL - 1]];
    };
    let (mut fast, mut scalar) = ([0.0; 2], [1.0; 2]);
    multiply(Isa::detect(), 1, &mut fast);
    multiply(Isa::available()[0], 1, &mut scalar);
    assert_eq!(fast, scalar);
    move |isa, panels| multiply(isa, panels, black_box(&mut [0.0; 2]))
}

/// GOP/s of many rows.
#[divan::bench(args = SHAPES, sample_count = 20)]
fn product(bencher: Bencher, shape: Shape) {
    let weights = weights(shape);
    let mut multiply = multiply(shape, &weights);
    let all = shape.n.div_ceil(PANEL);
    bencher
        .counter(ItemsCount::new(2 * shape.rows * shape.k * shape.n))
        .bench_local(|| multiply(Isa::detect(), all));
}

/// GB/s of weights and their scales.
#[divan::bench(args = VECTORS, sample_count = 12)]
fn one_row(bencher: Bencher, shape: Shape) {
    let weights = weights(shape);
    let mut multiply = multiply(shape, &weights);
    let all = shape.n.div_ceil(PANEL);
    bencher
        .counter(BytesCount::new(
            weights.values.len() + 2 * weights.scales.len(),
        ))
        .bench_local(|| multiply(Isa::detect(), all));
}

/// GOP/s of bytes to INT8 rows, an item being a number: what a product's activations cost before it.
#[divan::bench(args = [CHUNK, CHUNK.precision(Precision::Int16), TILE], sample_count = 20)]
fn quantize(bencher: Bencher, shape: Shape) {
    let x: Vec<f32> = (0..shape.rows * shape.k)
        .map(|at| (at * 7919 % 2003) as f32 - 1000.0)
        .collect();
    let mut rows = QuantizedRows::new(shape.precision, shape.block);
    bencher
        .counter(ItemsCount::new(x.len()))
        .bench_local(|| rows.fill(Isa::detect(), &x, shape.k, shape.group));
}

/// The ceiling of `one_row`: 256 MiB, read once.
#[divan::bench(sample_count = 12)]
fn ceiling_of_reading(bencher: Bencher) {
    let words = vec![1u64; 1 << 25];
    bencher
        .counter(BytesCount::new(words.len() * 8))
        .bench_local(|| ceiling::read(Isa::detect(), black_box(&words)));
}

/// The ceiling of `product`: INT8 multiply-adds on registers alone, where there is an instruction for them.
#[divan::bench(sample_count = 20)]
fn ceiling_of_products(bencher: Bencher) {
    let run = |rounds| ceiling::multiply_adds(Isa::detect(), Numbers::Int8, rounds);
    const ROUNDS: u64 = 1_000_000;
    // One round tells how many operations it is.
    if let Some(operations) = run(1) {
        bencher
            .counter(ItemsCount::new(operations * ROUNDS))
            .bench_local(|| run(ROUNDS));
    }
}
