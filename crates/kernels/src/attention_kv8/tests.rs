//! A worked example, every instruction set against the scalar twin, the scalar twin against f64, and prompts cut in any way.

use super::*;
use crate::matmul::View;
use proptest::prelude::*;

fn scalar() -> Isa {
    Isa::available()[0]
}

/// Sums of three uniform numbers in -1..1.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| draw() + draw() + draw()).collect()
}

/// Positions with `group` query heads and one key head each.
struct Case {
    width: usize,
    group: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    precision: Precision,
}

impl Case {
    fn new(positions: usize, keys: usize, width: usize, group: usize, seed: u64) -> Case {
        Case {
            width,
            group,
            queries: numbers(positions * group * width, seed),
            keys: numbers(keys * width, seed + 1),
            values: numbers(keys * width, seed + 2),
            precision: Precision::Int8,
        }
    }

    fn append(&self, isa: Isa, memory: &mut Memory, count: usize) {
        let from = memory.len() * self.width;
        let [keys, values] =
            [&self.keys, &self.values].map(|all| View::rows(&all[from..], self.width));
        memory.append(isa, count, keys, values);
    }

    fn memory(&self, isa: Isa) -> Memory {
        let mut memory = Memory::empty(self.width);
        self.append(isa, &mut memory, self.keys.len() / self.width);
        memory
    }

    /// Results of `count` positions from `first` on; position p sees `before + p + 1` keys, or all if `before` is none.
    fn attend(
        &self,
        isa: Isa,
        memory: &Memory,
        first: usize,
        count: usize,
        before: Option<usize>,
    ) -> Vec<f32> {
        let group = self.group;
        let reach = match before {
            None => Reach::Everything,
            Some(before) => Reach::Past {
                first: before + first + 1,
                group,
            },
        };
        self.attend_within(isa, memory, first, count, reach)
    }

