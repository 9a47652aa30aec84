//! Resizing against Pillow, and properties of any resize.

use crate::support::{crc32, number, pattern, table};
use image_prep::Picture;
use image_prep::resize::{Filter, resize, resize_band};
use proptest::prelude::*;

const FILTERS: [Filter; 3] = [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos3];

fn filter(name: &str) -> Filter {
    match name {
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        "lanczos" => Filter::Lanczos3,
        other => panic!("no filter {other}"),
    }
}

#[test]
fn every_size_and_filter_has_the_bits_of_pillow() {
    let rows = table("resize.tsv");
    assert!(rows.len() > 700, "only {} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let source = pattern(&row[0], number(&row[1]), number(&row[2]), number(&row[3]));
        let resized = resize(&source, number(&row[4]), number(&row[5]), filter(&row[6]));
        assert_eq!(
            (resized.width, resized.height),
            (number(&row[4]), number(&row[5]))
        );
        if crc32(resized.rgb) != row[7] {
            wrong.push(row.join(" "));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}

/// Small enough to do by hand: one white column between two black ones, widened threefold. Output 2 has its centre at 5/6,
/// so the columns are 1/3, 2/3 and 5/3 away; bicubic weighs them 7/9, 1/3 and -1/27, and white is 255 (1/3) / (29/27) = 79.
/// Output 0 undershoots to below black and is clipped.
#[test]
fn a_worked_example_overshoots_and_is_clipped() {
    let line = Picture::new(3, 1, [[0; 3], [255; 3], [0; 3]].concat()).unwrap();
    let bright = |filter| -> Vec<u8> {
        resize(&line, 9, 1, filter)
            .rgb
            .chunks(3)
            .map(|pixel| pixel[0])
            .collect()
    };
    assert_eq!(
        bright(Filter::Bilinear),
        [0, 0, 85, 170, 255, 170, 85, 0, 0]
    );
    assert_eq!(bright(Filter::Bicubic), [0, 0, 79, 191, 255, 191, 79, 0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Weights sum to one to within rounding: each of n is off by at most half of 2^-22, and 255 n / 2^23 stays below a
    /// half up to n = 16448, more than any window here.
    #[test]
    fn one_color_stays_one_color(
        (w, h, width, height) in (1u32..60, 1u32..60, 1u32..60, 1u32..60), color: [u8; 3], filter in 0usize..3,
    ) {
        let resized = resize(&Picture::filled(w, h, color), width, height, FILTERS[filter]);
        prop_assert!(resized.rgb.chunks(3).all(|pixel| pixel == color));
    }

    /// A row is resized the same whatever rows stand beside it: bands of eight do not mix them.
    #[test]
    fn rows_do_not_see_each_other(
        (w, h, width) in (1u32..50, 1u32..30, 1u32..50), seed: u32, filter in 0usize..3, row in 0u32..30,
    ) {
        let row = row % h;
        let picture = pattern("noise", seed, w, h);
        let together = resize(&picture, width, h, FILTERS[filter]);
        let line = picture.rgb[(3 * w * row) as usize..(3 * w * (row + 1)) as usize].to_vec();
        let alone = resize(&Picture::new(w, 1, line).unwrap(), width, 1, FILTERS[filter]);
        prop_assert_eq!(&together.rgb[(3 * width * row) as usize..(3 * width * (row + 1)) as usize], &alone.rgb[..]);
    }

    /// A band has the bits of the same rows of the whole, wherever its windows begin.
    #[test]
    fn a_band_has_the_bits_of_the_whole(
        (w, h, width, height) in (1u32..40, 1u32..90, 1u32..40, 1u32..90), seed: u32, filter in 0usize..3,
        (from, to) in (0u32..90, 0u32..90),
    ) {
        let (from, to) = (from % height, to % height);
        let band = from.min(to)..from.max(to) + 1;
        let picture = pattern("extremes", seed, w, h);
        let whole = resize(&picture, width, height, FILTERS[filter]);
        let part = resize_band(&picture, (width, height), band.clone(), FILTERS[filter]);
        prop_assert_eq!((part.width, part.height), (width, band.end - band.start));
        let bytes = (3 * width * band.start) as usize..(3 * width * band.end) as usize;
        prop_assert_eq!(&part.rgb[..], &whole.rgb[bytes]);
    }
}
