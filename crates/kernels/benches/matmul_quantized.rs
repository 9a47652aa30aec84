//! GOP/s of the product of quantized weights at the shapes of a 2.7B decoder and a 400M encoder, one thread, checked against the
//! scalar twin on a few outputs before it is timed.

use divan::{Bencher, counter::ItemsCount};
use kernels::isa::Isa;
use kernels::matmul::Write;
use kernels::matmul_quantized::{Bits, PackedWeights, Precision, QuantizedRows, matmul_quantized};

fn main() {
    divan::main();
}

/// What is multiplied: rows, inputs, outputs, group, block, and how.
#[derive(Clone, Copy, Debug)]
struct Shape {
    rows: usize,
    k: usize,
    n: usize,
    group: usize,
    block: usize,
    bits: Bits,
    precision: Precision,
}

/// One row through a decoder's layer, a chunk of 128 through it, a tile of 729 through an encoder's.
const SHAPES: [Shape; 7] = [
    decoder(1, 128, Precision::Int8),
    decoder(128, 128, Precision::Int8),
    decoder(128, 64, Precision::Int8),
    decoder(128, 32, Precision::Int8),
    decoder(128, 128, Precision::Int16),
    encoder(Precision::Int8),
    encoder(Precision::Int16),
];

const fn decoder(rows: usize, group: usize, precision: Precision) -> Shape {
    Shape {
        rows,
        k: 2560,
        n: 6912,
        group,
        block: group,
        bits: Bits::Four,
        precision,
    }
}

const fn encoder(precision: Precision) -> Shape {
    Shape {
        rows: 729,
        k: 1152,
        n: 4304,
        group: 1152,
        block: 192,
        bits: Bits::Eight,
        precision,
    }
}

/// Bytes of every value, and one scale for all: what they are does not matter to the time.
fn weights(shape: Shape) -> PackedWeights {
    let panels = shape.n.div_ceil(16);
    let bytes = match shape.bits {
        Bits::Four => shape.k * 8,
        Bits::Eight => shape.k * 16,
    };
    PackedWeights {
        bits: shape.bits,
        n: shape.n,
        k: shape.k,
        group: shape.group,
        values: (0..panels * bytes)
            .map(|at| (at * 37 % 251) as u8)
            .collect(),
        scales: vec![0x3c00; panels * 16 * shape.k / shape.group],
    }
}

#[divan::bench(args = SHAPES, sample_count = 20)]
fn product(bencher: Bencher, shape: Shape) {
    let weights = weights(shape);
    let x: Vec<f32> = (0..shape.rows * shape.k)
        .map(|at| (at * 7919 % 2003) as f32 - 1000.0)
        .collect();
    let mut rows = QuantizedRows::new(shape.precision, shape.block);
    rows.fill(Isa::detect(), &x, shape.k, shape.group);
    let mut c = vec![0.0; shape.rows * shape.n];
    let mut multiply = |isa, panels| {
        matmul_quantized(
            isa,
            &rows,
            weights.view(),
            panels,
            &mut c,
            shape.n,
            Write::Replace,
        );
        (c[0], c[shape.rows * shape.n - shape.n + 15])
    };
    let scalar = Isa::available()[0];
    assert_eq!(multiply(Isa::detect(), 0..1), multiply(scalar, 0..1));
    let all = 0..shape.n.div_ceil(16);
    bencher
        .counter(ItemsCount::new(2 * shape.rows * shape.k * shape.n))
        .bench_local(|| multiply(Isa::detect(), all.clone()));
}
