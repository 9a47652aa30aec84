//! A worked example, the extremes, every instruction set against the scalar twin, and the scalar twin against f64.

use super::*;
use crate::matmul::from_bf16;
use proptest::prelude::*;

/// Whole numbers, scales and activations of one product, from a seed.
struct Case {
    weights: PackedWeights,
    whole: Vec<i8>,
    x: Vec<f32>,
    width: usize,
}

/// splitmix64: numbers that a reader can follow.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn bf16(x: f32) -> u16 {
    (x.to_bits() >> 16) as u16
}

fn case(bits: Bits, rows: usize, n: usize, k: usize, group: usize, mut seed: u64) -> Case {
    let limit = if bits == Bits::Four { 16 } else { 256 };
    let whole: Vec<i8> = (0..n * k)
        .map(|_| ((draw(&mut seed) % limit) as i64 - limit as i64 / 2) as i8)
        .collect();
    let scales: Vec<u16> = (0..n * k.div_ceil(group))
        .map(|_| bf16(0.001 + (draw(&mut seed) % 1000) as f32 * 1e-5))
        .collect();
    let x = (0..rows * k)
        .map(|_| (draw(&mut seed) % 20001) as f32 / 1000.0 - 10.0)
        .collect();
    Case {
        weights: pack(bits, n, k, group, &whole, &scales),
        whole,
        x,
        width: k,
    }
}

fn quantized(isa: Isa, case: &Case, precision: Precision, block: usize) -> QuantizedRows {
    let mut rows = QuantizedRows::new(precision, block);
    rows.fill(isa, &case.x, case.width, case.weights.group);
    rows
}

fn product(isa: Isa, rows: &QuantizedRows, case: &Case) -> Vec<f32> {
    let weights = case.weights.view();
    let mut c = vec![f32::NAN; rows.len() * weights.n];
    let panels = 0..weights.panels();
    let columns = &mut Columns::new(&mut c, rows.len(), weights.n, weights.n);
    matmul_quantized(isa, rows, weights, panels, columns, Start::ZERO);
    c
}

#[test]
fn a_worked_example() {
    // Two outputs of eight inputs: all ones, and 1 to 7 and -8. Activations 1 to 8, of which 8 becomes 127.
    let whole = [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, -8];
    let weights = pack(Bits::Four, 2, 8, 8, &whole, &[bf16(0.5), bf16(2.0)]);
    let x: Vec<f32> = (1..=8).map(|x| x as f32).collect();
    let mut rows = QuantizedRows::new(Precision::Int8, 8);
    rows.fill(Isa::detect(), &x, 8, 8);
    let kept: Vec<i32> = (0..8).map(|k| rows.whole_at(0, k)).collect();
    assert_eq!(kept, [16, 32, 48, 64, 79, 95, 111, 127]);
    let sums = [572.0f32, 1206.0];
    let scale = 8.0 / 127.0f32;
    for isa in Isa::available() {
        let mut c = [0.0; 2];
        let columns = &mut Columns::new(&mut c, 1, 2, 2);
        matmul_quantized(isa, &rows, weights.view(), 0..1, columns, Start::ZERO);
        assert_eq!(
            c,
            [
                sums[0].mul_add(scale * 0.5, 0.0),
                sums[1].mul_add(scale * 2.0, 0.0)
            ]
        );
    }
}

#[test]
fn int16_keeps_what_int8_loses() {
    let x = [1000.0, 1.0, -0.4, 0.04, 999.97, -1000.0, 0.0, 33.3];
    let at = |precision| {
        let mut rows = QuantizedRows::new(precision, 8);
        rows.fill(Isa::detect(), &x, 8, 8);
        let scale = rows.scale_at(0, 0);
        (0..8)
            .map(|k| rows.whole_at(0, k) as f32 * scale)
            .collect::<Vec<f32>>()
    };
    for (precision, step) in [
        (Precision::Int8, 1000.0 / 127.0),
        (Precision::Int16, 1000.0 / 32512.0),
    ] {
        for (kept, x) in at(precision).iter().zip(x) {
            // Half a step, and the roundings of a factor, a product and a scale near 1000.
            assert!(
                (kept - x).abs() <= step / 2.0 + 3.0 * 1000.0 * f32::EPSILON,
                "{kept} {x}"
            );
        }
    }
}

