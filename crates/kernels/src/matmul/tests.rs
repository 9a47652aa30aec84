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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_instruction_set_and_split_gives_the_scalar_bits(m in 0usize..30, k in 0usize..900, n in 1usize..140, seed in 0u64..1000,
            a_turned: bool, b_turned: bool, add: bool, cut in 0usize..30) {
        let write = if add { Write::Add } else { Write::Replace };
        let (a, b, old) = (numbers(m * k + 1, seed), numbers(k * n + 1, seed + 1), numbers(m * n, seed + 2));
        let a = if a_turned { View::rows(&a, m.max(1)).transposed() } else { View::rows(&a, k.max(1)) };
        let b = if b_turned { View::rows(&b, k.max(1)).transposed() } else { View::rows(&b, n) };
        let panels = Panels::from_f32(k, n, b);
        let mut expected = old.clone();
        matmul(Isa::available()[0], m, a, &panels, 0..panels.panel_count(), &mut expected, n, write);
        let cut = cut.min(m);
        for isa in Isa::available() {
            let mut found = old.clone();
            for (first, rows) in [(0, cut), (cut, m - cut)] {
                if rows == 0 { continue }
                let a = View { data: &a.data[first * a.row_stride..], ..a };
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
