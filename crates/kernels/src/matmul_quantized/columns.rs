//! Some columns of a matrix in memory, so that threads can write different ones at the same time.
#![allow(unsafe_code)]

use std::marker::PhantomData;

/// All rows of some columns; nobody else reads or writes them as long as this lives.
#[derive(Debug)]
pub struct Columns<'a> {
    first: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    numbers: PhantomData<&'a mut [f32]>,
}

// SAFETY: a new one borrows all numbers, and splitting gives each column to one of two: it is a mutable slice with gaps.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    /// `rows` rows of `columns` numbers each, `stride` apart.
    ///
    /// # Panics
    /// When the rows would lie over each other or go past the end.
    pub fn new(numbers: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Columns<'a> {
        let end = |last: usize| last.checked_mul(stride)?.checked_add(columns);
        let fits = match rows.checked_sub(1) {
            None => true,
            Some(last) => end(last).is_some_and(|end| end <= numbers.len()),
        };
        assert!(
            fits && (rows <= 1 || columns <= stride),
            "C holds {} numbers, expected {rows} rows of {columns}, {stride} apart",
            numbers.len()
        );
        Columns {
            first: numbers.as_mut_ptr(),
            rows,
            columns,
            stride,
            numbers: PhantomData,
        }
    }

    /// The columns before `column`, and the others.
    ///
    /// # Panics
    /// When there are fewer columns.
    pub fn split_at(self, column: usize) -> (Columns<'a>, Columns<'a>) {
        assert!(
            column <= self.columns,
            "column {column} of {}",
            self.columns
        );
        let part = |first, columns| Columns {
            first,
            columns,
            ..self
        };
        (
            part(self.first, column),
            part(self.first.wrapping_add(column), self.columns - column),
        )
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: `new` checked that this row lies in the numbers; its columns belong to `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns) }
    }

    /// The first number of the first row.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // others go row by row
    pub(super) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.first
    }

    /// Numbers from one row to the next.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) fn stride(&self) -> usize {
        self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_write_their_columns_of_every_row() {
        let mut numbers = [0.0; 14];
        let (mut left, mut right) = Columns::new(&mut numbers, 3, 4, 5).split_at(1);
        assert_eq!((left.columns(), right.columns(), right.rows()), (1, 3, 3));
        let write = |part: &mut Columns, value: f32| {
            for row in 0..part.rows() {
                part.row_mut(row).fill(value + row as f32);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| write(&mut left, 1.0));
            scope.spawn(|| write(&mut right, 10.0));
        });
        let expected = [
            1.0, 10.0, 10.0, 10.0, 0.0, 2.0, 11.0, 11.0, 11.0, 0.0, 3.0, 12.0, 12.0, 12.0,
        ];
        assert_eq!(numbers, expected);
    }

    #[test]
    #[should_panic(expected = "C holds 13 numbers, expected 3 rows of 4, 5 apart")]
    fn a_matrix_past_the_end_is_a_mistake() {
        Columns::new(&mut [0.0; 13], 3, 4, 5);
    }

    #[test]
    #[should_panic(expected = "expected 2 rows of 4, 3 apart")]
    fn rows_over_each_other_are_a_mistake() {
        Columns::new(&mut [0.0; 13], 2, 4, 3);
    }
}
