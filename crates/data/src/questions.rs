//! Questions that many scenes share: reading lines, and small tools to word questions.

use std::collections::BTreeMap;

use crate::example::{Kind, Question};
use crate::random::Random;

/// A question with its answer and without a thought.
pub(crate) fn ask(kind: Kind, question: impl Into<String>, answer: impl Into<String>) -> Question {
    Question {
        kind,
        question: question.into(),
        thought: None,
        answer: answer.into(),
    }
}

impl Question {
    /// The same question with a thought.
    pub(crate) fn thinking(self, thought: impl Into<String>) -> Question {
        Question {
            thought: Some(thought.into()),
            ..self
        }
    }
}

/// One of several wordings with `{}` replaced by `word`.
pub(crate) fn worded(random: &mut Random, wordings: &[&str], word: &str) -> String {
    random.pick(wordings).replace("{}", word)
}

/// A name as somebody types it: as printed, in small letters, capitalised, in capitals.
pub(crate) fn typed(random: &mut Random, name: &str) -> String {
    match random.weighted(&[0.4, 0.4, 0.1, 0.1]) {
        0 => name.to_owned(),
        1 => name.to_lowercase(),
        2 => capitalised(name),
        _ => name.to_uppercase(),
    }
}

/// First letter large, the rest small.
pub(crate) fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    match letters.next() {
        Some(first) => first
            .to_uppercase()
            .chain(letters.flat_map(char::to_lowercase))
            .collect(),
        None => String::new(),
    }
}

/// The text with a large first letter.
pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// The longest text that is asked for as a whole.
const TRANSCRIPT_CHARACTERS: usize = 140;

/// Questions about the lines of a picture, top to bottom.
pub(crate) fn reading(random: &mut Random, lines: &[String]) -> Vec<Question> {
    let mut questions = Vec::new();
    let transcript = lines.join("\n");
    if !lines.is_empty() && transcript.chars().count() <= TRANSCRIPT_CHARACTERS {
        let wordings = [
            "Read all the text.",
            "Read everything.",
            "What text is in the picture?",
            "Transcribe the picture.",
        ];
        let question = random.pick(&wordings);
        questions.push(ask(Kind::Transcribe, question, transcript));
    }
    if lines.len() < 2 {
        return questions;
    }
    let first = random.pick(&[
        "What is the first line?",
        "Read the first line.",
        "What does the first line say?",
    ]);
    questions.push(ask(Kind::Transcribe, first, lines[0].clone()));
    let last = random.pick(&[
        "What is the last line?",
        "Read the last line.",
        "What does the last line say?",
    ]);
    questions.push(ask(Kind::Transcribe, last, lines[lines.len() - 1].clone()));
    for _ in 0..lines.len().min(4) {
        let index = random.below(lines.len());
        let wordings = [
            "What is on line {}?",
            "Read line {}.",
            "What does line {} say?",
        ];
        let question = worded(random, &wordings, &(index + 1).to_string());
        questions.push(ask(Kind::Transcribe, question, lines[index].clone()));
    }
    let count = random.pick(&[
        "How many lines of text are there?",
        "How many lines are there?",
    ]);
    let begins = lines.iter().enumerate().map(|(index, line)| {
        let word = line.split(' ').next().unwrap_or(line);
        format!("{} {word}", index + 1)
    });
    let thought = begins.collect::<Vec<_>>().join(", ");
    questions.push(ask(Kind::Count, count, lines.len().to_string()).thinking(thought));
    questions
}

/// Leaves out questions that are asked twice, and both of two with different answers.
pub(crate) fn without_doubt(questions: Vec<Question>) -> Vec<Question> {
    let mut answers: BTreeMap<String, Option<String>> = BTreeMap::new();
    for question in &questions {
        let answer = answers
            .entry(question.question.to_lowercase())
            .or_insert_with(|| Some(question.answer.clone()));
        if answer.as_ref() != Some(&question.answer) {
            *answer = None;
        }
    }
    let mut questions = questions;
    // Taking an answer out keeps the first question only.
    questions.retain(|question| {
        let answer = answers.remove(&question.question.to_lowercase());
        answer.flatten().is_some()
    });
    questions
}

/// Amounts in hundredths, or whole ones, printed with two decimals or none.
pub(crate) fn amount(hundredths: i64, decimals: bool) -> String {
    if decimals {
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    } else {
        (hundredths / 100).to_string()
    }
}

/// A sum written as running totals: "1.50+2.00=3.50; 3.50+0.25=3.75".
pub(crate) fn running_totals(amounts: &[i64], decimals: bool) -> String {
    let mut total = amounts.first().copied().unwrap_or(0);
    let mut steps = Vec::new();
    for next in amounts.iter().skip(1) {
        let sum = total + next;
        steps.push(format!(
            "{}+{}={}",
            amount(total, decimals),
            amount(*next, decimals),
            amount(sum, decimals)
        ));
        total = sum;
    }
    steps.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_totals_begin_with_the_first_item() {
        assert_eq!(
            running_totals(&[1250, 320, 200], true),
            "12.50+3.20=15.70; 15.70+2.00=17.70"
        );
        assert_eq!(running_totals(&[1200, 300], false), "12+3=15");
    }

    #[test]
    fn names_are_typed_in_any_case() {
        let mut random = Random::new(1, 1);
        let seen: std::collections::BTreeSet<_> =
            (0..100).map(|_| typed(&mut random, "Green tea")).collect();
        assert_eq!(
            seen.into_iter().collect::<Vec<_>>(),
            ["GREEN TEA", "Green tea", "green tea"]
        );
    }

    #[test]
    fn every_line_question_is_answered_by_its_line() {
        let lines: Vec<String> = ["A", "B c", "D"].map(String::from).to_vec();
        for question in reading(&mut Random::new(2, 2), &lines) {
            if let Some(number) = question.question.chars().find(char::is_ascii_digit) {
                let index = number.to_digit(10).expect("a digit") as usize - 1;
                assert_eq!(question.answer, lines[index]);
            }
        }
    }
}
