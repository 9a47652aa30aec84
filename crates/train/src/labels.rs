//! Dense labels for the encoder: which characters and shapes stand in each patch of each tile.
//!
//! Reading appears late and suddenly when only answers teach it. A drawn picture knows where every glyph is, so the
//! encoder's early stages learn from one small classification per patch, which the exported model does not need.

use data::{Color, Mark, MarkClass, Shape};
use image_prep::{ThumbnailPosition, TilePlan};

/// Glyphs in one patch that can be told apart, left to right and top to bottom.
pub const SLOTS: usize = 3;
/// Slot value: nothing (more) in this patch.
pub const BLANK: i32 = 0;
/// Slot value: not counted, because the patch holds more than fits or its glyphs are too small to read.
pub const IGNORE: i32 = -100;

/// Smallest text size after fitting, in pixels, that a label is asked for: the smallest on tiles is 12.
const LEGIBLE_TEXT_PIXELS: f32 = 10.5;
/// Smallest side of a shape after fitting, in pixels, that a label is asked for.
const LEGIBLE_SHAPE_PIXELS: f32 = 7.0;
/// One of so many empty patches is labelled.
const EMPTY_KEPT: usize = 5;
const ASCII: usize = 94;
/// Characters beyond ASCII share this many classes, by code point.
const OTHER_CHARACTERS: usize = 160;
/// Room for every shape in every colour, and for signs.
const SHAPES: usize = 128;
/// All classes of a slot, blank included.
pub const CLASSES: usize = 1 + ASCII + OTHER_CHARACTERS + SHAPES;

/// The class of a mark.
fn class(mark: &MarkClass) -> i32 {
    let class = match *mark {
        MarkClass::Glyph(c @ '!'..='~') => 1 + (c as usize - '!' as usize),
        MarkClass::Glyph(c) => 1 + ASCII + c as usize % OTHER_CHARACTERS,
        MarkClass::Shape { shape, color } => {
            1 + ASCII + OTHER_CHARACTERS + shape as usize * Color::ALL.len() + color as usize
        }
        MarkClass::Sign(sign) => {
            1 + ASCII + OTHER_CHARACTERS + Shape::ALL.len() * Color::ALL.len() + sign as usize
        }
    };
    class as i32
}

