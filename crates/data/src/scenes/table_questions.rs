//! A table: what can be asked about it.

use super::table::Table;
use crate::example::{Kind, Question};
use crate::layout::Content;
use crate::questions::{amount, ask, running_totals, typed, worded};
use crate::random::Random;

impl Table {
    pub(super) fn ask_cells(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let last = self.rows.len() - 1;
        for turn in 0..4 {
            let (row, column) = (
                random.below(self.rows.len()),
                random.below(self.columns.len()),
            );
            let name = &self.columns[column].name;
            let question = match turn {
                0 | 1 => format!("What is in row {}, column {name}?", row + 1),
                2 => {
                    let wordings = [
                        "What is the {c} in row {r}?",
                        "Row {r}, column {c}?",
                        "Read the cell in row {r}, column {c}.",
                        "What stands in row {r} under {c}?",
                    ];
                    random
                        .pick(&wordings)
                        .replace("{r}", &(row + 1).to_string())
                        .replace("{c}", name)
                }
                _ if row == last => format!("What is in the last row, column {name}?"),
                _ if row == 0 => format!("What is in the first row, column {name}?"),
                _ => format!("What is in row {}, column {}?", row + 1, column + 1),
            };
            let thought = format!("row {}: {}", row + 1, self.row_text(row));
            questions.push(
                ask(Kind::Table, question, self.rows[row][column].text.clone()).thinking(thought),
            );
        }
    }

    /// Questions that name a row by its first cell.
    pub(super) fn ask_names(&self, random: &mut Random, questions: &mut Vec<Question>) {
        if self.columns.len() < 2 {
            return;
        }
        for _ in 0..3 {
            let (row, column) = (
                random.below(self.rows.len()),
                random.between(1, self.columns.len() - 1),
            );
            let key = typed(random, &self.rows[row][0].text);
            let name = typed(random, &self.columns[column].name);
            let wordings = [
                "What is the {c} of {k}?",
                "What is the {c} of {k}?",
                "{c} of {k}?",
                "What {c} does {k} have?",
            ];
            let question = random
                .pick(&wordings)
                .replace("{c}", &name)
                .replace("{k}", &key);
            let question = crate::questions::sentence(&question);
            questions.push(
                ask(Kind::Table, question, self.rows[row][column].text.clone())
                    .thinking(self.row_text(row)),
            );
        }
        let column = random.between(1, self.columns.len() - 1);
        let row = random.below(self.rows.len());
        let value = &self.rows[row][column].text;
        if self
            .rows
            .iter()
            .filter(|other| other[column].text == *value)
            .count()
            == 1
        {
            let question = format!(
                "Which {} has the {} {value}?",
                self.columns[0].name.to_lowercase(),
                self.columns[column].name.to_lowercase()
            );
            questions.push(
                ask(Kind::Table, question, self.rows[row][0].text.clone())
                    .thinking(self.row_text(row)),
            );
        }
    }

    pub(super) fn ask_numbers(&self, random: &mut Random, questions: &mut Vec<Question>) {
        for (column, described) in self.columns.iter().enumerate() {
            let Some(decimals) = described.decimals else {
                continue;
            };
            let numbers: Vec<i64> = self
                .rows
                .iter()
                .filter_map(|row| row[column].number)
                .collect();
            let name = described.name.to_lowercase();
            if numbers.len() != self.rows.len() || numbers.len() < 2 {
                continue;
            }
            let wordings = [
                "What is the sum of column {}?",
                "What is the total of the column {}?",
                "Add up the column {}.",
            ];
            let question = worded(random, &wordings, &described.name);
            let sum = amount(numbers.iter().sum(), decimals);
            questions
                .push(ask(Kind::Sum, question, sum).thinking(running_totals(&numbers, decimals)));
            let listing: Vec<String> = self
                .rows
                .iter()
                .map(|row| format!("{} {}", row[0].text, row[column].text))
                .collect();
            let highest = random.chance(0.5);
            let end = if highest {
                numbers.iter().max()
            } else {
                numbers.iter().min()
            };
            let found: Vec<usize> = (0..numbers.len())
                .filter(|&row| Some(&numbers[row]) == end)
                .collect();
            if let [row] = found[..] {
                let word = if highest { "highest" } else { "lowest" };
                let wordings = [
                    format!(
                        "Which {} has the {word} {name}?",
                        self.columns[0].name.to_lowercase()
                    ),
                    format!("Who or what has the {word} {name}?"),
                ];
                let question = wordings[usize::from(random.chance(0.2))].clone();
                let thought = format!(
                    "{}; {word} {}",
                    listing.join(", "),
                    self.rows[row][column].text
                );
                questions.push(
                    ask(Kind::Compare, question, self.rows[row][0].text.clone()).thinking(thought),
                );
            }
        }
    }

    pub(super) fn ask_structure(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let rows = random.pick(&[
            "How many rows are there without the header?",
            "How many data rows does the table have?",
            "How many rows does the table have?",
        ]);
        questions.push(
            ask(Kind::Count, rows, self.rows.len().to_string()).thinking(self.first_column()),
        );
        let columns = random.pick(&[
            "How many columns are there?",
            "How many columns does the table have?",
        ]);
        questions.push(
            ask(Kind::Count, columns, self.columns.len().to_string()).thinking(self.header_text()),
        );
        let column = random.below(self.columns.len());
        let wordings = [
            "What is the name of column {}?",
            "What is the header of column {}?",
        ];
        let question = worded(random, &wordings, &(column + 1).to_string());
        questions.push(
            ask(Kind::Table, question, self.columns[column].name.clone())
                .thinking(self.header_text()),
        );
        let row = random.below(self.rows.len());
        let question = worded(
            random,
            &["Read row {}.", "What is in row {}?"],
            &(row + 1).to_string(),
        );
        questions.push(ask(Kind::Transcribe, question, self.row_text(row)));
        questions.push(ask(
            Kind::Transcribe,
            "Read the header row.",
            self.header_text(),
        ));
        let (column, name) = (
            random.below(self.columns.len()),
            random.pick(&["Read the column {}.", "List the column {}."]),
        );
        let cells: Vec<&str> = self
            .rows
            .iter()
            .map(|row| row[column].text.as_str())
            .collect();
        questions.push(ask(
            Kind::Transcribe,
            name.replace("{}", &self.columns[column].name),
            cells.join(", "),
        ));
        if let Some(title) = &self.title {
            let question = random.pick(&["What is the title of the table?", "What is the title?"]);
            let thought = format!("title {title}");
            questions.push(ask(Kind::Read, question, title.clone()).thinking(thought));
        }
        if self.twin().chars().count() <= 140 {
            questions.push(ask(Kind::Transcribe, "Read the table.", self.twin()));
        }
    }

    fn first_column(&self) -> String {
        let cells: Vec<String> = self
            .rows
            .iter()
            .enumerate()
            .map(|(index, row)| format!("{} {}", index + 1, row[0].text))
            .collect();
        cells.join(", ")
    }
}
