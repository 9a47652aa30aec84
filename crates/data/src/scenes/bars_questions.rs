//! A bar chart: what can be asked about it.

use super::bars::{Bar, Bars};
use crate::example::{Kind, Question};
use crate::questions::{ask, running_totals, typed, worded};
use crate::random::Random;

impl Bars {
    fn pair(&self, bar: &Bar) -> String {
        format!("{} {}", bar.label, bar.value)
    }

    fn listing(&self) -> String {
        let pairs: Vec<String> = self.bars.iter().map(|bar| self.pair(bar)).collect();
        pairs.join(", ")
    }

    /// A bar's name in a question: as printed or in full.
    fn asked<'a>(&self, random: &mut Random, bar: &'a Bar) -> &'a str {
        if random.chance(0.7) {
            &bar.asked
        } else {
            &bar.label
        }
    }

    pub(super) fn ask_values(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let wordings = [
            "What is the value of {}?",
            "What is the value of {}?",
            "What value does {} have?",
            "How much is {}?",
            "What is the value for {}?",
            "How high is the bar for {}?",
            "What is the number for {}?",
        ];
        for turn in 0..4 {
            let bar = &self.bars[random.below(self.bars.len())];
            let name = if turn == 0 {
                bar.asked.clone()
            } else {
                self.asked(random, bar).to_owned()
            };
            let question = if turn == 0 {
                wordings[0].replace("{}", &name)
            } else {
                worded(random, &wordings, &name)
            };
            questions
                .push(ask(Kind::Chart, question, bar.value.to_string()).thinking(self.pair(bar)));
        }
        let bar = &self.bars[random.below(self.bars.len())];
        if self
            .bars
            .iter()
            .filter(|other| other.value == bar.value)
            .count()
            == 1
        {
            let wordings = ["Which bar has the value {}?", "Which {n} has the value {}?"];
            let question =
                worded(random, &wordings, &bar.value.to_string()).replace("{n}", self.noun);
            questions.push(ask(Kind::Chart, question, bar.label.clone()).thinking(self.pair(bar)));
        }
    }

    pub(super) fn ask_ends(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let high: &[&str] = &[
            "Which bar is the highest?",
            "Which bar is the largest?",
            "Which {n} has the highest value?",
            "What is the highest bar?",
            "Which {n} is the highest?",
        ];
        let low: &[&str] = &[
            "Which bar is the lowest?",
            "Which bar is the smallest?",
            "Which {n} has the lowest value?",
            "What is the lowest bar?",
            "Which {n} is the lowest?",
        ];
        let value_words = [
            ["What is the highest value?", "What is the largest value?"],
            ["What is the lowest value?", "What is the smallest value?"],
        ];
        let ends = [
            (self.bars.iter().map(|bar| bar.value).max(), high, "highest"),
            (self.bars.iter().map(|bar| bar.value).min(), low, "lowest"),
        ];
        for ((value, wordings, word), values) in ends.into_iter().zip(value_words) {
            let Some(value) = value else { continue };
            let thought = format!("{}; {word} {value}", self.listing());
            let found: Vec<&Bar> = self.bars.iter().filter(|bar| bar.value == value).collect();
            if let [bar] = found[..] {
                for question in [wordings[0], random.pick(wordings)] {
                    let question = question.replace("{n}", self.noun);
                    questions.push(
                        ask(Kind::Chart, question, bar.label.clone()).thinking(thought.clone()),
                    );
                }
            }
            questions
                .push(ask(Kind::Chart, random.pick(&values), value.to_string()).thinking(thought));
        }
    }

    pub(super) fn ask_pairs(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let first = random.below(self.bars.len());
        let second = (first + random.between(1, self.bars.len() - 1)) % self.bars.len();
        let (first, second) = (&self.bars[first], &self.bars[second]);
        let fill = |text: &str| {
            text.replace("{a}", &first.asked)
                .replace("{b}", &second.asked)
        };
        if first.value != second.value {
            let higher = random.chance(0.6);
            let wording = if higher {
                random.pick(&[
                    "Which is higher, {a} or {b}?",
                    "Which bar is higher, {a} or {b}?",
                ])
            } else {
                "Which is lower, {a} or {b}?"
            };
            let answer = if (first.value > second.value) == higher {
                first
            } else {
                second
            };
            let thought = format!("{}, {}", self.pair(first), self.pair(second));
            questions
                .push(ask(Kind::Compare, fill(wording), answer.label.clone()).thinking(thought));
        }
        let wordings = [
            "What is the sum of {a} and {b}?",
            "How much are {a} and {b} together?",
        ];
        let thought = running_totals(&[first.value * 100, second.value * 100], false);
        let answer = (first.value + second.value).to_string();
        questions.push(ask(Kind::Sum, fill(random.pick(&wordings)), answer).thinking(thought));
        if self.bars.len() <= 6 {
            let values: Vec<i64> = self.bars.iter().map(|bar| bar.value * 100).collect();
            let question = random.pick(&[
                "What is the sum of all bars?",
                "What is the sum of all values?",
            ]);
            let sum: i64 = self.bars.iter().map(|bar| bar.value).sum();
            questions.push(
                ask(Kind::Sum, question, sum.to_string()).thinking(running_totals(&values, false)),
            );
        }
    }

    pub(super) fn ask_rest(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let numbered: Vec<String> = self
            .bars
            .iter()
            .enumerate()
            .map(|(index, bar)| format!("{} {}", index + 1, bar.label))
            .collect();
        let question = random.pick(&[
            "How many bars are there?",
            "How many bars does the chart have?",
        ]);
        questions.push(
            ask(Kind::Count, question, self.bars.len().to_string()).thinking(numbered.join(", ")),
        );
        let question = random.pick(&["Read the chart.", "List all bars with their values."]);
        if self.listing().chars().count() <= 120 {
            questions.push(ask(Kind::Transcribe, question, self.listing()));
        }
        let index = random.below(self.bars.len());
        let side = if self.look.upright {
            "from the left"
        } else {
            "from the top"
        };
        let question = format!("What is the label of bar {} {side}?", index + 1);
        questions.push(ask(
            Kind::Transcribe,
            question,
            self.bars[index].label.clone(),
        ));
        if let Some(title) = &self.title {
            let wordings = [
                "What is the title of the chart?",
                "What is the title?",
                "What is the chart about?",
            ];
            let thought = format!("title {title}");
            questions
                .push(ask(Kind::Read, random.pick(&wordings), title.clone()).thinking(thought));
        }
        if let Some(bar) = self.bars.get(random.below(self.bars.len())) {
            let name = typed(random, &bar.asked);
            questions.push(
                ask(Kind::Chart, format!("{name}?"), bar.value.to_string())
                    .thinking(self.pair(bar)),
            );
        }
    }
}
