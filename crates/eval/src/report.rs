//! How many replies are right, by kind.

use std::fmt;

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

/// Right replies among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Right replies.
    pub correct: usize,
    /// All replies.
    pub count: usize,
}

/// 97.5% of a normal distribution lie below so many standard deviations: 95% lie inside of ±.
const DEVIATIONS: f64 = 1.959_963_984_540_054;

impl Score {
    /// Counts one reply.
    pub fn add(&mut self, right: bool) {
        self.correct += usize::from(right);
        self.count += 1;
    }

    /// The share of right replies, 0 to 1; 0 if there are no replies.
    pub fn accuracy(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.correct as f64 / self.count as f64
        }
    }

    /// Where the true accuracy lies with 95% confidence, by Wilson's score interval; 0 to 1 if there are no replies.
    ///
    /// <https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval#Wilson_score_interval>
    pub fn interval(&self) -> (f64, f64) {
        if self.count == 0 {
            return (0.0, 1.0);
        }
        let count = self.count as f64;
        let share = self.accuracy();
        let square = DEVIATIONS * DEVIATIONS;
        let center = (share + square / (2.0 * count)) / (1.0 + square / count);
        let spread = DEVIATIONS / (1.0 + square / count)
            * (share * (1.0 - share) / count + square / (4.0 * count * count)).sqrt();
        ((center - spread).max(0.0), (center + spread).min(1.0))
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Score", 3)?;
        fields.serialize_field("correct", &self.correct)?;
        fields.serialize_field("count", &self.count)?;
        fields.serialize_field("accuracy", &self.accuracy())?;
        fields.end()
    }
}

/// Scores of an evaluation. Serialized, it is the line of `bluelm eval --json`; displayed, it is a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All replies.
    pub total: Score,
    /// Replies by kind, in the order in which kinds first appear.
    pub kinds: Vec<(String, Score)>,
}

impl Report {
    /// Counts one reply.
    pub fn add(&mut self, kind: &str, right: bool) {
        self.total.add(right);
        let index = match self.kinds.iter().position(|(name, _)| name == kind) {
            Some(index) => index,
            None => {
                self.kinds.push((kind.to_owned(), Score::default()));
                self.kinds.len() - 1
            }
        };
        self.kinds[index].1.add(right);
    }

    /// The score of a kind, if it was asked.
    pub fn kind(&self, kind: &str) -> Option<Score> {
        let found = self.kinds.iter().find(|(name, _)| name == kind);
        found.map(|(_, score)| *score)
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Report", 2)?;
        fields.serialize_field("total", &self.total)?;
        fields.serialize_field("kinds", &Kinds(&self.kinds))?;
        fields.end()
    }
}

struct Kinds<'a>(&'a [(String, Score)]);

impl Serialize for Kinds<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, score) in self.0 {
            map.serialize_entry(name, score)?;
        }
        map.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let names = self.kinds.iter().map(|(name, _)| name.chars().count());
        let width = names.max().unwrap_or(0).max("total".len());
        writeln!(
            out,
            "{:<width$}  {:>6}  {:>6}  {:>8}  95% interval",
            "kind", "right", "of", "accuracy"
        )?;
        let total = ("total".to_owned(), self.total);
        for (name, score) in self.kinds.iter().chain([&total]) {
            let (low, high) = score.interval();
            writeln!(
                out,
                "{name:<width$}  {:>6}  {:>6}  {:>7.1}%  {:.1} to {:.1}",
                score.correct,
                score.count,
                100.0 * score.accuracy(),
                100.0 * low,
                100.0 * high
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        for (kind, right) in [
            ("total", true),
            ("read", true),
            ("total", false),
            ("total", true),
            ("total", true),
        ] {
            report.add(kind, right);
        }
        report
    }

    #[test]
    fn json_is_the_line_of_the_command_contract() {
        assert_eq!(
            serde_json::to_string(&report()).unwrap(),
            concat!(
                r#"{"total":{"correct":4,"count":5,"accuracy":0.8},"#,
                r#""kinds":{"total":{"correct":3,"count":4,"accuracy":0.75},"read":{"correct":1,"count":1,"accuracy":1.0}}}"#
            )
        );
        assert_eq!(
            serde_json::to_string(&Report::default()).unwrap(),
            r#"{"total":{"correct":0,"count":0,"accuracy":0.0},"kinds":{}}"#
        );
    }

    #[test]
    fn the_table_has_a_line_for_each_kind_and_the_total_last() {
        assert_eq!(
            report().to_string(),
            "\
kind    right      of  accuracy  95% interval
total       3       4     75.0%  30.1 to 95.4
read        1       1    100.0%  20.7 to 100.0
total       4       5     80.0%  37.6 to 96.4
"
        );
    }

    #[test]
    fn intervals_equal_published_ones() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        for (correct, count, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0000, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (found_low, found_high) = Score { correct, count }.interval();
            // The table has four decimals.
            assert!((found_low - low).abs() <= 0.5e-4, "{found_low} {low}");
            assert!((found_high - high).abs() <= 0.5e-4, "{found_high} {high}");
        }
        assert_eq!(Score::default().interval(), (0.0, 1.0));
    }
}
