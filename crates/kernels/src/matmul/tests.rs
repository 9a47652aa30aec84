//! Worked example, then every instruction set against the scalar twin, bit for bit, then the twin against f64.

use super::*;
use proptest::prelude::*;

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_small_product_is_what_one_computes_by_hand() {
    let (a, b) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]);
    for isa in Isa::available() {
        let panels = Panels::from_f32(2, 2, View::rows(&b, 2));
        let mut c = [1.0; 4];
        matmul(
            isa,
            2,
            View::rows(&a, 2),
            &panels,
            0..1,
            &mut c,
            2,
            Write::Replace,
        );
        assert_eq!(c, [19.0, 22.0, 43.0, 50.0], "{}", isa.name());
        matmul(
            isa,
            2,
            View::rows(&a, 2),
            &panels,
            0..1,
            &mut c,
            2,
            Write::Add,
        );
        assert_eq!(c, [38.0, 44.0, 86.0, 100.0], "{}", isa.name());
    }
}

#[test]
fn a_linear_weight_of_bf16_gives_what_its_widened_copy_gives() {
    let weight: Vec<u16> = numbers(40 * 50, 3)
        .iter()
        .map(|v| (v.to_bits() >> 16) as u16)
        .collect();
    let wide: Vec<f32> = weight
        .iter()
        .map(|v| f32::from_bits(u32::from(*v) << 16))
        .collect();
    let a = numbers(7 * 50, 4);
    let (narrow, wide) = (
        Panels::from_linear_bf16(40, 50, &weight),
        Panels::from_linear_f32(40, 50, &wide),
    );
    for isa in Isa::available() {
        let (mut one, mut two) = (vec![0.0; 280], vec![0.0; 280]);
        matmul(
            isa,
            7,
            View::rows(&a, 50),
            &narrow,
            0..2,
            &mut one,
            40,
            Write::Replace,
        );
        matmul(
            isa,
            7,
            View::rows(&a, 50),
            &wide,
            0..2,
            &mut two,
            40,
            Write::Replace,
        );
        assert_eq!(bits(&one), bits(&two), "{}", isa.name());
    }
}

#[test]
fn the_scalar_twin_is_near_the_exact_sum() {
    let (m, k, n) = (5, 700, 37);
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let mut c = vec![0.0; m * n];
    let isa = Isa::available()[0];
    matmul(
        isa,
        m,
        View::rows(&a, k),
        &Panels::from_f32(k, n, View::rows(&b, n)),
        0..2,
        &mut c,
        n,
        Write::Replace,
    );
    for row in 0..m {
        for column in 0..n {
            let terms = (0..k).map(|i| f64::from(a[row * k + i]) * f64::from(b[i * n + column]));
            let (sum, size) =
                terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + f64::abs(t)));
            // A chain of k roundings, each at most half an ulp (2^-24) of a partial sum no larger than `size`.
            let bound = k as f64 * size * 2f64.powi(-24);
            let found = f64::from(c[row * n + column]);
            assert!(
                (found - sum).abs() <= bound,
                "{row},{column}: {found} against {sum}"
            );
        }
    }
}

/// The same bits, or neither a number: which NaN an addition of infinities gives is not part of the contract.
fn same(left: &[f32], right: &[f32]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(l, r)| l.to_bits() == r.to_bits() || (l.is_nan() && r.is_nan()))
}

