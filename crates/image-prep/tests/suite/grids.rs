//! The three tiling rules against the published examples, against an independent implementation, and as properties.

use crate::support::{number, table};
use image_prep::tiling::{Grid, GridChoice, choose, trace};
use proptest::prelude::*;

fn relaxed(max: u32) -> GridChoice {
    GridChoice::RelaxedEffectiveArea {
        max_grid: Grid::new(max, max),
        slack: 0.1,
    }
}

fn llava_next(max: u32) -> GridChoice {
    GridChoice::LargestEffectiveArea {
        max_grid: Grid::new(max, max),
    }
}

fn internvl(max_tiles: u32) -> GridChoice {
    GridChoice::NearestAspectRatio {
        min_tiles: 1,
        max_tiles,
    }
}

fn chosen(choice: &GridChoice, width: u32, height: u32) -> String {
    choose(choice, width, height, 384).to_string()
}

/// BlueLM-V-3B, arXiv 2411.10640, figures 3 and 9.
#[test]
fn the_worked_examples_of_the_paper() {
    for (width, height, expected) in [
        (394, 390, ["2:2", "1:1", "1:1"]),
        (380, 76, ["1:1", "5:1", "1:1"]),
        (380, 393, ["1:2", "1:1", "1:1"]),
        (500, 102, ["2:1", "5:1", "2:1"]),
    ] {
        let found =
            [llava_next(3), internvl(6), relaxed(3)].map(|rule| chosen(&rule, width, height));
        assert_eq!(found, expected, "{width}x{height}");
    }
}

/// LLaVA-NeXT 3x3, relaxed 3x3, LLaVA-NeXT 4x4, relaxed 4x4, InternVL 1.5 with at most 6, 9 and 12 tiles.
#[test]
fn more_sizes_under_all_rules() {
    let rules = [
        llava_next(3),
        relaxed(3),
        llava_next(4),
        relaxed(4),
        internvl(6),
        internvl(9),
        internvl(12),
    ];
    for (width, height, expected) in [
        (385, 385, "2:2 1:1 2:2 1:1 1:1 1:1 1:1"),
        (512, 512, "2:2 2:2 2:2 2:2 1:1 1:1 1:1"),
        (640, 480, "2:2 2:2 2:2 2:2 3:2 3:2 4:3"),
        (800, 600, "3:2 2:2 3:2 2:2 3:2 3:2 4:3"),
        (1024, 768, "3:2 3:2 3:2 3:2 3:2 3:2 4:3"),
        (768, 1536, "2:3 2:3 2:4 2:4 1:2 2:4 2:4"),
        (1080, 2400, "2:3 2:3 2:4 2:4 1:2 2:4 2:5"),
        (1920, 1080, "3:2 3:2 4:3 4:3 2:1 4:2 4:2"),
        (1536, 1536, "3:3 3:3 4:4 4:4 2:2 3:3 3:3"),
    ] {
        let found = rules
            .each_ref()
            .map(|rule| chosen(rule, width, height))
            .join(" ");
        assert_eq!(found, expected, "{width}x{height}");
    }
}

#[test]
fn the_relaxed_rule_takes_these_steps() {
    let steps = |width, height| -> Vec<(String, u128, u128)> {
        let steps = trace(&relaxed(3), width, height, 384);
        steps
            .iter()
            .map(|step| {
                (
                    step.grid.to_string(),
                    step.effective_pixels,
                    step.wasted_pixels,
                )
            })
            .collect()
    };
    let step = |grid: &str, effective, wasted| (grid.to_owned(), effective, wasted);
    assert_eq!(
        steps(394, 390),
        [
            step("3:3", 153_660, 1_173_444),
            step("3:2", 153_660, 731_076),
            step("3:1", 148_608, 293_760),
            step("2:1", 148_608, 146_304),
            step("1:1", 145_920, 1_536),
        ]
    );
    let last = steps(500, 102);
    assert_eq!(
        last.iter().map(|step| &step.0[..]).collect::<Vec<_>>(),
        ["3:3", "3:2", "3:1", "2:1"]
    );
    assert_eq!(last[3], step("2:1", 51_000, 243_912));
}

/// The tolerance is against the current best, so it compounds over several steps.
#[test]
fn the_relaxed_rule_may_end_more_than_ten_percent_below_the_best() {
    assert_eq!(chosen(&relaxed(3), 423, 808), "1:2");
    assert_eq!(chosen(&llava_next(3), 423, 808), "2:3");
}

/// In ascending order it would be 1:4.
#[test]
fn candidates_are_visited_from_large_to_small() {
    assert_eq!(chosen(&relaxed(4), 60, 1210), "1:3");
}

/// With no slack at all, an equal area with less waste is not taken, unlike in LLaVA-NeXT.
#[test]
fn slack_zero_is_not_llava_next() {
    let strict = GridChoice::RelaxedEffectiveArea {
        max_grid: Grid::new(3, 3),
        slack: 0.0,
    };
    assert_eq!(chosen(&strict, 100, 100), "3:3");
    assert_eq!(chosen(&llava_next(3), 100, 100), "1:1");
}

