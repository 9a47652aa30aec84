//! Pictures to pixel values: resize, paste, cut, normalise, as a [`TilePlan`] says.

use crate::resize::{Filter, resize_band};
use crate::tiling::Grid;
use crate::{Picture, Placement, ThumbnailPosition, TilePlan};
use std::ops::Range;

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
    /// A tile with the whole picture on it.
    fn thumbnail(&self, picture: &Picture, tile: u32, place: Placement) -> Picture {
        let canvas = (tile, tile);
        self.paste_band(picture, canvas, place, 0..tile)
    }

    /// Rows `band` of the canvas: the picture, resized and laid on padding.
    fn paste_band(
        &self,
        picture: &Picture,
        canvas: (u32, u32),
        place: Placement,
        band: Range<u32>,
    ) -> Picture {
        let (size, (left, top)) = (place.resized, place.offset);
        let shown = |y: u32| y.clamp(top, top + size.1) - top;
        let of_picture = shown(band.start)..shown(band.end);
        let whole = size.0 == canvas.0 && of_picture.len() == band.len();
        if whole {
            return resize_band(picture, size, of_picture, self.filter);
        }
        let mut padded = Picture::filled(canvas.0, band.end - band.start, self.pad_color);
        if !of_picture.is_empty() {
            let below = (top + of_picture.start).saturating_sub(band.start);
            let resized = resize_band(picture, size, of_picture, self.filter);
            padded.paste(&resized, left, below);
        }
        padded
    }

    /// Appends the values of one tile that begins at column `left`: three planes of `tile` x `tile`.
    fn cut(&self, band: &Picture, left: u32, tile: u32, pixels: &mut Vec<f32>) {
        let (left, tile) = (left as usize, tile as usize);
        let row = 3 * band.width as usize;
        for (channel, values) in self.values.iter().enumerate() {
            for y in 0..tile {
                let line = &band.rgb[y * row + 3 * left..y * row + 3 * (left + tile)];
                pixels.extend(
                    line.chunks_exact(3)
                        .map(|pixel| values[usize::from(pixel[channel])]),
                );
            }
        }
    }
}

/// Renders the tiles of one picture, some at a time. What it holds meanwhile is one row of tiles as bytes: memory does not
/// grow with the grid.
pub struct TileReader<'a> {
    rendering: &'a Rendering,
    picture: &'a Picture,
    plan: TilePlan,
    tile: u32,
    /// Tiles read so far.
    read: usize,
    /// A row of tiles, and which one.
    band: Option<(u32, Picture)>,
}

impl<'a> TileReader<'a> {
    /// Panics when the picture's sides and bytes disagree.
    pub(crate) fn new(
        rendering: &'a Rendering,
        picture: &'a Picture,
        plan: TilePlan,
        tile: u32,
    ) -> Self {
        assert!(
            picture.is_whole(),
            "a picture's bytes are 3 * width * height"
        );
        TileReader {
            rendering,
            picture,
            plan,
            tile,
            read: 0,
            band: None,
        }
    }

    /// What was decided from the picture's size.
    pub fn plan(&self) -> &TilePlan {
        &self.plan
    }

    /// Tiles not read yet.
    pub fn left(&self) -> usize {
        self.plan.tiles - self.read
    }

    /// Appends the values `[tiles, 3, tile, tile]` of the next tiles, at most `count`, and tells how many they are. The bits
    /// do not depend on how the tiles are taken together.
    pub fn read(&mut self, count: usize, pixels: &mut Vec<f32>) -> usize {
        let count = count.min(self.left());
        pixels.reserve_exact(count * 3 * (self.tile as usize).pow(2));
        for at in self.read..self.read + count {
            match self.place(at) {
                None => self.read_thumbnail(pixels),
                Some((column, row)) => self.read_tile(column, row, pixels),
            }
        }
        self.read += count;
        count
    }

    /// Column and row of a tile on the grid, `None` for the thumbnail.
    fn place(&self, at: usize) -> Option<(u32, u32)> {
        let first = match (&self.plan.thumbnail, self.plan.thumbnail_position) {
            (Some(_), ThumbnailPosition::First) => 1,
            _ => 0,
        };
        let at = u32::try_from(at.checked_sub(first)?).ok()?;
        let Grid { columns, rows } = self.plan.grid;
        (at / columns < rows).then_some((at % columns, at / columns))
    }

    fn read_thumbnail(&self, pixels: &mut Vec<f32>) {
        if let Some(place) = self.plan.thumbnail {
            let view = self.rendering.thumbnail(self.picture, self.tile, place);
            self.rendering.cut(&view, 0, self.tile, pixels);
        }
    }

    fn read_tile(&mut self, column: u32, row: u32, pixels: &mut Vec<f32>) {
        let (rendering, tile) = (self.rendering, self.tile);
        let band = match self.band.take() {
            Some((at, band)) if at == row => band,
            _ => {
                let place = Placement {
                    resized: self.plan.resized,
                    offset: self.plan.offset,
                };
                let rows = row * tile..(row + 1) * tile;
                rendering.paste_band(self.picture, self.plan.canvas, place, rows)
            }
        };
        rendering.cut(&band, column * tile, tile, pixels);
        self.band = Some((row, band));
    }
}