#[test]
fn a_row_of_zeros_gives_zeros_and_extremes_stay_exact() {
    for bits in [Bits::Four, Bits::Eight] {
        let lowest = if bits == Bits::Four { -8 } else { -128 };
        let whole = vec![lowest; 17 * 256];
        let weights = pack(bits, 17, 256, 256, &whole, &[bf16(1.0); 17]);
        let mut x = vec![0.0; 256];
        x.extend([-3.0; 256]);
        let case = Case {
            weights,
            whole,
            x,
            width: 256,
        };
        for precision in [Precision::Int8, Precision::Int16] {
            let rows = quantized(Isa::detect(), &case, precision, 256);
            for isa in Isa::available() {
                let c = product(isa, &rows, &case);
                assert!(c[..17].iter().all(|&value| value == 0.0));
                // One block: the scale, the sum as f32 and the last addition are rounded, each by at most half of EPSILON.
                let expected = 768.0 * -f32::from(lowest);
                assert!(
                    c[17..]
                        .iter()
                        .all(|&v| (v - expected).abs() <= 2.0 * f32::EPSILON * expected),
                    "{:?}",
                    &c[17..]
                );
            }
        }
    }
}

#[test]
fn rows_of_several_chunks_come_out_like_the_scalar_ones() {
    // 300 rows are three chunks and no whole number of tiles; 7000 inputs make a chunk lower than 144 rows; the last block of each
    // row is shorter than the others.
    for (rows, n, k, bits) in [(300, 40, 48, Bits::Eight), (100, 33, 7000, Bits::Four)] {
        let case = case(bits, rows, n, k, k, 11);
        for precision in [Precision::Int8, Precision::Int16] {
            let kept = quantized(Isa::detect(), &case, precision, 32);
            let expected = product(Isa::available()[0], &kept, &case);
            for isa in Isa::available() {
                assert_eq!(product(isa, &kept, &case), expected, "{}", isa.name());
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows_and_what_is_tiny_counts_as_zero() {
    let weights = pack(Bits::Eight, 1, 16, 16, &[1; 16], &[bf16(1.0)]);
    for isa in Isa::available() {
        for precision in [Precision::Int8, Precision::Int16] {
            for (value, expected) in [
                (f32::NAN, f32::NAN),
                (f32::INFINITY, f32::NAN),
                (f32::NEG_INFINITY, f32::NAN),
                (1e-38, 0.0),
                (1e38, 1e38),
            ] {
                let mut x = [0.0; 16];
                x[3] = value;
                let mut rows = QuantizedRows::new(precision, 8);
                rows.fill(isa, &x, 16, 16);
                let mut c = [7.0];
                let columns = &mut Columns::new(&mut c, 1, 1, 1);
                matmul_quantized(isa, &rows, weights.view(), 0..1, columns, Start::ZERO);
                // A large number is its own scale times the limit, rounded twice.
                let near = (c[0] / expected - 1.0).abs() <= 2.0 * f32::EPSILON;
                assert!(
                    c[0].is_nan() == expected.is_nan()
                        && (expected.is_nan() || c[0] == expected || near),
                    "{value} became {}",
                    c[0]
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_instruction_set_quantizes_and_multiplies_to_the_same_bits(
        rows in 0usize..40, n in 1usize..70, groups in 1usize..4, rest in 0usize..8,
        group in prop::sample::select(vec![8usize, 32, 64, 128]),
        four: bool, wide: bool, half: bool, seed: u64,
    ) {
        let bits = if four { Bits::Four } else { Bits::Eight };
        let precision = if wide { Precision::Int16 } else { Precision::Int8 };
        let mut case = case(bits, rows, n, groups * group - rest, group, seed);
        if half {
            case.weights.scale_format = ScaleFormat::F16;
            // Of both signs, subnormal ones among them, below 2.
            let mut seed = seed;
            let scales = case.weights.scales.iter_mut().filter(|scale| **scale != 0);
            scales.for_each(|scale| *scale = draw(&mut seed) as u16 & 0xbfff);
        }
        let block = match group {
            // 104 leaves a shorter block of 24 in each group.
            128 => [64, 104, 128][seed as usize % 3],
            _ => group,
        };
        let scalar = Isa::available()[0];
        let kept = quantized(scalar, &case, precision, block);
        let expected = product(scalar, &kept, &case);
        for isa in Isa::available() {
            let again = quantized(isa, &case, precision, block);
            for tile in 0..rows.div_ceil(rows::TILE) {
                prop_assert_eq!(again.tile(tile), kept.tile(tile));
            }
            let found = product(isa, &kept, &case);
            let bits = |c: &[f32]| c.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&found), bits(&expected), "{}", isa.name());
        }
    }

    #[test]
    fn a_tile_may_be_filled_block_by_block(
        rows in 1usize..30, spans in 1usize..3, rest in 0usize..20, cut in 0usize..5, wide: bool, seed: u64,
    ) {
        let precision = if wide { Precision::Int16 } else { Precision::Int8 };
        let (isa, width, span) = (Isa::detect(), spans * 80 - rest, 80);
        let case = case(Bits::Eight, rows, 1, width, span, seed);
        let mut whole = QuantizedRows::new(precision, 48);
        whole.fill(isa, &case.x, width, span);
        let mut parts = QuantizedRows::new(precision, 48);
        let tiles = parts.tiles_mut(rows, width, span);
        for (tile, x) in tiles.zip(case.x.chunks(rows::TILE * width)) {
            let blocks = tile.blocks().end;
            let (mut left, mut right) = tile.split_at(cut.min(blocks));
            right.fill(isa, &x[right.inputs().start..], width);
            left.fill(isa, x, width);
        }
        for tile in 0..rows.div_ceil(rows::TILE) {
            prop_assert_eq!(parts.tile(tile), whole.tile(tile));
        }
    }

    #[test]
    fn panels_and_rows_may_be_split_and_old_sums_go_on(
        rows in 1usize..15, n in 17usize..90, split in 0usize..6, four: bool, wide: bool, seed: u64,
    ) {
        let precision = if wide { Precision::Int16 } else { Precision::Int8 };
        let bits = if four { Bits::Four } else { Bits::Eight };
        let case = case(bits, rows, n, 64, 32, seed);
        let (isa, weights) = (Isa::detect(), case.weights.view());
        let kept = quantized(isa, &case, precision, 32);
        let whole = product(isa, &kept, &case);
        let split = split.min(weights.panels());
        let mut parts = vec![f32::NAN; rows * n];
        let all = Columns::new(&mut parts, rows, n, n);
        let (mut left, mut right) = all.split_at((split * PANEL).min(n));
        matmul_quantized(isa, &kept, weights, 0..split, &mut left, Start::ZERO);
        let rest = split..weights.panels();
        matmul_quantized(isa, &kept, weights, rest, &mut right, Start::ZERO);
        prop_assert_eq!(&parts, &whole);
        for row in 0..rows {
            let mut alone = QuantizedRows::new(precision, 32);
            alone.fill(isa, &case.x[row * 64..][..64], 64, 32);
            prop_assert_eq!(product(isa, &alone, &case), &whole[row * n..][..n]);
        }
        let mut bias = vec![0.0; n];
        bias.iter_mut().enumerate().for_each(|(at, bias)| *bias = at as f32 * 0.3 - 4.0);
        for (write, bias) in [
            (Write::Add, None), (Write::Add, Some(&bias[..])), (Write::Replace, Some(&bias[..])),
        ] {
            let start = Start { write, bias };
            let on_top = |isa, kept: &QuantizedRows, old: &[f32]| {
                let mut c = old.to_vec();
                let columns = &mut Columns::new(&mut c, kept.len(), n, n);
                matmul_quantized(isa, kept, weights, 0..weights.panels(), columns, start);
                c
            };
            let found = on_top(isa, &kept, &whole);
            prop_assert_eq!(&found, &on_top(Isa::available()[0], &kept, &whole));
            let mut alone = QuantizedRows::new(precision, 32);
            alone.fill(isa, &case.x[..64], 64, 32);
            prop_assert_eq!(&on_top(isa, &alone, &whole[..n])[..], &found[..n]);
        }
    }
}

#[test]
fn the_product_is_that_of_the_numbers_that_are_stored() {
    // An f64 sum over the stored numbers; a chain of b blocks rounds 2·b times (scale and sum), each by half an ulp of
    // at most the sum of magnitudes.
    let case = case(Bits::Four, 5, 40, 256, 64, 3);
    let weights = case.weights.view();
    let rows = quantized(Isa::detect(), &case, Precision::Int16, 64);
    let c = product(Isa::detect(), &rows, &case);
    for (at, found) in c.iter().enumerate() {
        let (row, output) = (at / 40, at % 40);
        let (mut exact, mut magnitude) = (0.0, 0.0);
        for k in 0..256 {
            let x = f64::from(rows.whole_at(row, k)) * f64::from(rows.scale_at(row, k / 64));
            assert_eq!(
                weights.number_at(output, k),
                f32::from(case.whole[output * 256 + k])
                    * from_bf16(
                        case.weights.scales
                            [output / PANEL * 4 * PANEL + k / 64 * PANEL + output % PANEL]
                    )
            );
            let term = x * f64::from(weights.number_at(output, k));
            exact += term;
            magnitude += term.abs();
        }
        let allowed = 8.0 * f64::from(f32::EPSILON) * magnitude;
        assert!(
            (f64::from(*found) - exact).abs() <= allowed,
            "{at}: {found} {exact}"
        );
    }
}
