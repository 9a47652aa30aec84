//! GFLOP/s of the f32 product at the shapes of small models, checked against the scalar twin before it is timed.

use divan::{Bencher, counter::ItemsCount};
use kernels::isa::Isa;
use kernels::matmul::{Panels, View, Write, matmul};

fn main() {
    divan::main();
}

/// Rows, depth, columns: a linear layer, the same narrow and wide, and a weight gradient.
const SHAPES: [(usize, usize, usize); 6] = [
    (1, 192, 768),
    (64, 192, 192),
    (512, 192, 768),
    (512, 768, 192),
    (192, 2048, 768),
    (12, 192, 192),
];

#[divan::bench(args = SHAPES)]
fn product(bencher: Bencher, (m, k, n): (usize, usize, usize)) {
    let isa = Isa::detect();
    let (a, b) = (vec![0.5; m * k], vec![0.25; k * n]);
    let panels = Panels::from_f32(k, n, View::rows(&b, n));
    let mut c = vec![0.0; m * n];
    matmul(
        isa,
        m,
        View::rows(&a, k),
        &panels,
        0..panels.panel_count(),
        &mut c,
        n,
        Write::Replace,
    );
    assert!(c.iter().all(|v| *v == k as f32 * 0.125));
    bencher
        .counter(ItemsCount::new(2 * m * k * n))
        .bench_local(|| {
            matmul(
                isa,
                m,
                View::rows(&a, k),
                &panels,
                0..panels.panel_count(),
                &mut c,
                n,
                Write::Replace,
            )
        });
}

#[divan::bench(args = [(2048, 768), (192, 768)])]
fn pack_turned(bencher: Bencher, (k, n): (usize, usize)) {
    let b = vec![0.25; k * n];
    let mut panels = Panels::empty();
    bencher
        .counter(ItemsCount::new(k * n))
        .bench_local(|| panels.pack(k, n, View::rows(&b, k).transposed()));
}
