//! Attention of one head in f32: scores, softmax, weighted values, by blocks of query rows.
//!
//! A query's scores are one multiply-add chain over the head's width each, its sum of exponentials runs in fixed lanes, and
//! each number of its result is one chain over the keys it sees, in order. Blocks only decide what is computed together: the
//! bits are the same for every instruction set and however a prompt is cut.

use crate::isa::{Isa, per_isa};
use crate::matmul::{PANEL, Panels, View, Work, Write, multiply};
use crate::rows::{LANES, exp_one, largest, sum_of};
use std::ops::Range;

/// Query rows whose scores are held at once: full blocks of the product, scores that stay in the second cache.
const ROWS: usize = 24;

/// The keys and values that queries attend to, packed; they may grow.
#[derive(Clone, Debug)]
pub struct Memory {
    width: usize,
    /// A column for each key.
    keys: Panels,
    /// A row for each value, 32 of its numbers in each.
    values: Vec<Panels>,
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// All of them.
    Everything,
    /// The first `first` ones for the first `group` rows of queries, one more for each next `group` (heads that share keys).
    Past {
        /// Keys of the first rows; at least one.
        first: usize,
        /// Rows with the same keys; at least one.
        group: usize,
    },
    /// Those of a span, which each `group` rows have their own of: windows, and pictures that are seen whole.
    Spans {
        /// Of the first rows, and so on; none is empty.
        spans: &'a [Range<usize>],
        /// Rows with the same keys; at least one.
        group: usize,
    },
}

impl Reach<'_> {
    pub(crate) fn visible(self, row: usize, keys: usize) -> Range<usize> {
        match self {
            Reach::Everything => 0..keys,
            Reach::Past { first, group } => 0..first + row / group,
            Reach::Spans { spans, group } => spans[row / group].clone(),
        }
    }
}

/// The first key that any of these rows sees, and the end of what they see.
///
/// # Panics
/// When one sees no key or more than there are.
pub(crate) fn seen_by_any(visible: &[Range<usize>], keys: usize) -> Range<usize> {
    let (mut first, mut end) = (usize::MAX, 0);
    for span in visible {
        assert!(
            !span.is_empty() && span.end <= keys,
            "a query sees keys {span:?} of {keys}"
        );
        (first, end) = (first.min(span.start), end.max(span.end));
    }
    first..end
}

/// Room for scores that calls share.
#[derive(Debug, Default)]
pub struct Scratch {
    scores: Vec<f32>,
    sums: [f32; ROWS],
}

impl Memory {
    /// Without keys, for heads of `width` numbers.
    pub fn empty(width: usize) -> Memory {
        let columns = |first| PANEL.min(width - first);
        Memory {
            width,
            keys: Panels::of_rows(width),
            values: (0..width)
                .step_by(PANEL)
                .map(|first| Panels::of_columns(columns(first)))
                .collect(),
        }
    }

    /// Keys so far.
    #[allow(clippy::len_without_is_empty)] // nothing asks
    pub fn len(&self) -> usize {
        self.keys.n
    }

    /// Adds `count` keys and values: rows of `width` numbers side by side.
    pub fn append(&mut self, count: usize, keys: View, values: View) {
        assert!(
            keys.column_stride == 1 && values.column_stride == 1,
            "keys and values lie in rows"
        );
        self.keys.append_columns(count, keys.transposed());
        for (part, panel) in self.values.iter_mut().enumerate() {
            let data = values.data.get(part * PANEL..).unwrap_or_default();
            panel.append_rows(count, View { data, ..values });
        }
    }

    /// The numbers of one key, then of its value.
    ///
    /// # Panics
    /// When there is no such key.
    pub fn numbers_at(&self, at: usize) -> impl Iterator<Item = f32> {
        assert!(at < self.len(), "key {at} of {}", self.len());
        let key = move |i: usize| self.keys.weight(at, i);
        let value = move |i: usize| self.values[i / PANEL].weight(i % PANEL, at);
        (0..self.width).map(key).chain((0..self.width).map(value))
    }

    /// Forgets the keys from `count` on.
    pub fn truncate(&mut self, count: usize) {
        self.keys.truncate_columns(count);
        for panel in &mut self.values {
            panel.truncate_rows(count);
        }
    }
}

/// Query rows and where their results go.
#[derive(Debug)]
pub struct Queries<'a> {
    /// Rows.
    pub count: usize,
    /// Rows of the head's width, columns side by side.
    pub rows: View<'a>,
    /// Factor of the scores.
    pub scale: f32,
    /// What they see.
    pub reach: Reach<'a>,
}

/// Row i of the result, `softmax(scale · q·keysᵀ) · values` over the keys it sees, goes to `out[i * out_stride ..]`.
///
/// # Panics
/// When a row sees no key or more than there are, or `out` is too small.
pub fn attend(
    isa: Isa,
    queries: &Queries,
    memory: &Memory,
    scratch: &mut Scratch,
    out: &mut [f32],
    out_stride: usize,
) {
    for first in (0..queries.count).step_by(ROWS) {
        let rows = ROWS.min(queries.count - first);
        let block = Block {
            isa,
            queries,
            memory,
            first,
            rows,
        };
        block.attend(scratch, &mut out[first * out_stride..], out_stride);
    }
}

