//! Dense labels for the encoder: which characters and shapes stand in each patch of each tile.
//!
//! Reading appears late and suddenly when only answers teach it. A drawn picture knows where every glyph is, so the
//! encoder's early stages learn from one small classification per patch, which the exported model does not need.

use data::{Mark, MarkClass};
use image_prep::TilePlan;

/// Glyphs in one patch that can be told apart, left to right and top to bottom.
pub const SLOTS: usize = 3;
/// Slot value: nothing (more) in this patch.
pub const BLANK: i32 = 0;
/// Slot value: not counted, because the patch holds more than fits or its glyphs are too small to read.
pub const IGNORE: i32 = -100;

/// Smallest letter height after fitting, in pixels, that a label is asked for.
const LEGIBLE_PIXELS: f32 = 5.0;
/// One of so many empty patches is labelled.
const EMPTY_KEPT: usize = 5;
const ASCII: usize = 94;
/// Characters beyond ASCII share this many classes, by code point.
const OTHER_CHARACTERS: usize = 160;
const SHAPES: usize = 128;
/// All classes of a slot, blank included.
pub const CLASSES: usize = 1 + ASCII + OTHER_CHARACTERS + SHAPES;

/// The class of a mark.
fn class(mark: &MarkClass) -> i32 {
    let class = match *mark {
        MarkClass::Glyph(c @ '!'..='~') => 1 + (c as usize - '!' as usize),
        MarkClass::Glyph(c) => 1 + ASCII + c as usize % OTHER_CHARACTERS,
        MarkClass::Shape { shape, color } => {
            1 + ASCII + OTHER_CHARACTERS + (shape as usize * 11 + color as usize) % SHAPES
        }
    };
    class as i32
}

/// How tall a letter beside this mark would be, as a multiple of the mark's own longer side: a point is small in any text.
fn letter_share(mark: &MarkClass) -> f32 {
    match mark {
        MarkClass::Glyph('.' | ',' | '·') => 4.0,
        MarkClass::Glyph('\'' | '"' | '`' | '^' | '°' | '-') => 2.5,
        _ => 1.0,
    }
}

/// One mark on the pixel grid of a fitted picture.
#[derive(Clone, Copy)]
struct Placed {
    /// Which of the picture's marks.
    mark: usize,
    class: i32,
    x: f32,
    y: f32,
    /// Of a letter in the same text, about.
    height: f32,
}

/// The labels of one picture: `[tiles, patches, SLOTS]` in the order of its tiles.
///
/// `side` is the tile's side in pixels and `patch` the patch's; patches past the last whole one are not seen by the encoder.
pub fn patch_labels(
    marks: &[Mark],
    picture: (u32, u32),
    plan: &TilePlan,
    side: usize,
    patch: usize,
) -> Vec<i32> {
    let cells = Cells {
        tile: side,
        side: patch,
        along: side / patch,
    };
    let mut places = places(marks, picture, plan, cells);
    let each = places.iter_mut().enumerate();
    each.flat_map(|(at, place)| slots(at, place)).collect()
}

/// What stands in each image token of one picture, `[tiles, tokens]` in the order of its tiles: the classes of its marks in
/// reading order, or none where one of them is too small to read. An image token is a square of `merge` patches a side; those at
/// the end of a row may be filled up.
pub fn block_marks<'m>(
    marks: &'m [Mark],
    picture: (u32, u32),
    plan: &TilePlan,
    side: usize,
    (patch, merge): (usize, usize),
) -> Vec<Option<Vec<&'m MarkClass>>> {
    let cells = Cells {
        tile: side,
        side: patch * merge,
        along: (side / patch).div_ceil(merge),
    };
    let mut places = places(marks, picture, plan, cells);
    let each = places.iter_mut().map(|place| {
        let legible = place.iter().all(|placed| placed.height >= LEGIBLE_PIXELS);
        legible.then(|| {
            let ordered = reading_order(place);
            ordered
                .iter()
                .map(|placed| &marks[placed.mark].class)
                .collect()
        })
    });
    each.collect()
}

