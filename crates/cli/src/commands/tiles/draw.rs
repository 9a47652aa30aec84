//! The tiles of one picture as a picture: what the model will see of it, and where it is cut.

use std::path::Path;

use anyhow::Context;
use image_prep::resize::{Filter, resize};
use image_prep::{Limits, Picture, Placement, ThumbnailPosition, decode, encode_png};

use super::input::{Input, InputError};
use super::rules::Rule;
use crate::terminal::styles_of_stderr;

/// Most pixels of a drawing.
const MAX_PIXELS: u64 = 100_000_000;
/// Around and between the parts.
const GROUND: [u8; 3] = [255, 255, 255];
/// Where two tiles meet, and the frame around them.
const LINE: [u8; 3] = [230, 0, 126];
/// Padding is hatched in these two; the model sees one colour there.
const HATCH: [[u8; 3]; 2] = [[64, 64, 72], [150, 150, 160]];
/// What stands for a picture when only its size is known.
const BLANK: [u8; 3] = [176, 205, 230];

/// Draws what `rules` make of the one picture in `inputs`, side by side, to the PNG file `path`.
pub fn draw(inputs: &[Input], rules: &[Rule], path: &Path) -> anyhow::Result<()> {
    let [input] = inputs else {
        let message = format!(
            "--draw: expected one picture, found {} inputs",
            inputs.len()
        );
        return Err(InputError::new(message, "draw them one by one").into());
    };
    let (picture, (width, height)) = match input {
        Input::Picture { subject, bytes } => {
            let picture = decode(bytes, &Limits::default()).with_context(|| subject.name())?;
            (Some(picture), (subject.width, subject.height))
        }
        Input::Size(subject) => (None, (subject.width, subject.height)),
        Input::Corpus { name, .. } => {
            let message = format!("--draw: expected one picture, found the corpus {name}");
            return Err(InputError::new(message, "name a picture or a size instead").into());
        }
    };
    let sheets: Vec<Sheet> = rules
        .iter()
        .map(|rule| Sheet::new(rule, width, height))
        .collect();
    let gap = 3 * (rules[0].tile() / 16 + 2);
    let side_by_side = |sides: (u64, u64), sheet: &Sheet| {
        let (width, height) = sheet.size(gap);
        (sides.0 + width + u64::from(gap), sides.1.max(height))
    };
    let inner = sheets.iter().fold((0, 0), side_by_side);
    let (width, height) = (inner.0 + u64::from(gap), inner.1 + 2 * u64::from(gap));
    if width * height > MAX_PIXELS {
        let message =
            format!("--draw: expected at most {MAX_PIXELS} pixels, found {width}x{height}");
        let hint = "draw one rule at a time (--policy), a smaller --max-grid, or a smaller --tile";
        return Err(InputError::new(message, hint).into());
    }
    // Both fit, as their product does.
    let mut page = Picture::filled(width as u32, height as u32, GROUND);
    let mut left = gap;
    for sheet in &sheets {
        sheet.draw(&mut page, picture.as_ref(), left, gap);
        left += sheet.size(gap).0 as u32 + gap;
    }
    std::fs::write(path, encode_png(&page))
        .with_context(|| format!("{}: cannot write", path.display()))?;
    let names: Vec<&str> = rules.iter().map(|rule| rule.policy.name()).collect();
    let dim = styles_of_stderr().dim;
    eprintln!(
        "{dim}{}: {} from left to right{dim:#}",
        path.display(),
        names.join(", ")
    );
    Ok(())
}

/// One rule's grid with its thumbnail.
struct Sheet {
    canvas: (u32, u32),
    on_canvas: Placement,
    thumbnail: Option<(Placement, ThumbnailPosition)>,
    tile: u32,
}

impl Sheet {
    fn new(rule: &Rule, width: u32, height: u32) -> Sheet {
        let plan = rule.plan(width, height);
        Sheet {
            canvas: plan.canvas,
            on_canvas: Placement {
                resized: plan.resized,
                offset: plan.offset,
            },
            thumbnail: plan.thumbnail.map(|place| (place, plan.thumbnail_position)),
            tile: rule.tile(),
        }
    }

    /// Width and height with the thumbnail.
    fn size(&self, gap: u32) -> (u64, u64) {
        let thumbnail = self.thumbnail.map_or(0, |_| self.tile + gap / 3);
        (
            u64::from(self.canvas.0) + u64::from(thumbnail),
            u64::from(self.canvas.1),
        )
    }

    /// Draws both with their top left corner at (`left`, `top`), the thumbnail before or after as the encoder gets them;
    /// `top` is also the gap between the sheets.
    fn draw(&self, page: &mut Picture, picture: Option<&Picture>, left: u32, top: u32) {
        let between = top / 3;
        let (grid_left, thumbnail_left) = match self.thumbnail {
            Some((_, ThumbnailPosition::First)) => (left + self.tile + between, left),
            _ => (left, left + self.canvas.0 + between),
        };
        page.paste(
            &self.part(picture, self.canvas, self.on_canvas),
            grid_left,
            top,
        );
        if let Some((place, _)) = self.thumbnail {
            page.paste(
                &self.part(picture, (self.tile, self.tile), place),
                thumbnail_left,
                top,
            );
        }
    }

    /// A canvas with padding, the fitted picture and the borders of its tiles.
    fn part(&self, picture: Option<&Picture>, canvas: (u32, u32), place: Placement) -> Picture {
        let mut part = hatched(canvas, self.tile);
        let (width, height) = place.resized;
        let fitted = match picture {
            Some(picture) => resize(picture, width, height, Filter::Bicubic),
            None => Picture::filled(width, height, BLANK),
        };
        part.paste(&fitted, place.offset.0, place.offset.1);
        self.rule_lines(&mut part);
        part
    }

    /// Lines along the edges of all tiles, inside of them, so that nothing outside of the canvas is needed.
    fn rule_lines(&self, part: &mut Picture) {
        let thick = (self.tile / 128).max(1);
        let on_edge =
            |at: u32| at % self.tile < thick || at % self.tile >= self.tile - thick.min(self.tile);
        let width = part.width;
        for (index, pixel) in part.rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (x, y) = (index as u32 % width, index as u32 / width);
            if on_edge(x) || on_edge(y) {
                *pixel = LINE;
            }
        }
    }
}

/// Diagonal stripes.
fn hatched((width, height): (u32, u32), tile: u32) -> Picture {
    let period = (tile / 24).max(2);
    let mut picture = Picture::filled(width, height, HATCH[0]);
    for (index, pixel) in picture.rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (x, y) = (index as u32 % width, index as u32 / width);
        *pixel = HATCH[usize::from((x + y) % period < period / 4 + 1)];
    }
    picture
}
