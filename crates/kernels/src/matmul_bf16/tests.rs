//! The instruction against its scalar twin bit by bit, the twin against f64.

use super::*;
use crate::matmul::View;
use proptest::prelude::*;

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 24) as f32 * 4.0 - 2.0
    };
    (0..count).map(|_| draw()).collect()
}

fn sets() -> Vec<Bf16Isa> {
    [
        Some(Bf16Isa(Twin::Scalar)),
        Bf16Isa::detect(Isa::available()[Isa::available().len() - 1]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A row-major `[m, k]`, B row-major `[k, n]`, both ways of pairing A, on one set.
fn products(isa: Bf16Isa, [m, k, n]: [usize; 3], write: Write) -> [Vec<f32>; 2] {
    let (a, b, start) = (
        numbers(m * k, 1),
        numbers(k * n, 2),
        numbers(m * (n + 3), 3),
    );
    let row_isa = Isa::detect();
    let mut panels = PairPanels::empty();
    panels.pack_rows(row_isa, k, n, View::rows(&b, n));
    let half = k.div_ceil(2);
    let mut along = vec![0; m * half];
    round_along(row_isa, m, k, &a, k, &mut along);
    let turned: Vec<f32> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
    let mut across = vec![0; half * m];
    round_across(row_isa, k, m, &turned, m, &mut across);
    let views = [
        PairView {
            data: &along,
            row_stride: half,
            pair_stride: 1,
        },
        PairView {
            data: &across,
            row_stride: 1,
            pair_stride: m,
        },
    ];
    views.map(|view| {
        let mut c = start.clone();
        matmul_bf16(isa, m, view, &panels, &mut c, n + 3, write);
        c
    })
}

proptest! {
    #[test]
    fn the_instruction_gives_the_twins_bits(m in 0usize..27, k in 0usize..70, n in 0usize..70, add: bool) {
        let write = if add { Write::Add } else { Write::Replace };
        let results: Vec<[Vec<f32>; 2]> = sets().into_iter().map(|isa| products(isa, [m, k, n], write)).collect();
        for result in &results {
            prop_assert_eq!(result, &results[0]);
            prop_assert_eq!(&result[0], &result[1], "pairing along and across differ");
        }
    }
}

#[test]
fn long_sums_are_the_same_bits_when_k_is_visited_in_parts() {
    let results: Vec<[Vec<f32>; 2]> = sets()
        .into_iter()
        .map(|isa| products(isa, [13, 1100, 40], Write::Add))
        .collect();
    assert!(results.iter().all(|result| *result == results[0]));
}

#[test]
fn products_equal_f64_of_the_rounded_numbers() {
    let [m, k, n] = [5, 33, 37];
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let round = |x: f32| {
        f64::from(f32::from_bits(
            ((u64::from(x.to_bits()) + 0x7fff + u64::from(x.to_bits() >> 16 & 1)) as u32)
                & 0xffff_0000,
        ))
    };
    for isa in sets() {
        let [c, _] = products(isa, [m, k, n], Write::Replace);
        for i in 0..m {
            for j in 0..n {
                let expected: f64 = (0..k)
                    .map(|x| round(a[i * k + x]) * round(b[x * n + j]))
                    .sum();
                // 33 additions of numbers below 4, each rounded by at most 2^-24 of a sum below 132.
                assert!(
                    (f64::from(c[i * (n + 3) + j]) - expected).abs() < 33.0 * 132.0 / 16_777_216.0
                );
            }
        }
    }
}

#[test]
fn numbers_round_to_the_nearest_and_ties_to_even() {
    let cases = [
        (1.0, 0x3f80),
        (-2.5, 0xc020),
        (1.003_906_3, 0x3f80),
        (1.011_718_8, 0x3f82),
        (3.4e38, 0x7f80),
        (f32::INFINITY, 0x7f80),
    ];
    for (x, bits) in cases {
        let mut pairs = [0];
        round_along(Isa::detect(), 1, 2, &[0.0, x], 2, &mut pairs);
        assert_eq!(pairs[0], bits << 16, "{x}");
        round_across(Isa::detect(), 2, 1, &[x, 1.0], 1, &mut pairs);
        assert_eq!(pairs[0], bits | 0x3f80_0000, "{x}");
    }
    let mut pairs = [0];
    round_along(Isa::detect(), 1, 1, &[f32::NAN], 1, &mut pairs);
    assert!(f32::from_bits(pairs[0] << 16).is_nan());
}

#[test]
fn columns_given_as_rows_are_the_transpose() {
    for (n, k) in [(37, 9), (16, 32), (64, 70), (5, 1), (33, 40)] {
        let stride = k + 3;
        let rows = numbers(n * stride, 1);
        let turned: Vec<f32> = (0..k * n).map(|i| rows[i % n * stride + i / n]).collect();
        for isa in Isa::available() {
            let (mut columns, mut expected) = (PairPanels::empty(), PairPanels::empty());
            columns.pack_columns(isa, k, n, View::rows(&rows, stride));
            expected.pack_rows(isa, k, n, View::rows(&turned, n));
            assert_eq!(
                columns.values,
                expected.values,
                "{n} columns of {k} on {}",
                isa.name()
            );
            // Used again for a smaller matrix, nothing old stays.
            columns.pack_columns(isa, 1, 3, View::rows(&rows, stride));
            assert_eq!(columns.values.len(), 32);
            assert!(columns.values[3..].iter().all(|pair| *pair == 0));
        }
    }
}
