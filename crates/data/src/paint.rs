//! Paints a drawing into pixels and notes what was painted where.

use crate::drawing::{Drawing, Element, Figure, Rgb};
use crate::example::{Mark, MarkClass};
use crate::fonts::{Face, GlyphCache, Sprite};

/// Pixels in the making.
pub(crate) struct Canvas {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Row-major RGB.
    pub(crate) rgb: Vec<u8>,
    pub(crate) marks: Vec<Mark>,
}

/// How grey edge pixels of glyphs are treated, as renderers differ in it: coverage to coverage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edges {
    /// As rasterised.
    Plain,
    /// Bolder: coverage is raised.
    Strong,
    /// Thinner: coverage is lowered.
    Thin,
    /// Nearly two levels, as on a fax.
    Hard,
}

impl Edges {
    fn table(self) -> [u8; 256] {
        std::array::from_fn(|index| {
            let part = index as i32;
            let value = match self {
                Edges::Plain => part,
                Edges::Strong => 255 - (255 - part) * (255 - part) / 255,
                Edges::Thin => (part + part * part / 255) / 2,
                Edges::Hard => (part - 96) * 4,
            };
            value.clamp(0, 255) as u8
        })
    }
}

/// Paints all elements in order.
pub(crate) fn paint(drawing: &Drawing, edges: Edges, cache: &mut GlyphCache) -> Canvas {
    let (width, height) = (
        drawing.width.round().max(1.0) as usize,
        drawing.height.round().max(1.0) as usize,
    );
    let mut canvas = Canvas {
        width,
        height,
        rgb: solid(width, height, drawing.ground),
        marks: Vec::new(),
    };
    let table = edges.table();
    for element in &drawing.elements {
        match element {
            Element::Text {
                x,
                y,
                face,
                ink,
                text,
            } => canvas.text((*x, *y), face, *ink, text, &table, cache),
            Element::Panel {
                x,
                y,
                width,
                height,
                radius,
                fill,
            } => {
                canvas.panel([*x, *y, *width, *height], *radius, *fill);
            }
            Element::Polygon { points, fill } => canvas.polygon(points, *fill),
            Element::Figure(figure) => canvas.figure(figure),
            Element::Note { x, y, size, sign } => canvas.marks.push(Mark {
                class: MarkClass::Sign(*sign),
                x0: (x - size / 2.0).clamp(0.0, width as f32),
                y0: (y - size / 2.0).clamp(0.0, height as f32),
                x1: (x + size / 2.0).clamp(0.0, width as f32),
                y1: (y + size / 2.0).clamp(0.0, height as f32),
                line: 0.0,
                size: *size,
            }),
        }
    }
    canvas
}

fn solid(width: usize, height: usize, color: Rgb) -> Vec<u8> {
    let row: Vec<u8> = color.iter().copied().cycle().take(width * 3).collect();
    let mut rgb = Vec::with_capacity(row.len() * height);
    for _ in 0..height {
        rgb.extend_from_slice(&row);
    }
    rgb
}

impl Canvas {
    fn text(
        &mut self,
        at: (f32, f32),
        face: &Face,
        ink: Rgb,
        text: &str,
        table: &[u8; 256],
        cache: &mut GlyphCache,
    ) {
        let (mut pen, baseline) = (at.0, at.1.round() as i32);
        let mut letter = [0u8; 4];
        for character in text.chars() {
            if let Some(sprite) = cache.sprite(face, character) {
                let left = pen.round() as i32 + sprite.left;
                self.glyph(&sprite, left, baseline + sprite.top, ink, table);
                let top = baseline + sprite.top;
                let place = [left, top, sprite.width as i32, sprite.height as i32];
                self.mark(character, place, baseline, face.size);
            } else if character == ' ' {
                // As tall as capital letters: a gap is a part of the text that a reader has to see.
                let height = (0.7 * face.size) as i32;
                let place = [
                    pen.round() as i32,
                    baseline - height,
                    face.width(" ") as i32,
                    height,
                ];
                self.mark(character, place, baseline, face.size);
            }
            pen += face.width(character.encode_utf8(&mut letter));
        }
    }

