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

/// Smallest glyph height after fitting, in pixels, that a label is asked for.
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

/// One mark on the pixel grid of a fitted picture.
#[derive(Clone, Copy)]
struct Placed {
    class: i32,
    x: f32,
    y: f32,
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
    let grid = side / patch;
    let mut labels = Vec::with_capacity(plan.tiles * grid * grid * SLOTS);
    if let Some(thumbnail) = &plan.thumbnail {
        let view = View {
            resized: thumbnail.resized,
            offset: thumbnail.offset,
            columns: 1,
            rows: 1,
        };
        view.write(marks, picture, side, patch, &mut labels);
    }
    let view = View {
        resized: plan.resized,
        offset: plan.offset,
        columns: plan.grid.columns as usize,
        rows: plan.grid.rows as usize,
    };
    view.write(marks, picture, side, patch, &mut labels);
    labels
}

/// A canvas of tiles that the picture was fitted on.
struct View {
    resized: (u32, u32),
    offset: (u32, u32),
    columns: usize,
    rows: usize,
}

impl View {
    fn write(
        &self,
        marks: &[Mark],
        picture: (u32, u32),
        side: usize,
        patch: usize,
        labels: &mut Vec<i32>,
    ) {
        let grid = side / patch;
        let tiles = self.columns * self.rows;
        let mut places: Vec<Vec<Placed>> = vec![Vec::new(); tiles * grid * grid];
        let scale = (
            self.resized.0 as f32 / picture.0 as f32,
            self.resized.1 as f32 / picture.1 as f32,
        );
        for mark in marks {
            let x = (mark.x0 + mark.x1) * 0.5 * scale.0 + self.offset.0 as f32;
            let y = (mark.y0 + mark.y1) * 0.5 * scale.1 + self.offset.1 as f32;
            let (column, row) = (x as usize / side, y as usize / side);
            let (px, py) = ((x as usize % side) / patch, (y as usize % side) / patch);
            if x >= 0.0
                && y >= 0.0
                && column < self.columns
                && row < self.rows
                && px < grid
                && py < grid
            {
                let place = ((row * self.columns + column) * grid + py) * grid + px;
                places[place].push(Placed {
                    class: class(&mark.class),
                    x,
                    y,
                    height: (mark.y1 - mark.y0).max(mark.x1 - mark.x0) * scale.1,
                });
            }
        }
        for (at, place) in places.iter_mut().enumerate() {
            labels.extend(slots(at, place));
        }
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
    place.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut line = 0;
    let mut order: Vec<(u32, Placed)> = Vec::with_capacity(place.len());
    for (at, placed) in place.iter().enumerate() {
        if at > 0 && placed.y - place[at - 1].y > 0.5 * placed.height {
            line += 1;
        }
        order.push((line, *placed));
    }
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.x.total_cmp(&b.1.x)));
    let mut slots = [BLANK; SLOTS];
    for (slot, (_, placed)) in slots.iter_mut().zip(&order) {
        *slot = placed.class;
    }
    slots
}
