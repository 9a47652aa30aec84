//! A bar chart, upright or lying, with numbers at the bars or only at the axis.

use crate::drawing::{Align, Drawing, Rgb, brightness};
use crate::example::{Question, Sign};
use crate::fonts::Face;
use crate::layout::Content;
use crate::random::Random;
use crate::recipe::Recipe;
use crate::style::{self, Palette};
use crate::vocabulary;

pub(crate) struct Bars {
    pub(super) title: Option<String>,
    /// Printed label, long form for questions, value.
    pub(super) bars: Vec<Bar>,
    /// What a bar stands for: month, day, city.
    pub(super) noun: &'static str,
    pub(super) tick: i64,
    pub(super) ticks: i64,
    pub(super) look: Look,
}

pub(super) struct Bar {
    pub(super) label: String,
    pub(super) asked: String,
    pub(super) value: i64,
    pub(super) fill: Rgb,
}

pub(super) struct Look {
    pub(super) palette: Palette,
    pub(super) face: Face,
    pub(super) head: Face,
    pub(super) upright: bool,
    /// Numbers at the bars.
    pub(super) values: bool,
    /// Numbers and lines of the axis.
    pub(super) axis: bool,
    /// Room that the longest bar gets, in text sizes.
    pub(super) reach: f32,
    pub(super) thickness: f32,
    pub(super) gap: f32,
    pub(super) margin: f32,
    /// A box around the plot, as plotting programs draw it.
    pub(super) frame: bool,
}

pub(crate) fn invent(random: &mut Random, recipe: &Recipe) -> Bars {
    let count = random.between(2, recipe.max_items.clamp(2, 12));
    let (noun, labels) = labels(random, count, recipe.chinese);
    let values_shown = random.chance(0.6);
    let tick = random.pick(&[1, 2, 5, 5, 10, 10, 10, 20, 20, 25, 50, 100]);
    let ticks = random.between(3, 6) as i64;
    let palette = if random.chance(0.8) {
        Palette::paper(random)
    } else {
        Palette::choose(random)
    };
    let fill = bar_color(random, &palette);
    let even = random.chance(0.65);
    // A bar between two lines of the axis could be read either way, so unlabelled bars end on a line or halfway.
    let half = tick % 2 == 0 && random.chance(0.5);
    let bars = labels
        .into_iter()
        .map(|(label, asked)| Bar {
            label,
            asked,
            value: match (values_shown, half) {
                (true, _) => random.between(1, (tick * ticks) as usize) as i64,
                (false, true) => random.between(1, ticks as usize * 2) as i64 * tick / 2,
                (false, false) => random.between(1, ticks as usize) as i64 * tick,
            },
            fill: if even {
                fill
            } else {
                bar_color(random, &palette)
            },
        })
        .collect();
    let face = style::face(random, recipe);
    let title = random.chance(0.5).then(|| title(random));
    let look = Look {
        palette,
        face,
        head: style::heading(face, random, recipe),
        upright: random.chance(0.65),
        values: values_shown,
        axis: !values_shown || random.chance(0.4),
        reach: random.size(5.0, 11.0),
        thickness: random.real(0.8, 2.2),
        gap: random.real(0.2, 1.2),
        margin: random.size(0.4, 1.4),
        frame: random.chance(0.3),
    };
    Bars {
        title,
        bars,
        noun,
        tick,
        ticks,
        look,
    }
}

/// First colours of common plotting programs.
const PLOT_COLORS: [Rgb; 8] = [
    [31, 119, 180],
    [255, 127, 14],
    [44, 160, 44],
    [214, 39, 40],
    [148, 103, 189],
    [66, 133, 244],
    [68, 114, 196],
    [54, 162, 235],
];

fn bar_color(random: &mut Random, palette: &Palette) -> Rgb {
    for _ in 0..10 {
        let fill = if random.chance(0.4) {
            random.pick(&PLOT_COLORS)
        } else {
            style::color(random, 20, 240)
        };
        if (brightness(fill) - brightness(palette.ground)).abs() > 40 {
            return fill;
        }
    }
    palette.ink
}

