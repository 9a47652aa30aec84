//! A picture as its model sees it, for terminals: the grid of tiles, with the picture's colours in it where there are any.

use std::fmt::Write;
use std::io::IsTerminal;

use image_prep::resize::{Filter, resize};
use image_prep::{Picture, TilePlan};

/// Characters of a tile across and down; a character is about twice as tall as wide, and shows two pixels.
const TILE: (usize, usize) = (8, 4);
/// Widest sketch: what an 80-column terminal takes.
const MOST_COLUMNS: usize = 76;

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// The lines of the grid alone.
    None,
    /// 24 bits.
    True,
}

/// What standard error can show; none where it is no terminal.
pub fn of_stderr() -> Option<Colours> {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let truecolor = std::env::var("COLORTERM").is_ok_and(|it| it == "truecolor" || it == "24bit");
    std::io::stderr()
        .is_terminal()
        .then_some(match truecolor && !plain {
            true => Colours::True,
            false => Colours::None,
        })
}

/// The picture on its canvas, cut into tiles. None for a grid too wide to be shown.
pub fn sketch(picture: &Picture, plan: &TilePlan, colours: Colours) -> Option<String> {
    let (columns, rows) = (plan.grid.columns as usize, plan.grid.rows as usize);
    if columns * (TILE.0 + 1) + 1 > MOST_COLUMNS {
        return None;
    }
    let canvas = match colours {
        Colours::True => Some(Canvas::new(picture, plan)),
        Colours::None => None,
    };
    let line = |left: &str, between: &str, right: &str| {
        let tile = "─".repeat(TILE.0);
        format!("{left}{}{right}\n", vec![tile; columns].join(between))
    };
    let mut text = line("┌", "┬", "┐");
    for row in 0..rows {
        for y in 0..TILE.1 {
            for column in 0..columns {
                text.push('│');
                match &canvas {
                    Some(canvas) => canvas.write(&mut text, column * TILE.0, row * TILE.1 + y),
                    None => text.push_str(&" ".repeat(TILE.0)),
                }
            }
            text.push_str("│\n");
        }
        let last = row + 1 == rows;
        text.push_str(&match last {
            true => line("└", "┴", "┘"),
            false => line("├", "┼", "┤"),
        });
    }
    Some(text)
}

/// The picture where it lies on the canvas, in pixels of half a character.
struct Canvas {
    small: Picture,
    left: usize,
    top: usize,
}

impl Canvas {
    fn new(picture: &Picture, plan: &TilePlan) -> Self {
        let columns = plan.grid.columns as usize * TILE.0;
        let rows = plan.grid.rows as usize * TILE.1 * 2;
        let scaled = |pixels: u32, of: u32, to: usize| {
            (u64::from(pixels) * to as u64 / u64::from(of.max(1))) as u32
        };
        let width = scaled(plan.resized.0, plan.canvas.0, columns).max(1);
        let height = scaled(plan.resized.1, plan.canvas.1, rows).max(1);
        Canvas {
            small: resize(picture, width, height, Filter::Bilinear),
            left: scaled(plan.offset.0, plan.canvas.0, columns) as usize,
            top: scaled(plan.offset.1, plan.canvas.1, rows) as usize,
        }
    }

    /// One line of characters of a tile: the upper half of each is drawn, the lower half is its background.
    fn write(&self, text: &mut String, column: usize, row: usize) {
        for x in column..column + TILE.0 {
            let halves = [self.pixel(x, 2 * row), self.pixel(x, 2 * row + 1)];
            // Writing to a String cannot fail.
            let _ = match halves {
                [Some([r, g, b]), Some([s, h, c])] => {
                    write!(text, "\x1b[38;2;{r};{g};{b}m\x1b[48;2;{s};{h};{c}m▀\x1b[0m")
                }
                [Some([r, g, b]), None] => write!(text, "\x1b[38;2;{r};{g};{b}m▀\x1b[0m"),
                [None, Some([r, g, b])] => write!(text, "\x1b[38;2;{r};{g};{b}m▄\x1b[0m"),
                [None, None] => write!(text, " "),
            };
        }
    }

    fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        let (x, y) = (x.checked_sub(self.left)?, y.checked_sub(self.top)?);
        let (width, height) = (self.small.width as usize, self.small.height as usize);
        if x >= width || y >= height {
            return None;
        }
        self.small
            .rgb
            .as_chunks::<3>()
            .0
            .get(y * width + x)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use image_prep::ThumbnailPosition;
    use image_prep::tiling::Grid;

    use super::*;

    fn plan(columns: u32, rows: u32) -> TilePlan {
        TilePlan {
            grid: Grid { columns, rows },
            canvas: (16 * columns, 16 * rows),
            resized: (16 * columns, 8 * rows),
            offset: (0, 4 * rows),
            thumbnail: None,
            thumbnail_position: ThumbnailPosition::Last,
            tiles: (columns * rows) as usize,
        }
    }

    #[test]
    fn a_grid_has_its_lines() {
        let picture = Picture::filled(4, 4, [9, 9, 9]);
        insta::assert_snapshot!(sketch(&picture, &plan(2, 1), Colours::None).unwrap(), @"
        ┌────────┬────────┐
        │        │        │
        │        │        │
        │        │        │
        │        │        │
        └────────┴────────┘
        ");
        assert_eq!(sketch(&picture, &plan(9, 1), Colours::None), None);
    }

    #[test]
    fn the_picture_stands_where_it_lies_on_the_canvas() {
        let picture = Picture::filled(4, 4, [7, 8, 9]);
        let text = sketch(&picture, &plan(1, 1), Colours::True).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // A quarter of the canvas is free above and below: one line of four.
        assert_eq!(lines[1], "│        │");
        assert_eq!(lines[4], "│        │");
        let full = "\x1b[38;2;7;8;9m\x1b[48;2;7;8;9m▀\x1b[0m".repeat(8);
        assert_eq!(lines[2], format!("│{full}│"));
        assert_eq!(lines[3], lines[2]);
    }
}
