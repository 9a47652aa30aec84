//! What an encoder is shown of a picture: rectangles of resized copies, in order. Sizes only, no pixels.

use crate::tiling::Grid;
use crate::{Placement, ThumbnailPosition, TilePlan};

/// Everything that is shown of one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Views {
    /// Width and height of the picture.
    pub original: (u32, u32),
    /// Columns and rows of the tiles among the views.
    pub grid: Grid,
    /// What is encoded, in this order.
    pub list: Vec<View>,
}

/// One rectangle: the picture is resized, laid on a canvas of the padding's colour, and cut out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where it is cut out; views of one canvas that follow each other share the work.
    pub canvas: Canvas,
    /// Left and top edge, width and height on the canvas.
    pub cut: Cut,
}

/// A resized picture on padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    /// Sizes that the picture is brought to before, one after the other.
    pub first: Vec<(u32, u32)>,
    /// Width and height that it is resized to.
    pub resized: (u32, u32),
    /// Its left and top edge on the canvas.
    pub offset: (u32, u32),
    /// Width and height of the canvas.
    pub size: (u32, u32),
}

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Left edge.
    pub left: u32,
    /// Top edge.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Canvas {
    /// The picture stretched over all of it.
    pub fn stretched(size: (u32, u32)) -> Canvas {
        Canvas {
            first: Vec::new(),
            resized: size,
            offset: (0, 0),
            size,
        }
    }

    /// All of it as one view.
    pub fn whole(self) -> View {
        let (width, height) = self.size;
        let cut = Cut {
            left: 0,
            top: 0,
            width,
            height,
        };
        View { canvas: self, cut }
    }

    /// Cut into equal tiles, row by row; what is left over at the right and at the bottom is not seen.
    pub fn tiles(&self, grid: Grid) -> Vec<View> {
        let width = self.size.0 / grid.columns;
        let height = self.size.1 / grid.rows;
        let places =
            (0..grid.rows).flat_map(|row| (0..grid.columns).map(move |column| (column, row)));
        let view = |(column, row): (u32, u32)| View {
            canvas: self.clone(),
            cut: Cut {
                left: column * width,
                top: row * height,
                width,
                height,
            },
        };
        places.map(view).collect()
    }
}

impl Views {
    /// One view, the picture stretched to `size`.
    pub fn stretched(original: (u32, u32), size: (u32, u32)) -> Views {
        Views {
            original,
            grid: Grid::SINGLE,
            list: vec![Canvas::stretched(size).whole()],
        }
    }

    /// The tiles of a plan.
    pub fn of_plan(original: (u32, u32), plan: &TilePlan, tile: u32) -> Views {
        let canvas = |place: Placement, size| Canvas {
            first: Vec::new(),
            resized: place.resized,
            offset: place.offset,
            size,
        };
        let on_grid = Placement {
            resized: plan.resized,
            offset: plan.offset,
        };
        let mut list = canvas(on_grid, plan.canvas).tiles(plan.grid);
        let thumbnail = plan
            .thumbnail
            .map(|place| canvas(place, (tile, tile)).whole());
        match plan.thumbnail_position {
            ThumbnailPosition::First => list.splice(0..0, thumbnail).for_each(drop),
            ThumbnailPosition::Last => list.extend(thumbnail),
        }
        Views {
            original,
            grid: plan.grid,
            list,
        }
    }

    /// The same in the words of a [`TilePlan`], for people who want to see it: the canvas with the most pixels.
    pub fn plan(&self) -> TilePlan {
        let pixels = |view: &&View| u64::from(view.canvas.size.0) * u64::from(view.canvas.size.1);
        let widest = self.list.iter().max_by_key(pixels);
        let canvas = widest.map_or(Canvas::stretched(self.original), |view| view.canvas.clone());
        let other = self.list.iter().find(|view| view.canvas != canvas);
        TilePlan {
            grid: self.grid,
            canvas: canvas.size,
            resized: canvas.resized,
            offset: canvas.offset,
            thumbnail: other.map(|view| Placement {
                resized: view.canvas.resized,
                offset: view.canvas.offset,
            }),
            thumbnail_position: match other == self.list.first() {
                true => ThumbnailPosition::First,
                false => ThumbnailPosition::Last,
            },
            tiles: self.list.len(),
        }
    }
}
