//! Tables for people.

use super::input::Subject;
use super::rules::Rule;
use crate::terminal::{styles_of_stdout, visible};

/// How the cells of a column stand.
#[derive(Clone, Copy)]
pub enum Align {
    /// At the left edge, for words.
    Left,
    /// At the right edge, for numbers.
    Right,
}

/// Cells in columns, two spaces apart; the first row is the header.
pub struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub fn new(columns: &[(&str, Align)]) -> Table {
        Table {
            align: columns.iter().map(|column| column.1).collect(),
            rows: vec![columns.iter().map(|column| column.0.to_owned()).collect()],
        }
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.align.len());
        self.rows.push(cells);
    }

    /// The table as lines; the header is bold on a terminal.
    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        let strong = styles_of_stdout().strong;
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).zip(&self.align);
            let cells = cells.map(|((cell, &width), align)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            match index {
                0 => text.push_str(&format!("{strong}{}{strong:#}\n", line.trim_end())),
                _ => text.push_str(&format!("{}\n", line.trim_end())),
            }
        }
        text
    }
}

/// Grid, canvas, tiles and tokens of each picture under each rule. Bare sizes need no column of names.
pub fn pictures(subjects: &[&Subject], rules: &[Rule]) -> String {
    let named = subjects.iter().any(|subject| subject.has_name());
    let mut columns = vec![
        ("size", Align::Left),
        ("rule", Align::Left),
        ("grid", Align::Left),
        ("canvas", Align::Left),
        ("tiles", Align::Right),
        ("tokens", Align::Right),
    ];
    if named {
        columns.insert(0, ("picture", Align::Left));
    }
    let mut table = Table::new(&columns);
    for subject in subjects {
        for (index, rule) in rules.iter().enumerate() {
            let outcome = rule.apply(subject.width, subject.height);
            let once = |text: String| if index == 0 { text } else { String::new() };
            let mut cells = vec![
                once(format!("{}x{}", subject.width, subject.height)),
                rule.policy.name().to_owned(),
                outcome.grid.to_string(),
                format!("{}x{}", outcome.canvas.0, outcome.canvas.1),
                outcome.tiles.to_string(),
                grouped(outcome.tokens.into()),
            ];
            if named {
                let name = visible(&subject.name()).replace(['\n', '\t'], " ");
                cells.insert(0, once(name));
            }
            table.row(cells);
        }
    }
    table.render()
}

/// A number with its thousands apart: 1,234,567.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
