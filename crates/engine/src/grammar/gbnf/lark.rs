//! Writing the rules in llguidance's Lark.
//!
//! Lark tells rules, which may contain themselves, from terminals, which are regular expressions. Rules that lead back to
//! themselves nowhere are terminals here, and so one lexeme from beginning to end. In any other grammar every character is a
//! lexeme of its own: a lexeme of several would be taken as far as it goes, past where the next was to begin.

use std::fmt::Write;

use super::{Item, Rules, Sequence};

/// How the characters of a grammar are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lexemes {
    /// All of the grammar is one.
    Whole,
    /// Each character is one.
    Characters,
}

/// The rules that `root` leads to.
pub(super) fn write(rules: &Rules) -> String {
    let root = rules.names["root"];
    let reached = reached(rules, root);
    let lexemes = match lead_back(rules, &reached) {
        true => Lexemes::Characters,
        false => Lexemes::Whole,
    };
    let mut writer = Writer {
        rules,
        lexemes,
        text: format!("start: {}\n", name(root, lexemes)),
    };
    for rule in reached {
        let _ = write!(writer.text, "{}: ", name(rule, lexemes));
        writer.alternatives(&rules.bodies[rule]);
        writer.text.push('\n');
    }
    writer.text
}

/// Lark has its own rules for names, so rules are numbered.
fn name(rule: usize, lexemes: Lexemes) -> String {
    match lexemes {
        Lexemes::Whole => format!("R{rule}"),
        Lexemes::Characters => format!("r{rule}"),
    }
}

/// Rules that can be reached from this one, itself first.
fn reached(rules: &Rules, from: usize) -> Vec<usize> {
    let mut found = vec![from];
    let mut seen = vec![false; rules.bodies.len()];
    seen[from] = true;
    let mut at = 0;
    while at < found.len() {
        for next in named(rules, &rules.bodies[found[at]]) {
            if !std::mem::replace(&mut seen[next], true) {
                found.push(next);
            }
        }
        at += 1;
    }
    found
}

/// Whether one of these rules contains itself, perhaps through others: taken away one by one, each when no other names it any
/// more, some are left.
fn lead_back(rules: &Rules, reached: &[usize]) -> bool {
    let mut namings = vec![0usize; rules.bodies.len()];
    for rule in reached {
        for next in named(rules, &rules.bodies[*rule]) {
            namings[next] += 1;
        }
    }
    let unnamed = reached.iter().copied().filter(|rule| namings[*rule] == 0);
    let mut free: Vec<usize> = unnamed.collect();
    let mut taken = 0;
    while let Some(rule) = free.pop() {
        taken += 1;
        for next in named(rules, &rules.bodies[rule]) {
            namings[next] -= 1;
            if namings[next] == 0 {
                free.push(next);
            }
        }
    }
    taken < reached.len()
}

/// Rules that a body names.
fn named(rules: &Rules, body: &[Sequence]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut items: Vec<&Item> = body.iter().flatten().collect();
    while let Some(item) = items.pop() {
        match item {
            Item::Rule(name) => found.push(rules.names[name]),
            Item::Group(alternatives) => items.extend(alternatives.iter().flatten()),
            Item::Repeated(item, ..) => items.push(item),
            Item::Text(_) | Item::Class { .. } | Item::Any => {}
        }
    }
    found
}

struct Writer<'a> {
    rules: &'a Rules,
    lexemes: Lexemes,
    text: String,
}

impl Writer<'_> {
    fn alternatives(&mut self, alternatives: &[Sequence]) {
        for (index, sequence) in alternatives.iter().enumerate() {
            if index > 0 {
                self.text.push_str(" | ");
            }
            if sequence.is_empty() {
                self.text.push_str("\"\"");
            }
            for (index, item) in sequence.iter().enumerate() {
                if index > 0 {
                    self.text.push(' ');
                }
                self.item(item);
            }
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Text(text) => self.string(text),
            Item::Class { negated, ranges } => self.class(*negated, ranges),
            Item::Any => self.class(true, &[]),
            Item::Rule(rule) => self
                .text
                .push_str(&name(self.rules.names[rule], self.lexemes)),
            Item::Group(alternatives) => {
                self.text.push('(');
                self.alternatives(alternatives);
                self.text.push(')');
            }
            // Lark has no word for it.
            Item::Repeated(_, _, Some(0)) => self.text.push_str("\"\""),
            Item::Repeated(item, least, most) => {
                // A repetition of a repetition, or of a text of several characters.
                self.text.push('(');
                self.item(item);
                self.text.push(')');
                let most = most.map_or(String::new(), |most| most.to_string());
                // Writing to a String cannot fail, here and below.
                let _ = write!(self.text, "{{{least},{most}}}");
            }
        }
    }

    fn string(&mut self, text: &str) {
        if self.lexemes == Lexemes::Whole || text.is_empty() {
            return quote(text, &mut self.text);
        }
        for (index, character) in text.chars().enumerate() {
            if index > 0 {
                self.text.push(' ');
            }
            quote(character.encode_utf8(&mut [0; 4]), &mut self.text);
        }
    }

    /// A regular expression for one character.
    fn class(&mut self, negated: bool, ranges: &[(char, char)]) {
        if ranges.is_empty() {
            return self.text.push_str("/(?s:.)/");
        }
        self.text.push_str(if negated { "/[^" } else { "/[" });
        for (first, last) in ranges {
            let (first, last) = (u32::from(*first), u32::from(*last));
            let _ = write!(self.text, "\\u{{{first:x}}}-\\u{{{last:x}}}");
        }
        self.text.push_str("]/");
    }
}

/// As JSON has it, without the characters that Lark's texts may not hold.
fn quote(text: &str, to: &mut String) {
    to.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => to.extend(['\\', character]),
            _ if character.is_control() => {
                let _ = write!(to, "\\u{:04x}", u32::from(character));
            }
            _ => to.push(character),
        }
    }
    to.push('"');
}
