//! Every instruction set against the scalar twin bit by bit, the scalar twin against f64.

use super::*;
use crate::isa::Isa;

/// Numbers between -3 and 3 that look random.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 24) as f32 * 6.0 - 3.0
    };
    (0..count).map(|_| draw()).collect()
}

/// Runs a computation on every set and expects the same bits.
fn same_on_all(name: &str, compute: impl Fn(Isa) -> Vec<f32>) -> Vec<f32> {
    let sets = Isa::available();
    let scalar = compute(sets[0]);
    for isa in &sets[1..] {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        assert_eq!(
            bits(&compute(*isa)),
            bits(&scalar),
            "{name} on {}",
            isa.name()
        );
    }
    scalar
}

/// Both within `tolerance` times the larger of 1 and the expected size.
fn near(name: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs() / expected.abs().max(1.0);
        assert!(
            error < tolerance,
            "{name}[{index}]: {found}, expected {expected}"
        );
    }
}

/// Derivative of an f64 function by central differences: step 1e-5 leaves about 1e-10.
fn slope(f: impl Fn(f64) -> f64, x: f64) -> f64 {
    (f(x + 1e-5) - f(x - 1e-5)) / 2e-5
}

// A few roundings of 6e-8 each on numbers of size up to about 10: 2e-6 of the size is a margin of three or more.
const FEW: f64 = 2e-6;

