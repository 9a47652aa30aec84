//! A picture before it is painted: a list of elements with places, which can be measured, moved and laid out again.

use crate::example::{Color, Shape, Sign};
use crate::fonts::Face;

/// Red, green, blue.
pub(crate) type Rgb = [u8; 3];

/// Something to paint. Coordinates are pixels from the upper left corner of the drawing.
#[derive(Clone, Debug)]
pub(crate) enum Element {
    /// A run of text; `y` is the baseline.
    Text {
        x: f32,
        y: f32,
        face: Face,
        ink: Rgb,
        text: String,
    },
    /// A filled box with round corners of `radius` (zero for none).
    Panel {
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        radius: f32,
        fill: Rgb,
    },
    /// A filled polygon, which is decoration: it gets no mark.
    Polygon { points: Vec<(f32, f32)>, fill: Rgb },
    /// A coloured shape, which gets a mark.
    Figure(Figure),
    /// Paints nothing: a mark for what other elements show around a point. `size` is that of the text beside it.
    Note {
        x: f32,
        y: f32,
        size: f32,
        sign: Sign,
    },
}

/// A shape around a centre.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) shape: Shape,
    pub(crate) color: Color,
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) radius: f32,
    /// Angle in radians, clockwise.
    pub(crate) turn: f32,
    pub(crate) fill: Rgb,
    /// Colour of an outline, drawn inside of the shape.
    pub(crate) edge: Option<Rgb>,
}

/// Elements with the size of what they need, margins included.
#[derive(Clone, Debug)]
pub(crate) struct Drawing {
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// Colour of the ground under the elements.
    pub(crate) ground: Rgb,
    pub(crate) elements: Vec<Element>,
}

/// Where a text stands relative to its `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

impl Drawing {
    /// An empty drawing on a ground.
    pub(crate) fn new(ground: Rgb) -> Drawing {
        Drawing {
            width: 0.0,
            height: 0.0,
            ground,
            elements: Vec::new(),
        }
    }

    /// Adds a text whose line begins at `top`; returns its width.
    pub(crate) fn text(
        &mut self,
        x: f32,
        top: f32,
        align: Align,
        face: Face,
        ink: Rgb,
        text: &str,
    ) -> f32 {
        let width = face.width(text);
        let left = match align {
            Align::Left => x,
            Align::Center => x - width / 2.0,
            Align::Right => x - width,
        };
        self.elements.push(Element::Text {
            x: left,
            y: top + face.rise(),
            face,
            ink,
            text: text.to_owned(),
        });
        width
    }

    /// Adds a filled box.
    pub(crate) fn panel(&mut self, x: f32, y: f32, width: f32, height: f32, fill: Rgb) {
        self.elements.push(Element::Panel {
            x,
            y,
            width,
            height,
            radius: 0.0,
            fill,
        });
    }

    /// Adds a box with a border: two filled boxes, one inside the other.
    pub(crate) fn bordered(
        &mut self,
        at: [f32; 4],
        radius: f32,
        border: f32,
        line: Rgb,
        fill: Rgb,
    ) {
        let [x, y, width, height] = at;
        self.elements.push(Element::Panel {
            x,
            y,
            width,
            height,
            radius,
            fill: line,
        });
        let (width, height) = (width - 2.0 * border, height - 2.0 * border);
        let radius = (radius - border).max(0.0);
        self.elements.push(Element::Panel {
            x: x + border,
            y: y + border,
            width,
            height,
            radius,
            fill,
        });
    }

    /// Says what the elements around a point mean.
    pub(crate) fn note(&mut self, x: f32, y: f32, size: f32, sign: Sign) {
        self.elements.push(Element::Note { x, y, size, sign });
    }

    /// Adds a horizontal rule, dashed if `dash` is above zero.
    pub(crate) fn rule(&mut self, x: f32, y: f32, width: f32, thickness: f32, dash: f32, ink: Rgb) {
        if dash <= 0.0 {
            return self.panel(x, y, width, thickness, ink);
        }
        let mut left = x;
        while left + dash <= x + width {
            self.panel(left, y, dash, thickness, ink);
            left += 2.0 * dash;
        }
    }

