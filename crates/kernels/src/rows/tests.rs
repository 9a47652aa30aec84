//! Against f64 with derived bounds, and every instruction set against the scalar twin.

use super::*;
use crate::isa::Isa;
use proptest::prelude::*;

fn scalar() -> Isa {
    Isa::available()[0]
}

fn ulp(x: f64) -> f64 {
    2f64.powi(x.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32 - 23)
}

#[test]
fn exponentials_are_within_two_ulp() {
    for step in -87_000..88_000 {
        let x = step as f32 / 1000.0;
        let mut y = [x];
        exp(scalar(), &mut y);
        let exact = f64::from(x).exp();
        // The reduced argument is exact to 2^-24, the polynomial's seven steps and the last product add under 1.5 ulp.
        assert!(
            (f64::from(y[0]) - exact).abs() <= 2.0 * ulp(exact),
            "exp({x}) = {} against {exact}",
            y[0]
        );
    }
}

/// Φ(x) - 1/2 by its series, good to 1e-13 for arguments up to 6.
fn above_half(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= -x * x / (2.0 * f64::from(n));
        sum += term / f64::from(2 * n + 1);
    }
    sum / (2.0 * std::f64::consts::PI).sqrt()
}

/// The difference to `exact` in units of the last place of `size`.
fn ulps(found: f32, exact: f64, size: f64) -> f64 {
    (f64::from(found) - exact).abs() / ulp(size)
}

#[test]
fn activations_follow_their_definitions_to_a_few_ulp() {
    for step in -60_000..60_000 {
        let x = step as f32 / 10_000.0;
        let (mut tanh, mut erf, mut silu) = ([x], [x], [x]);
        gelu_tanh(scalar(), &mut tanh);
        gelu_erf(scalar(), &mut erf);
        silu_multiply(scalar(), &mut silu, &[3.0]);
        let v = f64::from(x);
        let u = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v);
        // A share's error counts in places of the larger of input and 1/4: what the shares near 1/2 are multiplied by. exp's 2
        // ulp, its argument's rounding (times |u| e^-u, below 1), a division and a product make 4; 1e-7 of Φ adds 1.
        let size = v.abs().max(0.25);
        for (name, found, exact) in [
            ("gelu_tanh", tanh[0], 0.5 * v * (1.0 + u.tanh())),
            ("gelu_erf", erf[0], v * (0.5 + above_half(v))),
            ("silu / 3", silu[0] / 3.0, v / (1.0 + (-v).exp())),
        ] {
            let error = ulps(found, exact, size);
            assert!(
                error < 5.0,
                "{name}({x}) is {found}, expected {exact}: {error} ulp"
            );
        }
    }
}

#[test]
fn activations_far_out_are_zero_or_the_number_itself() {
    for isa in Isa::available() {
        let far = [
            -1e30,
            -1e5,
            -100.0,
            -20.0,
            20.0,
            100.0,
            1e5,
            1e30,
            f32::INFINITY,
        ];
        for activation in [gelu_tanh, gelu_erf] {
            let mut x = far;
            activation(isa, &mut x);
            assert!(x[..4].iter().all(|v| v.abs() < 1e-7), "{x:?}");
            assert_eq!(x[4..], far[4..]);
        }
        let mut x = [f32::NAN; 3];
        gelu_tanh(isa, &mut x[..1]);
        gelu_erf(isa, &mut x[1..2]);
        softmax(isa, &mut x[2..]);
        assert!(x.iter().all(|v| v.is_nan()), "{x:?}");
    }
}

#[test]
fn norms_and_softmax_of_a_row_by_hand() {
    let (x, mut out) = ([1.0, 2.0, 3.0, 6.0], [0.0; 4]);
    layer_norm(scalar(), &x, 4, &[1.0; 4], &[0.5; 4], 0.0, &mut out);
    // mean 3, variance 3.5
    let expected = [-2.0f64, -1.0, 0.0, 3.0].map(|v| v / 3.5f64.sqrt() + 0.5);
    assert!(
        out.iter()
            .zip(expected)
            .all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6),
        "{out:?}"
    );
    rms_norm(scalar(), &x, 4, &[2.0; 4], 0.0, &mut out);
    let expected = [1.0f64, 2.0, 3.0, 6.0].map(|v| 2.0 * v / 12.5f64.sqrt());
    assert!(
        out.iter()
            .zip(expected)
            .all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6),
        "{out:?}"
    );
    let mut row = [0.0, 2f32.ln(), f32::NEG_INFINITY];
    softmax(scalar(), &mut row);
    assert!(
        (row[0] - 1.0 / 3.0).abs() < 1e-6 && (row[1] - 2.0 / 3.0).abs() < 1e-6 && row[2] < 1e-37,
        "{row:?}"
    );
}

#[test]
fn rope_turns_pairs_half_a_head_apart() {
    let mut x = [1.0, 10.0, 0.0, 5.0];
    rope_half(scalar(), &mut x, 4, &[0.0, 1.0], &[1.0, 0.0]);
    assert_eq!(x, [0.0, 10.0, 1.0, 5.0]);
}

proptest! {
    #[test]
    fn every_instruction_set_gives_the_scalar_bits(row in proptest::collection::vec(-60f32..60.0, 1..200)) {
        let width = row.len();
        let ones = vec![1.25; width];
        let mut expected = Vec::new();
        for isa in Isa::available() {
            let mut found = vec![row.clone(); 6];
            layer_norm(isa, &row, width, &ones, &row, 1e-6, &mut found[0]);
            rms_norm(isa, &row, width, &ones, 1e-6, &mut found[1]);
            softmax(isa, &mut found[2]);
            gelu_tanh(isa, &mut found[3]);
            gelu_erf(isa, &mut found[4]);
            silu_multiply(isa, &mut found[5], &row);
            let bits: Vec<Vec<u32>> = found.iter().map(|f| f.iter().map(|v| v.to_bits()).collect()).collect();
            if expected.is_empty() {
                expected = bits;
            } else {
                prop_assert_eq!(&expected, &bits, "{}", isa.name());
            }
        }
    }
}
