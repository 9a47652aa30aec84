//! Buffers that grow to the largest batch and are then reused.

use std::ops::Range;

/// The first `length` elements, the buffer enlarged if needed. Old contents stay.
pub(crate) fn sized<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    &mut buffer[..length]
}

/// Rows that go through row-wise layers together, at most: their inner activations stay in the second-level cache.
const BLOCK_ROWS: usize = 256;
/// Rows that the matrix kernel takes at once; blocks are multiples, so that only the last one has a rest.
const KERNEL_ROWS: usize = 12;

/// Runs of about equally many rows.
pub(crate) fn row_blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let size = rows
        .div_ceil(rows.div_ceil(BLOCK_ROWS).max(1))
        .max(1)
        .next_multiple_of(KERNEL_ROWS);
    (0..rows)
        .step_by(size)
        .map(move |start| start..rows.min(start + size))
}

/// Copies rows `selected` of a matrix `width` wide, one behind the other.
pub(crate) fn gather_rows(from: &[f32], selected: &[usize], width: usize, to: &mut [f32]) {
    for (to, &row) in to.chunks_exact_mut(width).zip(selected) {
        to.copy_from_slice(&from[row * width..][..width]);
    }
}

/// The reverse of [`gather_rows`]; all other rows become zero.
pub(crate) fn scatter_rows(from: &[f32], selected: &[usize], width: usize, to: &mut [f32]) {
    to.fill(0.0);
    for (from, &row) in from.chunks_exact(width).zip(selected) {
        to[row * width..][..width].copy_from_slice(from);
    }
}

/// The elements of rows `rows` of a matrix `width` wide.
pub(crate) fn span(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}