fn title(random: &mut Random) -> String {
    let word = crate::questions::capitalised(&vocabulary::any_word(random));
    match random.below(4) {
        0 => format!("Sales {}", random.between(1990, 2030)),
        1 => format!("{word} per month"),
        2 => format!("{word} sold"),
        _ => word,
    }
}

/// Printed labels with the words that questions use for them.
fn labels(
    random: &mut Random,
    count: usize,
    chinese: f32,
) -> (&'static str, Vec<(String, String)>) {
    let short = random.chance(0.5);
    let run = |random: &mut Random, names: &[&str]| -> Vec<(String, String)> {
        let start = random.below(names.len());
        let names = names
            .iter()
            .cycle()
            .skip(start)
            .take(count.min(names.len()));
        names
            .map(|&name| {
                (
                    if short {
                        name[..3].to_owned()
                    } else {
                        name.to_owned()
                    },
                    name.to_owned(),
                )
            })
            .collect()
    };
    let same = |texts: Vec<String>| {
        texts
            .into_iter()
            .map(|text| (text.clone(), text))
            .collect::<Vec<_>>()
    };
    if random.chance(chinese) {
        let months = [
            "一月", "二月", "三月", "四月", "五月", "六月", "七月", "八月", "九月", "十月",
        ];
        return (
            "month",
            same(
                months
                    .iter()
                    .take(count)
                    .map(|&month| month.to_owned())
                    .collect(),
            ),
        );
    }
    match random.weighted(&[0.35, 0.12, 0.12, 0.12, 0.1, 0.1, 0.09]) {
        0 => ("month", run(random, &vocabulary::MONTHS)),
        1 => ("day", run(random, &vocabulary::DAYS)),
        2 => (
            "city",
            same(vocabulary::distinct(random, count, |random| {
                random.pick(&vocabulary::CITIES).to_owned()
            })),
        ),
        3 => (
            "name",
            same(vocabulary::distinct(random, count, |random| {
                random.pick(&vocabulary::FIRST_NAMES).to_owned()
            })),
        ),
        4 => (
            "category",
            same(vocabulary::distinct(random, count, |random| {
                random.pick(&vocabulary::SUBJECTS).to_owned()
            })),
        ),
        5 => {
            let start = random.between(1990, 2020);
            (
                "year",
                same(
                    (start..start + count)
                        .map(|year| year.to_string())
                        .collect(),
                ),
            )
        }
        _ => (
            "category",
            same(vocabulary::distinct(random, count, |random| {
                let word = vocabulary::pseudo_word(random);
                crate::questions::capitalised(&word)
            })),
        ),
    }
}

/// Lengths of one layout in pixels.
struct Measures {
    face: Face,
    size: f32,
    margin: f32,
    top: f32,
    reach: f32,
    slot: f32,
    thick: f32,
    line: f32,
}

impl Bars {
    fn limit(&self) -> i64 {
        let highest = self.bars.iter().map(|bar| bar.value).max().unwrap_or(1);
        if self.look.axis {
            self.tick * self.ticks
        } else {
            highest
        }
    }

    fn widest(&self, face: Face) -> f32 {
        self.bars
            .iter()
            .fold(0.0, |most, bar| most.max(face.width(&bar.label)))
    }

    fn widest_value(&self, face: Face) -> f32 {
        self.bars.iter().fold(0.0, |most, bar| {
            most.max(face.width(&bar.value.to_string()))
        })
    }

