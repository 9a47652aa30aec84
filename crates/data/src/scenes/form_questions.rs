//! A form: what can be asked about it.

use super::form::{Choice, Form};
use crate::example::{Kind, Question};
use crate::questions::{ask, typed, worded};
use crate::random::Random;

impl Form {
    pub(super) fn lines(&self) -> Vec<String> {
        let mark =
            |choice: &Choice| format!("[{}] {}", if choice.on { "x" } else { " " }, choice.label);
        let mut lines: Vec<String> = self.title.iter().cloned().collect();
        lines.extend(
            self.fields
                .iter()
                .map(|field| format!("{}: {}", field.label, field.value)),
        );
        lines.extend(self.choices.iter().map(mark));
        if !self.buttons.is_empty() {
            let buttons: Vec<String> = self
                .buttons
                .iter()
                .map(|button| format!("<{button}>"))
                .collect();
            lines.push(buttons.join(" "));
        }
        lines
    }

    pub(super) fn ask_fields(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let wordings = [
            "What is the {}?",
            "What is the {}?",
            "What is written in the field {}?",
            "What is the value of {}?",
            "What is entered for {}?",
            "{}?",
        ];
        for field in &self.fields {
            let name = if random.chance(0.6) {
                field.label.to_lowercase()
            } else {
                typed(random, &field.label)
            };
            let question = crate::questions::sentence(&worded(random, &wordings, &name));
            let thought = format!("{}: {}", field.label, field.value);
            questions.push(ask(Kind::Form, question, field.value.clone()).thinking(thought));
        }
        let field = &self.fields[random.below(self.fields.len())];
        if self
            .fields
            .iter()
            .filter(|other| other.value == field.value)
            .count()
            == 1
        {
            let question = worded(
                random,
                &["Which field contains {}?", "In which field is {}?"],
                &field.value,
            );
            let thought = format!("{}: {}", field.label, field.value);
            questions.push(ask(Kind::Form, question, field.label.clone()).thinking(thought));
        }
    }

    pub(super) fn ask_choices(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let word = if self.look.switches { "on" } else { "checked" };
        let answer = |on: bool| if on { "yes" } else { "no" };
        for choice in self.choices.iter().take(3) {
            let wordings = if self.look.switches {
                ["Is '{}' on?", "Is {} on?", "Is {} switched on?"]
            } else {
                [
                    "Is '{}' checked?",
                    "Is {} checked?",
                    "Is the box {} checked?",
                ]
            };
            let name = if random.chance(0.7) {
                choice.label.clone()
            } else {
                typed(random, &choice.label)
            };
            let state = if choice.on {
                word.to_owned()
            } else {
                format!("not {word}")
            };
            let thought = format!("{}: {state}", choice.label);
            questions.push(
                ask(
                    Kind::Form,
                    worded(random, &wordings, &name),
                    answer(choice.on),
                )
                .thinking(thought),
            );
        }
        if self.choices.len() > 1 {
            let on: Vec<&str> = self
                .choices
                .iter()
                .filter(|choice| choice.on)
                .map(|choice| choice.label.as_str())
                .collect();
            let listed = if on.is_empty() {
                "none".to_owned()
            } else {
                on.join(", ")
            };
            let question = if self.look.switches {
                "How many switches are on?"
            } else {
                "How many boxes are checked?"
            };
            questions
                .push(ask(Kind::Count, question, on.len().to_string()).thinking(listed.clone()));
            let question = if self.look.switches {
                "What is switched on?"
            } else {
                "Which boxes are checked?"
            };
            questions.push(ask(Kind::Form, question, listed));
        }
    }

    pub(super) fn ask_rest(&self, random: &mut Random, questions: &mut Vec<Question>) {
        if let Some(title) = &self.title {
            let wordings = [
                "What is the title?",
                "What is the title of the form?",
                "What is the heading?",
                "What is the name of the window?",
            ];
            let thought = format!("title {title}");
            questions
                .push(ask(Kind::Read, random.pick(&wordings), title.clone()).thinking(thought));
        }
        match &self.buttons[..] {
            [] => {}
            [button] => {
                questions.push(ask(Kind::Form, "What does the button say?", button.clone()))
            }
            buttons => {
                questions.push(ask(
                    Kind::Form,
                    "Which buttons are there?",
                    buttons.join(", "),
                ));
                questions.push(ask(
                    Kind::Form,
                    "What does the first button say?",
                    buttons[0].clone(),
                ));
            }
        }
        let names: Vec<&str> = self
            .fields
            .iter()
            .map(|field| field.label.as_str())
            .collect();
        let question = random.pick(&[
            "How many fields are there?",
            "How many fields does the form have?",
        ]);
        questions
            .push(ask(Kind::Count, question, names.len().to_string()).thinking(names.join(", ")));
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|field| format!("{}: {}", field.label, field.value))
            .collect();
        let transcript = fields.join("\n");
        if transcript.chars().count() <= 140 {
            questions.push(ask(
                Kind::Transcribe,
                random.pick(&["Read all fields.", "List all fields with their values."]),
                transcript,
            ));
        }
    }
}
