//! Grammars in llama.cpp's format, read and written anew in the Lark that the rest works with.
//!
//! The format: <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>. A rule is `name ::= …` up to the end of
//! its line; lines go on inside of parentheses and after `|`. What a rule says is read character by character, so no part of it
//! is taken for a lexeme that swallows what belongs to the next. Tokens (`<[id]>`, `<text>`) are not supported, and say so.

mod lark;

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use super::{Grammar, MAX_NESTING};
use crate::error::EngineError;

/// Most repetitions that a number in braces may ask for, as in llama.cpp.
const MOST_REPETITIONS: u32 = 2000;

/// What follows one another.
type Sequence = Vec<Item>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    /// One character of these ranges, or of none of them.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Any character.
    Any,
    Rule(String),
    Group(Vec<Sequence>),
    Repeated(Box<Item>, u32, Option<u32>),
}

/// A place in a grammar's text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

/// Rules by name, in the order in which they came.
#[derive(Debug, Default)]
struct Rules {
    names: HashMap<String, usize>,
    bodies: Vec<Vec<Sequence>>,
}

/// Whether a text is in this format and not in Lark: whether its first rule is defined by `::=`.
pub(super) fn recognise(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(['#', '/']));
    let rest = first.map(|line| line.trim_start_matches(is_of_name).trim_start());
    rest.is_some_and(|rest| rest.starts_with("::="))
}

/// The same grammar in Lark.
pub(super) fn translate(text: &str) -> Result<Grammar, EngineError> {
    let rules = Reader::new(text).rules()?;
    Ok(Grammar::rules(lark::write(&rules)))
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

/// Reads the text once, character by character.
struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    place: Place,
    /// Names that are used, where they are first.
    used: HashMap<String, Place>,
    depth: usize,
}

