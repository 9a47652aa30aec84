//! Row operations at the widths of a 400M encoder (1152, 4304) and a 2.7B decoder (2560, 6912), one thread: numbers per second.

use divan::Bencher;
use divan::counter::ItemsCount;
use kernels::isa::Isa;
use kernels::matmul_quantized::{Precision, QuantizedRows};
use kernels::rows;

fn main() {
    divan::main();
}

/// Rows of each width, few enough to stay in the second cache.
const ROWS: usize = 24;

fn numbers(width: usize) -> Vec<f32> {
    (0..ROWS * width)
        .map(|at| (at * 7919 % 2003) as f32 / 300.0 - 3.0)
        .collect()
}

/// Times `apply` on a copy of the numbers and the numbers themselves.
fn time(bencher: Bencher, width: usize, mut apply: impl FnMut(Isa, &mut [f32], &[f32])) {
    let x = numbers(width);
    let mut y = x.clone();
    bencher
        .counter(ItemsCount::new(x.len()))
        .bench_local(|| apply(Isa::detect(), &mut y, &x));
}

#[divan::bench(args = [1152])]
fn layer_norm(bencher: Bencher, width: usize) {
    let weight = vec![1.0; width];
    time(bencher, width, |isa, y, x| {
        rows::layer_norm(isa, x, width, &weight, &weight, 1e-6, y);
    });
}

#[divan::bench(args = [2560])]
fn rms_norm(bencher: Bencher, width: usize) {
    let weight = vec![1.0; width];
    time(bencher, width, |isa, y, x| {
        rows::rms_norm(isa, x, width, &weight, 1e-6, y)
    });
}

#[divan::bench(args = [4304])]
fn copy_and_gelu_tanh(bencher: Bencher, width: usize) {
    time(bencher, width, |isa, y, x| {
        y.copy_from_slice(x);
        rows::gelu_tanh(isa, y);
    });
}

#[divan::bench(args = [6912])]
fn copy_and_silu_multiply(bencher: Bencher, width: usize) {
    time(bencher, width, |isa, y, x| {
        y.copy_from_slice(x);
        rows::silu_multiply(isa, y, x);
    });
}

#[divan::bench(args = [2560])]
fn rope_half(bencher: Bencher, width: usize) {
    let (cos, sin) = (vec![0.8; 64], vec![0.6; 64]);
    time(bencher, width, |isa, y, _| {
        rows::rope_half(isa, y, 128, &cos, &sin)
    });
}

#[divan::bench(args = [1152])]
fn add(bencher: Bencher, width: usize) {
    time(bencher, width, rows::add);
}

#[divan::bench(args = [4304])]
fn add_bias(bencher: Bencher, width: usize) {
    time(bencher, width, |isa, y, x| {
        rows::add_bias(isa, y, &x[..width])
    });
}

#[divan::bench(args = [1152, 2560, 4304, 6912], consts = [8, 16])]
fn quantize<const BITS: usize>(bencher: Bencher, width: usize) {
    let precision = if BITS == 8 {
        Precision::Int8
    } else {
        Precision::Int16
    };
    let mut rows = QuantizedRows::new(precision, 256);
    time(bencher, width, |isa, _, x| rows.fill(isa, x, width, width));
}