/// Numbers at the ends of what f32 holds, among ordinary ones.
fn extreme(count: usize, seed: u64) -> Vec<f32> {
    const ENDS: [f32; 10] = [
        0.0,
        -0.0,
        1e-45,
        -1e-39,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    let ordinary = numbers(count, seed);
    let place = |v: f32| ((v + 1.0) * 20.0) as usize;
    ordinary
        .iter()
        .map(|v| ENDS.get(place(*v)).copied().unwrap_or(*v))
        .collect()
}

#[test]
fn infinities_subnormals_and_nan_pass_through_every_set_alike() {
    // Rows and columns about a tile's end; short sums, or nearly all would be NaN.
    for (m, k, n) in [(1, 1, 1), (13, 2, 33), (5, 3, 40), (12, 1, 64), (2, 4, 31)] {
        let (a, b, old) = (extreme(m * k, 1), extreme(k * n, 2), extreme(m * n, 3));
        let panels = Panels::from_f32(k, n, View::rows(&b, n));
        let whole = 0..panels.panel_count();
        for write in [Write::Replace, Write::Add] {
            let results = Isa::available().into_iter().map(|isa| {
                let mut c = old.clone();
                let a = View::rows(&a, k);
                matmul(isa, m, a, &panels, whole.clone(), &mut c, n, write);
                c
            });
            let results: Vec<Vec<f32>> = results.collect();
            for result in &results {
                assert!(same(result, &results[0]), "{m} x {k} x {n}");
            }
        }
    }
}

#[test]
fn nothing_is_written_beside_the_columns() {
    for isa in Isa::available() {
        for n in [1, 7, 8, 16, 31, 32, 33, 50] {
            let (a, b) = (numbers(13 * 5, 1), numbers(5 * n, 2));
            let panels = Panels::from_f32(5, n, View::rows(&b, n));
            let (mut c, stride) = (vec![7.0; 13 * (n + 3) + 64], n + 3);
            let whole = 0..panels.panel_count();
            let a = View::rows(&a, 5);
            matmul(isa, 13, a, &panels, whole, &mut c, stride, Write::Replace);
            for (at, value) in c.iter().enumerate() {
                let beside = at / stride >= 13 || at % stride >= n;
                assert_eq!(*value == 7.0, beside, "{} column {at} of {n}", isa.name());
            }
        }
    }
}

#[test]
fn no_rows_no_columns_and_no_depth_are_no_mistake() {
    for isa in Isa::available() {
        let mut c = [5.0; 4];
        let none = View::rows(&[], 1);
        let wide = Panels::from_f32(3, 0, none);
        matmul(isa, 2, none, &wide, 0..0, &mut [], 0, Write::Replace);
        let flat = Panels::from_f32(0, 2, none);
        matmul(isa, 2, none, &flat, 0..1, &mut c, 2, Write::Add);
        assert_eq!(c, [5.0; 4]);
        matmul(isa, 2, none, &flat, 0..1, &mut c, 2, Write::Replace);
        assert_eq!(c, [0.0; 4], "an empty sum is zero");
    }
}

fn refused(work: impl Fn(Isa) + std::panic::UnwindSafe + std::panic::RefUnwindSafe) {
    for isa in Isa::available() {
        assert!(
            std::panic::catch_unwind(|| work(isa)).is_err(),
            "{}",
            isa.name()
        );
    }
}

#[test]
fn sizes_that_reach_past_the_numbers_are_refused_before_anything_is_read() {
    let numbers = numbers(100, 1);
    let panels = Panels::from_f32(5, 10, View::rows(&numbers, 10));
    let product = |isa, m, a: View, panels: &Panels, c_len: usize, c_stride| {
        let whole = 0..panels.panel_count();
        matmul(
            isa,
            m,
            a,
            panels,
            whole,
            &mut vec![0.0; c_len],
            c_stride,
            Write::Replace,
        );
    };
    let rows = View::rows(&numbers, 5);
    product(Isa::detect(), 20, rows, &panels, 200, 10);
    refused(|isa| product(isa, 21, rows, &panels, 210, 10));
    refused(|isa| product(isa, 20, rows, &panels, 199, 10));
    refused(|isa| product(isa, 20, rows, &panels, 200, 9));
    // Strides whose product wraps around to a small number.
    refused(|isa| product(isa, 5, View::rows(&numbers, 1 << 62), &panels, 50, 10));
    refused(|isa| product(isa, 5, rows, &panels, 50, 1 << 62));
    for (k, n) in [(6, 10), (5, 40), (1 << 60, 10)] {
        let changed = Panels {
            k,
            n,
            ..panels.clone()
        };
        refused(|isa| {
            product(
                isa,
                1,
                View {
                    row_stride: 0,
                    column_stride: 0,
                    ..rows
                },
                &changed,
                100,
                50,
            )
        });
    }
    refused(|_| {
        Panels::from_f32(11, 10, View::rows(&numbers, 10));
    });
}

#[test]
fn panels_that_grow_equal_panels_packed_at_once() {
    let (k, n) = (9, 100);
    let b = numbers(k * n, 1);
    let mut grown = Panels::of_rows(k);
    for (from, to) in [(0, 1), (1, 31), (31, 64), (64, 64), (64, 100)] {
        grown.append_columns(to - from, View::rows(&b[from..], n));
    }
    assert_eq!(grown, Panels::from_f32(k, n, View::rows(&b, n)));
    grown.truncate_columns(64);
    assert_eq!(grown, Panels::from_f32(k, 64, View::rows(&b, n)));
    let mut grown = Panels::of_columns(20);
    for (from, to) in [(0, 4), (4, 4), (4, 9)] {
        grown.append_rows(to - from, View::rows(&b[from * n..], n));
    }
    assert_eq!(grown, Panels::from_f32(k, 20, View::rows(&b, n)));
    grown.truncate_rows(5);
    assert_eq!(grown, Panels::from_f32(5, 20, View::rows(&b, n)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_instruction_set_and_split_gives_the_scalar_bits(m in 0usize..30, k in 0usize..900, n in 1usize..140, seed in 0u64..1000,
            a_turned: bool, b_turned: bool, apart in 1usize..3, add: bool, cut in 0usize..30) {
        let write = if add { Write::Add } else { Write::Replace };
        let (a, b, old) = (numbers((m * k + 1) * apart, seed), numbers((k * n + 1) * apart, seed + 1), numbers(m * n, seed + 2));
        let a = if a_turned { View::rows(&a, m.max(1)).transposed() } else { View::rows(&a, k.max(1)) };
        let b = if b_turned { View::rows(&b, k.max(1)).transposed() } else { View::rows(&b, n) };
        // Neither rows nor columns side by side.
        let [a, b] = [a, b].map(|v| View { row_stride: v.row_stride * apart, column_stride: v.column_stride * apart, ..v });
        let panels = Panels::from_f32(k, n, b);
        let mut expected = old.clone();
        matmul(Isa::available()[0], m, a, &panels, 0..panels.panel_count(), &mut expected, n, write);
        let cut = cut.min(m);
        for isa in Isa::available() {
            let mut found = old.clone();
            for (first, rows) in [(0, cut), (cut, m - cut)] {
                if rows == 0 { continue }
                // Of no columns there may be fewer numbers than rows.
                let data = a.data.get(first * a.row_stride..).unwrap_or_default();
                let a = View { data, ..a };
                for panel in 0..panels.panel_count() {
                    matmul(isa, rows, a, &panels, panel..panel + 1, &mut found[first * n + panel * PANEL..], n, write);
                }
            }
            prop_assert_eq!(bits(&expected), bits(&found), "{}", isa.name());
            let mut whole = old.clone();
            matmul(isa, m, a, &panels, 0..panels.panel_count(), &mut whole, n, write);
            prop_assert_eq!(bits(&expected), bits(&whole), "{}", isa.name());
        }
    }
}
