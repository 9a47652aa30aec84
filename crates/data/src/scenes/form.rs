//! A form as on a screen: labelled fields, boxes to check, switches, buttons.

use crate::drawing::{Align, Drawing, Element, Rgb};
use crate::example::{Question, Sign};
use crate::fonts::Face;
use crate::layout::Content;
use crate::questions::capitalised;
use crate::random::Random;
use crate::recipe::Recipe;
use crate::style::{self, Palette};
use crate::vocabulary;

pub(crate) struct Form {
    pub(super) title: Option<String>,
    pub(super) fields: Vec<Field>,
    pub(super) choices: Vec<Choice>,
    pub(super) buttons: Vec<String>,
    pub(super) look: Look,
}

pub(super) struct Field {
    pub(super) label: String,
    pub(super) value: String,
}

/// Something that is on or off.
pub(super) struct Choice {
    pub(super) label: String,
    pub(super) on: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    /// Left of the field, aligned at their left or right edges.
    Beside(Align),
    Above,
    /// "Label: value" without a box.
    Plain,
}

pub(super) struct Look {
    pub(super) palette: Palette,
    pub(super) face: Face,
    pub(super) head: Face,
    pub(super) labels: Labels,
    pub(super) colon: bool,
    pub(super) switches: bool,
    /// Fill, text colour of the title bar; without it the title is plain text.
    pub(super) bar: Option<(Rgb, Rgb)>,
    pub(super) button: (Rgb, Rgb),
    pub(super) accent: Rgb,
    pub(super) field: Rgb,
    /// Empty room in fields, in text sizes.
    pub(super) slack: f32,
    pub(super) radius: f32,
    pub(super) pitch: f32,
    pub(super) margin: f32,
}

pub(crate) fn invent(random: &mut Random, recipe: &Recipe) -> Form {
    let most = recipe.max_items.clamp(1, 7);
    let mut fields = Vec::new();
    let chinese = random.chance(recipe.chinese);
    let count = random.between(1, most);
    let labels = vocabulary::distinct(random, count, |random| {
        random.pick(&vocabulary::FORM_FIELDS).to_owned()
    });
    for label in labels {
        // Two names for one thing would make a question about either ambiguous.
        let twins = [
            ["Email", "E-mail"],
            ["Phone", "Mobile"],
            ["Address", "Street"],
        ];
        let taken = |pair: &[&str; 2]| {
            pair.contains(&label.as_str())
                && fields
                    .iter()
                    .any(|field: &Field| pair.contains(&field.label.as_str()))
        };
        if twins.iter().any(taken) {
            continue;
        }
        let value = value(random, &label);
        fields.push(Field { label, value });
    }
    if chinese {
        fields = [
            ("姓名", "Name"),
            ("电话", "Phone"),
            ("城市", "City"),
            ("年龄", "Age"),
        ]
        .map(|(label, same)| Field {
            label: label.to_owned(),
            value: value(random, same),
        })
        .into_iter()
        .take(count.max(2))
        .collect();
    }
    let count = random.pick(&[0, 0, 1, 1, 2, 3, 4]).min(most);
    let choices = vocabulary::distinct(random, count, |random| {
        random.pick(&vocabulary::FORM_CHOICES).to_owned()
    })
    .into_iter()
    .map(|label| Choice {
        label,
        on: random.chance(0.5),
    })
    .collect();
    let count = random.pick(&[0, 1, 1, 2, 2, 3]);
    let buttons = vocabulary::distinct(random, count, |random| {
        random.pick(&vocabulary::FORM_BUTTONS).to_owned()
    });
    let title = random.chance(0.65).then(|| {
        if random.chance(0.7) {
            random.pick(&vocabulary::FORM_TITLES).to_owned()
        } else {
            capitalised(&vocabulary::any_word(random))
        }
    });
    Form {
        title,
        fields,
        choices,
        buttons,
        look: look(random, recipe),
    }
}

