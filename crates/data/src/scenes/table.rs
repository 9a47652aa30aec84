//! A table: a header row, data rows, rules or zebra stripes or neither.

use crate::drawing::{Align, Drawing, Rgb};
use crate::example::Question;
use crate::fonts::Face;
use crate::layout::Content;
use crate::questions::amount;
use crate::random::Random;
use crate::recipe::Recipe;
use crate::style::{self, Palette};
use crate::vocabulary;

pub(crate) struct Table {
    pub(super) title: Option<String>,
    pub(super) columns: Vec<Column>,
    /// Data rows, each with one cell per column.
    pub(super) rows: Vec<Vec<Cell>>,
    look: Look,
}

pub(super) struct Column {
    pub(super) name: String,
    pub(super) align: Align,
    pub(super) decimals: Option<bool>,
}

pub(super) struct Cell {
    pub(super) text: String,
    /// Hundredths, where the column holds numbers that may be added or compared.
    pub(super) number: Option<i64>,
}

struct Look {
    palette: Palette,
    body: Face,
    head: Face,
    header: Option<(Rgb, Rgb)>,
    zebra: bool,
    horizontal: bool,
    vertical: bool,
    padding: (f32, f32),
    margin: f32,
}

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Price,
    Whole,
    Percent,
    Word,
    Date,
    YesNo,
}

const NUMBER_COLUMNS: [(&str, Sort); 22] = [
    ("Price", Sort::Price),
    ("Price", Sort::Price),
    ("Cost", Sort::Price),
    ("Amount", Sort::Price),
    ("Weight", Sort::Price),
    ("Age", Sort::Whole),
    ("Qty", Sort::Whole),
    ("Quantity", Sort::Whole),
    ("Stock", Sort::Whole),
    ("Score", Sort::Whole),
    ("Points", Sort::Whole),
    ("Sales", Sort::Whole),
    ("Hours", Sort::Whole),
    ("Number", Sort::Whole),
    ("Goals", Sort::Whole),
    ("Share", Sort::Percent),
    ("Growth", Sort::Percent),
    ("City", Sort::Word),
    ("Color", Sort::Word),
    ("Code", Sort::Word),
    ("Date", Sort::Date),
    ("Paid", Sort::YesNo),
];

pub(crate) fn invent(random: &mut Random, recipe: &Recipe) -> Table {
    let rows = random.between(2, recipe.max_items.max(2));
    let (key_name, keys) = keys(random, rows, recipe.chinese);
    let mut columns = vec![Column {
        name: key_name,
        align: Align::Left,
        decimals: None,
    }];
    let mut cells: Vec<Vec<Cell>> = keys
        .into_iter()
        .map(|text| vec![Cell { text, number: None }])
        .collect();
    let count = 1 + random.weighted(&[0.35, 0.35, 0.2, 0.1]);
    let chosen = vocabulary::distinct(random, count, |random| {
        random.pick(&NUMBER_COLUMNS).0.to_owned()
    });
    for name in chosen {
        if name == columns[0].name {
            continue;
        }
        let sort = NUMBER_COLUMNS
            .iter()
            .find(|column| column.0 == name)
            .map_or(Sort::Whole, |column| column.1);
        let decimals = random.chance(0.7);
        let numeric = matches!(sort, Sort::Price | Sort::Whole);
        for row in &mut cells {
            row.push(cell(random, sort, decimals, &name));
        }
        let align = if numeric { Align::Right } else { Align::Left };
        columns.push(Column {
            name,
            align: if random.chance(0.2) {
                Align::Center
            } else {
                align
            },
            decimals: numeric.then_some(sort == Sort::Price && decimals),
        });
    }
    if random.chance(0.25) {
        columns
            .iter_mut()
            .for_each(|column| column.align = Align::Left);
    }
    let upper = random.chance(0.15);
    columns
        .iter_mut()
        .filter(|_| upper)
        .for_each(|column| column.name = column.name.to_uppercase());
    let title = random.chance(0.3).then(|| {
        let word = crate::questions::capitalised(&vocabulary::any_word(random));
        let kind = random.pick(&[
            "Results", "Table", "List", "Report", "Overview", "Data", "Team", "Stock",
        ]);
        if random.chance(0.5) {
            format!("{word} {kind}")
        } else {
            kind.to_owned()
        }
    });
    Table {
        title,
        columns,
        rows: cells,
        look: look(random, recipe),
    }
}

