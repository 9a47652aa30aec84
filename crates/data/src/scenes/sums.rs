//! Additions one under another, to be done: where adding and comparing amounts are learnt, with and without a picture.

use crate::drawing::{Align, Drawing};
use crate::example::{Kind, Question};
use crate::fonts::Face;
use crate::layout::Content;
use crate::questions::{amount, ask, running_totals, worded};
use crate::random::Random;
use crate::recipe::Recipe;
use crate::style::{self, Palette};

/// Rows of terms with a plus between them.
pub(crate) struct Sums {
    rows: Vec<Row>,
    face: Face,
    palette: Palette,
    spacing: f32,
    margin: f32,
    align: Align,
}

/// Amounts in hundredths, printed alike.
struct Row {
    terms: Vec<i64>,
    decimals: bool,
}

impl Row {
    fn printed(&self, hundredths: i64) -> String {
        amount(hundredths, self.decimals)
    }

    fn text(&self, between: &str) -> String {
        let terms: Vec<String> = self.terms.iter().map(|term| self.printed(*term)).collect();
        terms.join(between)
    }
}

pub(crate) fn invent(random: &mut Random, recipe: &Recipe) -> Sums {
    let count = random.between(1, recipe.max_items);
    Sums {
        rows: (0..count).map(|_| row(random)).collect(),
        face: style::face(random, recipe),
        palette: Palette::choose(random),
        spacing: random.size(1.0, 1.8),
        margin: random.size(0.2, 1.5),
        align: random.pick(&[Align::Left, Align::Center, Align::Right]),
    }
}

fn row(random: &mut Random) -> Row {
    let decimals = random.chance(0.7);
    let count = 2 + random.weighted(&[0.7, 0.2, 0.1]);
    let terms = (0..count)
        .map(|_| {
            // As many small amounts as large ones, as on receipts: lengths are drawn first.
            let limit =
                [10, 100, 1_000, 10_000, 50_000][random.weighted(&[0.05, 0.1, 0.35, 0.35, 0.15])];
            let hundredths = random.between(1, limit) as i64;
            if decimals {
                hundredths
            } else {
                (hundredths / 100 + 1) * 100
            }
        })
        .collect();
    Row { terms, decimals }
}

impl Content for Sums {
    fn lay_out(&self, size: f32) -> Drawing {
        let mut drawing = Drawing::new(self.palette.ground);
        let (face, margin) = (self.face.at(size), self.margin * size);
        let widths = self.rows.iter().map(|row| face.width(&row.text(" + ")));
        let width = widths.fold(0.0f32, f32::max);
        let x = margin
            + match self.align {
                Align::Left => 0.0,
                Align::Center => width / 2.0,
                Align::Right => width,
            };
        let mut top = margin;
        for row in &self.rows {
            drawing.text(x, top, self.align, face, self.palette.ink, &row.text(" + "));
            top += face.line() * self.spacing;
        }
        drawing.width = width + 2.0 * margin;
        drawing.height = top - face.line() * (self.spacing - 1.0) + margin;
        drawing
    }

    fn shrink(&mut self) -> bool {
        if self.rows.len() > 1 {
            self.rows.pop();
            return true;
        }
        let terms = &mut self.rows[0].terms;
        if terms.len() > 2 {
            terms.pop();
            return true;
        }
        false
    }

    fn questions(&self, random: &mut Random) -> Vec<Question> {
        let mut questions = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            let total = row.printed(row.terms.iter().sum());
            let thought = running_totals(&row.terms, row.decimals);
            let wordings = ["What is {}?", "How much is {}?", "What is the sum of {}?"];
            let between = random.pick(&["+", " + ", " and "]);
            let question = worded(random, &wordings, &row.text(between));
            questions.push(ask(Kind::Sum, question, total.clone()).thinking(thought.clone()));
            let question = worded(
                random,
                &["What is the sum on line {}?", "Add up line {}."],
                &(at + 1).to_string(),
            );
            questions.push(ask(Kind::Sum, question, total).thinking(thought));
            questions.extend(self.ends(random, row));
        }
        questions
    }

    fn twin(&self) -> String {
        let lines: Vec<String> = self.rows.iter().map(|row| row.text(" + ")).collect();
        lines.join("\n")
    }
}

impl Sums {
    /// Which amount of a row is the largest, which the smallest; nothing where two are equal.
    fn ends(&self, random: &mut Random, row: &Row) -> Option<Question> {
        let mut sorted = row.terms.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() < row.terms.len() {
            return None;
        }
        let (wordings, word, value) = if random.chance(0.5) {
            (
                ["Which is more: {}?", "Which is the highest: {}?"],
                "highest",
                *sorted.last()?,
            )
        } else {
            (
                ["Which is less: {}?", "Which is the lowest: {}?"],
                "lowest",
                *sorted.first()?,
            )
        };
        let listed = row.text(", ");
        let value = row.printed(value);
        let question = worded(random, &wordings, &listed);
        let thought = format!("{listed}; {word} {value}");
        Some(ask(Kind::Compare, question, value).thinking(thought))
    }
}