    /// Marks a glyph by its left and upper edge, width and height.
    fn mark(&mut self, character: char, place: [i32; 4], baseline: i32, size: f32) {
        let [left, top, width, height] = place;
        let clamp = |value: i32, limit: usize| value.clamp(0, limit as i32) as f32;
        let (x0, y0) = (clamp(left, self.width), clamp(top, self.height));
        let (x1, y1) = (
            clamp(left + width, self.width),
            clamp(top + height, self.height),
        );
        self.marks.push(Mark {
            class: MarkClass::Glyph(character),
            x0,
            y0,
            x1,
            y1,
            line: baseline as f32 - LINE_MIDDLE * size - (y0 + y1) / 2.0,
            size,
        });
    }

    fn glyph(&mut self, sprite: &Sprite, left: i32, top: i32, ink: Rgb, table: &[u8; 256]) {
        let first = (-left).clamp(0, sprite.width as i32) as usize;
        let last = (self.width as i32 - left).clamp(first as i32, sprite.width as i32) as usize;
        for row in 0..sprite.height {
            let y = top + row as i32;
            if y < 0 || y >= self.height as i32 {
                continue;
            }
            let start = (y as usize * self.width) as i32 + left;
            let coverage = &sprite.coverage[row * sprite.width + first..row * sprite.width + last];
            let pixels = &mut self.rgb
                [(start + first as i32) as usize * 3..(start + last as i32) as usize * 3];
            for (pixel, &part) in pixels.chunks_exact_mut(3).zip(coverage) {
                if part > 0 {
                    blend(pixel, ink, u32::from(table[usize::from(part)]));
                }
            }
        }
    }

    fn panel(&mut self, at: [f32; 4], radius: f32, fill: Rgb) {
        let [x, y, width, height] = at;
        if radius >= 1.0 {
            return self.polygon(&rounded(at, radius), fill);
        }
        // Rules thinner than a pixel still show.
        let left = x.round().clamp(0.0, self.width as f32) as usize;
        let top = y.round().clamp(0.0, self.height as f32) as usize;
        let right =
            ((x + width).round().max(x.round() + 1.0)).clamp(0.0, self.width as f32) as usize;
        let bottom =
            ((y + height).round().max(y.round() + 1.0)).clamp(0.0, self.height as f32) as usize;
        for row in top..bottom {
            let start = row * self.width;
            for pixel in
                self.rgb[(start + left) * 3..(start + right.max(left)) * 3].chunks_exact_mut(3)
            {
                pixel.copy_from_slice(&fill);
            }
        }
    }

    /// Fills a polygon by the even-odd rule: four lines per row, exact shares of pixels along a line.
    fn polygon(&mut self, points: &[(f32, f32)], fill: Rgb) {
        const LINES: usize = 4;
        let low = points
            .iter()
            .fold(f32::MAX, |low, point| low.min(point.1))
            .max(0.0) as usize;
        let high = points
            .iter()
            .fold(0.0f32, |high, point| high.max(point.1))
            .ceil() as usize;
        let mut crossings = Vec::new();
        let mut shares = vec![0.0f32; self.width];
        for row in low..high.min(self.height) {
            let mut span = (self.width, 0);
            for line in 0..LINES {
                let y = row as f32 + (line as f32 + 0.5) / LINES as f32;
                crossings_at(points, y, &mut crossings);
                for pair in crossings.chunks_exact(2) {
                    let (left, right) = (
                        pair[0].clamp(0.0, self.width as f32),
                        pair[1].clamp(0.0, self.width as f32),
                    );
                    add_span(&mut shares, left, right, 1.0 / LINES as f32);
                    span = (span.0.min(left as usize), span.1.max(right.ceil() as usize));
                }
            }
            let (first, last) = (span.0, span.1.min(self.width).max(span.0));
            let pixels =
                &mut self.rgb[(row * self.width + first) * 3..(row * self.width + last) * 3];
            for (pixel, share) in pixels.chunks_exact_mut(3).zip(&mut shares[first..last]) {
                blend(pixel, fill, (share.min(1.0) * 255.0 + 0.5) as u32);
                *share = 0.0;
            }
        }
    }

