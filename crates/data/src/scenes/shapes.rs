//! Coloured shapes to count and to compare.

use crate::drawing::{Drawing, Element, Figure, Rgb, brightness};
use crate::example::{Color, Kind, Question, Shape};
use crate::layout::Content;
use crate::questions::{ask, worded};
use crate::random::Random;
use crate::recipe::Recipe;

/// Shapes in cells of an invisible grid, moved inside of their cells: never one over another.
pub(crate) struct Shapes {
    things: Vec<Thing>,
    columns: usize,
    rows: usize,
    /// Side of a cell in text sizes.
    cell: f32,
    ground: Rgb,
    margin: f32,
}

#[derive(Clone, Copy)]
struct Thing {
    shape: Shape,
    color: Color,
    fill: Rgb,
    edge: Option<Rgb>,
    cell: (usize, usize),
    /// Part of the free room in the cell, 0 to 1.
    offset: (f32, f32),
    /// Part of half a cell.
    radius: f32,
    turn: f32,
}

impl Thing {
    fn name(&self) -> String {
        format!("{} {}", self.color.name(), self.shape.name())
    }
}

pub(crate) fn invent(random: &mut Random, recipe: &Recipe) -> Shapes {
    let kinds = choose_kinds(random);
    let count = random.between(1, (recipe.max_items * 3 / 2).max(2));
    let (columns, rows) = choose_grid(random, count);
    let mut cells: Vec<(usize, usize)> = (0..columns * rows)
        .map(|cell| (cell % columns, cell / columns))
        .collect();
    random.shuffle(&mut cells);
    cells.truncate(count);
    cells.sort_by_key(|&(column, row)| (row, column));
    let ground = choose_ground(random, &kinds);
    let neat = random.chance(0.4);
    let edged = random.chance(0.2);
    let weights: Vec<f32> = kinds.iter().map(|_| random.real(0.2, 1.0)).collect();
    let mut things = Vec::new();
    for cell in cells {
        let (shape, color) = kinds[random.weighted(&weights)];
        let same = things
            .iter()
            .find(|thing: &&Thing| thing.color == color)
            .map(|thing| thing.fill);
        let turn = if neat { 0.0 } else { small_turn(random, shape) };
        things.push(Thing {
            shape,
            color,
            fill: same.unwrap_or_else(|| tone(random, color)),
            edge: edged.then(|| {
                if brightness(ground) > 128 {
                    [0; 3]
                } else {
                    [255; 3]
                }
            }),
            cell,
            offset: if neat {
                (0.5, 0.5)
            } else {
                (random.unit(), random.unit())
            },
            radius: if neat { 0.75 } else { random.real(0.42, 0.84) },
            turn,
        });
    }
    Shapes {
        things,
        columns,
        rows,
        cell: random.size(1.8, 4.0),
        ground,
        margin: random.real(0.2, 1.0),
    }
}

