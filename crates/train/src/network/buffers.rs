//! Buffers that grow to the largest batch and are then reused.

use std::ops::Range;

/// The first `length` elements, the buffer enlarged if needed. Old contents stay.
pub(crate) fn sized<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    &mut buffer[..length]
}

/// Runs of at most `size` rows.
pub(crate) fn row_blocks(rows: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(size).map(move |start| start..rows.min(start + size))
}

/// The elements of rows `rows` of a matrix `width` wide.
pub(crate) fn span(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}
