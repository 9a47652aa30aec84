//! A table of positions resized to another grid, as `torch.nn.functional.interpolate` does it without antialiasing: with
//! `mode="bicubic"` and `align_corners=False`, or with `mode="bilinear"` and `align_corners=True`.

use crate::spec::TableResize;

/// Of torch's cubic kernel; pictures are resized with another.
const A: f32 = -0.75;

/// Four places of a side and what each counts, for one place of a resized side.
struct Taps {
    places: [usize; 4],
    weights: [f32; 4],
}

impl Taps {
    fn at(resize: TableResize, place: usize, from: usize, to: usize) -> Taps {
        match resize {
            TableResize::Bicubic => Taps::bicubic(place, from, to),
            TableResize::BilinearCorners => Taps::between_corners(place, from, to),
        }
    }

    /// The places of the resized side are spread from the first of the table to the last, in f32 as the reference does it.
    fn between_corners(place: usize, from: usize, to: usize) -> Taps {
        let last = from - 1;
        let step = last as f32 / to.saturating_sub(1).max(1) as f32;
        // torch.linspace counts from the nearer end.
        let real = match place < to / 2 || to == 1 {
            true => place as f32 * step,
            false => last as f32 - (to - 1 - place) as f32 * step,
        };
        let first = (real as usize).min(last);
        let part = real - first as f32;
        Taps {
            places: [first, (first + 1).min(last), first, first],
            weights: [1.0 - part, part, 0.0, 0.0],
        }
    }

    fn bicubic(place: usize, from: usize, to: usize) -> Taps {
        let scale = from as f32 / to as f32;
        let real = scale * (place as f32 + 0.5) - 0.5;
        let first = real.floor();
        let part = real - first;
        let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
        let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
        let within = |offset: i64| (first as i64 + offset).clamp(0, from as i64 - 1) as usize;
        Taps {
            places: [-1, 0, 1, 2].map(within),
            weights: [
                far(part + 1.0),
                near(part),
                near(1.0 - part),
                far(2.0 - part),
            ],
        }
    }
}

/// A table of `sides` rows and columns, `d` numbers each, as one of the rows and columns of `grid`.
pub(super) fn resized(
    table: &[f32],
    resize: TableResize,
    sides: [usize; 2],
    grid: [usize; 2],
    d: usize,
) -> Vec<f32> {
    let taps = |side: usize| -> Vec<Taps> {
        let places = 0..grid[side];
        places
            .map(|place| Taps::at(resize, place, sides[side], grid[side]))
            .collect()
    };
    let (rows, columns) = (taps(0), taps(1));
    let mut out = vec![0.0; grid[0] * grid[1] * d];
    let mut line = vec![0.0; d];
    for (at, to) in out.chunks_exact_mut(d).enumerate() {
        let (row, column) = (&rows[at / grid[1]], &columns[at % grid[1]]);
        for (y, down) in row.places.iter().zip(row.weights) {
            line.fill(0.0);
            for (x, across) in column.places.iter().zip(column.weights) {
                let from = &table[(y * sides[1] + x) * d..][..d];
                line.iter_mut()
                    .zip(from)
                    .for_each(|(line, from)| *line += across * from);
            }
            to.iter_mut()
                .zip(&line)
                .for_each(|(to, line)| *to += down * line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_of_four_becomes_eight_as_torch_makes_it() {
        // torch 2.15: interpolate(tensor([[[[0, 1, 4, 9]]]]), size=(1, 8), mode="bicubic").
        let found = resized(
            &[0.0, 1.0, 4.0, 9.0],
            TableResize::Bicubic,
            [1, 4],
            [1, 8],
            1,
        );
        let expected = [
            -0.10546875_f64,
            0.12109375,
            0.45703125,
            1.609375,
            2.828125,
            5.44921875,
            7.97265625,
            9.52734375,
        ];
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-6,
                "{found}, expected {expected}"
            );
        }
    }

    #[test]
    fn rows_and_columns_are_resized_apart() {
        // A table that is a product of its row and its column stays one.
        let table: Vec<f32> = [1.0, 3.0]
            .iter()
            .flat_map(|y| [1.0, 2.0, 5.0].map(|x| x * y))
            .collect();
        for resize in [TableResize::Bicubic, TableResize::BilinearCorners] {
            let found = resized(&table, resize, [2, 3], [3, 5], 1);
            let down = resized(&[1.0, 3.0], resize, [2, 1], [3, 1], 1);
            let across = resized(&[1.0, 2.0, 5.0], resize, [1, 3], [1, 5], 1);
            for (at, found) in found.iter().enumerate() {
                let expected = down[at / 5] * across[at % 5];
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{at}: {found}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn corners_stay_where_they_are() {
        let resize = TableResize::BilinearCorners;
        let found = resized(&[0.0, 1.0, 4.0, 9.0], resize, [1, 4], [1, 7], 1);
        assert_eq!(found, [0.0, 0.5, 1.0, 2.5, 4.0, 6.5, 9.0]);
        assert_eq!(resized(&[3.0, 5.0], resize, [1, 2], [1, 1], 1), [3.0]);
    }
}