#[test]
fn sizes_that_no_candidate_accepts_get_one_tile() {
    for rule in [relaxed(4), llava_next(4)] {
        for (width, height) in [(4000, 1), (1, 4000), (u32::MAX, 1)] {
            assert_eq!(chosen(&rule, width, height), "1:1", "{width}x{height}");
        }
    }
    assert!(trace(&relaxed(4), 4000, 1, 384).is_empty());
    for rule in [relaxed(4), llava_next(4), internvl(12)] {
        for (width, height) in [(0, 0), (0, 7), (7, 0)] {
            assert_eq!(chosen(&rule, width, height), "1:1");
        }
        assert_eq!(choose(&rule, 5, 5, 0), Grid::SINGLE);
    }
}

/// trunc(x (384 / x)) is 383 for these and 384 for their neighbours, and effective areas follow.
#[test]
fn areas_are_computed_in_the_published_order_of_operations() {
    let effective = |side| trace(&llava_next(1), side, side, 384)[0].effective_pixels;
    for side in [535, 559, 588, 591, 607] {
        assert_eq!(
            (effective(side), effective(side + 1)),
            (383 * 383, 384 * 384),
            "{side}"
        );
    }
}

#[test]
fn a_thousand_random_sizes_equal_an_independent_implementation() {
    let rules = [
        relaxed(3),
        relaxed(4),
        llava_next(3),
        llava_next(4),
        internvl(6),
        internvl(9),
        internvl(12),
    ];
    let rows = table("grids.tsv");
    assert!(rows.len() >= 1000);
    for row in rows {
        let (width, height) = (number(&row[0]), number(&row[1]));
        let found = rules.each_ref().map(|rule| chosen(rule, width, height));
        assert_eq!(found[..], row[2..], "{width}x{height}");
    }
}

/// Sizes of all magnitudes.
fn side() -> impl Strategy<Value = u32> {
    (0u32..32, any::<u32>()).prop_map(|(bits, number)| number >> bits)
}

fn any_rule() -> impl Strategy<Value = GridChoice> {
    let max_grid = (1u32..7, 1u32..7).prop_map(|(columns, rows)| Grid { columns, rows });
    prop_oneof![
        max_grid
            .clone()
            .prop_map(|max_grid| GridChoice::LargestEffectiveArea { max_grid }),
        (max_grid, 0.0..1.0f64)
            .prop_map(|(max_grid, slack)| GridChoice::RelaxedEffectiveArea { max_grid, slack }),
        (1u32..5, 0u32..20).prop_map(|(min_tiles, more)| GridChoice::NearestAspectRatio {
            min_tiles,
            max_tiles: min_tiles + more,
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_grid_is_within_its_bounds_for_every_size(rule in any_rule(), width in side(), height in side(), tile in side()) {
        let grid = choose(&rule, width, height, tile);
        prop_assert!(grid.columns >= 1 && grid.rows >= 1);
        match rule {
            GridChoice::LargestEffectiveArea { max_grid } | GridChoice::RelaxedEffectiveArea { max_grid, .. } => {
                prop_assert!(grid.columns <= max_grid.columns && grid.rows <= max_grid.rows);
            }
            GridChoice::NearestAspectRatio { min_tiles, max_tiles } => {
                let degenerate = width == 0 || height == 0 || tile == 0;
                prop_assert!(degenerate || (u64::from(min_tiles)..=u64::from(max_tiles)).contains(&grid.tiles()));
            }
        }
    }

    /// What LLaVA-NeXT's rule is for: no other grid shows more of the picture.
    #[test]
    fn llava_next_shows_at_least_as_much_as_any_single_candidate(
        (width, height) in (1u32..5000, 1u32..5000), columns in 1u32..=4, rows in 1u32..=4,
    ) {
        let effective = |grid: Grid| {
            let scale = (384.0 * f64::from(grid.columns) / f64::from(width)).min(384.0 * f64::from(grid.rows) / f64::from(height));
            ((f64::from(width) * scale) as u64 * (f64::from(height) * scale) as u64).min(u64::from(width) * u64::from(height))
        };
        let best = choose(&llava_next(4), width, height, 384);
        let other = Grid::new(columns, rows);
        prop_assert!(effective(best) >= effective(other));
    }

    /// What the relaxed rule is for.
    #[test]
    fn relaxed_never_takes_more_tiles_than_llava_next((width, height) in (1u32..5000, 1u32..5000)) {
        prop_assert!(choose(&relaxed(4), width, height, 384).tiles() <= choose(&llava_next(4), width, height, 384).tiles());
    }
}

#[test]
fn a_smaller_bound_is_kept_and_a_larger_one_changes_nothing() {
    for rule in [relaxed(4), llava_next(4), internvl(12)] {
        assert_eq!(rule.clone().at_most(Grid::new(40, 40)), rule);
        let single = rule.clone().at_most(Grid::SINGLE);
        assert_eq!(choose(&single, 4000, 3000, 384), Grid::SINGLE);
        assert_ne!(choose(&rule, 4000, 3000, 384), Grid::SINGLE);
    }
    assert_eq!(
        chosen(&llava_next(4).at_most(Grid::new(2, 9)), 4000, 8000),
        "2:4"
    );
    let few = GridChoice::NearestAspectRatio {
        min_tiles: 6,
        max_tiles: 12,
    };
    assert_eq!(few.at_most(Grid::new(2, 2)).max_tiles(), 4);
}
