//! A sign: a panel on a wall with one to three lines.

use crate::drawing::{Align, Drawing, Element, Rgb};
use crate::example::{Kind, Question};
use crate::fonts::Face;
use crate::layout::Content;
use crate::questions::{ask, reading};
use crate::random::Random;
use crate::recipe::Recipe;
use crate::style::{self, Palette};
use crate::vocabulary;

pub(crate) struct Sign {
    lines: Vec<String>,
    face: Face,
    scales: Vec<f32>,
    palette: Palette,
    /// Colour of the wall; without one, the sign fills the picture.
    wall: Option<Rgb>,
    border: Option<(Rgb, f32)>,
    radius: f32,
    arrow: Option<Align>,
    padding: f32,
    spacing: f32,
    align: Align,
}

pub(crate) fn invent(random: &mut Random, recipe: &Recipe) -> Sign {
    let lines = texts(random, recipe);
    let even = random.chance(0.7);
    let scales = lines
        .iter()
        .map(|_| if even { 1.0 } else { random.size(1.0, 1.8) })
        .collect();
    let palette = Palette::choose(random);
    let border = random
        .chance(0.5)
        .then(|| (palette.strong, random.real(0.06, 0.25)));
    Sign {
        lines,
        face: style::face(random, recipe),
        scales,
        palette,
        wall: random.chance(0.6).then(|| style::color(random, 0, 255)),
        border,
        radius: if random.chance(0.4) {
            random.real(0.2, 1.2)
        } else {
            0.0
        },
        arrow: random
            .chance(0.12)
            .then(|| random.pick(&[Align::Left, Align::Right])),
        padding: random.size(0.5, 1.6),
        spacing: random.size(1.0, 1.5),
        align: if random.chance(0.75) {
            Align::Center
        } else {
            Align::Left
        },
    }
}

fn texts(random: &mut Random, recipe: &Recipe) -> Vec<String> {
    if random.chance(recipe.chinese) {
        let mut lines = vec![(random.pick(vocabulary::chinese_signs())).to_owned()];
        if random.chance(0.4) {
            lines.push((random.pick(&vocabulary::SIGNS)).to_owned());
        }
        return lines;
    }
    let words: Vec<String> = match random.weighted(&[0.35, 0.45, 0.2]) {
        0 => {
            let text = random.pick(&vocabulary::SIGNS);
            let text = if random.chance(0.5) {
                text.to_owned()
            } else {
                vocabulary::cased(random, text)
            };
            text.split(' ').map(str::to_owned).collect()
        }
        1 => (0..random.between(1, 5))
            .map(|_| vocabulary::any_word(random))
            .collect(),
        _ => {
            let mut words = vec![
                vocabulary::any_word(random),
                vocabulary::number_text(random),
            ];
            random.shuffle(&mut words);
            words
        }
    };
    let words = if random.chance(0.4) {
        words.iter().map(|word| word.to_uppercase()).collect()
    } else {
        words
    };
    wrap(random, words)
}

/// Spreads the words over one to three lines.
fn wrap(random: &mut Random, words: Vec<String>) -> Vec<String> {
    let most = words.len().min(3);
    let count = random.between(1, most);
    let mut lines = vec![Vec::new(); count];
    let total = words.len();
    for (index, word) in words.into_iter().enumerate() {
        lines[index * count / total].push(word);
    }
    lines.into_iter().map(|line| line.join(" ")).collect()
}

impl Sign {
    fn answer(&self) -> String {
        self.lines.join(" ")
    }

    /// The lines inside of the panel: (face, text), and the size of their block.
    fn block(&self, size: f32) -> (Vec<Face>, f32, f32) {
        let faces: Vec<Face> = self
            .scales
            .iter()
            .map(|scale| self.face.at(size * scale))
            .collect();
        let width = faces
            .iter()
            .zip(&self.lines)
            .fold(0.0f32, |most, (face, line)| most.max(face.width(line)));
        let last = faces.last().map_or(0.0, Face::line);
        let height = faces
            .iter()
            .map(|face| face.line() * self.spacing)
            .sum::<f32>()
            - last * (self.spacing - 1.0);
        (faces, width, height)
    }