    fn figure(&mut self, figure: &Figure) {
        let points = figure.points(0.0);
        match figure.edge {
            Some(edge) => {
                self.polygon(&points, edge);
                self.polygon(&figure.points((figure.radius * 0.12).max(1.5)), figure.fill);
            }
            None => self.polygon(&points, figure.fill),
        }
        let (mut x0, mut y0, mut x1, mut y1) = (f32::MAX, f32::MAX, 0.0f32, 0.0f32);
        for (x, y) in points {
            (x0, y0, x1, y1) = (x0.min(x), y0.min(y), x1.max(x), y1.max(y));
        }
        let limit = (self.width as f32, self.height as f32);
        let (x0, y0) = (x0.clamp(0.0, limit.0), y0.clamp(0.0, limit.1));
        let (x1, y1) = (x1.clamp(x0, limit.0), y1.clamp(y0, limit.1));
        let class = MarkClass::Shape {
            shape: figure.shape,
            color: figure.color,
        };
        self.marks.push(Mark {
            class,
            x0,
            y0,
            x1,
            y1,
            line: 0.0,
            size: (x1 - x0).max(y1 - y0),
        });
    }
}

/// Height of the middle of a line above its baseline, between those of small and of capital letters, in text sizes.
const LINE_MIDDLE: f32 = 0.3;

fn blend(pixel: &mut [u8], ink: Rgb, part: u32) {
    for (value, target) in pixel.iter_mut().zip(ink) {
        // (v·(255−p) + t·p) / 255, rounded, without a division.
        let sum = u32::from(*value) * (255 - part) + u32::from(target) * part + 128;
        *value = ((sum + (sum >> 8)) >> 8) as u8;
    }
}

fn crossings_at(points: &[(f32, f32)], y: f32, crossings: &mut Vec<f32>) {
    crossings.clear();
    let mut from = points[points.len() - 1];
    for &to in points {
        if (from.1 <= y) != (to.1 <= y) {
            crossings.push(from.0 + (y - from.1) * (to.0 - from.0) / (to.1 - from.1));
        }
        from = to;
    }
    crossings.sort_by(f32::total_cmp);
}

fn add_span(shares: &mut [f32], left: f32, right: f32, amount: f32) {
    let (first, last) = (
        left as usize,
        (right as usize).min(shares.len().saturating_sub(1)),
    );
    if right <= left || first >= shares.len() {
        return;
    }
    if first == last {
        shares[first] += (right - left) * amount;
        return;
    }
    shares[first] += (first as f32 + 1.0 - left) * amount;
    for share in &mut shares[first + 1..last] {
        *share += amount;
    }
    shares[last] += (right - last as f32) * amount;
}

/// The outline of a box with round corners.
fn rounded(at: [f32; 4], radius: f32) -> Vec<(f32, f32)> {
    let [x, y, width, height] = at;
    let radius = radius.min(width / 2.0).min(height / 2.0);
    let corners = [
        (x + width - radius, y + height - radius, 0.0),
        (x + radius, y + height - radius, 0.25),
        (x + radius, y + radius, 0.5),
        (x + width - radius, y + radius, 0.75),
    ];
    let mut points = Vec::with_capacity(24);
    for (center_x, center_y, start) in corners {
        for step in 0..6 {
            let angle = (start + 0.25 * f64::from(step) / 5.0) * std::f64::consts::TAU;
            let (sine, cosine) = crate::random::sine_cosine(angle);
            points.push((
                center_x + radius * cosine as f32,
                center_y + radius * sine as f32,
            ));
        }
    }
    points
}