    fn measures(&self, size: f32) -> Measures {
        let look = &self.look;
        let face = look.face.at(size);
        let thick = look.thickness * size;
        let needed = if look.upright {
            self.widest(face).max(if look.values {
                self.widest_value(face)
            } else {
                0.0
            }) + 0.5 * size
        } else {
            face.line()
        };
        let margin = look.margin * size;
        let top = margin
            + if self.title.is_some() {
                look.head.at(size).line() * 1.4
            } else {
                0.0
            };
        Measures {
            face,
            size,
            margin,
            top,
            reach: look.reach * size,
            slot: needed.max(thick + look.gap * size),
            thick: thick.min(needed.max(thick)),
            line: (size / 16.0).max(1.0),
        }
    }

    fn tick_width(&self, face: Face) -> f32 {
        let width = |tick: i64| face.width(&(tick * self.tick).to_string());
        if self.look.axis {
            (0..=self.ticks).fold(0.0, |most, tick| width(tick).max(most))
        } else {
            0.0
        }
    }

    fn put_frame(&self, at: &Measures, drawing: &mut Drawing, place: [f32; 4]) {
        if !self.look.frame || self.look.values {
            // Numbers above the bars would touch its upper edge.
            return;
        }
        let [x, y, width, height] = place;
        let ink = self.look.palette.ink;
        drawing.panel(x, y, width, at.line, ink);
        drawing.panel(x, y + height, width, at.line, ink);
        drawing.panel(x, y, at.line, height, ink);
        drawing.panel(x + width, y, at.line, height + at.line, ink);
    }

    fn draw_upright(&self, at: &Measures, drawing: &mut Drawing) {
        let palette = &self.look.palette;
        let left =
            at.margin + self.tick_width(at.face) + if self.look.axis { 0.5 * at.size } else { 0.0 };
        // Room above the highest bar for its number.
        let top = at.top
            + if self.look.values {
                at.face.line()
            } else {
                0.3 * at.size
            };
        let width = at.slot * self.bars.len() as f32;
        let height = |value: i64| at.reach * value as f32 / self.limit() as f32;
        let base = top + at.reach;
        if self.look.axis {
            for tick in 0..=self.ticks {
                let y = base - height(tick * self.tick);
                drawing.panel(left, y, width, at.line, palette.tint);
                let text = (tick * self.tick).to_string();
                drawing.text(
                    left - 0.4 * at.size,
                    y - at.face.line() * 0.5,
                    Align::Right,
                    at.face,
                    palette.ink,
                    &text,
                );
            }
        }
        for (index, bar) in self.bars.iter().enumerate() {
            let middle = left + at.slot * (index as f32 + 0.5);
            drawing.panel(
                middle - at.thick / 2.0,
                base - height(bar.value),
                at.thick,
                height(bar.value),
                bar.fill,
            );
            drawing.note(middle, base - height(bar.value), at.size, Sign::BarEnd);
            drawing.text(
                middle,
                base + 0.25 * at.size,
                Align::Center,
                at.face,
                palette.ink,
                &bar.label,
            );
            if self.look.values {
                let y = base - height(bar.value) - at.face.line();
                drawing.text(
                    middle,
                    y,
                    Align::Center,
                    at.face,
                    palette.ink,
                    &bar.value.to_string(),
                );
            }
        }
        drawing.panel(left, base, width, at.line, palette.ink);
        self.put_frame(at, drawing, [left, top, width, at.reach]);
        drawing.width = left + width + at.margin;
        drawing.height = base + 0.25 * at.size + at.face.line() + at.margin;
    }