    fn draw_arrow(&self, drawing: &mut Drawing, size: f32, x: f32, y: f32, side: Align) {
        let shape = [
            (0.0, -0.15),
            (1.0, -0.15),
            (1.0, -0.5),
            (1.7, 0.0),
            (1.0, 0.5),
            (1.0, 0.15),
            (0.0, 0.15),
        ];
        let points = shape.map(|(along, down)| {
            let along = if side == Align::Left {
                1.7 - along
            } else {
                along
            };
            (x + along * size, y + down * size)
        });
        drawing.elements.push(Element::Polygon {
            points: points.to_vec(),
            fill: self.palette.strong,
        });
    }
}

impl Content for Sign {
    fn lay_out(&self, size: f32) -> Drawing {
        let (faces, width, height) = self.block(size);
        let edge = self.border.map_or(0.0, |(_, part)| (part * size).max(1.0));
        let padding = self.padding * size + edge * 2.0;
        let wall = if self.wall.is_some() { 0.6 * size } else { 0.0 };
        let arrow = if self.arrow.is_some() {
            2.2 * size
        } else {
            0.0
        };
        let (panel_width, panel_height) = (width + arrow + 2.0 * padding, height + 2.0 * padding);
        let mut drawing = Drawing::new(self.wall.unwrap_or(self.palette.ground));
        let at = [wall, wall, panel_width, panel_height];
        let radius = self.radius * size;
        match self.border {
            Some((line, _)) if self.wall.is_some() => {
                drawing.bordered(at, radius, edge, line, self.palette.ground)
            }
            Some((line, _)) => {
                let inner = [
                    edge,
                    edge,
                    panel_width - 2.0 * edge,
                    panel_height - 2.0 * edge,
                ];
                drawing.bordered(inner, radius, edge, line, self.palette.ground);
            }
            None => drawing.elements.push(Element::Panel {
                x: wall,
                y: wall,
                width: panel_width,
                height: panel_height,
                radius,
                fill: self.palette.ground,
            }),
        }
        let left = wall
            + padding
            + if self.arrow == Some(Align::Left) {
                arrow
            } else {
                0.0
            };
        let x = if self.align == Align::Center {
            left + width / 2.0
        } else {
            left
        };
        let mut top = wall + padding;
        for (face, line) in faces.iter().zip(&self.lines) {
            drawing.text(x, top, self.align, *face, self.palette.ink, line);
            top += face.line() * self.spacing;
        }
        if let Some(side) = self.arrow {
            let x = if side == Align::Left {
                wall + padding
            } else {
                left + width + 0.5 * size
            };
            self.draw_arrow(&mut drawing, size, x, wall + padding + height / 2.0, side);
        }
        drawing.width = panel_width + 2.0 * wall;
        drawing.height = panel_height + 2.0 * wall;
        drawing
    }

    fn shrink(&mut self) -> bool {
        if self.arrow.take().is_some() {
            return true;
        }
        if self.scales.iter().any(|&scale| scale > 1.0) {
            self.scales.iter_mut().for_each(|scale| *scale = 1.0);
            return true;
        }
        let longest = self
            .lines
            .iter()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0);
        if self.lines.len() > 1 && self.lines.len() * 2 > longest {
            self.lines.pop();
            self.scales.pop();
            return true;
        }
        let Some(line) = self
            .lines
            .iter_mut()
            .max_by_key(|line| line.chars().count())
        else {
            return false;
        };
        match line.rfind(' ') {
            Some(space) => line.truncate(space),
            None if longest > 1 => {
                line.pop();
            }
            None => return false,
        }
        true
    }

    fn questions(&self, random: &mut Random) -> Vec<Question> {
        let wordings = [
            "What does the sign say?",
            "What is written on the sign?",
            "Read the sign.",
            "What is the text on the sign?",
            "What does this sign say?",
            "What does it say?",
        ];
        let answer = self.answer();
        let mut questions =
            vec![ask(Kind::Read, wordings[0], answer.clone()).thinking(self.lines.join(" / "))];
        let other = random.pick(&wordings[1..]);
        questions.push(ask(Kind::Read, other, answer.clone()).thinking(self.lines.join(" / ")));
        if self.lines.iter().any(|line| !line.is_ascii()) {
            questions.push(ask(Kind::Read, "牌子上写的是什么？", answer.clone()));
        }
        let words: Vec<&str> = answer.split(' ').collect();
        if words.len() > 1 {
            questions.push(ask(
                Kind::Read,
                "What is the first word on the sign?",
                words[0],
            ));
            questions.push(ask(
                Kind::Read,
                "What is the last word on the sign?",
                words[words.len() - 1],
            ));
        }
        questions.extend(reading(random, &self.lines));
        questions
    }

    fn twin(&self) -> String {
        self.lines.join("\n")
    }
}
