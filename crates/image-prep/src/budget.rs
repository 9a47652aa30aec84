//! Fewer tiles than a rule would give: what a picture gets that may cost only so much.

use crate::Preprocessor;
use crate::tiling::{Grid, GridChoice};

impl Preprocessor {
    /// Settings under which a picture of `width` x `height` has at most `most` tiles, thumbnail included; at least one
    /// tile is always left. Settings that keep to it already come back unchanged, so that a budget that does not bind
    /// changes nothing.
    ///
    /// Of all smaller limits on the grid it takes the one under which the picture is drawn largest; of equals the fewest
    /// tiles, then the fewest columns. Below that limit the rule chooses as it always does.
    pub fn at_most_tiles(&self, most: usize, width: u32, height: u32) -> Preprocessor {
        let most = most.max(1);
        if self.plan(width, height).tiles <= most {
            return self.clone();
        }
        let limits = self.smaller_grids(most);
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

    /// The largest grids with at most `most` tiles beside a thumbnail, one for each number of columns.
    fn smaller_grids(&self, most: usize) -> Vec<Grid> {
        let layout = self.layout();
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(tiling: &str) -> Preprocessor {
        let json = format!(
            r#"{{"image_processor_type": "BlueLMVImageProcessor", {tiling}, "tile_size": 8, "thumbnail": true,
                "resample": 3, "pad_color": [0, 0, 0], "rescale_factor": 0.5, "image_mean": [0, 0, 0],
                "image_std": [1, 1, 1]}}"#
        );
        Preprocessor::from_json(&json).unwrap()
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