    fn draw_lying(&self, at: &Measures, drawing: &mut Drawing) {
        let palette = &self.look.palette;
        let left = at.margin + self.widest(at.face) + 0.5 * at.size;
        let height = at.slot * self.bars.len() as f32;
        let length = |value: i64| at.reach * value as f32 / self.limit() as f32;
        let base = at.top + height;
        if self.look.axis {
            for tick in 0..=self.ticks {
                let x = left + length(tick * self.tick);
                drawing.panel(x, at.top, at.line, height, palette.tint);
                let text = (tick * self.tick).to_string();
                drawing.text(
                    x,
                    base + 0.2 * at.size,
                    Align::Center,
                    at.face,
                    palette.ink,
                    &text,
                );
            }
        }
        for (index, bar) in self.bars.iter().enumerate() {
            let middle = at.top + at.slot * (index as f32 + 0.5);
            let thick = at.thick.min(at.slot * 0.9);
            drawing.panel(
                left,
                middle - thick / 2.0,
                length(bar.value),
                thick,
                bar.fill,
            );
            drawing.note(left + length(bar.value), middle, at.size, Sign::BarEnd);
            let line = middle - at.face.line() / 2.0;
            drawing.text(
                left - 0.35 * at.size,
                line,
                Align::Right,
                at.face,
                palette.ink,
                &bar.label,
            );
            if self.look.values {
                let x = left + length(bar.value) + 0.35 * at.size;
                drawing.text(
                    x,
                    line,
                    Align::Left,
                    at.face,
                    palette.ink,
                    &bar.value.to_string(),
                );
            }
        }
        drawing.panel(left, at.top, at.line, height, palette.ink);
        self.put_frame(at, drawing, [left, at.top, at.reach, height]);
        let beyond = if self.look.values {
            self.widest_value(at.face) + 0.4 * at.size
        } else {
            0.0
        };
        let last_tick = at.face.width(&(self.ticks * self.tick).to_string()) / 2.0;
        drawing.width = left + at.reach + beyond.max(last_tick) + at.margin;
        let below = if self.look.axis {
            0.2 * at.size + at.face.line()
        } else {
            0.0
        };
        drawing.height = base + below + at.margin;
    }

    /// Ticks must not touch each other: along a lying axis their numbers need room.
    fn tick_room(&self, at: &Measures) -> bool {
        let one = at.reach * self.tick as f32 / self.limit() as f32;
        let need = if self.look.upright {
            at.face.line()
        } else {
            self.tick_width(at.face) + 0.5 * at.size
        };
        !self.look.axis || one >= need
    }
}

impl Content for Bars {
    fn lay_out(&self, size: f32) -> Drawing {
        let look = &self.look;
        let mut drawing = Drawing::new(look.palette.ground);
        let mut at = self.measures(size);
        while !self.tick_room(&at) {
            at.reach *= 1.1;
        }
        if look.upright {
            self.draw_upright(&at, &mut drawing);
        } else {
            self.draw_lying(&at, &mut drawing);
        }
        if let Some(title) = &self.title {
            let face = look.head.at(size);
            let room = face.width(title) + 2.0 * at.margin;
            if room > drawing.width {
                drawing.width = room;
            }
            let middle = drawing.width / 2.0;
            drawing.text(
                middle,
                at.margin,
                Align::Center,
                face,
                look.palette.strong,
                title,
            );
        }
        drawing
    }

    fn shrink(&mut self) -> bool {
        if self.look.reach > 7.0 {
            self.look.reach = 6.0;
        } else if self.look.thickness + self.look.gap > 2.0 {
            (self.look.thickness, self.look.gap) = (1.2, 0.4);
        } else if self.look.upright
            && self.bars.len() > 3
            && self.bars.iter().any(|bar| bar.label.len() > 5)
        {
            // Long labels stand better beside lying bars.
            self.look.upright = false;
        } else if self.bars.len() > 2 {
            self.bars.pop();
        } else if self.title.take().is_some() {
        } else if self.look.margin > 0.4 {
            self.look.margin = 0.3;
        } else {
            return false;
        }
        true
    }

    fn questions(&self, random: &mut Random) -> Vec<Question> {
        let mut questions = Vec::new();
        self.ask_values(random, &mut questions);
        self.ask_ends(random, &mut questions);
        self.ask_pairs(random, &mut questions);
        self.ask_rest(random, &mut questions);
        questions
    }

    fn twin(&self) -> String {
        let bars = self
            .bars
            .iter()
            .map(|bar| format!("{} {}", bar.label, bar.value));
        let lines: Vec<String> = self.title.iter().cloned().chain(bars).collect();
        lines.join("\n")
    }
}
