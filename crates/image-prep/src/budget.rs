//! Fewer tiles than a rule would give: what a picture gets that may cost only so much.

use crate::recipe::{Padding, Pinpoints, Slicing, Splits};
use crate::tiling::{Grid, GridChoice};
use crate::{Preprocessor, Recipe, TileLayout};

/// What a recipe has less of when it shows less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Tiles: [`Preprocessor::at_most_tiles`].
    Tiles,
    /// Pixels, of which one row of features takes so many: [`Preprocessor::at_most_pixels`].
    Pixels {
        /// Of one row.
        per_row: u64,
    },
    /// Nothing: all pictures are shown alike.
    None,
}

impl Preprocessor {
    /// What a picture may be shown less of.
    pub fn reduction(&self) -> Reduction {
        match self.recipe() {
            Recipe::Tiles(_)
            | Recipe::Pinpoints(_)
            | Recipe::Slices(_)
            | Recipe::Splits(_)
            | Recipe::Alone(_) => Reduction::Tiles,
            Recipe::Rounded { factor, .. } => Reduction::Pixels {
                per_row: u64::from(*factor).pow(2),
            },
            Recipe::Padded(padding) => Reduction::Pixels {
                per_row: u64::from(padding.patch * padding.block).pow(2),
            },
            Recipe::CentreCrop { .. } | Recipe::Stretch { .. } => Reduction::None,
        }
    }

    /// Settings under which a picture has at most `most` pixels, padding apart, as far as a recipe for the picture's own size
    /// goes down. Other recipes stay as they are.
    pub fn at_most_pixels(&self, most: u64) -> Preprocessor {
        match self.recipe() {
            Recipe::Rounded {
                factor,
                min_pixels,
                max_pixels,
            } if most < *max_pixels => self.with_recipe(Recipe::Rounded {
                factor: *factor,
                min_pixels: *min_pixels,
                max_pixels: most.max(*min_pixels),
            }),
            Recipe::Padded(padding) => {
                let patches = most / u64::from(padding.patch).pow(2);
                let patches = u32::try_from(patches).unwrap_or(u32::MAX);
                let least = padding.block.pow(2);
                self.with_recipe(Recipe::Padded(Padding {
                    most_patches: padding.most_patches.min(patches.max(least)),
                    ..*padding
                }))
            }
            _ => self.clone(),
        }
    }

    /// Settings under which a picture of `width` x `height` has at most `most` tiles, thumbnail included; at least what the
    /// recipe shows of the smallest picture is always left, of a grid of tiles one. Settings that keep to it already come
    /// back unchanged, so that a budget that does not bind changes nothing, and so do those of recipes without tiles.
    ///
    /// Of all smaller limits on the grid it takes the one under which the picture is drawn largest; of equals the fewest
    /// tiles, then the fewest columns. Below that limit the rule chooses as it always does.
    pub fn at_most_tiles(&self, most: usize, width: u32, height: u32) -> Preprocessor {
        let most = most.max(1);
        if self.plan(width, height).tiles <= most {
            return self.clone();
        }
        let limits = match self.recipe() {
            Recipe::Tiles(layout) => smaller_grids(layout, most),
            Recipe::Slices(slicing) => return self.with_recipe(fewer_slices(*slicing, most)),
            Recipe::Pinpoints(pinpoints) => {
                return self.with_recipe(fewer_resolutions(pinpoints, most));
            }
            Recipe::Splits(splits) => {
                return self.with_recipe(fewer_splits(*splits, most, (width, height)));
            }
            // As it is shown among others.
            Recipe::Alone(_) => return self.among(2).into_owned(),
            _ => return self.clone(),
        };
        let allowed = limits.into_iter().filter_map(|limit| {
            let settings = self.clone().at_most(limit);
            let plan = settings.plan(width, height);
            let shown = u64::from(plan.resized.0) * u64::from(plan.resized.1);
            (plan.tiles <= most).then_some((shown, plan.tiles, plan.grid.columns, settings))
        });
        allowed
            .reduce(|best, next| {
                let better = (next.0, best.1, best.2) > (best.0, next.1, next.2);
                if better { next } else { best }
            })
            .map_or_else(
                || self.clone().at_most(Grid::SINGLE),
                |(_, _, _, settings)| settings,
            )
    }
}