/// Whether a mark is large enough to be read, `scale` being its size on the tiles by its size on the picture.
fn is_legible(mark: &Mark, scale: f32) -> bool {
    mark.size * scale
        >= match mark.class {
            MarkClass::Glyph(_) | MarkClass::Sign(_) => LEGIBLE_TEXT_PIXELS,
            MarkClass::Shape { .. } => LEGIBLE_SHAPE_PIXELS,
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
    /// The mark's, after fitting.
    size: f32,
    legible: bool,
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

/// What an image token shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown<'m> {
    /// Marks in reading order; perhaps none.
    Marks(Vec<&'m MarkClass>),
    /// Something too small to read.
    Illegible,
    /// The border that the picture was filled up with. The thumbnail's is all that tells a grid's shape.
    Outside,
}

/// What each image token of one picture shows, `[tiles, tokens]` in the order of its tiles. An image token is a square of `merge`
/// patches a side; those at the end of a row may be filled up.
pub fn block_marks<'m>(
    marks: &'m [Mark],
    picture: (u32, u32),
    plan: &TilePlan,
    side: usize,
    (patch, merge): (usize, usize),
) -> Vec<Shown<'m>> {
    let cells = Cells {
        tile: side,
        side: patch * merge,
        along: (side / patch).div_ceil(merge),
    };
    let mut shown = Vec::new();
    for view in views(plan) {
        let places = view.places(marks, picture, cells);
        for (at, mut place) in places.into_iter().enumerate() {
            let legible = place.iter().all(|p| p.legible);
            shown.push(match place.is_empty() && view.is_outside(at, cells) {
                true => Shown::Outside,
                false if legible => {
                    let ordered = reading_order(&mut place).into_iter();
                    Shown::Marks(ordered.map(|p| &marks[p.mark].class).collect())
                }
                false => Shown::Illegible,
            });
        }
    }
    shown
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

/// The marks of each cell of each tile. A mark stands where the middle of its box is from left to right and the middle of its
/// line from top to bottom: were it its own middle, half of a line's letters would often stand a row lower than the others.
fn places(marks: &[Mark], picture: (u32, u32), plan: &TilePlan, cells: Cells) -> Vec<Vec<Placed>> {
    views(plan)
        .flat_map(|view| view.places(marks, picture, cells))
        .collect()
}

/// The grid and the thumbnail, if there is one, in the order of the tiles.
fn views(plan: &TilePlan) -> impl Iterator<Item = View> {
    let grid = View {
        resized: plan.resized,
        offset: plan.offset,
        columns: plan.grid.columns as usize,
        rows: plan.grid.rows as usize,
    };
    let thumbnail = plan.thumbnail.as_ref().map(|placement| View {
        resized: placement.resized,
        offset: placement.offset,
        columns: 1,
        rows: 1,
    });
    let views = match plan.thumbnail_position {
        ThumbnailPosition::First => [thumbnail, Some(grid)],
        ThumbnailPosition::Last => [Some(grid), thumbnail],
    };
    views.into_iter().flatten()
}

/// A canvas of tiles that the picture was fitted on.
struct View {
    resized: (u32, u32),
    offset: (u32, u32),
    columns: usize,
    rows: usize,
}

impl View {
    /// Whether the middle of a cell lies beside the picture.
    fn is_outside(&self, place: usize, cells: Cells) -> bool {
        let (tile, place) = (place / cells.along.pow(2), place % cells.along.pow(2));
        let beside = |tile: usize, cell: usize, offset: u32, resized: u32| {
            let middle = tile * cells.tile + cell * cells.side + cells.side / 2;
            let start = offset as usize;
            !(start..start + resized as usize).contains(&middle)
        };
        let (column, row) = (tile % self.columns, tile / self.columns);
        let (x, y) = (place % cells.along, place / cells.along);
        beside(column, x, self.offset.0, self.resized.0)
            || beside(row, y, self.offset.1, self.resized.1)
    }

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
            let y = ((mark.y0 + mark.y1) * 0.5 + mark.line) * scale.1 + self.offset.1 as f32;
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
                    size: mark.size * scale.1,
                    legible: is_legible(mark, scale.1),
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
    if place.len() > SLOTS || place.iter().any(|p| !p.legible) {
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
        if placed.y - before.y > 0.5 * placed.size {
            line += 1;
        }
        order.push((line, *placed));
    }
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.x.total_cmp(&b.1.x)));
    order.into_iter().map(|(_, placed)| placed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_prep::Placement;
    use image_prep::tiling::Grid;

    const TILE: usize = 32;

    fn plan(size: (u32, u32)) -> TilePlan {
        TilePlan {
            grid: Grid::SINGLE,
            canvas: size,
            resized: size,
            offset: (0, 0),
            thumbnail: None,
            thumbnail_position: ThumbnailPosition::First,
            tiles: 1,
        }
    }

    /// A glyph that begins at `x` on the line with its middle at `middle`; points hang low.
    fn glyph(glyph: char, x: f32, middle: f32, size: f32) -> Mark {
        let (top, bottom) = match glyph {
            '.' => (0.15, 0.3),
            _ => (-0.4, 0.3),
        };
        Mark {
            class: MarkClass::Glyph(glyph),
            x0: x,
            y0: middle + top * size,
            x1: x + 0.4 * size,
            y1: middle + bottom * size,
            line: -(top + bottom) / 2.0 * size,
            size,
        }
    }

    /// Digits and a point on one line, which lies just above the edge of a block.
    fn price() -> Vec<Mark> {
        vec![
            glyph('5', 9.0, 15.0, 12.0),
            glyph('.', 6.0, 15.0, 12.0),
            glyph('4', 1.0, 15.0, 12.0),
        ]
    }

    fn text(shown: &Shown) -> String {
        let Shown::Marks(classes) = shown else {
            return format!("{shown:?}");
        };
        let glyph = |class: &&MarkClass| match class {
            MarkClass::Glyph(glyph) => *glyph,
            MarkClass::Shape { .. } | MarkClass::Sign(_) => '?',
        };
        classes.iter().map(glyph).collect()
    }

    #[test]
    fn a_point_is_readable_and_stands_on_the_line_of_its_digits() {
        let labels = patch_labels(&price(), (32, 32), &plan((32, 32)), TILE, 16);
        let class_of = |c| class(&MarkClass::Glyph(c));
        assert_eq!(
            labels[..SLOTS],
            [class_of('4'), class_of('.'), class_of('5')]
        );
        let price = price();
        let blocks = block_marks(&price, (32, 32), &plan((32, 32)), TILE, (8, 2));
        assert_eq!(blocks.len(), 4);
        assert_eq!(text(&blocks[0]), "4.5");
        assert_eq!(text(&blocks[3]), "");
    }

    #[test]
    fn lines_in_one_block_are_read_one_after_the_other() {
        let marks = [
            glyph('c', 1.0, 12.0, 11.0),
            glyph('b', 8.0, 4.0, 11.0),
            glyph('a', 1.0, 4.0, 11.0),
        ];
        let blocks = block_marks(&marks, (32, 32), &plan((32, 32)), TILE, (8, 2));
        assert_eq!(text(&blocks[0]), "abc");
    }

    #[test]
    fn glyphs_too_small_to_read_are_not_asked_for() {
        let mut plan = plan((320, 320));
        (plan.resized, plan.canvas) = ((32, 32), (32, 32));
        let marks = [glyph('a', 10.0, 40.0, 60.0)];
        let labels = patch_labels(&marks, (320, 320), &plan, TILE, 16);
        assert_eq!(labels[..SLOTS], [IGNORE; SLOTS]);
        assert_eq!(
            block_marks(&marks, (320, 320), &plan, TILE, (8, 2))[0],
            Shown::Illegible
        );
    }

    /// Two tiles side by side after a thumbnail, which shows the picture `top` pixels from its upper edge.
    fn wide(size: (u32, u32), top: u32) -> TilePlan {
        TilePlan {
            grid: Grid {
                columns: 2,
                rows: 1,
            },
            tiles: 3,
            thumbnail: Some(Placement {
                resized: (size.0 / 2, size.1 / 2),
                offset: (0, top),
            }),
            ..plan(size)
        }
    }

    #[test]
    fn the_thumbnail_is_labelled_where_it_stands() {
        let mut plan = wide((64, 32), 8);
        // On the grid in the first tile's first block, on the thumbnail 8 pixels lower.
        let marks = [glyph('x', 1.0, 8.0, 24.0)];
        let at = |plan: &TilePlan| {
            let blocks = block_marks(&marks, (64, 32), plan, TILE, (8, 2));
            assert_eq!(blocks.len(), 12);
            let seen = blocks.iter().enumerate();
            seen.filter(|(_, shown)| text(shown) == "x")
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        assert_eq!(at(&plan), [0, 4]);
        plan.thumbnail_position = ThumbnailPosition::Last;
        assert_eq!(at(&plan), [0, 8]);
    }

    #[test]
    fn the_border_around_a_picture_is_told() {
        let mut plan = wide((64, 16), 12);
        (plan.canvas, plan.offset) = ((64, 32), (0, 16));
        let shown = block_marks(&[], (64, 16), &plan, TILE, (4, 2));
        let outside = |shown: &Shown| *shown == Shown::Outside;
        let rows: Vec<bool> = shown.iter().step_by(4).map(outside).collect();
        // Rows of 8 pixels: of the thumbnail only those around its middle, of the tiles the lower half.
        let (out, inside) = (true, false);
        let tile = [out, out, inside, inside];
        assert_eq!(rows, [[out, inside, out, out], tile, tile].concat());
    }
}
