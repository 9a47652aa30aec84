//! What was measured: figures, their table for people and their JSON line for programs.

use crate::ceilings::Ceilings;
use serde::Serialize;
use std::fmt::Write;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Less is better.
    Milliseconds,
    /// More is better.
    TokensPerSecond,
    /// Less is better.
    Megabytes,
    /// One time by another.
    Ratio,
    /// Of all.
    Percent,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::TokensPerSecond => "token/s",
            Unit::Megabytes => "MB",
            Unit::Ratio => "x",
            Unit::Percent => "%",
        }
    }
}

/// One measured thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// encode, prefill, decode, load, memory.
    pub group: &'static str,
    /// What exactly.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// Median of all runs.
    pub median: f64,
    /// Smallest of them.
    pub least: f64,
    /// Largest of them.
    pub most: f64,
    /// How many runs.
    pub runs: usize,
    /// The ceiling that bounds it, and the median's share of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Share>,
    /// Where it stands on a chart's axis: a batch size, a prompt's length, a depth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<usize>,
}

/// A part of what would be possible.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// int8, bf16, f32 or read.
    pub of: &'static str,
    /// 1 is all of it.
    pub share: f64,
}

impl Figure {
    /// From the values of all runs; at least one.
    pub fn new(group: &'static str, name: impl Into<String>, unit: Unit, values: &[f64]) -> Figure {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        };
        Figure {
            group,
            name: name.into(),
            unit,
            median,
            least: sorted[0],
            most: sorted[sorted.len() - 1],
            runs: sorted.len(),
            ceiling: None,
            x: None,
        }
    }

    /// With its place on a chart.
    pub fn at(mut self, x: usize) -> Figure {
        self.x = Some(x);
        self
    }

    /// With the share of a ceiling that the median reaches.
    pub fn of(mut self, of: &'static str, share: f64) -> Figure {
        self.ceiling = Some(Share { of, share });
        self
    }
}

/// Everything that one run of the benchmark found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Which model.
    pub model: String,
    /// Which instruction set.
    pub isa: String,
    /// What the machine does at best.
    pub ceilings: Ceilings,
    /// In the order in which they were measured.
    pub figures: Vec<Figure>,
}

impl Report {
    /// For a person.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let c = &self.ceilings;
        let optional = |speed: Option<f64>| match speed {
            Some(speed) => format!("{speed:.0}"),
            None => "-".into(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}, {}, {} threads. This machine at best: reads {:.1} GB/s; INT8 {}, bf16 {}, f32 {:.0} billion operations a second.\n",
            self.model,
            self.isa,
            c.threads,
            c.read_gb_s,
            optional(c.int8_gop_s),
            optional(c.bf16_gop_s),
            c.f32_gop_s
        );
        let width = self.figures.iter().map(|f| f.name.chars().count()).max();
        let width = width.unwrap_or(0);
        let mut group = "";
        for figure in &self.figures {
            if figure.group != group {
                group = figure.group;
                let _ = writeln!(text, "{group}");
            }
            let gap = width - figure.name.chars().count();
            let spread = format!("[{} .. {}]", digits(figure.least), digits(figure.most));
            let share = figure.ceiling.map_or(String::new(), |share| {
                format!("{:>4.0}% of {}", 100.0 * share.share, share.of)
            });
            let line = format!(
                "  {}{:gap$}  {:>8} {:<7}  {spread:<20} {share}",
                figure.name,
                "",
                digits(figure.median),
                figure.unit.name()
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    /// For a program: one line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a report is plain data")
    }
}

/// Three digits that matter.
fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            model: "tiny".into(),
            isa: "scalar".into(),
            ceilings: Ceilings {
                threads: 2,
                read_gb_s: 50.04,
                int8_gop_s: None,
                bf16_gop_s: Some(900.2),
                f32_gop_s: 400.0,
            },
            figures: vec![
                Figure::new(
                    "encode",
                    "batch 4",
                    Unit::Milliseconds,
                    &[412.3, 400.0, 498.0],
                )
                .at(4)
                .of("f32", 0.625),
                Figure::new("decode", "depth 0", Unit::TokensPerSecond, &[30.0, 31.0]),
            ],
        }
    }

    #[test]
    fn a_table_groups_figures_and_says_what_they_are_a_share_of() {
        let expected = "\
tiny, scalar, 2 threads. This machine at best: reads 50.0 GB/s; INT8 -, bf16 900, f32 400 billion operations a second.

encode
  batch 4       412 ms       [400 .. 498]           62% of f32
decode
  depth 0      30.5 token/s  [30.0 .. 31.0]
";
        assert_eq!(report().table(), expected);
    }

    #[test]
    fn json_is_one_line_with_the_same_numbers() {
        let line = report().json();
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["figures"][0]["median"], 412.3);
        assert_eq!(value["figures"][0]["ceiling"]["of"], "f32");
        assert_eq!(value["figures"][1]["unit"], "tokens_per_second");
        assert_eq!(value["ceilings"]["int8_gop_s"], serde_json::Value::Null);
    }
}