fn value(random: &mut Random, label: &str) -> String {
    let first = random.pick(&vocabulary::FIRST_NAMES);
    let last = random.pick(&vocabulary::FAMILY_NAMES);
    match label {
        "Name" => format!("{first} {last}"),
        "First name" => first.to_owned(),
        "Last name" => last.to_owned(),
        "Email" | "E-mail" => email(random, first, last),
        "Phone" | "Mobile" => match random.below(3) {
            0 => format!("{:03}-{:04}", random.below(1000), random.below(10_000)),
            1 => format!(
                "+{} {} {}",
                random.between(1, 99),
                random.between(100, 999),
                random.between(1000, 99_999)
            ),
            _ => format!(
                "0{} {}",
                random.between(100, 999),
                random.between(10_000, 999_999)
            ),
        },
        "City" | "Country" => random.pick(&vocabulary::CITIES).to_owned(),
        "Address" | "Street" => format!(
            "{} {} {}",
            random.between(1, 300),
            capitalised(vocabulary::word(random)),
            random.pick(&["St", "Road", "Lane", "Avenue"])
        ),
        "ZIP code" => format!("{:05}", random.below(100_000)),
        "Age" => random.between(18, 99).to_string(),
        "Date of birth" | "Date" => vocabulary::date(random),
        "Company" => format!(
            "{last} {}",
            random.pick(&["Ltd", "Inc", "GmbH", "& Co", "Group", "Labs"])
        ),
        "User name" => format!("{}{}", first.to_lowercase(), random.below(1000)),
        "Order number" | "Account" => random.between(1000, 9_999_999).to_string(),
        "Time" => vocabulary::time(random),
        "Room" => random.between(1, 999).to_string(),
        _ => {
            let length = random.between(4, 8);
            vocabulary::code(random, length)
        }
    }
}

fn email(random: &mut Random, first: &str, last: &str) -> String {
    let (first, last) = (first.to_lowercase(), last.to_lowercase());
    let host = random.pick(&[
        "mail.com",
        "example.com",
        "web.de",
        "post.org",
        "inbox.net",
        "home.uk",
    ]);
    match random.below(4) {
        0 => format!("{first}@{host}"),
        1 => format!("{first}.{last}@{host}"),
        2 => format!("{first}{}@{host}", random.below(100)),
        _ => format!("{}@{host}", vocabulary::word(random)),
    }
}

fn look(random: &mut Random, recipe: &Recipe) -> Look {
    let palette = if random.chance(0.75) {
        Palette::paper(random)
    } else {
        Palette::choose(random)
    };
    let face = style::face(random, recipe);
    let button = palette.accent(random);
    let labels = match random.below(7) {
        0 | 1 => Labels::Beside(Align::Left),
        2 | 3 => Labels::Beside(Align::Right),
        4 | 5 => Labels::Above,
        _ => Labels::Plain,
    };
    let light = crate::drawing::brightness(palette.ground) > 140;
    Look {
        palette,
        face,
        head: style::heading(face, random, recipe),
        labels,
        colon: labels == Labels::Plain || random.chance(0.5),
        switches: random.chance(0.25),
        bar: random.chance(0.45).then(|| palette.accent(random)),
        button,
        accent: button.0,
        field: if light && random.chance(0.5) {
            [255; 3]
        } else {
            palette.ground
        },
        slack: random.size(0.5, 4.0),
        radius: if random.chance(0.5) {
            random.real(0.1, 0.6)
        } else {
            0.0
        },
        pitch: random.size(1.6, 2.6),
        margin: random.size(0.5, 1.6),
    }
}

/// Lengths of one layout in pixels.
struct Measures {
    face: Face,
    size: f32,
    margin: f32,
    line: f32,
    pitch: f32,
    labels: f32,
    field: f32,
    box_height: f32,
}

impl Form {
    fn label(&self, field: &Field) -> String {
        if self.look.colon {
            format!("{}:", field.label)
        } else {
            field.label.clone()
        }
    }

    fn measures(&self, size: f32) -> Measures {
        let face = self.look.face.at(size);
        let widest = |texts: &mut dyn Iterator<Item = String>| {
            texts.map(|text| face.width(&text)).fold(0.0, f32::max)
        };
        let box_height = face.line() + 0.3 * size;
        Measures {
            face,
            size,
            margin: self.look.margin * size,
            line: (size / 16.0).max(1.0),
            pitch: (self.look.pitch * size).max(box_height + 0.25 * size),
            labels: widest(&mut self.fields.iter().map(|field| self.label(field))),
            field: widest(&mut self.fields.iter().map(|field| field.value.clone()))
                + (0.8 + self.look.slack) * size,
            box_height,
        }
    }