/// Squares that a tile is cut into.
#[derive(Clone, Copy)]
struct Cells {
    /// The tile's side in pixels.
    tile: usize,
    /// A cell's.
    side: usize,
    /// Cells along one side of the tile.
    along: usize,
}

/// The marks of each cell of each tile; a mark stands where its middle is.
fn places(marks: &[Mark], picture: (u32, u32), plan: &TilePlan, cells: Cells) -> Vec<Vec<Placed>> {
    let mut places = Vec::new();
    if let Some(thumbnail) = &plan.thumbnail {
        let view = View {
            resized: thumbnail.resized,
            offset: thumbnail.offset,
            columns: 1,
            rows: 1,
        };
        places.extend(view.places(marks, picture, cells));
    }
    let view = View {
        resized: plan.resized,
        offset: plan.offset,
        columns: plan.grid.columns as usize,
        rows: plan.grid.rows as usize,
    };
    places.extend(view.places(marks, picture, cells));
    places
}

/// A canvas of tiles that the picture was fitted on.
struct View {
    resized: (u32, u32),
    offset: (u32, u32),
    columns: usize,
    rows: usize,
}

impl View {
    fn places(&self, marks: &[Mark], picture: (u32, u32), cells: Cells) -> Vec<Vec<Placed>> {
        let (side, cell, grid) = (cells.tile, cells.side, cells.along);
        let tiles = self.columns * self.rows;
        let mut places: Vec<Vec<Placed>> = vec![Vec::new(); tiles * grid * grid];
        let scale = (
            self.resized.0 as f32 / picture.0 as f32,
            self.resized.1 as f32 / picture.1 as f32,
        );
        for (at, mark) in marks.iter().enumerate() {
            let x = (mark.x0 + mark.x1) * 0.5 * scale.0 + self.offset.0 as f32;
            let y = (mark.y0 + mark.y1) * 0.5 * scale.1 + self.offset.1 as f32;
            let (column, row) = (x as usize / side, y as usize / side);
            let (px, py) = ((x as usize % side) / cell, (y as usize % side) / cell);
            if x >= 0.0
                && y >= 0.0
                && column < self.columns
                && row < self.rows
                && px < grid
                && py < grid
            {
                let place = ((row * self.columns + column) * grid + py) * grid + px;
                places[place].push(Placed {
                    mark: at,
                    class: class(&mark.class),
                    x,
                    y,
                    height: (mark.y1 - mark.y0).max(mark.x1 - mark.x0)
                        * scale.1
                        * letter_share(&mark.class),
                });
            }
        }
        places
    }
}

/// The slots of one patch: its marks in reading order, then blanks; all ignored when they do not fit or cannot be read.
///
/// Most patches are empty: one of [`EMPTY_KEPT`] asks for its first blank, so that glyphs make up about half of the labels.
fn slots(at: usize, place: &mut [Placed]) -> [i32; SLOTS] {
    if place.is_empty() {
        let mut slots = [IGNORE; SLOTS];
        if at.is_multiple_of(EMPTY_KEPT) {
            slots[0] = BLANK;
        }
        return slots;
    }
    if place.len() > SLOTS || place.iter().any(|p| p.height < LEGIBLE_PIXELS) {
        return [IGNORE; SLOTS];
    }
    let mut slots = [BLANK; SLOTS];
    for (slot, placed) in slots.iter_mut().zip(reading_order(place)) {
        *slot = placed.class;
    }
    slots
}

/// Line by line, each from left to right.
fn reading_order(place: &mut [Placed]) -> Vec<Placed> {
    place.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut line = 0;
    let mut order: Vec<(u32, Placed)> = Vec::with_capacity(place.len());
    for (at, placed) in place.iter().enumerate() {
        let before = place[at.saturating_sub(1)];
        if placed.y - before.y > 0.7 * placed.height.max(before.height) {
            line += 1;
        }
        order.push((line, *placed));
    }
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.x.total_cmp(&b.1.x)));
    order.into_iter().map(|(_, placed)| placed).collect()
}