/// The first column: names that occur once.
fn keys(random: &mut Random, count: usize, chinese: f32) -> (String, Vec<String>) {
    if random.chance(chinese) {
        let draw = |random: &mut Random| random.pick(vocabulary::chinese_goods()).to_owned();
        return ("名称".to_owned(), vocabulary::distinct(random, count, draw));
    }
    match random.below(7) {
        0 => (
            "Name".to_owned(),
            vocabulary::distinct(random, count, |random| {
                random.pick(&vocabulary::FIRST_NAMES).to_owned()
            }),
        ),
        1 => (
            "City".to_owned(),
            vocabulary::distinct(random, count, |random| {
                random.pick(&vocabulary::CITIES).to_owned()
            }),
        ),
        2 => (
            "Month".to_owned(),
            vocabulary::MONTHS
                .iter()
                .cycle()
                .skip(random.below(12))
                .take(count.min(12))
                .map(|&month| month.to_owned())
                .collect(),
        ),
        3 => (
            "Subject".to_owned(),
            vocabulary::distinct(random, count, |random| {
                random.pick(&vocabulary::SUBJECTS).to_owned()
            }),
        ),
        4 => (
            "Name".to_owned(),
            vocabulary::distinct(random, count, |random| {
                let name = vocabulary::pseudo_word(random);
                crate::questions::capitalised(&name)
            }),
        ),
        _ => (
            random
                .pick(&["Item", "Product", "Item", "Article"])
                .to_owned(),
            vocabulary::goods(random, count),
        ),
    }
}

fn cell(random: &mut Random, sort: Sort, decimals: bool, name: &str) -> Cell {
    let whole =
        |random: &mut Random, low: usize, high: usize| (random.between(low, high) * 100) as i64;
    match sort {
        Sort::Price => {
            let number = if decimals {
                random.between(10, 9999) as i64
            } else {
                whole(random, 1, 200)
            };
            Cell {
                text: amount(number, decimals),
                number: Some(number),
            }
        }
        Sort::Whole => {
            let (low, high) = if name == "Age" {
                (5, 90)
            } else {
                (0, if random.chance(0.8) { 99 } else { 999 })
            };
            let number = whole(random, low, high);
            Cell {
                text: amount(number, false),
                number: Some(number),
            }
        }
        Sort::Percent => Cell {
            text: format!("{}%", random.below(101)),
            number: None,
        },
        Sort::Word => Cell {
            text: match name {
                "City" => random.pick(&vocabulary::CITIES).to_owned(),
                "Color" => random
                    .pick(&[
                        "red", "green", "blue", "yellow", "black", "white", "gray", "brown",
                    ])
                    .to_owned(),
                _ => {
                    let length = random.between(2, 5);
                    vocabulary::code(random, length)
                }
            },
            number: None,
        },
        Sort::Date => Cell {
            text: format!("{:02}.{:02}.", random.between(1, 28), random.between(1, 12)),
            number: None,
        },
        Sort::YesNo => Cell {
            text: random.pick(&["yes", "no"]).to_owned(),
            number: None,
        },
    }
}

fn look(random: &mut Random, recipe: &Recipe) -> Look {
    let palette = if random.chance(0.8) {
        Palette::paper(random)
    } else {
        Palette::choose(random)
    };
    let body = style::face(random, recipe);
    let header = match random.below(4) {
        0 => Some(palette.accent(random)),
        1 => Some((palette.tint, palette.ink)),
        _ => None,
    };
    Look {
        palette,
        body,
        head: if random.chance(0.5) {
            Face {
                heavy: true,
                ..body
            }
        } else {
            body
        },
        header,
        zebra: random.chance(0.3),
        horizontal: random.chance(0.55),
        vertical: random.chance(0.4),
        padding: (random.real(0.35, 1.2), random.size(0.05, 0.6)),
        margin: random.size(0.3, 1.5),
    }
}

impl Table {
    fn widths(&self, size: f32) -> Vec<f32> {
        let (body, head) = (self.look.body.at(size), self.look.head.at(size));
        let width = |index: usize| {
            let cells = self.rows.iter().map(|row| body.width(&row[index].text));
            cells.fold(head.width(&self.columns[index].name), f32::max)
                + 2.0 * self.look.padding.0 * size
        };
        (0..self.columns.len()).map(width).collect()
    }