    fn put_title(&self, at: &Measures, drawing: &mut Drawing, top: &mut f32) -> f32 {
        let Some(title) = &self.title else {
            *top += at.margin;
            return 0.0;
        };
        let face = self.look.head.at(at.size);
        let Some((fill, ink)) = self.look.bar else {
            *top += at.margin;
            let width = drawing.text(
                at.margin,
                *top,
                Align::Left,
                face,
                self.look.palette.strong,
                title,
            );
            *top += face.line() + 0.5 * at.size;
            return width + 2.0 * at.margin;
        };
        // The bar is as wide as the form; its width follows at the end.
        let height = face.line() + 0.5 * at.size;
        drawing.panel(0.0, 0.0, 0.0, height, fill);
        let width = drawing.text(0.5 * at.size, 0.25 * at.size, Align::Left, face, ink, title);
        *top = height + at.margin * 0.8;
        width + 2.0 * at.size
    }

    fn put_field(&self, at: &Measures, drawing: &mut Drawing, field: &Field, top: &mut f32) -> f32 {
        let palette = &self.look.palette;
        let label = self.label(field);
        let inset = 0.15 * at.size;
        match self.look.labels {
            Labels::Plain => {
                let width = drawing.text(
                    at.margin,
                    *top,
                    Align::Left,
                    at.face,
                    palette.strong,
                    &label,
                );
                let x = at.margin + width + 0.4 * at.size;
                let value = drawing.text(x, *top, Align::Left, at.face, palette.ink, &field.value);
                *top += at.pitch;
                x + value + at.margin
            }
            Labels::Above => {
                let width = drawing.text(
                    at.margin,
                    *top,
                    Align::Left,
                    at.face,
                    palette.strong,
                    &label,
                );
                *top += at.face.line() + 0.1 * at.size;
                self.put_box(at, drawing, at.margin, *top);
                drawing.text(
                    at.margin + 0.4 * at.size,
                    *top + inset,
                    Align::Left,
                    at.face,
                    self.field_ink(),
                    &field.value,
                );
                *top += at.box_height + (at.pitch - at.box_height) * 0.6;
                at.margin * 2.0 + width.max(at.field)
            }
            Labels::Beside(align) => {
                let x = if align == Align::Left {
                    at.margin
                } else {
                    at.margin + at.labels
                };
                drawing.text(x, *top + inset, align, at.face, palette.strong, &label);
                let left = at.margin + at.labels + 0.6 * at.size;
                self.put_box(at, drawing, left, *top);
                drawing.text(
                    left + 0.4 * at.size,
                    *top + inset,
                    Align::Left,
                    at.face,
                    self.field_ink(),
                    &field.value,
                );
                *top += at.pitch;
                left + at.field + at.margin
            }
        }
    }

    fn field_ink(&self) -> Rgb {
        let look = &self.look;
        if look.field == look.palette.ground {
            look.palette.ink
        } else {
            [20, 20, 30]
        }
    }

    fn put_box(&self, at: &Measures, drawing: &mut Drawing, left: f32, top: f32) {
        let place = [left, top, at.field, at.box_height];
        drawing.bordered(
            place,
            self.look.radius * at.size,
            at.line,
            self.look.palette.faint,
            self.look.field,
        );
    }

    fn put_choice(
        &self,
        at: &Measures,
        drawing: &mut Drawing,
        choice: &Choice,
        top: &mut f32,
    ) -> f32 {
        let side = at.size * 0.95;
        let (left, upper) = (at.margin, *top + (at.face.line() - side) / 2.0);
        let width = if self.look.switches { side * 1.8 } else { side };
        if self.look.switches {
            let fill = if choice.on {
                self.look.accent
            } else {
                self.look.palette.tint
            };
            drawing.bordered(
                [left, upper, width, side],
                side / 2.0,
                at.line,
                self.look.palette.faint,
                fill,
            );
            let knob = side - 4.0 * at.line;
            let x = left
                + if choice.on {
                    width - knob - 2.0 * at.line
                } else {
                    2.0 * at.line
                };
            let fill = if choice.on {
                self.look.button.1
            } else {
                self.look.palette.ink
            };
            drawing.elements.push(Element::Panel {
                x,
                y: upper + 2.0 * at.line,
                width: knob,
                height: knob,
                radius: knob / 2.0,
                fill,
            });
        } else {
            let fill = self.look.field;
            drawing.bordered(
                [left, upper, side, side],
                self.look.radius * at.size * 0.4,
                at.line * 1.5,
                self.look.palette.faint,
                fill,
            );
            if choice.on {
                let tick = [
                    (0.15, 0.5),
                    (0.3, 0.38),
                    (0.44, 0.58),
                    (0.78, 0.14),
                    (0.92, 0.26),
                    (0.46, 0.86),
                ];
                let points = tick
                    .map(|(x, y)| (left + x * side, upper + y * side))
                    .to_vec();
                drawing.elements.push(Element::Polygon {
                    points,
                    fill: self.field_ink(),
                });
            }
        }
        let sign = if choice.on {
            Sign::Checked
        } else {
            Sign::Unchecked
        };
        drawing.note(left + width / 2.0, upper + side / 2.0, at.size, sign);
        let x = left + width + 0.5 * at.size;
        let label = drawing.text(
            x,
            *top,
            Align::Left,
            at.face,
            self.look.palette.ink,
            &choice.label,
        );
        *top += at.pitch.min(at.face.line() * 1.6);
        x + label + at.margin
    }

