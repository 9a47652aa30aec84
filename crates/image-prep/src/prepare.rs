//! Pictures to pixel values: resize, paste, cut, normalise, as a [`TilePlan`] says.

use crate::resize::{Filter, resize};
use crate::{Picture, Placement, ThumbnailPosition, TilePlan};

/// A picture ready for the vision encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiles {
    /// What was decided from the picture's size.
    pub plan: TilePlan,
    /// Normalised values `[tiles, 3, tile, tile]`: thumbnail and tiles in the plan's order, tiles row by row.
    pub pixels: Vec<f32>,
}

/// How pixels get their values.
#[derive(Clone, Debug)]
pub(crate) struct Rendering {
    pub filter: Filter,
    pub pad_color: [u8; 3],
    /// The value of every byte, for each channel: (byte * rescale_factor - mean) / std in f64, rounded to f32 once.
    pub values: Box<[[f32; 256]; 3]>,
}

impl Rendering {
    /// Renders all tiles of `tile` pixels a side. Panics when the picture's sides and bytes disagree.
    pub fn render(&self, picture: &Picture, plan: TilePlan, tile: u32) -> Tiles {
        assert!(
            picture.is_whole(),
            "a picture's bytes are 3 * width * height"
        );
        let values_per_tile = 3 * (tile as usize).pow(2);
        let mut pixels = Vec::with_capacity(plan.tiles * values_per_tile);
        let thumbnail = plan
            .thumbnail
            .map(|place| self.paste(picture, (tile, tile), place));
        if let (Some(view), ThumbnailPosition::First) = (&thumbnail, plan.thumbnail_position) {
            self.cut(view, (0, 0), tile, &mut pixels);
        }
        let place = Placement {
            resized: plan.resized,
            offset: plan.offset,
        };
        let canvas = self.paste(picture, plan.canvas, place);
        for row in 0..plan.grid.rows {
            for column in 0..plan.grid.columns {
                self.cut(&canvas, (column * tile, row * tile), tile, &mut pixels);
            }
        }
        if let (Some(view), ThumbnailPosition::Last) = (&thumbnail, plan.thumbnail_position) {
            self.cut(view, (0, 0), tile, &mut pixels);
        }
        Tiles { plan, pixels }
    }

    /// The picture resized and laid on a padded canvas.
    pub fn paste(&self, picture: &Picture, canvas: (u32, u32), place: Placement) -> Picture {
        let resized = resize(picture, place.resized.0, place.resized.1, self.filter);
        if place.resized == canvas {
            return resized;
        }
        let mut padded = Picture::filled(canvas.0, canvas.1, self.pad_color);
        padded.paste(&resized, place.offset.0, place.offset.1);
        padded
    }

    /// Appends the values of one tile: three planes of `tile` x `tile`.
    fn cut(&self, canvas: &Picture, (left, top): (u32, u32), tile: u32, pixels: &mut Vec<f32>) {
        let (left, top, tile) = (left as usize, top as usize, tile as usize);
        let row = 3 * canvas.width as usize;
        for (channel, values) in self.values.iter().enumerate() {
            for y in top..top + tile {
                let line = &canvas.rgb[y * row + 3 * left..y * row + 3 * (left + tile)];
                pixels.extend(
                    line.chunks_exact(3)
                        .map(|pixel| values[usize::from(pixel[channel])]),
                );
            }
        }
    }
}