    fn put_row(
        &self,
        drawing: &mut Drawing,
        size: f32,
        widths: &[f32],
        top: f32,
        texts: &[&str],
        style: (Face, Rgb),
    ) {
        let padding = self.look.padding.0 * size;
        let mut left = self.look.margin * size;
        for ((text, column), width) in texts.iter().zip(&self.columns).zip(widths) {
            let x = match column.align {
                Align::Left => left + padding,
                Align::Center => left + width / 2.0,
                Align::Right => left + width - padding,
            };
            drawing.text(x, top, column.align, style.0, style.1, text);
            left += width;
        }
    }

    pub(super) fn row_text(&self, index: usize) -> String {
        let cells: Vec<&str> = self.rows[index]
            .iter()
            .map(|cell| cell.text.as_str())
            .collect();
        cells.join(" | ")
    }

    pub(super) fn header_text(&self) -> String {
        let names: Vec<&str> = self
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        names.join(" | ")
    }
}

impl Content for Table {
    fn lay_out(&self, size: f32) -> Drawing {
        let look = &self.look;
        let mut drawing = Drawing::new(look.palette.ground);
        let (widths, margin) = (self.widths(size), look.margin * size);
        let total: f32 = widths.iter().sum();
        let pitch = look.body.at(size).line() + 2.0 * look.padding.1 * size;
        let inset = look.padding.1 * size;
        let line = (size / 16.0).max(1.0);
        let mut top = margin;
        let mut title_width = 0.0;
        if let Some(title) = &self.title {
            let face = look.head.at(size);
            title_width = drawing.text(
                margin + look.padding.0 * size,
                top,
                Align::Left,
                face,
                look.palette.strong,
                title,
            );
            title_width += look.padding.0 * size;
            top += face.line() * 1.3;
        }
        let first = top;
        let (fill, ink) = look
            .header
            .unwrap_or((look.palette.ground, look.palette.strong));
        if look.header.is_some() {
            drawing.panel(margin, top, total, pitch, fill);
        }
        let names: Vec<&str> = self
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        self.put_row(
            &mut drawing,
            size,
            &widths,
            top + inset,
            &names,
            (look.head.at(size), ink),
        );
        top += pitch;
        for (index, row) in self.rows.iter().enumerate() {
            if look.zebra && index % 2 == 1 {
                drawing.panel(margin, top, total, pitch, look.palette.tint);
            }
            let texts: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
            self.put_row(
                &mut drawing,
                size,
                &widths,
                top + inset,
                &texts,
                (look.body.at(size), look.palette.ink),
            );
            top += pitch;
        }
        if look.horizontal {
            for row in 0..=self.rows.len() + 1 {
                drawing.panel(
                    margin,
                    first + row as f32 * pitch,
                    total + line,
                    line,
                    look.palette.faint,
                );
            }
        } else if look.header.is_none() {
            drawing.panel(margin, first + pitch, total, line, look.palette.faint);
        }
        if look.vertical {
            let mut x = margin;
            for width in [0.0].iter().chain(&widths) {
                x += width;
                drawing.panel(x, first, line, top - first, look.palette.faint);
            }
        }
        drawing.width = total.max(title_width) + 2.0 * margin + line;
        drawing.height = top + margin + line;
        drawing
    }

    fn shrink(&mut self) -> bool {
        if self.columns.len() > 3 {
            self.columns.pop();
            self.rows
                .iter_mut()
                .for_each(|row| row.truncate(self.columns.len()));
        } else if self.look.padding.1 > 0.2 {
            self.look.padding.1 = 0.1;
        } else if self.rows.len() > 4 {
            self.rows.pop();
        } else if self.columns.len() > 2 {
            self.columns.pop();
            self.rows
                .iter_mut()
                .for_each(|row| row.truncate(self.columns.len()));
        } else if self.look.padding.0 > 0.5 {
            self.look.padding.0 = 0.4;
        } else if self.title.take().is_some() {
        } else if self.rows.len() > 1 {
            self.rows.pop();
        } else if self.look.margin > 0.3 {
            self.look.margin = 0.2;
        } else {
            return false;
        }
        true
    }

    fn questions(&self, random: &mut Random) -> Vec<Question> {
        let mut questions = Vec::new();
        self.ask_cells(random, &mut questions);
        self.ask_names(random, &mut questions);
        self.ask_numbers(random, &mut questions);
        self.ask_structure(random, &mut questions);
        questions
    }

    fn twin(&self) -> String {
        let rows = (0..self.rows.len()).map(|index| self.row_text(index));
        let lines: Vec<String> = self
            .title
            .iter()
            .cloned()
            .chain([self.header_text()])
            .chain(rows)
            .collect();
        lines.join("\n")
    }
}
