//! How the rules compare over a corpus: the paper's statistics.

use super::input::Subject;
use super::rules::{Outcome, Rule};
use super::table::{Align, Table, grouped};
use std::cmp::Ordering;
use std::fmt::Write;

/// Sums of one rule.
#[derive(Clone, Copy, Default)]
struct Total {
    tiles: u128,
    tokens: u128,
}

/// How the first rule's grids compare with another's, in pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Comparison {
    smaller: u128,
    larger: u128,
    same: u128,
    /// As many tiles in another arrangement.
    same_tiles: u128,
}

impl Comparison {
    fn add(&mut self, first: &Outcome, other: &Outcome, count: u128) {
        let field = match first.grid.tiles().cmp(&other.grid.tiles()) {
            Ordering::Less => &mut self.smaller,
            Ordering::Greater => &mut self.larger,
            Ordering::Equal if first.grid == other.grid => &mut self.same,
            Ordering::Equal => &mut self.same_tiles,
        };
        *field += count;
    }
}

/// The statistics of one corpus, as two tables.
pub fn corpus(name: &str, subjects: &[Subject], rules: &[Rule]) -> String {
    let mut totals = vec![Total::default(); rules.len()];
    let mut comparisons = vec![Comparison::default(); rules.len()];
    let mut pictures = 0;
    for subject in subjects {
        let count = u128::from(subject.count.unwrap_or(1));
        pictures += count;
        let apply = |rule: &Rule| rule.apply(subject.width, subject.height);
        let outcomes: Vec<Outcome> = rules.iter().map(apply).collect();
        for (index, outcome) in outcomes.iter().enumerate() {
            totals[index].tiles += count * u128::from(outcome.tiles);
            totals[index].tokens += count * u128::from(outcome.tokens);
            comparisons[index].add(&outcomes[0], outcome, count);
        }
    }
    let mut text = heading(name, pictures, &rules[0]);
    text.push_str(&totals_table(rules, &totals, pictures));
    if rules.len() > 1 {
        let _ = write!(
            text,
            "\nGrids of {}, by number of tiles, against\n{}",
            rules[0].policy.name(),
            comparison_table(&rules[1..], &comparisons[1..], pictures)
        );
    }
    text
}

fn heading(name: &str, pictures: u128, rule: &Rule) -> String {
    format!(
        "{name}: {} {}, tiles of {} pixels, {} tokens a tile\n\n",
        grouped(pictures),
        if pictures == 1 { "picture" } else { "pictures" },
        rule.tile(),
        rule.tokens_per_tile(),
    )
}

fn totals_table(rules: &[Rule], totals: &[Total], pictures: u128) -> String {
    let first = rules[0].policy.name();
    let mut table = Table::new(&[
        ("rule", Align::Left),
        ("grids", Align::Left),
        ("tiles", Align::Right),
        ("tokens", Align::Right),
        ("tokens a picture", Align::Right),
        (&format!("{first} saves"), Align::Right),
    ]);
    for (rule, total) in rules.iter().zip(totals) {
        table.row(vec![
            rule.policy.name().to_owned(),
            rule.bound(),
            grouped(total.tiles),
            grouped(total.tokens),
            match pictures {
                0 => "-".to_owned(),
                _ => format!("{:.1}", total.tokens as f64 / pictures as f64),
            },
            saving(&totals[0], total),
        ]);
    }
    table.render()
}

fn comparison_table(others: &[Rule], comparisons: &[Comparison], pictures: u128) -> String {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("smaller", Align::Right),
        ("larger", Align::Right),
        ("equal", Align::Right),
        ("equal, other shape", Align::Right),
    ]);
    for (rule, comparison) in others.iter().zip(comparisons) {
        let share = |count: u128| {
            let percent = 100.0 * count as f64 / pictures.max(1) as f64;
            format!("{} {percent:>6.1}%", grouped(count))
        };
        table.row(vec![
            rule.policy.name().to_owned(),
            share(comparison.smaller),
            share(comparison.larger),
            share(comparison.same),
            share(comparison.same_tiles),
        ]);
    }
    table.render()
}

/// How many of another rule's tokens the first one saves.
fn saving(first: &Total, other: &Total) -> String {
    match other.tokens {
        tokens if tokens == first.tokens => "-".to_owned(),
        0 => "-".to_owned(),
        tokens => format!(
            "{:.1}%",
            100.0 * (1.0 - first.tokens as f64 / tokens as f64)
        ),
    }
}