    fn attend_within(
        &self,
        isa: Isa,
        memory: &Memory,
        first: usize,
        count: usize,
        reach: Reach,
    ) -> Vec<f32> {
        let stride = self.group * self.width;
        let queries = Queries {
            count: count * self.group,
            data: &self.queries[first * stride..],
            stride,
            group: self.group,
            scale: 0.3,
            reach,
            precision: self.precision,
        };
        let mut out = vec![f32::NAN; count * stride];
        attend(
            isa,
            &queries,
            memory,
            &mut Scratch::default(),
            &mut out,
            stride,
        );
        out
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn attention_weighs_values_by_the_softmax_of_scores() {
    // Scores 2 and 1 to the base of two: weights 2/3 and 1/3. The third key is not seen.
    let log = std::f32::consts::LN_2;
    let (q, keys, values) = (
        [127.0, 0.0],
        [2.0, 0.0, 1.0, 0.0, 99.0, 99.0],
        [3.0, 6.0, 0.0, 9.0, 1.0, 1.0],
    );
    for isa in Isa::available() {
        for precision in [Precision::Int8, Precision::Int16] {
            let mut memory = Memory::empty(2);
            memory.append(isa, 3, View::rows(&keys, 2), View::rows(&values, 2));
            let queries = Queries {
                count: 1,
                data: &q,
                stride: 2,
                group: 1,
                scale: log / 127.0,
                reach: Reach::Past { first: 2, group: 1 },
                precision,
            };
            let mut out = [0.0; 2];
            attend(isa, &queries, &memory, &mut Scratch::default(), &mut out, 2);
            // Values are whole to 9/127/2, weights to half of 1/255 of the highest; and INT8 3 of 6 is 63.5 steps.
            assert!(
                (out[0] - 2.0).abs() < 0.05 && (out[1] - 7.0).abs() < 0.05,
                "{out:?}"
            );
        }
    }
}

/// In f64, with the keys and values that the memory stands for.
fn exact(case: &Case, memory: &Memory, row: usize, visible: Range<usize>) -> Vec<f64> {
    let q = &case.queries[row * case.width..][..case.width];
    let tokens: Vec<[Vec<f64>; 2]> = visible.map(|at| memory.numbers_at(at)).collect();
    let weights: Vec<f64> = tokens
        .iter()
        .map(|[key, _]| {
            let dot: f64 = q.iter().zip(key).map(|(q, k)| f64::from(*q) * k).sum();
            (f64::from(0.3f32) * dot).exp()
        })
        .collect();
    let sum: f64 = weights.iter().sum();
    (0..case.width)
        .map(|i| {
            let terms = tokens.iter().zip(&weights).map(|([_, v], w)| w * v[i]);
            terms.sum::<f64>() / sum
        })
        .collect()
}

#[test]
fn the_scalar_twin_is_within_the_bound_of_its_roundings() {
    for precision in [Precision::Int8, Precision::Int16] {
        let mut case = Case::new(5, 300, 40, 3, 5);
        case.precision = precision;
        let memory = case.memory(scalar());
        let found = case.attend(scalar(), &memory, 0, 5, Some(295));
        let (query_limit, weight_limit) = match precision {
            Precision::Int8 => (127.0, 255.0),
            Precision::Int16 => (32512.0, 65535.0),
        };
        for (row, found) in found.chunks(40).enumerate() {
            let visible = 296 + row / 3;
            let largest = |x: &[f64]| x.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            let tokens: Vec<_> = (0..visible).map(|at| memory.numbers_at(at)).collect();
            let q: Vec<f64> = case.queries[row * 40..][..40]
                .iter()
                .map(|q| f64::from(*q))
                .collect();
            // A score is wrong by at most half a step of the query times the key's magnitudes. A weight's relative error is twice the
            // largest such (its own and the sum's); the value is off by that times the largest value.
            let size = tokens
                .iter()
                .map(|[key, _]| key.iter().map(|k| k.abs()).sum::<f64>())
                .fold(0.0, f64::max);
            let score = 0.3 * largest(&q) / query_limit / 2.0 * size;
            let value = tokens.iter().map(|[_, v]| largest(v)).fold(0.0, f64::max);
            let exact = exact(&case, &memory, row, 0..visible);
            let scores: Vec<f64> = tokens
                .iter()
                .map(|[key, _]| 0.3 * q.iter().zip(key).map(|(q, k)| q * k).sum::<f64>())
                .collect();
            let top = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
            let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            // Rounding a weight moves it by half a step of the largest weighted value of its block, relative to the sum of weights.
            let rounding: f64 = scores
                .chunks(128)
                .zip(tokens.chunks(128))
                .map(|(scores, tokens)| {
                    let largest = scores
                        .iter()
                        .zip(tokens)
                        .map(|(s, [_, v])| (s - top).exp() * largest(v))
                        .fold(0.0, f64::max);
                    largest * 0.5 / weight_limit * scores.len() as f64
                })
                .sum::<f64>()
                / sum;
            // 2e-5 for the polynomial (7e-6 in weight and sum) and f32.
            let allowed = value * (2.0 * score + 2e-5) * 1.1 + rounding * 1.1;
            for (found, exact) in found.iter().zip(exact) {
                assert!(
                    (f64::from(*found) - exact).abs() <= allowed,
                    "{precision:?}, row {row}: {found} against {exact}, allowed {allowed}"
                );
            }
        }
    }
}

#[test]
fn errors_on_normal_numbers_are_small() {
    // Not a bound but what is seen on inputs like a model's, so that a loss of accuracy shows: root mean square of the error
    // relative to that of the exact result.
    for (precision, most) in [(Precision::Int8, 0.016), (Precision::Int16, 0.0008)] {
        let mut case = Case::new(40, 729, 72, 1, 8);
        case.precision = precision;
        let memory = case.memory(scalar());
        let found = case.attend(Isa::detect(), &memory, 0, 40, None);
        let (mut error, mut size) = (0.0, 0.0);
        for (row, found) in found.chunks(72).enumerate() {
            for (found, exact) in found.iter().zip(exact(&case, &memory, row, 0..729)) {
                error += (f64::from(*found) - exact).powi(2);
                size += exact.powi(2);
            }
        }
        let relative = (error / size).sqrt();
        assert!(relative < most, "{precision:?}: {relative}");
    }
}

#[test]
fn a_key_that_is_not_seen_may_be_anything() {
    for precision in [Precision::Int8, Precision::Int16] {
        for isa in Isa::available() {
            let mut case = Case::new(3, 20, 8, 1, 3);
            case.precision = precision;
            let expected = case.attend(isa, &case.memory(isa), 0, 3, Some(10));
            for wrong in [f32::NAN, f32::INFINITY, 3e38] {
                case.keys[13 * 8 + 3] = wrong;
                case.values[14 * 8] = wrong;
                let memory = case.memory(isa);
                assert_eq!(case.attend(isa, &memory, 0, 3, Some(10)), expected);
            }
            case.keys[5] = f32::NAN;
            let found = case.attend(isa, &case.memory(isa), 0, 3, Some(10));
            assert!(found.iter().all(|value| value.is_nan()), "{found:?}");
        }
    }
}

#[test]
fn keys_before_a_span_leave_no_trace() {
    // Spans that begin and end in the same block, in others, and where a block is not seen at all.
    let (spans, group) = ([140..150, 3..300, 127..129, 256..257, 0..300], 2);
    for precision in [Precision::Int8, Precision::Int16] {
        let mut case = Case::new(spans.len(), 300, 33, group, 3);
        case.precision = precision;
        for isa in Isa::available() {
            let attend = |case: &Case, first: usize, spans: &[Range<usize>]| {
                let reach = Reach::Spans { spans, group };
                bits(&case.attend_within(isa, &case.memory(isa), first, spans.len(), reach))
            };
            let together = attend(&case, 0, &spans);
            let of_row = together.chunks(group * 33).zip(&spans).enumerate();
            for (row, (together, span)) in of_row {
                let alone = attend(&case, row, std::slice::from_ref(span));
                assert_eq!(together, alone, "{}, {span:?}", isa.name());
                let exact = exact(&case, &case.memory(isa), row * group, span.clone());
                for (found, exact) in together.iter().zip(exact) {
                    // Sizes are 1, and errors some standard deviations of those in `errors_on_normal_numbers_are_small`.
                    let apart = (f64::from(f32::from_bits(*found)) - exact).abs();
                    assert!(apart < 0.1, "{span:?}: {apart}");
                }
            }
            let mut other = Case::new(spans.len(), 300, 33, group, 3);
            other.precision = precision;
            other.keys[..3 * 33].fill(f32::NAN);
            other.values[..3 * 33].fill(1e30);
            let without_last = 4 * group * 33;
            assert_eq!(
                attend(&other, 0, &spans)[..without_last],
                together[..without_last]
            );
        }
    }
}

#[test]
fn forgotten_keys_leave_no_trace() {
    let (case, other) = (Case::new(2, 300, 33, 2, 3), Case::new(2, 300, 33, 2, 99));
    for isa in Isa::available() {
        let mut memory = Memory::empty(33);
        memory.reserve(300);
        case.append(isa, &mut memory, 40);
        other.append(isa, &mut memory, 200);
        memory.truncate(40);
        assert_eq!(memory.len(), 40);
        let expected = case.attend(isa, &case.memory(isa), 0, 2, Some(38));
        assert_eq!(case.attend(isa, &memory, 0, 2, Some(38)), expected);
        case.append(isa, &mut memory, 260);
        let expected = case.attend(isa, &case.memory(isa), 0, 2, None);
        assert_eq!(case.attend(isa, &memory, 0, 2, None), expected);
    }
}

#[test]
#[should_panic(expected = "a query sees keys 0..4 of 3")]
fn a_query_cannot_see_keys_that_are_not_there() {
    let case = Case::new(2, 3, 4, 1, 1);
    case.attend(scalar(), &case.memory(scalar()), 0, 2, Some(2));
}

#[test]
fn extremes_stay_exact() {
    // The widest head, every byte at its limit: the sums nearly fill 32 bits.
    for precision in [Precision::Int8, Precision::Int16] {
        let mut case = Case::new(1, 128, 256, 1, 1);
        case.precision = precision;
        case.queries.fill(-1.0);
        case.keys.fill(1.0);
        case.values.fill(-2.0);
        for isa in Isa::available() {
            let found = case.attend(isa, &case.memory(isa), 0, 1, None);
            // All weights are 1: scale, sum, product and quotient are rounded.
            assert!(
                found.iter().all(|v| (v + 2.0).abs() < 8.0 * f32::EPSILON),
                "{:?}",
                &found[..4]
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_instruction_set_cut_and_growth_gives_the_same_bits(
        positions in 1usize..20, before in 0usize..300, width in 1usize..140, group in 1usize..6,
        cut in 0usize..20, grown in 0usize..300, wide: bool, everything: bool, seed in 0u64..1000,
    ) {
        let keys = before + positions;
        let mut case = Case::new(positions, keys, width, group, seed);
        case.precision = if wide { Precision::Int16 } else { Precision::Int8 };
        let before = (!everything).then_some(before);
        let expected = case.attend(scalar(), &case.memory(scalar()), 0, positions, before);
        let cut = cut.min(positions);
        for isa in Isa::available() {
            let mut memory = Memory::empty(width);
            case.append(isa, &mut memory, grown.min(keys));
            case.append(isa, &mut memory, keys - grown.min(keys));
            let mut found = case.attend(isa, &memory, 0, cut, before);
            found.extend(case.attend(isa, &memory, cut, positions - cut, before));
            prop_assert_eq!(bits(&expected), bits(&found), "{}", isa.name());
        }
    }
}