/// Two to five combinations of shape and colour; often one of the two is shared, so that both must be seen.
fn choose_kinds(random: &mut Random) -> Vec<(Shape, Color)> {
    let common = [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Star];
    let shapes: Vec<Shape> = (0..1 + random.weighted(&[0.25, 0.4, 0.25, 0.1]))
        .map(|_| {
            if random.chance(0.7) {
                random.pick(&common)
            } else {
                random.pick(&Shape::ALL)
            }
        })
        .collect();
    let plain = [Color::Red, Color::Green, Color::Blue, Color::Yellow];
    let colors: Vec<Color> = (0..1 + random.weighted(&[0.15, 0.4, 0.3, 0.15]))
        .map(|_| {
            if random.chance(0.6) {
                random.pick(&plain)
            } else {
                random.pick(&Color::ALL)
            }
        })
        .collect();
    let mut kinds: Vec<(Shape, Color)> = Vec::new();
    for _ in 0..random.between(2, 7) {
        let kind = (random.pick(&shapes), random.pick(&colors));
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn choose_grid(random: &mut Random, count: usize) -> (usize, usize) {
    let line = count <= 6 && random.chance(0.35);
    let columns = if line {
        count
    } else {
        random.between(1, count.min(6))
    };
    let rows = count.div_ceil(columns);
    // Free cells make the picture irregular.
    let more = if random.chance(0.5) && !line {
        random.below(3)
    } else {
        0
    };
    let (columns, rows) = if random.chance(0.5) {
        (columns + more, rows)
    } else {
        (columns, rows + more)
    };
    (columns, rows)
}

/// A ground that no shape's colour is close to.
fn choose_ground(random: &mut Random, kinds: &[(Shape, Color)]) -> Rgb {
    let far = |ground: Rgb| {
        kinds.iter().all(|&(_, color)| {
            let (low, high) = range(color);
            (0..3)
                .map(|channel| {
                    let (low, high) = (i32::from(low[channel]), i32::from(high[channel]));
                    let ground = i32::from(ground[channel]);
                    (low - ground).max(ground - high).max(0)
                })
                .sum::<i32>()
                > 120
        })
    };
    for _ in 0..12 {
        let ground = match random.below(3) {
            0 => [255; 3],
            1 => std::array::from_fn(|_| random.between(200, 255) as u8),
            _ => std::array::from_fn(|_| random.between(0, 255) as u8),
        };
        if far(ground) {
            return ground;
        }
    }
    [[255; 3], [0; 3], [200, 225, 235], [60, 70, 60]]
        .into_iter()
        .find(|&ground| far(ground))
        .unwrap_or([255; 3])
}

/// Lowest and highest channels of a named colour; the ranges of two colours never touch.
fn range(color: Color) -> (Rgb, Rgb) {
    match color {
        Color::Red => ([190, 0, 0], [255, 50, 50]),
        Color::Green => ([0, 120, 0], [70, 210, 80]),
        Color::Blue => ([0, 0, 170], [70, 110, 255]),
        Color::Yellow => ([235, 205, 0], [255, 250, 70]),
        Color::Orange => ([240, 120, 0], [255, 160, 40]),
        Color::Purple => ([100, 0, 120], [160, 50, 200]),
        Color::Pink => ([240, 110, 160], [255, 185, 215]),
        Color::Brown => ([100, 55, 10], [145, 80, 45]),
        Color::Black => ([0, 0, 0], [25, 25, 25]),
        Color::White => ([245, 245, 245], [255, 255, 255]),
        Color::Gray => ([115, 115, 115], [155, 155, 155]),
    }
}

fn tone(random: &mut Random, color: Color) -> Rgb {
    let (low, high) = range(color);
    if matches!(color, Color::Black | Color::White | Color::Gray) {
        return [random.between(usize::from(low[0]), usize::from(high[0])) as u8; 3];
    }
    std::array::from_fn(|channel| {
        random.between(usize::from(low[channel]), usize::from(high[channel])) as u8
    })
}

/// Turns that leave the name of a shape right: a square on its corner would be a diamond.
fn small_turn(random: &mut Random, shape: Shape) -> f32 {
    let most = match shape {
        Shape::Circle => 0.0,
        Shape::Star | Shape::Hexagon => 3.0,
        Shape::Triangle => 0.5,
        Shape::Square | Shape::Diamond | Shape::Heart | Shape::Cross => 0.2,
    };
    random.real(-most, most)
}

impl Content for Shapes {
    fn lay_out(&self, size: f32) -> Drawing {
        let mut drawing = Drawing::new(self.ground);
        let (margin, cell) = (self.margin * size, self.cell * size);
        for thing in &self.things {
            let radius = thing.radius * cell / 2.0;
            let free = cell - 2.0 * radius;
            let place =
                |index: usize, offset: f32| margin + index as f32 * cell + radius + free * offset;
            drawing.elements.push(Element::Figure(Figure {
                shape: thing.shape,
                color: thing.color,
                x: place(thing.cell.0, thing.offset.0),
                y: place(thing.cell.1, thing.offset.1),
                radius,
                turn: thing.turn,
                fill: thing.fill,
                edge: thing.edge,
            }));
        }
        drawing.width = self.columns as f32 * cell + 2.0 * margin;
        drawing.height = self.rows as f32 * cell + 2.0 * margin;
        drawing
    }

    fn shrink(&mut self) -> bool {
        if self.cell > 2.4 {
            self.cell = (self.cell * 0.8).max(2.0);
            return true;
        }
        let kept = if self.rows >= self.columns && self.rows > 1 {
            self.rows -= 1;
            self.things
                .iter()
                .filter(|thing| thing.cell.1 < self.rows)
                .copied()
                .collect::<Vec<_>>()
        } else if self.columns > 1 {
            self.columns -= 1;
            self.things
                .iter()
                .filter(|thing| thing.cell.0 < self.columns)
                .copied()
                .collect()
        } else {
            return false;
        };
        if kept.is_empty() {
            // Nothing was in the part that stays: move one shape into it.
            self.things.truncate(1);
            self.things[0].cell = (0, 0);
        } else {
            self.things = kept;
        }
        true
    }

    fn questions(&self, random: &mut Random) -> Vec<Question> {
        let mut questions = Vec::new();
        self.ask_counts(random, &mut questions);
        self.ask_more(random, &mut questions);
        self.ask_single(random, &mut questions);
        self.ask_list(random, &mut questions);
        questions
    }

    fn twin(&self) -> String {
        let names: Vec<String> = self.things.iter().map(Thing::name).collect();
        names.join(", ")
    }
}

/// Which things a question means; nothing given means all.
#[derive(Clone, Copy, Default)]
struct Wanted {
    shape: Option<Shape>,
    color: Option<Color>,
}

impl Wanted {
    fn shape(shape: Shape) -> Wanted {
        Wanted {
            shape: Some(shape),
            color: None,
        }
    }

    fn color(color: Color) -> Wanted {
        Wanted {
            shape: None,
            color: Some(color),
        }
    }

    fn takes(self, thing: &Thing) -> bool {
        self.shape.is_none_or(|shape| shape == thing.shape)
            && self.color.is_none_or(|color| color == thing.color)
    }

    /// "red circles", "stars", "blue shapes" or "shapes".
    fn plural(self) -> String {
        let shapes = self.shape.map_or("shapes", Shape::plural);
        match self.color {
            Some(color) => format!("{} {shapes}", color.name()),
            None => shapes.to_owned(),
        }
    }
}

impl Shapes {
    fn count(&self, wanted: Wanted) -> usize {
        self.things.iter().filter(|t| wanted.takes(t)).count()
    }

    /// "red circle 1, blue star, red circle 2": everything in reading order, what is wanted counted along.
    fn counted(&self, wanted: Wanted) -> String {
        let mut count = 0;
        let each = self.things.iter().map(|thing| {
            if !wanted.takes(thing) {
                return thing.name();
            }
            count += 1;
            format!("{} {count}", thing.name())
        });
        each.collect::<Vec<_>>().join(", ")
    }

    fn count_question(&self, random: &mut Random, wanted: Wanted) -> Question {
        let wordings = [
            "How many {} are there?",
            "How many {} are there?",
            "How many {} do you see?",
            "How many {} can you see?",
            "Count the {}.",
            "How many {} are in the picture?",
        ];
        let question = worded(random, &wordings, &wanted.plural());
        ask(Kind::Count, question, self.count(wanted).to_string()).thinking(self.counted(wanted))
    }

    fn present(&self) -> (Vec<Shape>, Vec<Color>) {
        let mut shapes: Vec<Shape> = self.things.iter().map(|thing| thing.shape).collect();
        let mut colors: Vec<Color> = self.things.iter().map(|thing| thing.color).collect();
        shapes.sort();
        shapes.dedup();
        colors.sort();
        colors.dedup();
        (shapes, colors)
    }

    fn ask_counts(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let mut kinds: Vec<(Shape, Color)> = self
            .things
            .iter()
            .map(|thing| (thing.shape, thing.color))
            .collect();
        kinds.sort();
        kinds.dedup();
        random.shuffle(&mut kinds);
        kinds.truncate(3);
        if random.chance(0.5) {
            // Something that may be absent.
            kinds.push((random.pick(&Shape::ALL[..4]), random.pick(&Color::ALL[..4])));
        }
        for (shape, color) in kinds {
            let wanted = Wanted {
                shape: Some(shape),
                color: Some(color),
            };
            questions.push(self.count_question(random, wanted));
        }
        let (shapes, colors) = self.present();
        let wanted = Wanted::shape(random.pick(&shapes));
        questions.push(self.count_question(random, wanted));
        let wanted = Wanted::color(random.pick(&colors));
        questions.push(self.count_question(random, wanted));
        questions.push(self.count_question(random, Wanted::default()));
        if colors.len() > 1 {
            let names: Vec<&str> = colors.iter().map(|color| color.name()).collect();
            let question = random.pick(&[
                "How many different colors are there?",
                "How many colors are there?",
            ]);
            questions.push(
                ask(Kind::Count, question, colors.len().to_string()).thinking(names.join(", ")),
            );
        }
    }

    fn ask_more(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let (shapes, colors) = self.present();
        let colored: Vec<(&str, usize)> = colors
            .iter()
            .map(|&color| (color.name(), self.count(Wanted::color(color))))
            .collect();
        let shaped: Vec<(&str, usize)> = shapes
            .iter()
            .map(|&shape| (shape.plural(), self.count(Wanted::shape(shape))))
            .collect();
        for (mut groups, after) in [(colored.clone(), " shapes"), (shaped.clone(), "")] {
            random.shuffle(&mut groups);
            if let [first, second, ..] = groups[..]
                && first.1 != second.1
            {
                let answer = if first.1 > second.1 {
                    first.0
                } else {
                    second.0
                };
                let question = format!("Are there more {} or {}{after}?", first.0, second.0);
                let thought = format!("{} {}, {} {}", first.0, first.1, second.0, second.1);
                questions.push(ask(Kind::Compare, question, answer).thinking(thought));
            }
        }
        let color_wordings: &[&str] = &[
            "Which color is the most frequent?",
            "Which colour is the most frequent?",
            "Which color appears most often?",
            "What is the most common color?",
        ];
        let shape_wordings: &[&str] = &[
            "Which shape is the most frequent?",
            "Which shape appears most often?",
            "What is the most common shape?",
        ];
        let shaped: Vec<(&str, usize)> = shapes
            .iter()
            .map(|&shape| (shape.name(), self.count(Wanted::shape(shape))))
            .collect();
        for (groups, wordings) in [(colored, color_wordings), (shaped, shape_wordings)] {
            let most = groups.iter().map(|group| group.1).max().unwrap_or(0);
            let winners: Vec<&(&str, usize)> =
                groups.iter().filter(|group| group.1 == most).collect();
            if let ([winner], true) = (&winners[..], groups.len() > 1) {
                let listed: Vec<String> = groups
                    .iter()
                    .map(|(name, count)| format!("{name} {count}"))
                    .collect();
                questions.push(
                    ask(Kind::Compare, random.pick(wordings), winner.0).thinking(listed.join(", ")),
                );
            }
        }
    }

    fn ask_single(&self, random: &mut Random, questions: &mut Vec<Question>) {
        for thing in &self.things {
            if self.count(Wanted::shape(thing.shape)) == 1 {
                let wordings = [
                    "What color is the {}?",
                    "What colour is the {}?",
                    "Which color does the {} have?",
                ];
                let question = worded(random, &wordings, thing.shape.name());
                questions
                    .push(ask(Kind::Lookup, question, thing.color.name()).thinking(thing.name()));
            }
            if self.count(Wanted::color(thing.color)) == 1 {
                let wordings = [
                    "What shape is {}?",
                    "What is the {} shape?",
                    "Which shape is {}?",
                ];
                let question = worded(random, &wordings, thing.color.name());
                questions
                    .push(ask(Kind::Lookup, question, thing.shape.name()).thinking(thing.name()));
            }
        }
        let mut by_size: Vec<&Thing> = self.things.iter().collect();
        by_size.sort_by(|first, second| second.radius.total_cmp(&first.radius));
        for (order, word) in [
            (by_size.clone(), ["largest", "biggest"]),
            (
                by_size.into_iter().rev().collect(),
                ["smallest", "smallest"],
            ),
        ] {
            let [first, second, ..] = order[..] else {
                continue;
            };
            let ratio = first.radius / second.radius;
            if !(0.75..=1.33).contains(&ratio) {
                let word = random.pick(&word);
                let question = format!("What shape is the {word}?");
                questions
                    .push(ask(Kind::Compare, question, first.shape.name()).thinking(first.name()));
                let question = format!("What color is the {word} shape?");
                questions
                    .push(ask(Kind::Compare, question, first.color.name()).thinking(first.name()));
            }
        }
    }

    fn ask_list(&self, random: &mut Random, questions: &mut Vec<Question>) {
        if self.things.len() > 8 {
            return;
        }
        let wordings = if self.rows == 1 {
            [
                "Name the shapes from left to right.",
                "List all shapes from left to right.",
            ]
        } else {
            ["Name all shapes row by row.", "List all shapes."]
        };
        questions.push(ask(Kind::Transcribe, random.pick(&wordings), self.twin()));
    }
}
