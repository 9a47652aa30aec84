//! What the generator shall draw: shares of scenes, sizes, noise. Data, so that a run's configuration can hold it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::example::SceneKind;

/// Shares and ranges of everything that varies between pictures.
///
/// `Recipe::default()` is the full task; [`Recipe::easy`] is the first step of a curriculum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Weight of each kind of scene; kinds that are absent are not drawn.
    pub scenes: BTreeMap<SceneKind, f32>,
    /// Least height of a text line in pixels, measured after the picture is fitted into a square of `canvas` pixels.
    pub min_line_height: f32,
    /// Greatest height of a text line in pixels, measured in the same way.
    pub max_line_height: f32,
    /// Share of pictures whose text may be up to [`Recipe::LARGE`] times larger than `max_line_height`, as on signs.
    pub large: f32,
    /// Least length of a picture's longer side in pixels; smaller scenes are padded.
    pub min_side: u32,
    /// Greatest length of a side in pixels.
    pub max_side: u32,
    /// Longest side in pixels that the model can see: tile size times the largest grid side.
    pub canvas: u32,
    /// How often and how strongly pictures are blurred, turned, grained and shaded, from 0 to 1.
    pub noise: f32,
    /// Share of scenes with Chinese text, from 0 to 1.
    pub chinese: f32,
    /// Most items on a receipt, rows of a table, bars of a chart, shapes of one kind.
    pub max_items: usize,
    /// Names of the fonts to use; all of them if empty.
    pub fonts: Vec<String>,
}

impl Default for Recipe {
    fn default() -> Recipe {
        let weights = [0.3, 1.0, 1.0, 2.2, 1.0, 1.2, 1.2, 0.8, 1.6];
        Recipe {
            scenes: SceneKind::ALL.into_iter().zip(weights).collect(),
            min_line_height: 15.0,
            max_line_height: 40.0,
            large: 0.3,
            min_side: 96,
            max_side: 900,
            canvas: 512,
            noise: 0.5,
            chinese: 0.06,
            max_items: 8,
            fonts: Vec::new(),
        }
    }
}

impl Recipe {
    /// How much larger than `max_line_height` the text of a large picture may be.
    pub const LARGE: f32 = 4.0;

    /// Big characters and short words in pictures of at most `canvas` pixels: where a curriculum begins.
    pub fn easy(canvas: u32) -> Recipe {
        Recipe {
            scenes: BTreeMap::from([(SceneKind::Glyphs, 1.0), (SceneKind::Words, 1.0)]),
            min_line_height: 24.0,
            max_line_height: 60.0,
            large: 0.0,
            min_side: 64,
            max_side: canvas,
            canvas,
            noise: 0.2,
            chinese: 0.0,
            max_items: 3,
            fonts: Vec::new(),
        }
    }

    /// Checks every field and names the first one that cannot be used.
    pub fn check(&self) -> Result<(), DataError> {
        let wrong = |field: &'static str, found: String, expected: &'static str| {
            Err(DataError::Recipe {
                field,
                found,
                expected,
            })
        };
        if !self
            .scenes
            .values()
            .all(|weight| weight.is_finite() && *weight >= 0.0)
            || !self.scenes.values().any(|weight| *weight > 0.0)
        {
            return wrong(
                "scenes",
                format!("{:?}", self.scenes),
                "weights of zero and more, one above zero",
            );
        }
        let heights = (self.min_line_height, self.max_line_height);
        if !(heights.0 >= 8.0 && heights.1 >= heights.0 && heights.1 <= 256.0) {
            return wrong(
                "min_line_height..max_line_height",
                format!("{heights:?}"),
                "8 <= min <= max <= 256",
            );
        }
        if !(32..=4096).contains(&self.min_side) || !(self.min_side..=4096).contains(&self.max_side)
        {
            let found = format!("{}..{}", self.min_side, self.max_side);
            return wrong("min_side..max_side", found, "32 <= min <= max <= 4096");
        }
        if !(64..=4096).contains(&self.canvas) {
            return wrong("canvas", self.canvas.to_string(), "64..4096");
        }
        if self.min_line_height * 2.0 > self.max_side.min(self.canvas) as f32 {
            return wrong(
                "min_line_height",
                self.min_line_height.to_string(),
                "at most half of max_side and canvas",
            );
        }
        for (field, share) in [
            ("noise", self.noise),
            ("chinese", self.chinese),
            ("large", self.large),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(field, share.to_string(), "0 to 1");
            }
        }
        if !(1..=20).contains(&self.max_items) {
            return wrong("max_items", self.max_items.to_string(), "1 to 20");
        }
        for name in &self.fonts {
            if !crate::fonts::latin_names().any(|known| known == name) {
                let known: Vec<_> = crate::fonts::latin_names().collect();
                return Err(DataError::UnknownFont {
                    name: name.clone(),
                    known: known.join(", "),
                });
            }
        }
        Ok(())
    }
}
