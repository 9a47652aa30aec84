//! Where pictures lie on their grids.

use image_prep::tiling::{Grid, GridChoice};
use image_prep::{Placement, ThumbnailPosition, TileLayout};
use proptest::prelude::*;

fn layout(name: &str) -> TileLayout {
    let max_grid = Grid::new(4, 4);
    let choice = match name {
        "relaxed" => GridChoice::RelaxedEffectiveArea {
            max_grid,
            slack: 0.1,
        },
        "llava-next" => GridChoice::LargestEffectiveArea { max_grid },
        _ => GridChoice::NearestAspectRatio {
            min_tiles: 1,
            max_tiles: 12,
        },
    };
    TileLayout {
        choice,
        tile: 384,
        thumbnail: true,
    }
}

fn place(resized: (u32, u32), offset: (u32, u32)) -> Placement {
    Placement { resized, offset }
}

#[test]
fn the_relaxed_rule_fits_and_centres_picture_and_thumbnail() {
    let plan = layout("relaxed").plan(500, 102);
    assert_eq!(
        (plan.grid, plan.canvas, plan.tiles),
        (Grid::new(2, 1), (768, 384), 3)
    );
    assert_eq!((plan.resized, plan.offset), ((768, 157), (0, 113)));
    assert_eq!(plan.thumbnail, Some(place((384, 78), (0, 153))));
    assert_eq!(plan.thumbnail_position, ThumbnailPosition::First);
}

#[test]
fn a_line_keeps_one_row_on_one_tile_without_a_thumbnail() {
    let plan = layout("relaxed").plan(4000, 1);
    assert_eq!((plan.resized, plan.offset), ((384, 1), (0, 191)));
    assert_eq!((plan.tiles, plan.thumbnail), (1, None));
}

#[test]
fn llava_next_rounds_up_and_stretches_its_thumbnail() {
    let plan = layout("llava-next").plan(700, 103);
    assert_eq!((plan.grid, plan.canvas), (Grid::new(2, 1), (768, 384)));
    // 103 * (768 / 700) = 113.006, which rounds to nearest as 113.
    assert_eq!((plan.resized, plan.offset), ((768, 114), (0, 135)));
    assert_eq!(plan.thumbnail, Some(place((384, 384), (0, 0))));
    assert_eq!(plan.thumbnail_position, ThumbnailPosition::First);
    assert_eq!(layout("relaxed").plan(700, 103).resized, (768, 113));
}

#[test]
fn internvl_stretches_and_puts_its_thumbnail_last() {
    let plan = layout("internvl").plan(500, 102);
    assert_eq!(
        (plan.grid, plan.canvas, plan.tiles),
        (Grid::new(5, 1), (1920, 384), 6)
    );
    assert_eq!((plan.resized, plan.offset), ((1920, 384), (0, 0)));
    assert_eq!(plan.thumbnail, Some(place((384, 384), (0, 0))));
    assert_eq!(plan.thumbnail_position, ThumbnailPosition::Last);
}

#[test]
fn a_layout_without_thumbnail_has_none() {
    let plan = TileLayout {
        thumbnail: false,
        ..layout("relaxed")
    }
    .plan(768, 1536);
    assert_eq!(
        (plan.grid, plan.tiles, plan.thumbnail),
        (Grid::new(2, 4), 8, None)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_plan_holds_together(
        name in proptest::sample::select(vec!["relaxed", "llava-next", "internvl"]),
        (width, height) in (any::<u32>(), any::<u32>()), (a, b) in (0u32..32, 0u32..32), tile in 1u32..2000, thumbnail: bool,
    ) {
        let plan = TileLayout { tile, thumbnail, ..layout(name) }.plan(width >> a, height >> b);
        prop_assert_eq!(plan.canvas, (plan.grid.columns * tile, plan.grid.rows * tile));
        let has_thumbnail = thumbnail && plan.grid != Grid::SINGLE;
        prop_assert_eq!(plan.thumbnail.is_some(), has_thumbnail);
        prop_assert_eq!(plan.tiles as u64, plan.grid.tiles() + u64::from(has_thumbnail));
        let on_grid = (place(plan.resized, plan.offset), plan.canvas);
        for (place, canvas) in [on_grid].into_iter().chain(plan.thumbnail.map(|place| (place, (tile, tile)))) {
            for (size, offset, canvas) in [
                (place.resized.0, place.offset.0, canvas.0),
                (place.resized.1, place.offset.1, canvas.1),
            ] {
                prop_assert!(size >= 1 && size <= canvas);
                // Centred: the padding after is that before, or one more.
                prop_assert!((canvas - size) / 2 == offset);
            }
            prop_assert!(place.resized.0 == canvas.0 || place.resized.1 == canvas.1, "touches two edges");
        }
    }
}