/// Some rows of queries.
struct Block<'a> {
    isa: Isa,
    queries: &'a Queries<'a>,
    memory: &'a Memory,
    first: usize,
    rows: usize,
}

impl Block<'_> {
    fn attend(&self, scratch: &mut Scratch, out: &mut [f32], out_stride: usize) {
        let keys = self.memory.len();
        let visible: [Range<usize>; ROWS] = std::array::from_fn(|row| {
            let row = row.min(self.rows - 1);
            self.queries.reach.visible(self.first + row, keys)
        });
        let visible = &visible[..self.rows];
        let seen = seen_by_any(visible, keys);
        let stride = seen.end.next_multiple_of(PANEL);
        if scratch.scores.len() < self.rows * stride {
            scratch.scores.resize(self.rows * stride, 0.0);
        }
        let scores = &mut scratch.scores[..self.rows * stride];
        let sums = &mut scratch.sums[..self.rows];
        self.score(scores, stride, seen.start / PANEL);
        soften(self.isa, scores, stride, visible, self.queries.scale, sums);
        self.mix(scores, stride, visible, out, out_stride);
        for (row, sum) in sums.iter().enumerate() {
            let out = &mut out[row * out_stride..][..self.memory.width];
            for value in out {
                *value /= sum;
            }
        }
    }

    /// Scores against the keys from panel `first` on.
    fn score(&self, scores: &mut [f32], stride: usize, first: usize) {
        let rows = self.queries.rows;
        let work = Work {
            m: self.rows,
            a: View {
                data: &rows.data[self.first * rows.row_stride..],
                ..rows
            },
            b: &self.memory.keys,
            depth: self.memory.width,
            panels: first..stride / PANEL,
            c_stride: stride,
            write: Write::Replace,
        };
        multiply(self.isa, work, &mut scores[first * PANEL..]);
    }

    /// Weights times values: the first keys that all rows see in one product, the others row by row, continuing its sums.
    fn mix(
        &self,
        weights: &[f32],
        stride: usize,
        visible: &[Range<usize>],
        out: &mut [f32],
        out_stride: usize,
    ) {
        let from_first = visible.iter().all(|span| span.start == 0);
        let together = visible.iter().map(|span| span.end).min();
        let together = together.filter(|_| from_first).unwrap_or(0);
        for (part, panel) in self.memory.values.iter().enumerate() {
            let out = &mut out[part * PANEL..];
            let work = Work {
                m: self.rows,
                a: View::rows(weights, stride),
                b: panel,
                depth: together,
                panels: 0..1,
                c_stride: out_stride,
                write: Write::Replace,
            };
            multiply(self.isa, work, out);
            for (row, span) in visible.iter().enumerate() {
                let rest = together.max(span.start)..span.end;
                let weights = &weights[row * stride..][rest.clone()];
                let out = &mut out[row * out_stride..][..panel.n];
                mix_rest(self.isa, weights, &panel.panel_rows()[rest], out);
            }
        }
    }
}

per_isa! {
    /// Rows of scores to exponentials of what `scale` times them is above the highest, and their sums; the `visible` numbers of
    /// each row count.
    soften(scores: &mut [f32], stride: usize, visible: &[Range<usize>], scale: f32, sums: &mut [f32]) => soften_body
}
per_isa! {
    /// Adds weighted rows to at most 32 numbers.
    mix_rest(weights: &[f32], rows: &[[f32; PANEL]], out: &mut [f32]) => mix_rest_body
}

#[inline(always)]
fn soften_body(
    scores: &mut [f32],
    stride: usize,
    visible: &[Range<usize>],
    scale: f32,
    sums: &mut [f32],
) {
    let rows = scores.chunks_exact_mut(stride).zip(visible);
    for ((row, visible), sum) in rows.zip(sums) {
        // Whole groups of lanes: what lies around the visible ones adds less than 1e-37 to a sum of at least 1.
        let from = visible.start / LANES * LANES;
        let row = &mut row[from..visible.end.next_multiple_of(LANES)];
        row[..visible.start - from].fill(f32::NEG_INFINITY);
        row[visible.end - from..].fill(f32::NEG_INFINITY);
        let highest = largest(row) * scale;
        for value in row.iter_mut() {
            *value = exp_one(value.mul_add(scale, -highest));
        }
        *sum = sum_of(row, |v| v);
    }
}

#[inline(always)]
fn mix_rest_body(weights: &[f32], rows: &[[f32; PANEL]], out: &mut [f32]) {
    let mut sums = [0.0; PANEL];
    sums[..out.len()].copy_from_slice(out);
    for (weight, row) in weights.iter().zip(rows) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum = weight.mul_add(*value, *sum);
        }
    }
    out.copy_from_slice(&sums[..out.len()]);
}

#[cfg(test)]
mod tests;