/// The largest grids with at most `most` tiles beside a thumbnail, one for each number of columns.
fn smaller_grids(layout: &TileLayout, most: usize) -> Vec<Grid> {
    let most = u32::try_from(most).unwrap_or(u32::MAX) - u32::from(layout.thumbnail);
    match layout.choice {
        GridChoice::LargestEffectiveArea { max_grid }
        | GridChoice::RelaxedEffectiveArea { max_grid, .. } => (1..=max_grid.columns.min(most))
            .map(|columns| Grid::new(columns, max_grid.rows.min(most / columns)))
            .collect(),
        // This rule counts tiles only.
        GridChoice::NearestAspectRatio { max_tiles, .. } => {
            vec![Grid::new(max_tiles.min(most).max(1), 1)]
        }
    }
}

/// The whole picture is one view beside the slices, or the only one.
fn fewer_slices(slicing: Slicing, most: usize) -> Recipe {
    let slices = u32::try_from(most - 1).unwrap_or(u32::MAX).max(1);
    Recipe::Slices(Slicing {
        most: slicing.most.min(slices),
        ..slicing
    })
}

/// A shorter longest side, by a tile at a time; at last the whole picture alone.
fn fewer_splits(splits: Splits, most: usize, (width, height): (u32, u32)) -> Recipe {
    let shorter = (1..splits.longest.div_ceil(splits.tile)).rev();
    let shorter = shorter.map(|tiles| Splits {
        longest: tiles * splits.tile,
        ..splits
    });
    let fits = |splits: &Splits| {
        let views = Recipe::Splits(*splits).views(width, height);
        views.list.len() <= most
    };
    let alone = Splits {
        split: false,
        ..splits
    };
    Recipe::Splits(shorter.into_iter().find(fits).unwrap_or(alone))
}