    /// Moves everything and gives the drawing a new size.
    pub(crate) fn place_in(&mut self, width: f32, height: f32, left: f32, top: f32) {
        for element in &mut self.elements {
            match element {
                Element::Text { x, y, .. }
                | Element::Panel { x, y, .. }
                | Element::Note { x, y, .. } => {
                    *x += left;
                    *y += top;
                }
                Element::Polygon { points, .. } => points.iter_mut().for_each(|(x, y)| {
                    *x += left;
                    *y += top;
                }),
                Element::Figure(figure) => {
                    figure.x += left;
                    figure.y += top;
                }
            }
        }
        self.width = width;
        self.height = height;
    }
}

/// The outline of a shape of radius one around the origin, y downwards.
pub(crate) fn outline(shape: Shape) -> Vec<(f32, f32)> {
    match shape {
        Shape::Circle => ring(40, &[1.0], 0.0),
        Shape::Square => vec![(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
        Shape::Triangle => vec![(0.0, -1.0), (0.98, 0.8), (-0.98, 0.8)],
        Shape::Star => ring(10, &[1.0, 0.42], -0.25),
        Shape::Diamond => vec![(0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)],
        Shape::Cross => {
            let (arm, end) = (0.3, 0.95);
            vec![
                (-arm, -end),
                (arm, -end),
                (arm, -arm),
                (end, -arm),
                (end, arm),
                (arm, arm),
                (arm, end),
                (-arm, end),
                (-arm, arm),
                (-end, arm),
                (-end, -arm),
                (-arm, -arm),
            ]
        }
        Shape::Hexagon => ring(6, &[1.0], 0.0),
        Shape::Heart => heart(),
    }
}

/// `count` points around the origin whose radii repeat; `start` is a part of a turn.
fn ring(count: usize, radii: &[f32], start: f64) -> Vec<(f32, f32)> {
    let point = |index: usize| {
        let angle = (start + index as f64 / count as f64) * std::f64::consts::TAU;
        let (sine, cosine) = crate::random::sine_cosine(angle);
        let radius = radii[index % radii.len()];
        (radius * cosine as f32, radius * sine as f32)
    };
    (0..count).map(point).collect()
}

/// The usual heart curve 16 sin³ t, 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t, scaled to radius one.
fn heart() -> Vec<(f32, f32)> {
    let point = |index: usize| {
        let angle = index as f64 / 40.0 * std::f64::consts::TAU;
        let cosine = |times: f64| crate::random::sine_cosine(times * angle).1;
        let sine = crate::random::sine_cosine(angle).0;
        let x = 16.0 * sine * sine * sine;
        let y = 13.0 * cosine(1.0) - 5.0 * cosine(2.0) - 2.0 * cosine(3.0) - cosine(4.0);
        (x as f32 / 17.0, -(y as f32 + 2.5) / 17.0)
    };
    (0..40).map(point).collect()
}

impl Figure {
    /// The outline in drawing pixels, shrunk towards the centre by `inset` pixels.
    pub(crate) fn points(&self, inset: f32) -> Vec<(f32, f32)> {
        let (sine, cosine) = crate::random::sine_cosine(f64::from(self.turn));
        let (sine, cosine) = (sine as f32, cosine as f32);
        let radius = (self.radius - inset).max(0.0);
        outline(self.shape)
            .into_iter()
            .map(|(x, y)| {
                (
                    self.x + radius * (x * cosine - y * sine),
                    self.y + radius * (x * sine + y * cosine),
                )
            })
            .collect()
    }
}

/// A mixture of two colours, `part` of 255 of the second.
pub(crate) fn mix(first: Rgb, second: Rgb, part: u32) -> Rgb {
    std::array::from_fn(|channel| {
        let (a, b) = (u32::from(first[channel]), u32::from(second[channel]));
        ((a * (255 - part) + b * part + 127) / 255) as u8
    })
}

/// Brightness as the eye sees it, 0 to 255.
pub(crate) fn brightness(color: Rgb) -> i32 {
    (i32::from(color[0]) * 299 + i32::from(color[1]) * 587 + i32::from(color[2]) * 114) / 1000
}