fn norm_reference(x: &[f64], weight: &[f64], bias: Option<&[f64]>, eps: f64) -> Vec<f64> {
    let width = x.len() as f64;
    let mean = if bias.is_some() {
        x.iter().sum::<f64>() / width
    } else {
        0.0
    };
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width;
    let normed = x
        .iter()
        .zip(weight)
        .map(|(v, w)| (v - mean) / (variance + eps).sqrt() * w);
    normed
        .enumerate()
        .map(|(i, v)| v + bias.map_or(0.0, |bias| bias[i]))
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn norms_and_their_gradients_equal_f64() {
    for (width, with_bias) in [(48, true), (37, true), (48, false), (7, false)] {
        let (x, dy) = (numbers(width, 1), numbers(width, 2));
        let (weight, bias) = (numbers(width, 3), numbers(width, 4));
        let norm = NormWeights {
            weight: &weight,
            bias: with_bias.then_some(&bias),
            eps: 1e-5,
        };
        let bias64 = wide(&bias);
        let reference =
            |x: &[f64]| norm_reference(x, &wide(&weight), with_bias.then_some(&bias64), 1e-5);
        let y = same_on_all("norm_forward", |isa| {
            let (mut y, mut statistics) = (vec![0.0; width], vec![[0.0; 2]]);
            norm_forward(isa, norm, &x, &mut y, &mut statistics);
            [y, statistics[0].to_vec()].concat()
        });
        near("norm", &y[..width], &reference(&wide(&x)), FEW);
        let start = numbers(width, 5);
        let found = same_on_all("norm_backward", |isa| {
            let (mut dy, mut dx, mut dw, mut db) =
                (dy.clone(), start.clone(), start.clone(), start.clone());
            let gradients = NormGradients {
                weight: &mut dw,
                bias: with_bias.then_some(&mut db),
            };
            norm_backward(
                isa,
                norm,
                &x,
                &[[y[width], y[width + 1]]],
                &mut dy,
                &mut dx,
                Some(gradients),
            );
            [dx, dw, db].concat()
        });
        let loss = |x: &[f64]| {
            reference(x)
                .iter()
                .zip(&dy)
                .map(|(y, d)| y * f64::from(*d))
                .sum::<f64>()
        };
        let dx = (0..width).map(|i| {
            let at = |v: f64| {
                loss(
                    &wide(&x)
                        .iter()
                        .enumerate()
                        .map(|(j, x)| if i == j { v } else { *x })
                        .collect::<Vec<f64>>(),
                )
            };
            f64::from(start[i]) + slope(at, f64::from(x[i]))
        });
        near("dx", &found[..width], &dx.collect::<Vec<f64>>(), 1e-5);
        let plain = norm_reference(
            &wide(&x),
            &vec![1.0; width],
            with_bias.then_some(&vec![0.0; width][..]),
            1e-5,
        );
        let dw: Vec<f64> = (0..width)
            .map(|i| f64::from(start[i]) + plain[i] * f64::from(dy[i]))
            .collect();
        near("dweight", &found[width..2 * width], &dw, FEW);
        let db = (0..width)
            .map(|i| f64::from(start[i]) + if with_bias { f64::from(dy[i]) } else { 0.0 });
        near("dbias", &found[2 * width..], &db.collect::<Vec<f64>>(), FEW);
    }
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

#[test]
fn gelu_and_its_derivative_equal_f64() {
    let (x, dy) = (numbers(53, 1), numbers(53, 2));
    let y = same_on_all("gelu_tanh_to", |isa| {
        let mut y = vec![0.0; 53];
        gelu_tanh_to(isa, &mut y, &x);
        y
    });
    near(
        "gelu",
        &y,
        &wide(&x).iter().map(|x| gelu(*x)).collect::<Vec<f64>>(),
        FEW,
    );
    let found = same_on_all("gelu_tanh_backward", |isa| {
        let (mut dy, mut x) = (dy.clone(), x.clone());
        gelu_tanh_backward(isa, &mut dy, &mut x);
        [x, dy].concat()
    });
    assert_eq!(
        found[..53],
        y,
        "x becomes the activation of the forward pass"
    );
    let dx: Vec<f64> = x
        .iter()
        .zip(&dy)
        .map(|(x, d)| f64::from(*d) * slope(gelu, f64::from(*x)))
        .collect();
    near("dx", &found[53..], &dx, FEW);
}

#[test]
fn exact_gelu_knows_its_derivative_from_its_result() {
    // Φ by its series, good to 1e-12 for |x| < 4.
    let phi = |x: f64| {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / (2.0 * n as f64);
            sum += term / (2 * n + 1) as f64;
        }
        0.5 + sum / (2.0 * std::f64::consts::PI).sqrt()
    };
    let mut x = numbers(40, 1);
    x.extend([0.0, 1e-5, -1e-5, 9.9e-4, -1.1e-3]);
    let y: Vec<f32> = x
        .iter()
        .map(|x| (f64::from(*x) * phi(f64::from(*x))) as f32)
        .collect();
    let found = same_on_all("gelu_erf_backward", |isa| {
        let mut dy = vec![1.0; x.len()];
        gelu_erf_backward(isa, &mut dy, &x, &y);
        dy
    });
    let expected: Vec<f64> = x
        .iter()
        .map(|x| slope(|x| x * phi(x), f64::from(*x)))
        .collect();
    near("dx", &found, &expected, FEW);
}

#[test]
fn gated_silu_and_its_derivatives_equal_f64() {
    let (rows, width) = (3, 21);
    let (gate_up, dy) = (numbers(rows * 2 * width, 1), numbers(rows * width, 2));
    let y = same_on_all("silu_multiply_to", |isa| {
        let mut y = vec![0.0; rows * width];
        silu_multiply_to(isa, &mut y, &gate_up, width);
        y
    });
    let found = same_on_all("silu_multiply_backward", |isa| {
        let (mut dy, mut gate_up) = (dy.clone(), gate_up.clone());
        silu_multiply_backward(isa, &mut dy, &mut gate_up, width);
        [dy, gate_up].concat()
    });
    for row in 0..rows {
        for column in 0..width {
            let (at, pair) = (row * width + column, row * 2 * width + column);
            let (gate, up, d) = (
                f64::from(gate_up[pair]),
                f64::from(gate_up[pair + width]),
                f64::from(dy[at]),
            );
            near("y", &[y[at], found[at]], &[silu(gate) * up; 2], FEW);
            let gradients = &found[rows * width..];
            near(
                "gradients",
                &[gradients[pair], gradients[pair + width]],
                &[d * up * slope(silu, gate), d * silu(gate)],
                2.0 * FEW,
            );
        }
    }
}

#[test]
fn scores_become_probabilities_of_the_visible_columns_only() {
    for (first, step) in [(5, 1), (32, 0), (1, 1), (17, 0)] {
        let block = ScoreBlock {
            rows: 4,
            columns: 32,
            first,
            step,
            scale: 0.7,
        };
        let (scores, gradients) = (numbers(4 * 32, 1), numbers(4 * 32, 2));
        let found = same_on_all("score_softmax", |isa| {
            let (mut scores, mut log_sums) = (scores.clone(), vec![0.0; 8]);
            score_softmax(isa, block, &mut scores, &mut log_sums, 2);
            [scores, log_sums].concat()
        });
        let (p, log_sums) = found.split_at(4 * 32);
        let dots = numbers(8, 3);
        let again = same_on_all("score_backward", |isa| {
            let (mut scores, mut gradients) = (scores.clone(), gradients.clone());
            score_backward(isa, block, &mut scores, &mut gradients, log_sums, &dots, 2);
            [scores, gradients].concat()
        });
        for row in 0..4 {
            let visible = first + row * step;
            let exp: Vec<f64> = (0..32)
                .map(|c| {
                    if c < visible {
                        (0.7 * f64::from(scores[row * 32 + c])).exp()
                    } else {
                        0.0
                    }
                })
                .collect();
            let sum: f64 = exp.iter().sum();
            let expected: Vec<f64> = exp.iter().map(|e| e / sum).collect();
            near("p", &p[row * 32..][..32], &expected, FEW);
            near("log sum", &log_sums[row * 2..][..1], &[sum.ln()], FEW);
            near("p again", &again[row * 32..][..32], &expected, FEW);
            let ds = (0..32).map(|c| {
                expected[c] * (f64::from(gradients[row * 32 + c]) - f64::from(dots[row * 2])) * 0.7
            });
            near(
                "ds",
                &again[4 * 32 + row * 32..][..32],
                &ds.collect::<Vec<f64>>(),
                FEW,
            );
            assert!(
                p[row * 32 + visible..(row + 1) * 32]
                    .iter()
                    .all(|p| *p == 0.0),
                "hidden columns are exactly zero"
            );
        }
    }
}

#[test]
fn cross_entropy_of_equal_logits_is_the_logarithm_of_their_number() {
    let found = same_on_all("cross_entropy", |isa| {
        let mut logits = [2.0; 4];
        let (loss, right) = cross_entropy(isa, &mut logits, 1, 0.5);
        [&logits[..], &[loss, f32::from(right)]].concat()
    });
    near(
        "gradient and loss",
        &found,
        &[0.125, -0.375, 0.125, 0.125, 4f64.ln(), 0.0],
        1e-6,
    );
}

#[test]
fn cross_entropy_of_many_logits_equals_f64_and_counts_the_first_largest() {
    let mut logits = numbers(75, 4);
    logits[20] = 3.5;
    logits[60] = 3.5;
    for (label, largest) in [(20, true), (60, false), (3, false)] {
        let found = same_on_all("cross_entropy", |isa| {
            let mut logits = logits.clone();
            let (loss, right) = cross_entropy(isa, &mut logits, label, 0.25);
            [&logits[..], &[loss, f32::from(right)]].concat()
        });
        let sum: f64 = logits.iter().map(|v| f64::from(*v).exp()).sum();
        let target = |i: usize| if i == label { 0.25 } else { 0.0 };
        let mut expected: Vec<f64> = (0..75)
            .map(|i| 0.25 * f64::from(logits[i]).exp() / sum - target(i))
            .collect();
        expected.extend([
            sum.ln() - f64::from(logits[label]),
            f64::from(u8::from(largest)),
        ]);
        near("cross entropy", &found, &expected, FEW);
    }
}

#[test]
fn very_large_logits_stay_finite_and_not_a_number_shows() {
    for isa in Isa::available() {
        let mut logits = [1e30, -1e30, 0.0];
        assert_eq!(cross_entropy(isa, &mut logits, 0, 1.0), (0.0, true));
        assert!(cross_entropy(isa, &mut [f32::NAN, 1.0], 1, 1.0).0.is_nan());
    }
}

#[test]
fn sums_over_rows_and_columns_equal_f64() {
    for width in [1, 16, 37, 64, 150] {
        let (rows, stride) = (5, width + 3);
        let x = numbers(rows * stride, 1);
        let found = same_on_all("add_columns", |isa| {
            let mut sums = vec![1.0; width];
            add_columns(isa, &mut sums, rows, &x, stride);
            sums
        });
        let expected: Vec<f64> = (0..width)
            .map(|c| 1.0 + (0..rows).map(|r| f64::from(x[r * stride + c])).sum::<f64>())
            .collect();
        near("add_columns", &found, &expected, FEW);
    }
    let (left, right) = (numbers(4 * 24, 1), numbers(4 * 24, 2));
    let found = same_on_all("dots", |isa| {
        let mut sums = vec![0.0; 4];
        dots(isa, &left, &right, 24, &mut sums);
        sums
    });
    let products: Vec<f64> = left
        .iter()
        .zip(&right)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .collect();
    near(
        "dots",
        &found,
        &products
            .chunks(24)
            .map(|c| c.iter().sum())
            .collect::<Vec<f64>>(),
        FEW,
    );
    for isa in Isa::available() {
        let expected: f64 = left.iter().map(|v| f64::from(*v).powi(2)).sum();
        assert!((sum_of_squares(isa, &left) - expected).abs() < 1e-12 * expected);
    }
}

#[test]
fn rotation_and_its_return_give_the_row_back() {
    let x = numbers(2 * 12, 1);
    let angles: Vec<f32> = numbers(6, 2);
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
    let turned = same_on_all("rotate", |isa| {
        let mut x = x.clone();
        rotate(isa, &mut x, 12, &cos, &sin, 1.0);
        x
    });
    let expected = f64::from(x[0]) * f64::from(cos[0]) - f64::from(x[6]) * f64::from(sin[0]);
    near("first pair", &turned[..1], &[expected], FEW);
    let back = same_on_all("rotate back", |isa| {
        let mut x = turned.clone();
        rotate(isa, &mut x, 12, &cos, &sin, -1.0);
        x
    });
    near("back", &back, &wide(&x), FEW);
}

#[test]
fn an_adam_step_equals_its_formula() {
    let f = AdamFactors {
        beta1: 0.9,
        beta2: 0.98,
        epsilon: 1e-6,
        clip: 0.5,
        rate: 0.01,
        root_correction: 2.0,
        kept: 0.999,
    };
    let (values, gradients, mean) = (numbers(37, 1), numbers(37, 2), numbers(37, 3));
    let square: Vec<f32> = numbers(37, 4).iter().map(|v| v * v).collect();
    let found = same_on_all("adam", |isa| {
        let (mut values, mut mean, mut square) = (values.clone(), mean.clone(), square.clone());
        adam(isa, f, &mut values, &gradients, &mut mean, &mut square);
        [values, mean, square].concat()
    });
    for i in 0..37 {
        let g = 0.5 * f64::from(gradients[i]);
        let m = 0.9 * f64::from(mean[i]) + 0.1 * g;
        let s = 0.98 * f64::from(square[i]) + 0.02 * g * g;
        let value = 0.999 * f64::from(values[i]) - 0.01 * m / (2.0 * s.sqrt() + 1e-6);
        near(
            "adam",
            &[found[i], found[37 + i], found[74 + i]],
            &[value, m, s],
            FEW,
        );
    }
}

#[test]
fn rows_get_one_summand_each_feature() {
    let (x, row) = (numbers(3 * 19, 1), numbers(19, 2));
    let found = same_on_all("add_row", |isa| {
        let mut y = vec![0.0; 3 * 19];
        add_row(isa, &mut y, &x, &row);
        y
    });
    assert_eq!(found[19 + 7], x[19 + 7] + row[7]);
}