    fn put_buttons(&self, at: &Measures, drawing: &mut Drawing, top: &mut f32) -> f32 {
        if self.buttons.is_empty() {
            return 0.0;
        }
        *top += 0.2 * at.size;
        let mut left = at.margin;
        for (index, button) in self.buttons.iter().enumerate() {
            let (width, height) = (
                at.face.width(button) + 1.4 * at.size,
                at.face.line() + 0.5 * at.size,
            );
            let radius = self.look.radius * at.size;
            let plain = index > 0;
            let (fill, ink) = if plain {
                (self.look.palette.ground, self.look.palette.ink)
            } else {
                self.look.button
            };
            let line = if plain { self.look.palette.faint } else { fill };
            drawing.bordered([left, *top, width, height], radius, at.line, line, fill);
            drawing.text(
                left + width / 2.0,
                *top + 0.25 * at.size,
                Align::Center,
                at.face,
                ink,
                button,
            );
            left += width + 0.6 * at.size;
        }
        *top += at.face.line() + 0.5 * at.size;
        left - 0.6 * at.size + at.margin
    }
}

impl Content for Form {
    fn lay_out(&self, size: f32) -> Drawing {
        let mut drawing = Drawing::new(self.look.palette.ground);
        let at = self.measures(size);
        let mut top = 0.0;
        let mut width = self.put_title(&at, &mut drawing, &mut top);
        for field in &self.fields {
            width = width.max(self.put_field(&at, &mut drawing, field, &mut top));
        }
        for choice in &self.choices {
            width = width.max(self.put_choice(&at, &mut drawing, choice, &mut top));
        }
        width = width.max(self.put_buttons(&at, &mut drawing, &mut top));
        if let (Some(_), Some(_), Some(Element::Panel { width: bar, .. })) =
            (&self.title, self.look.bar, drawing.elements.first_mut())
        {
            *bar = width;
        }
        drawing.width = width;
        drawing.height = top + at.margin;
        drawing
    }

    fn shrink(&mut self) -> bool {
        if self.look.slack > 1.0 {
            self.look.slack = 0.5;
        } else if self.look.pitch > 1.8 {
            self.look.pitch = 1.6;
        } else if matches!(self.look.labels, Labels::Beside(_)) && self.fields.len() < 4 {
            self.look.labels = Labels::Above;
        } else if self.buttons.len() > 1 || self.choices.len() > 2 {
            self.buttons.truncate(1);
            self.choices.truncate(2);
        } else if self.fields.len() > 2 {
            self.fields.pop();
        } else if self.choices.pop().is_some() || self.buttons.pop().is_some() {
        } else if self.fields.len() > 1 {
            // The widest goes.
            let width = |field: &Field| field.label.len() + field.value.len();
            let widest = (0..self.fields.len())
                .max_by_key(|&index| width(&self.fields[index]))
                .unwrap_or(0);
            self.fields.remove(widest);
        } else if self.title.take().is_some() {
        } else if self.fields[0].value.chars().count() > 3 {
            self.fields[0].value.pop();
        } else {
            return false;
        }
        true
    }

    fn questions(&self, random: &mut Random) -> Vec<Question> {
        let mut questions = Vec::new();
        self.ask_fields(random, &mut questions);
        self.ask_choices(random, &mut questions);
        self.ask_rest(random, &mut questions);
        questions
    }

    fn twin(&self) -> String {
        self.lines().join("\n")
    }
}
