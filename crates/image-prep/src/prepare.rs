//! Pictures to pixel values: resize, paste, cut, normalise, as [`Views`] say.

use crate::resize::{Filter, resize, resize_part};
use crate::views::{Canvas, Cut, View, Views};
use crate::{Picture, TilePlan};
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
    /// A part of the canvas: the picture, resized and laid on padding.
    fn paste_part(&self, picture: &Picture, canvas: &Canvas, part: Cut) -> Picture {
        let (size, offset) = (canvas.resized, canvas.offset);
        let shown = |from: u32, length: u32, offset: u32, size: u32| -> Range<u32> {
            let inside = |at: u32| at.clamp(offset, offset + size) - offset;
            inside(from)..inside(from + length)
        };
        let columns = shown(part.left, part.width, offset.0, size.0);
        let rows = shown(part.top, part.height, offset.1, size.1);
        if columns.len() == part.width as usize && rows.len() == part.height as usize {
            return resize_part(picture, size, columns, rows, self.filter);
        }
        let mut padded = Picture::filled(part.width, part.height, self.pad_color);
        if !rows.is_empty() && !columns.is_empty() {
            let left = (offset.0 + columns.start).saturating_sub(part.left);
            let top = (offset.1 + rows.start).saturating_sub(part.top);
            padded.paste(
                &resize_part(picture, size, columns, rows, self.filter),
                left,
                top,
            );
        }
        padded
    }

    /// Appends the values of one view that begins at column `left` of a band: three planes.
    fn cut(&self, band: &Picture, left: u32, view: Cut, pixels: &mut Vec<f32>) {
        let (left, width) = (left as usize, view.width as usize);
        let row = 3 * band.width as usize;
        for (channel, values) in self.values.iter().enumerate() {
            for y in 0..view.height as usize {
                let line = &band.rgb[y * row + 3 * left..y * row + 3 * (left + width)];
                pixels.extend(
                    line.chunks_exact(3)
                        .map(|pixel| values[usize::from(pixel[channel])]),
                );
            }
        }
    }
}

/// Renders the views of one picture, some at a time. What it holds meanwhile is one row of tiles as bytes: memory does not
/// grow with the grid.
pub struct TileReader<'a> {
    rendering: &'a Rendering,
    picture: &'a Picture,
    views: Views,
    /// Views read so far.
    read: usize,
    /// A row of views, and where it lies.
    band: Option<(Canvas, Cut, Picture)>,
    /// The picture after the first resizings, and their sizes.
    resized: Option<(Vec<(u32, u32)>, Picture)>,
}

impl<'a> TileReader<'a> {
    /// Panics when the picture's sides and bytes disagree.
    pub(crate) fn new(rendering: &'a Rendering, picture: &'a Picture, views: Views) -> Self {
        assert!(
            picture.is_whole(),
            "a picture's bytes are 3 * width * height"
        );
        TileReader {
            rendering,
            picture,
            views,
            read: 0,
            band: None,
            resized: None,
        }
    }

    /// What was decided from the picture's size.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// Views not read yet.
    pub fn left(&self) -> usize {
        self.views.list.len() - self.read
    }

    /// How many of the next views, at most `count`, have one width and height, and which.
    pub fn alike(&self, count: usize) -> (usize, (u32, u32)) {
        let size = |view: &View| (view.cut.width, view.cut.height);
        let next = &self.views.list[self.read..];
        let first = next.first().map_or((0, 0), size);
        let count = next
            .iter()
            .take(count)
            .take_while(|view| size(view) == first);
        (count.count(), first)
    }

    /// Appends the values `[views, 3, height, width]` of the next views, at most `count`, and tells how many they are. The
    /// bits do not depend on how the views are taken together.
    pub fn read(&mut self, count: usize, pixels: &mut Vec<f32>) -> usize {
        let count = count.min(self.left());
        let values = |view: &View| 3 * view.cut.width as usize * view.cut.height as usize;
        let next = &self.views.list[self.read..self.read + count];
        pixels.reserve_exact(next.iter().map(values).sum());
        for at in self.read..self.read + count {
            self.read_view(at, pixels);
        }
        self.read += count;
        count
    }

    fn read_view(&mut self, at: usize, pixels: &mut Vec<f32>) {
        let View { canvas, cut } = self.views.list[at].clone();
        let inside = |band: &Cut| {
            (band.top, band.height) == (cut.top, cut.height)
                && band.left <= cut.left
                && cut.left + cut.width <= band.left + band.width
        };
        let known = self.band.as_ref();
        if !known.is_some_and(|(of, band, _)| *of == canvas && inside(band)) {
            let band = self.band_from(at);
            let rendering = self.rendering;
            let part = rendering.paste_part(self.source(&canvas), &canvas, band);
            self.band = Some((canvas, band, part));
        }
        if let Some((_, band, picture)) = &self.band {
            let left = cut.left - band.left;
            self.rendering.cut(picture, left, cut, pixels);
        }
    }

    /// The rectangle that a view and those after it lie in, as far as they stand side by side.
    fn band_from(&self, at: usize) -> Cut {
        let View { canvas, mut cut } = self.views.list[at].clone();
        for view in &self.views.list[at + 1..] {
            let follows = view.canvas == canvas
                && (view.cut.top, view.cut.height) == (cut.top, cut.height)
                && view.cut.left == cut.left + cut.width;
            if !follows {
                break;
            }
            cut.width += view.cut.width;
        }
        cut
    }

    /// What a canvas is resized from.
    fn source(&mut self, canvas: &Canvas) -> &Picture {
        if canvas.first.is_empty() {
            return self.picture;
        }
        let known = self
            .resized
            .take()
            .filter(|(sizes, _)| *sizes == canvas.first);
        let filter = self.rendering.filter;
        let resized = known.unwrap_or_else(|| {
            let mut sizes = canvas.first.iter();
            let first = sizes
                .next()
                .map(|size| resize(self.picture, size.0, size.1, filter));
            let first = first.unwrap_or_else(|| self.picture.clone());
            let last = sizes.fold(first, |picture, size| {
                resize(&picture, size.0, size.1, filter)
            });
            (canvas.first.clone(), last)
        });
        &self.resized.insert(resized).1
    }
}
