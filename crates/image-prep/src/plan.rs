//! Where a picture lies on its grid: canvas, fitted size, padding, thumbnail and order. Sizes only, no pixels.

use crate::tiling::{self, Grid, GridChoice};

/// Where a picture lies on a canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Width and height that the picture is resized to.
    pub resized: (u32, u32),
    /// Its left and top edge on the canvas; what it does not cover is padding.
    pub offset: (u32, u32),
}

/// Where the thumbnail stands among the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThumbnailPosition {
    /// Before the tiles of the grid.
    First,
    /// After them.
    Last,
}

/// What happens to a picture of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct TilePlan {
    /// Columns and rows of tiles.
    pub grid: Grid,
    /// Width and height of the grid in pixels.
    pub canvas: (u32, u32),
    /// Width and height that the picture is resized to.
    pub resized: (u32, u32),
    /// Left and top edge of the resized picture on the canvas.
    pub offset: (u32, u32),
    /// The whole picture on one more tile, when the grid has more than one.
    pub thumbnail: Option<Placement>,
    /// Where that tile stands.
    pub thumbnail_position: ThumbnailPosition,
    /// All tiles, the thumbnail included: columns * rows, row by row, and perhaps one.
    pub tiles: usize,
}

/// A tiling rule with all that decides a [`TilePlan`].
#[derive(Clone, Debug, PartialEq)]
pub struct TileLayout {
    /// How the grid is chosen; how a picture is fitted follows from it (see [`TileLayout::plan`]).
    pub choice: GridChoice,
    /// Side of a tile in pixels, at least 1.
    pub tile: u32,
    /// Whether a grid of more than one tile gets a thumbnail.
    pub thumbnail: bool,
}

/// How a picture is brought to the size of a canvas.
#[derive(Clone, Copy)]
enum Fit {
    /// Keep the aspect ratio, round half up, centre on padding.
    Round,
    /// Keep the aspect ratio, round up, centre on padding.
    Ceil,
    /// Fill the canvas.
    Stretch,
}

impl TileLayout {
    /// The plan for a picture of `width` x `height`.
    ///
    /// | rule | picture on the grid | thumbnail |
    /// | --- | --- | --- |
    /// | relaxed | fitted (sides rounded half up), centred | first, fitted and centred |
    /// | LLaVA-NeXT | fitted (sides rounded up), centred | first, stretched |
    /// | InternVL 1.5 | stretched | last, stretched |
    ///
    /// A 1:1 grid has one tile and never a thumbnail. A side of 0 counts as 1.
    pub fn plan(&self, width: u32, height: u32) -> TilePlan {
        let size = (width.max(1), height.max(1));
        let grid = tiling::choose(&self.choice, size.0, size.1, self.tile);
        let canvas = (
            grid.columns.saturating_mul(self.tile),
            grid.rows.saturating_mul(self.tile),
        );
        let (grid_fit, thumbnail_fit, thumbnail_position) = match self.choice {
            GridChoice::RelaxedEffectiveArea { .. } => {
                (Fit::Round, Fit::Round, ThumbnailPosition::First)
            }
            GridChoice::LargestEffectiveArea { .. } => {
                (Fit::Ceil, Fit::Stretch, ThumbnailPosition::First)
            }
            GridChoice::NearestAspectRatio { .. } => {
                (Fit::Stretch, Fit::Stretch, ThumbnailPosition::Last)
            }
        };
        let on_grid = place(size, canvas, grid_fit);
        let thumbnail = (self.thumbnail && grid != Grid::SINGLE)
            .then(|| place(size, (self.tile, self.tile), thumbnail_fit));
        TilePlan {
            grid,
            canvas,
            resized: on_grid.resized,
            offset: on_grid.offset,
            thumbnail,
            thumbnail_position,
            tiles: grid.tiles() as usize + usize::from(thumbnail.is_some()),
        }
    }
}

/// Places a picture of `size` on a canvas. The published code's operations in its order, in f64.
fn place(size: (u32, u32), canvas: (u32, u32), fit: Fit) -> Placement {
    let (w, h) = (f64::from(size.0), f64::from(size.1));
    let (canvas_w, canvas_h) = (f64::from(canvas.0), f64::from(canvas.1));
    let (scale_w, scale_h) = (canvas_w / w, canvas_h / h);
    let resized = match fit {
        Fit::Stretch => canvas,
        Fit::Round => {
            let scale = scale_w.min(scale_h);
            let side = |side: f64, limit: u32| ((side * scale + 0.5) as u32).max(1).min(limit);
            (side(w, canvas.0), side(h, canvas.1))
        }
        Fit::Ceil if scale_w < scale_h => (canvas.0, ((h * scale_w).ceil() as u32).min(canvas.1)),
        Fit::Ceil => (((w * scale_h).ceil() as u32).min(canvas.0), canvas.1),
    };
    Placement {
        resized,
        offset: ((canvas.0 - resized.0) / 2, (canvas.1 - resized.1) / 2),
    }
}