/// Whether a new line may stand among white space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    GoOn,
    End,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Reader {
            rest: text.chars().peekable(),
            place: Place { line: 1, column: 1 },
            used: HashMap::new(),
            depth: 0,
        }
    }

    fn rules(mut self) -> Result<Rules, EngineError> {
        let mut rules = Rules::default();
        self.skip_space(Lines::GoOn);
        while self.rest.peek().is_some() {
            let (name, place) = (self.name("the name of a rule")?, self.place);
            self.skip_space(Lines::End);
            for expected in [':', ':', '='] {
                if self.rest.peek() != Some(&expected) {
                    return Err(self.wrong("::= after the name of a rule"));
                }
                self.take();
            }
            self.skip_space(Lines::GoOn);
            let body = self.alternatives(Lines::End)?;
            if !matches!(self.rest.peek(), None | Some('\n')) {
                return Err(self.wrong("the end of the line"));
            }
            self.skip_space(Lines::GoOn);
            if rules
                .names
                .insert(name.clone(), rules.bodies.len())
                .is_some()
            {
                return Err(at(place, &format!("the rule {name} is there twice")));
            }
            rules.bodies.push(body);
        }
        let missing = self
            .used
            .into_iter()
            .filter(|(name, _)| !rules.names.contains_key(name));
        if let Some((name, place)) = missing.min_by_key(|(_, place)| (place.line, place.column)) {
            return Err(at(place, &format!("there is no rule {name}")));
        }
        match rules.names.contains_key("root") {
            true => Ok(rules),
            false => Err(EngineError::request(
                "grammar",
                "expected a rule root, found none",
            )),
        }
    }

    fn alternatives(&mut self, lines: Lines) -> Result<Vec<Sequence>, EngineError> {
        let mut all = vec![self.sequence(lines)?];
        while self.rest.peek() == Some(&'|') {
            self.take();
            self.skip_space(Lines::GoOn);
            all.push(self.sequence(lines)?);
        }
        Ok(all)
    }

    fn sequence(&mut self, lines: Lines) -> Result<Sequence, EngineError> {
        let mut items = Sequence::new();
        while let Some(next) = self.rest.peek() {
            let item = match next {
                '"' => self.text()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '.' => {
                    self.take();
                    Item::Any
                }
                '<' | '!' => {
                    return Err(
                        self.wrong("characters or the name of a rule (tokens are not supported)")
                    );
                }
                '*' | '+' | '?' | '{' => match items.pop() {
                    Some(item) => self.repeated(item)?,
                    None => return Err(self.wrong("something to repeat before it")),
                },
                character if is_of_name(*character) => {
                    let place = self.place;
                    let name = self.name("the name of a rule")?;
                    self.used.entry(name.clone()).or_insert(place);
                    Item::Rule(name)
                }
                _ => break,
            };
            items.push(item);
            self.skip_space(lines);
        }
        Ok(items)
    }

    fn group(&mut self) -> Result<Item, EngineError> {
        let begin = self.place;
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(at(
                begin,
                &format!("expected at most {MAX_NESTING} groups inside of one another"),
            ));
        }
        self.take();
        self.skip_space(Lines::GoOn);
        let alternatives = self.alternatives(Lines::GoOn)?;
        if self.rest.peek() != Some(&')') {
            return Err(self.wrong(&format!(
                "the ) of the group that began in line {}",
                begin.line
            )));
        }
        self.take();
        self.depth -= 1;
        Ok(Item::Group(alternatives))
    }

    fn text(&mut self) -> Result<Item, EngineError> {
        self.take();
        let mut text = String::new();
        loop {
            match self.rest.peek() {
                Some('"') => {
                    self.take();
                    return Ok(Item::Text(text));
                }
                Some('\n') | None => return Err(self.wrong("the \" that ends a text")),
                Some(_) => text.push(self.character()?),
            }
        }
    }

    fn class(&mut self) -> Result<Item, EngineError> {
        let begin = self.place;
        self.take();
        let negated = self.rest.next_if_eq(&'^').is_some();
        self.place.column += usize::from(negated);
        let mut ranges = Vec::new();
        while self.rest.peek() != Some(&']') {
            if matches!(self.rest.peek(), Some('\n') | None) {
                return Err(self.wrong("the ] that ends a range of characters"));
            }
            let place = self.place;
            let first = self.character()?;
            let mut ahead = self.rest.clone();
            let last = match (ahead.next(), ahead.next()) {
                (Some('-'), Some(end)) if end != ']' => {
                    self.take();
                    self.character()?
                }
                _ => first,
            };
            if last < first {
                return Err(at(
                    place,
                    &format!("expected a range that goes up, found {first:?} to {last:?}"),
                ));
            }
            ranges.push((first, last));
        }
        self.take();
        match ranges.is_empty() && !negated {
            true => Err(at(begin, "expected characters in brackets, found none")),
            false => Ok(Item::Class { negated, ranges }),
        }
    }

    /// One character of a text or a class, which may be written as an escape.
    fn character(&mut self) -> Result<char, EngineError> {
        let place = self.place;
        let character = self.take().ok_or_else(|| self.wrong("a character"))?;
        if character != '\\' {
            return Ok(character);
        }
        let digits = match self.take() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(same @ ('\\' | '"' | '[' | ']')) => return Ok(same),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            other => {
                let found = other.map_or("nothing".into(), |other| format!("\\{other}"));
                return Err(at(
                    place,
                    &format!(
                        "expected one of \\n \\r \\t \\\\ \\\" \\[ \\] \\x \\u \\U, found {found}"
                    ),
                ));
            }
        };
        let mut code = 0;
        for _ in 0..digits {
            let digit = self.rest.peek().and_then(|digit| digit.to_digit(16));
            let Some(digit) = digit else {
                return Err(self.wrong(&format!("{digits} digits of a hexadecimal number")));
            };
            self.take();
            code = code << 4 | digit;
        }
        char::from_u32(code).ok_or_else(|| at(place, &format!("{code:#x} is not a character")))
    }

    fn repeated(&mut self, item: Item) -> Result<Item, EngineError> {
        let place = self.place;
        if repetitions(&item) >= MAX_NESTING {
            let expected = format!("expected at most {MAX_NESTING} repetitions of one another");
            return Err(at(place, &expected));
        }
        let (least, most) = match self.take() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => self.counts()?,
        };
        if most.is_some_and(|most| most < least) {
            return Err(at(place, "expected a number that is not below the first"));
        }
        Ok(Item::Repeated(Box::new(item), least, most))
    }

    /// What stands in braces; the first is read.
    fn counts(&mut self) -> Result<(u32, Option<u32>), EngineError> {
        self.skip_space(Lines::End);
        let least = self.number()?;
        self.skip_space(Lines::End);
        let mut most = Some(least);
        if self.rest.peek() == Some(&',') {
            self.take();
            self.skip_space(Lines::End);
            most = match self.rest.peek() {
                Some('}') => None,
                _ => Some(self.number()?),
            };
            self.skip_space(Lines::End);
        }
        match self.rest.peek() {
            Some('}') => {
                self.take();
                Ok((least, most))
            }
            _ => Err(self.wrong("the } of a repetition")),
        }
    }

    fn number(&mut self) -> Result<u32, EngineError> {
        let place = self.place;
        let mut number: Option<u32> = None;
        while let Some(digit) = self.rest.peek().and_then(|digit| digit.to_digit(10)) {
            self.take();
            number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
        }
        match number {
            None => Err(self.wrong("a number of repetitions")),
            Some(number) if number > MOST_REPETITIONS => Err(at(
                place,
                &format!("expected at most {MOST_REPETITIONS} repetitions, found {number}"),
            )),
            Some(number) => Ok(number),
        }
    }

    fn name(&mut self, expected: &str) -> Result<String, EngineError> {
        let mut name = String::new();
        while let Some(character) = self.rest.next_if(|next| is_of_name(*next)) {
            self.place.column += 1;
            name.push(character);
        }
        match name.is_empty() {
            true => Err(self.wrong(expected)),
            false => Ok(name),
        }
    }

    /// Skips white space and comments.
    fn skip_space(&mut self, lines: Lines) {
        while let Some(next) = self.rest.peek() {
            match next {
                ' ' | '\t' | '\r' => {}
                '\n' if lines == Lines::GoOn => {}
                '#' => {
                    while self.rest.peek().is_some_and(|next| *next != '\n') {
                        self.take();
                    }
                    continue;
                }
                _ => return,
            }
            self.take();
        }
    }

    fn take(&mut self) -> Option<char> {
        let character = self.rest.next()?;
        match character {
            '\n' => {
                self.place.line += 1;
                self.place.column = 1;
            }
            _ => self.place.column += 1,
        }
        Some(character)
    }

    /// What was expected here and is not there.
    fn wrong(&mut self, expected: &str) -> EngineError {
        let found = match self.rest.peek() {
            None => "the end".into(),
            Some('\n') => "the end of the line".into(),
            Some(other) => format!("{other:?}"),
        };
        at(self.place, &format!("expected {expected}, found {found}"))
    }
}

/// Repetitions of repetitions, which would be read and dropped by as many calls.
fn repetitions(mut item: &Item) -> usize {
    let mut count = 0;
    while let Item::Repeated(inner, ..) = item {
        (item, count) = (inner, count + 1);
    }
    count
}

fn at(place: Place, message: &str) -> EngineError {
    let Place { line, column } = place;
    EngineError::request(
        "grammar",
        format!("line {line}, column {column}: {message}"),
    )
}

#[cfg(test)]
mod tests;
