//! Pixel values against an implementation with Pillow and numpy: every float has to be the same.

use crate::support::{crc32, number, pattern, table};
use image_prep::tiling::Grid;
use image_prep::{Picture, Preprocessor};
use proptest::prelude::*;

#[test]
fn grids_places_and_pixel_values_equal_those_made_with_pillow_and_numpy() {
    let mut settings: Vec<Preprocessor> = Vec::new();
    let mut pictures = 0;
    for row in table("prepare.tsv") {
        if row[0] == "settings" {
            settings.push(Preprocessor::from_json(&row[2]).unwrap());
            continue;
        }
        let preprocessor = &settings[number::<usize>(&row[0])];
        let picture = pattern(&row[1], number(&row[2]), number(&row[3]), number(&row[4]));
        let prepared = preprocessor.prepare(&picture);
        let plan = &prepared.plan;
        let case = row.join(" ");
        assert_eq!(
            plan.grid,
            Grid::new(number(&row[5]), number(&row[6])),
            "{case}"
        );
        assert_eq!(plan.resized, (number(&row[7]), number(&row[8])), "{case}");
        assert_eq!(plan.offset, (number(&row[9]), number(&row[10])), "{case}");
        assert_eq!(plan.tiles, number::<usize>(&row[11]), "{case}");
        let tile = preprocessor.tile_size();
        assert_eq!(
            prepared.pixels.len(),
            plan.tiles * 3 * tile * tile,
            "{case}"
        );
        assert_eq!(
            crc32(prepared.pixels.iter().flat_map(|value| value.to_le_bytes())),
            row[12],
            "{case}"
        );
        pictures += 1;
    }
    assert!(
        settings.len() >= 5 && pictures >= 100,
        "{pictures} pictures"
    );
}

/// The order of tiles and planes, on a picture whose every tile has its own colour.
#[test]
fn tiles_come_row_by_row_after_the_thumbnail_with_one_plane_for_each_channel() {
    let text = r#"{"tiling": "relaxed", "alpha": 0.1, "tile_size": 2, "max_grid": [2, 2], "thumbnail": true, "resample": 3,
        "pad_color": [0, 0, 0], "rescale_factor": 1, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}"#;
    let preprocessor = Preprocessor::from_json(text).unwrap();
    let mut picture = Picture::filled(4, 4, [10, 11, 12]);
    for (number, (left, top)) in [(2, 0), (0, 2), (2, 2)].into_iter().enumerate() {
        let base = 10 * (number as u8 + 2);
        picture.paste(
            &Picture::filled(2, 2, [base, base + 1, base + 2]),
            left,
            top,
        );
    }
    let prepared = preprocessor.prepare(&picture);
    assert_eq!(
        (prepared.plan.grid, prepared.plan.tiles),
        (Grid::new(2, 2), 5)
    );
    let firsts: Vec<f32> = prepared
        .pixels
        .chunks(4)
        .map(|plane| plane[0])
        .skip(3)
        .collect();
    assert_eq!(
        firsts,
        [10., 11., 12., 20., 21., 22., 30., 31., 32., 40., 41., 42.]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The fixtures above hold for all tiles taken at once; here they are taken one by one, or some at a time.
    #[test]
    fn tiles_have_the_same_bits_however_many_are_taken_at_once(
        (width, height) in (1u32..90, 1u32..90), tiling in 0usize..3, thumbnail: bool, counts in prop::collection::vec(0usize..4, 1..12),
    ) {
        let tiling = [
            r#""tiling": "relaxed", "alpha": 0.1, "max_grid": [3, 4]"#,
            r#""tiling": "llava-next", "max_grid": [3, 4]"#,
            r#""tiling": "internvl", "max_tiles": 7"#,
        ][tiling];
        let text = format!(r#"{{{tiling}, "tile_size": 12, "thumbnail": {thumbnail}, "resample": 3, "pad_color": [1, 2, 3],
            "rescale_factor": 0.5, "image_mean": [0, 1, 2], "image_std": [1, 1, 1]}}"#);
        let preprocessor = Preprocessor::from_json(&text).unwrap();
        let picture = pattern("noise", 7, width, height);
        let whole = preprocessor.prepare(&picture);
        let mut reader = preprocessor.tiles(&picture);
        let mut pixels = Vec::new();
        for count in counts.iter().copied().chain([1000]) {
            let left = reader.left();
            let read = reader.read(count, &mut pixels);
            prop_assert_eq!((read, reader.left()), (count.min(left), left - count.min(left)));
            prop_assert_eq!(pixels.len(), (whole.plan.tiles - reader.left()) * 3 * 12 * 12);
        }
        prop_assert_eq!(reader.left(), 0);
        prop_assert_eq!(reader.views().list.len(), whole.plan.tiles);
        prop_assert_eq!(pixels, whole.pixels);
    }
}
