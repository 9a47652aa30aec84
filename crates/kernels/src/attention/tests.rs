//! Worked example, f64, and the same bits for every instruction set, block and growth.

use super::*;
use proptest::prelude::*;

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| draw()).collect()
}

/// A head's numbers: rows of `width`, `stride` apart.
struct Head {
    width: usize,
    stride: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Head {
    fn new(rows: usize, keys: usize, width: usize, seed: u64) -> Head {
        let stride = width + 3;
        Head {
            width,
            stride,
            queries: numbers(rows * stride, seed),
            keys: numbers(keys * stride, seed + 1),
            values: numbers(keys * stride, seed + 2),
        }
    }

    /// Keys that come in these portions.
    fn memory(&self, portions: &[usize]) -> Memory {
        let mut memory = Memory::empty(self.width);
        for count in portions {
            let from = memory.len() * self.stride;
            memory.append(
                *count,
                View::rows(&self.keys[from..], self.stride),
                View::rows(&self.values[from..], self.stride),
            );
        }
        memory
    }

    /// Results of the rows from `first` on.
    fn attend(
        &self,
        isa: Isa,
        memory: &Memory,
        first: usize,
        count: usize,
        reach: Reach,
    ) -> Vec<f32> {
        let mut out = vec![f32::NAN; count * self.width];
        let queries = Queries {
            count,
            rows: View::rows(&self.queries[first * self.stride..], self.stride),
            scale: 0.7,
            reach,
        };
        attend(
            isa,
            &queries,
            memory,
            &mut Scratch::default(),
            &mut out,
            self.width,
        );
        out
    }

    /// In f64.
    fn exact(&self, row: usize, visible: Range<usize>) -> Vec<f64> {
        let wide = |x: &[f32], at: usize| -> Vec<f64> {
            x[at * self.stride..][..self.width]
                .iter()
                .map(|v| f64::from(*v))
                .collect()
        };
        let q = wide(&self.queries, row);
        let first = visible.start;
        let weights: Vec<f64> = visible
            .map(|key| {
                let key = wide(&self.keys, key);
                (0.7f32 as f64 * q.iter().zip(&key).map(|(q, k)| q * k).sum::<f64>()).exp()
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        (0..self.width)
            .map(|i| {
                let terms = (first..).zip(&weights);
                let terms = terms.map(|(key, w)| w * f64::from(self.values[key * self.stride + i]));
                terms.sum::<f64>() / sum
            })
            .collect()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn attention_weighs_values_by_the_softmax_of_scores() {
    let (q, keys, values) = (
        [1.0, 0.0],
        [2f32.ln(), 9.0, 0.0, 7.0, 99.0, 99.0],
        [3.0, 6.0, 0.0, 9.0, 1.0, 1.0],
    );
    let mut memory = Memory::empty(2);
    memory.append(3, View::rows(&keys, 2), View::rows(&values, 2));
    for isa in Isa::available() {
        let queries = Queries {
            count: 1,
            rows: View::rows(&q, 2),
            scale: 1.0,
            reach: Reach::Past { first: 2, group: 1 },
        };
        let mut out = [0.0; 2];
        attend(isa, &queries, &memory, &mut Scratch::default(), &mut out, 2);
        // Weights 2/3 and 1/3; the third key is not seen.
        assert!(
            (out[0] - 2.0).abs() < 1e-6 && (out[1] - 7.0).abs() < 1e-5,
            "{out:?}"
        );
    }
}

#[test]
fn the_scalar_twin_is_near_the_exact_result() {
    // Windows, and one that reaches ahead.
    let spans = &(0..10).map(|at| 30 + at..41 + at * 5).collect::<Vec<_>>();
    for (rows, keys, width, reach) in [
        (30, 70, 40, Reach::Everything),
        (
            30,
            99,
            40,
            Reach::Past {
                first: 70,
                group: 1,
            },
        ),
        (
            30,
            50,
            6,
            Reach::Past {
                first: 41,
                group: 3,
            },
        ),
        (30, 90, 40, Reach::Spans { spans, group: 3 }),
    ] {
        let head = Head::new(rows, keys, width, 7);
        let found = head.attend(Isa::available()[0], &head.memory(&[keys]), 0, rows, reach);
        for (row, found) in found.chunks(width).enumerate() {
            let visible = reach.visible(row, keys);
            for (found, exact) in found.iter().zip(head.exact(row, visible)) {
                // A score is a chain of 40 products below 1 (error 40 · 40 · 2^-24 = 1e-4 at worst, typically a tenth of a
                // thousandth of that); 2e-6 is what exp's two ulp, sums of 100 weights and a division typically leave.
                assert!(
                    (f64::from(*found) - exact).abs() < 2e-6,
                    "row {row} of {rows}: {found} against {exact}"
                );
            }
        }
    }
}

#[test]
fn forgotten_keys_leave_no_trace() {
    let head = Head::new(5, 90, 33, 3);
    let mut memory = head.memory(&[40]);
    let other = Head::new(5, 90, 33, 99);
    memory.append(
        50,
        View::rows(&other.keys, 36),
        View::rows(&other.values, 36),
    );
    memory.truncate(40);
    assert_eq!(memory.len(), 40);
    memory.append(
        50,
        View::rows(&head.keys[40 * 36..], 36),
        View::rows(&head.values[40 * 36..], 36),
    );
    for isa in Isa::available() {
        let expected = head.attend(isa, &head.memory(&[90]), 0, 5, Reach::Everything);
        assert_eq!(
            bits(&expected),
            bits(&head.attend(isa, &memory, 0, 5, Reach::Everything))
        );
    }
}

#[test]
#[should_panic(expected = "a query sees keys 0..4 of 3")]
fn a_query_cannot_see_keys_that_are_not_there() {
    let head = Head::new(2, 3, 4, 1);
    head.attend(
        Isa::available()[0],
        &head.memory(&[3]),
        0,
        2,
        Reach::Past { first: 3, group: 1 },
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn rows_with_spans_give_the_same_bits_alone_and_with_any_others(
        keys in 1usize..200, width in 1usize..80, ends in prop::collection::vec((0usize..200, 0usize..200), 1..40), seed in 0u64..100,
    ) {
        let spans: Vec<Range<usize>> = ends.iter().map(|&(a, b)| {
            let (a, b) = (a % keys, b % keys);
            a.min(b)..a.max(b) + 1
        }).collect();
        let head = Head::new(spans.len(), keys, width, seed);
        let memory = head.memory(&[keys]);
        let attend = |isa, first, spans: &[Range<usize>]| {
            head.attend(isa, &memory, first, spans.len(), Reach::Spans { spans, group: 1 })
        };
        let expected = attend(Isa::available()[0], 0, &spans);
        for isa in Isa::available() {
            prop_assert!(bits(&expected) == bits(&attend(isa, 0, &spans)), "{}", isa.name());
            let single = (0..spans.len()).flat_map(|row| attend(isa, row, &spans[row..row + 1]));
            prop_assert!(bits(&expected) == bits(&single.collect::<Vec<_>>()), "{}, row by row", isa.name());
        }
        // A span from the first key on is what `Past` sees.
        let past = head.attend(Isa::available()[0], &memory, 0, 1, Reach::Past { first: keys, group: 1 });
        let whole = std::slice::from_ref(&(0..keys)).to_vec();
        prop_assert!(bits(&past) == bits(&attend(Isa::available()[0], 0, &whole)));
    }

    #[test]
    fn every_instruction_set_block_and_growth_gives_the_same_bits(
        rows in 1usize..70, before in 0usize..80, width in 1usize..80, group in 1usize..4, cut in 0usize..70, seed in 0u64..100, everything: bool,
    ) {
        let keys = before + rows.div_ceil(group);
        let head = Head::new(rows, keys, width, seed);
        let reach = |first_row: usize| match everything {
            true => Reach::Everything,
            false => Reach::Past { first: before + 1 + first_row / group, group },
        };
        // Rows are cut where a group ends.
        let cut = cut.min(rows) / group * group;
        let expected = head.attend(Isa::available()[0], &head.memory(&[keys]), 0, rows, reach(0));
        for isa in Isa::available() {
            let memory = head.memory(&[before, cut / group, keys - before - cut / group]);
            let mut found = Vec::new();
            for (first, count) in [(0, cut), (cut, rows - cut)] {
                if count > 0 {
                    found.extend(head.attend(isa, &memory, first, count, reach(first)));
                }
            }
            prop_assert!(bits(&expected) == bits(&found), "{}", isa.name());
            let single: Vec<f32> = (0..rows).flat_map(|row| head.attend(isa, &memory, row, 1, reach(row))).collect();
            prop_assert!(bits(&expected) == bits(&single), "{}, row by row", isa.name());
        }
    }
}