/// The resolutions that keep to it; where none does, those of the fewest tiles.
fn fewer_resolutions(pinpoints: &Pinpoints, most: usize) -> Recipe {
    let tile = u64::from(pinpoints.tile);
    let tiles = |&(width, height): &(u32, u32)| {
        let tiles = (u64::from(width) / tile) * (u64::from(height) / tile);
        usize::try_from(tiles).unwrap_or(usize::MAX)
    };
    let fewest = pinpoints.resolutions.iter().map(tiles).min().unwrap_or(0);
    let most = fewest.max(most - 1);
    let kept = pinpoints.resolutions.iter().copied();
    Recipe::Pinpoints(Pinpoints {
        tile: pinpoints.tile,
        resolutions: kept.filter(|size| tiles(size) <= most).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recipe::{Scales, Several};

    fn settings(tiling: &str) -> Preprocessor {
        let json = format!(
            r#"{{"image_processor_type": "BlueLMVImageProcessor", {tiling}, "tile_size": 8, "thumbnail": true,
                "resample": 3, "pad_color": [0, 0, 0], "rescale_factor": 0.5, "image_mean": [0, 0, 0],
                "image_std": [1, 1, 1]}}"#
        );
        Preprocessor::from_json(&json).unwrap()
    }

    fn with(recipe: Recipe) -> Preprocessor {
        rules()[0].with_recipe(recipe)
    }

    #[test]
    fn slices_and_resolutions_are_left_out_until_the_rest_keeps_to_it() {
        let slices = with(Recipe::Slices(Slicing {
            side: 8,
            patch: 2,
            most: 9,
        }));
        let resolutions = with(Recipe::Pinpoints(Pinpoints {
            tile: 8,
            resolutions: vec![(8, 16), (16, 8), (16, 16), (24, 8)],
        }));
        let views = |settings: &Preprocessor, most| {
            let settings = settings.at_most_tiles(most, 64, 64);
            settings.views(64, 64).list.len()
        };
        // Of two and three slices two are nearer to a square.
        assert_eq!(
            [1, 2, 4, 7, 99].map(|most| views(&slices, most)),
            [1, 1, 3, 7, 10]
        );
        let splits = with(Recipe::Splits(Splits {
            longest: 32,
            tile: 8,
            split: true,
        }));
        assert_eq!(
            [1, 5, 10, 99].map(|most| views(&splits, most)),
            [1, 5, 10, 17]
        );
        let alone = with(Recipe::Alone(Several::Scales(Scales {
            tile: 8,
            most_tiles: 12,
        })));
        assert_eq!([13, 14].map(|most| views(&alone, most)), [1, 14]);
        // Two tiles and the whole are the least that this one shows, and three tiles in a row show a square no larger.
        assert_eq!(
            [1, 3, 4, 5].map(|most| views(&resolutions, most)),
            [3, 3, 3, 5]
        );
    }

    #[test]
    fn a_picture_of_its_own_size_has_fewer_pixels_but_no_fewer_than_the_model_has_seen() {
        let settings = with(Recipe::Rounded {
            factor: 4,
            min_pixels: 64,
            max_pixels: 1024,
        });
        assert_eq!(settings.reduction(), Reduction::Pixels { per_row: 16 });
        let size = |most| {
            settings.at_most_pixels(most).views(100, 50).list[0]
                .canvas
                .size
        };
        assert_eq!(
            [9999, 1024, 512, 1].map(size),
            [(44, 20), (44, 20), (32, 16), (8, 4)]
        );
    }

    fn rules() -> [Preprocessor; 3] {
        [
            settings(r#""tiling": "relaxed", "alpha": 0.1, "max_grid": [4, 6]"#),
            settings(r#""tiling": "llava-next", "max_grid": [3, 3]"#),
            settings(r#""tiling": "internvl", "min_tiles": 1, "max_tiles": 12"#),
        ]
    }

    #[test]
    fn a_wide_picture_keeps_its_columns_and_a_tall_one_its_rows() {
        let [relaxed, ..] = rules();
        let grid = |most, width, height| {
            let plan = relaxed
                .at_most_tiles(most, width, height)
                .plan(width, height);
            (plan.grid.columns, plan.grid.rows, plan.tiles)
        };
        assert_eq!(grid(99, 32, 48), (4, 6, 25));
        assert_eq!(grid(5, 32, 32), (2, 2, 5));
        assert_eq!(grid(4, 32, 8), (3, 1, 4));
        assert_eq!(grid(4, 8, 48), (1, 3, 4));
        assert_eq!(grid(2, 32, 32), (1, 1, 1));
        assert_eq!(grid(0, 32, 32), (1, 1, 1));
    }

    proptest! {
        #[test]
        fn a_budget_is_kept_and_shows_no_more_than_the_rule_would(
            width in 1u32..100, height in 1u32..100, most in 1usize..40, rule in 0usize..3,
        ) {
            let settings = &rules()[rule];
            let within = |most| settings.at_most_tiles(most, width, height).plan(width, height);
            let plan = within(most);
            prop_assert!(plan.tiles <= most, "{} of {most}", plan.tiles);
            let full = settings.plan(width, height);
            if full.tiles <= most {
                prop_assert_eq!(&plan, &full);
            } else if rule < 2 {
                let shown = |plan: &crate::TilePlan| plan.resized.0 * plan.resized.1;
                prop_assert!(shown(&plan) <= shown(&full));
                // Slack lets the relaxed rule take a smaller picture for fewer tiles; without it more is never less.
                let fewer = within(most.saturating_sub(1));
                prop_assert!(rule == 0 || shown(&fewer) <= shown(&plan));
            }
        }
    }
}
