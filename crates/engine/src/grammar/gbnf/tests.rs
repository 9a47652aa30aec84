//! Grammars read, and the strings that they let through: those of a plain reading of what the format means.

use proptest::prelude::*;

use super::*;
use crate::grammar::{Grammars, Target};
use crate::testing::nano_tokenizer;
use crate::tokenizer::Tokenizer;

/// Which of these texts a grammar lets through as a whole, by the library that keeps answers to it.
fn accepted<'t>(grammar: &str, texts: &[&'t str]) -> Vec<&'t str> {
    accepted_by(&Grammars::default(), &nano_tokenizer(), grammar, texts)
}

fn accepted_by<'t>(
    grammars: &Grammars,
    tokenizer: &Tokenizer,
    grammar: &str,
    texts: &[&'t str],
) -> Vec<&'t str> {
    let target = Target {
        tokenizer,
        vocabulary: tokenizer.id_limit() as usize,
        eos: &[2],
    };
    let grammar = Grammar::gbnf(grammar).unwrap();
    let accepts = |text: &&&str| {
        let mut matcher = grammars.compile(&grammar, target).unwrap();
        let ids = tokenizer.encode(text).unwrap();
        let read = matcher.validate_tokens(&ids).unwrap();
        read == ids.len() && matcher.consume_tokens(&ids).is_ok() && matcher.is_accepting().unwrap()
    };
    texts.iter().filter(accepts).copied().collect()
}

fn error(grammar: &str) -> String {
    Grammar::gbnf(grammar).unwrap_err().to_string()
}

const ARITHMETIC: &str = r#"
# sums in parentheses, one line each
root  ::= (expr "=" term "\n")+
expr  ::= term ([-+*/] term)*   # left to right
term  ::= ident | num |
          "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"#;

#[test]
fn a_grammar_that_contains_itself_is_kept() {
    let texts = [
        "1=2\n",
        "(a+(b*2))=c_1\n",
        "(1=2\n",
        "1+=2\n",
        "1 +2 =3 \n\nx=y\n",
        "1=2",
        "",
    ];
    assert_eq!(
        accepted(ARITHMETIC, &texts),
        ["1=2\n", "(a+(b*2))=c_1\n", "1 +2 =3 \n\nx=y\n"]
    );
}

#[test]
fn a_grammar_without_recursion_is_one_regular_expression() {
    let list = "root ::= item{1,3} end?\nitem ::= \"- \" [^\\n]+ \"\\n\"\nend ::= \"--\" .\nunused ::= unused";
    let texts = [
        "- a\n",
        "- a\n- é合\n--x",
        "-a\n",
        "- a\n- b\n- c\n- d\n",
        "- a\n--\n",
        "- a\n--",
    ];
    assert_eq!(
        accepted(list, &texts),
        ["- a\n", "- a\n- é合\n--x", "- a\n--\n"]
    );
    assert!(
        Grammar::gbnf(list)
            .unwrap()
            .text()
            .starts_with("start: R0\n")
    );
}

/// What a program makes of a JSON schema: ranges as escapes, empty alternatives, counts.
#[test]
fn escapes_empty_alternatives_and_counts_are_read() {
    let grammar = r#"root ::= "{" space "\"a\":" char{2,3} (x|) "}" space
char ::= [^"\\\x7F\x00-\x1F] | [\\] (["\\bfnrt] | "u" [0-9a-fA-F]{4})
space ::= | " " | "\n" [ \t]{0,20}
x ::= "\U0001F600" | "\x5b\x5D" {2} | "\[" "never"{0}"#;
    let texts = [
        "{\"a\":bc}",
        "{ \"a\":\\n\\u00e9b😀}\n  ",
        "{\"a\":b}",
        "{\"a\":bc[][]}",
        "{\"a\":bc[}",
        "{\"a\":\nbc}",
    ];
    assert_eq!(
        accepted(grammar, &texts),
        [
            "{\"a\":bc}",
            "{ \"a\":\\n\\u00e9b😀}\n  ",
            "{\"a\":bc[][]}",
            "{\"a\":bc[}"
        ]
    );
}

#[test]
fn mistakes_are_told_with_line_and_column() {
    let cases = [
        ("", "expected a rule root, found none"),
        ("rot ::= \"a\"", "expected a rule root, found none"),
        (
            "root ::= a b\nb ::= c",
            "line 1, column 10: there is no rule a",
        ),
        (
            "root = \"a\"",
            "line 1, column 6: expected ::= after the name of a rule, found '='",
        ),
        (
            "root ::= \"a\n\"",
            "line 1, column 12: expected the \" that ends a text, found the end of the line",
        ),
        (
            "root ::= \"a\" )",
            "line 1, column 14: expected the end of the line, found ')'",
        ),
        (
            "root ::= (\"a\"\n| \"b\"",
            "line 2, column 6: expected the ) of the group that began in line 1, found the end",
        ),
        (
            "root ::= \"a\"\n| \"b\"",
            "line 2, column 1: expected the name of a rule, found '|'",
        ),
        (
            "root ::= [a-",
            "line 1, column 13: expected the ] that ends a range of characters, found the end",
        ),
        (
            "root ::= [b-a]",
            "line 1, column 11: expected a range that goes up, found 'b' to 'a'",
        ),
        (
            "root ::= []",
            "line 1, column 10: expected characters in brackets, found none",
        ),
        (
            "root ::= \"\\q\"",
            "line 1, column 11: expected one of \\n \\r \\t \\\\ \\\" \\[ \\] \\x \\u \\U, found \\q",
        ),
        (
            "root ::= \"\\x4\"",
            "line 1, column 14: expected 2 digits of a hexadecimal number, found '\"'",
        ),
        (
            "root ::= \"\\ud800\"",
            "line 1, column 11: 0xd800 is not a character",
        ),
        (
            "root ::= * \"a\"",
            "line 1, column 10: expected something to repeat before it, found '*'",
        ),
        (
            "root ::= \"a\"{x}",
            "line 1, column 14: expected a number of repetitions, found 'x'",
        ),
        (
            "root ::= \"a\"{2,1}",
            "line 1, column 13: expected a number that is not below the first",
        ),
        (
            "root ::= \"a\"{1,99999}",
            "line 1, column 16: expected at most 2000 repetitions, found 99999",
        ),
        (
            "root ::= \"a\"{1",
            "line 1, column 15: expected the } of a repetition, found the end",
        ),
        (
            "root ::= <think>",
            "line 1, column 10: expected characters or the name of a rule (tokens are not supported), found '<'",
        ),
        (
            "root ::= \"a\"\nroot ::= \"b\"",
            "line 2, column 5: the rule root is there twice",
        ),
    ];
    for (grammar, expected) in cases {
        assert_eq!(error(grammar), format!("grammar: {expected}"), "{grammar}");
    }
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(200), ")".repeat(200));
    assert!(
        error(&deep).contains("column 138: expected at most 128 groups"),
        "{}",
        error(&deep)
    );
    let often = format!("root ::= \"a\"{}", "*".repeat(200_000));
    assert!(
        error(&often).contains("column 141: expected at most 128 repetitions"),
        "{}",
        error(&often)
    );
    let long = format!("root ::= \"{}\"", "a".repeat(300_000));
    assert!(error(&long).ends_with("at most 262144 are read"));
}

#[test]
fn a_format_is_told_from_the_other_by_its_first_rule() {
    for (text, expected) in [
        ("# a note\n\nroot ::= \"a\"", true),
        ("root::=\"a\"", true),
        ("start: \"::=\"", false),
        ("// a note\nstart: \"a\"", false),
        ("", false),
    ] {
        assert_eq!(recognise(text), expected, "{text:?}");
    }
}

/// An item as it is written, of two letters and the rules `root`, `a` and `b`.
fn item() -> impl Strategy<Value = Item> {
    let rule =
        prop::sample::select(vec!["root", "a", "b"]).prop_map(|name| Item::Rule(name.into()));
    let class = |negated, last| Item::Class {
        negated,
        ranges: vec![('x', last)],
    };
    let leaf = prop_oneof![
        3 => "[xy]{0,2}".prop_map(Item::Text),
        1 => (any::<bool>(), prop::sample::select(vec!['x', 'y'])).prop_map(move |(negated, last)| class(negated, last)),
        1 => Just(Item::Any),
        2 => rule,
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let sequence = prop::collection::vec(inner.clone(), 0..3);
        let counts = prop::sample::select(vec![
            (0, None),
            (1, None),
            (0, Some(1)),
            (2, Some(3)),
            (0, Some(0)),
        ]);
        prop_oneof![
            prop::collection::vec(sequence, 1..3).prop_map(Item::Group),
            (inner, counts).prop_map(|(item, (least, most))| Item::Repeated(
                Box::new(item),
                least,
                most
            )),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<Sequence>> {
    prop::collection::vec(prop::collection::vec(item(), 0..3), 1..3)
}

fn spelt(body: &[Sequence]) -> String {
    let item = |item: &Item| match item {
        Item::Text(text) => format!("{text:?}"),
        Item::Class { negated, ranges } => {
            let ranges: String = ranges
                .iter()
                .map(|(first, last)| format!("{first}-{last}"))
                .collect();
            format!("[{}{ranges}]", if *negated { "^" } else { "" })
        }
        Item::Any => ".".into(),
        Item::Rule(name) => name.clone(),
        Item::Group(alternatives) => format!("({})", spelt(alternatives)),
        Item::Repeated(item, least, most) => {
            let item = spelt(&[vec![(**item).clone()]]);
            match most {
                None => format!("({item}){{{least},}}"),
                Some(most) => format!("({item}){{{least}, {most}}}"),
            }
        }
    };
    // Nothing at all after `::=` would let the next line belong to it.
    let sequence = |sequence: &Sequence| match sequence.is_empty() {
        true => "\"\"".into(),
        false => sequence.iter().map(item).collect::<Vec<_>>().join(" "),
    };
    body.iter().map(sequence).collect::<Vec<_>>().join(" | ")
}

/// Where each rule may end in a text if it begins at some place; found by trying until nothing is added.
struct Oracle<'a> {
    text: Vec<char>,
    bodies: &'a [(&'a str, Vec<Sequence>)],
    ends: HashMap<&'a str, Vec<Vec<bool>>>,
}

impl<'a> Oracle<'a> {
    fn accepts(text: &str, bodies: &'a [(&'a str, Vec<Sequence>)]) -> bool {
        let text: Vec<char> = text.chars().collect();
        let places = text.len() + 1;
        let nothing = || vec![vec![false; places]; places];
        let mut oracle = Oracle {
            ends: bodies.iter().map(|(name, _)| (*name, nothing())).collect(),
            text,
            bodies,
        };
        loop {
            let before = oracle.ends.clone();
            for (name, body) in oracle.bodies {
                for begin in 0..places {
                    let mut from = vec![false; places];
                    from[begin] = true;
                    let ends = oracle.after_any(body, &from);
                    oracle.ends.get_mut(name).unwrap()[begin] = ends;
                }
            }
            if oracle.ends == before {
                return oracle.ends["root"][0][places - 1];
            }
        }
    }

    fn after_any(&self, alternatives: &[Sequence], from: &[bool]) -> Vec<bool> {
        let mut all = vec![false; from.len()];
        for sequence in alternatives {
            let ends = sequence
                .iter()
                .fold(from.to_vec(), |from, item| self.after(item, &from));
            join(&mut all, &ends);
        }
        all
    }

    fn after(&self, item: &Item, from: &[bool]) -> Vec<bool> {
        let mut ends = vec![false; from.len()];
        let begins = from
            .iter()
            .enumerate()
            .filter(|(_, begins)| **begins)
            .map(|(at, _)| at);
        match item {
            Item::Group(alternatives) => return self.after_any(alternatives, from),
            Item::Rule(name) => {
                begins.for_each(|at| join(&mut ends, &self.ends[name.as_str()][at]))
            }
            Item::Text(text) => {
                let text: Vec<char> = text.chars().collect();
                begins
                    .filter(|at| self.text[*at..].starts_with(&text))
                    .for_each(|at| ends[at + text.len()] = true);
            }
            Item::Any => begins
                .filter(|at| *at < self.text.len())
                .for_each(|at| ends[at + 1] = true),
            Item::Class { negated, ranges } => {
                let is_of = |at: &usize| {
                    let within =
                        |(first, last): &(char, char)| (first..=last).contains(&&self.text[*at]);
                    *at < self.text.len() && ranges.iter().any(within) != *negated
                };
                begins.filter(is_of).for_each(|at| ends[at + 1] = true);
            }
            Item::Repeated(item, least, most) => {
                let mut from = from.to_vec();
                // Beyond the text's length and the least, more repetitions reach nothing new.
                let rounds = most.unwrap_or(least + self.text.len() as u32 + 1);
                for round in 0..=rounds {
                    if round >= *least {
                        join(&mut ends, &from);
                    }
                    from = self.after(item, &from);
                }
            }
        }
        ends
    }
}

fn join(all: &mut [bool], more: &[bool]) {
    all.iter_mut()
        .zip(more)
        .for_each(|(all, more)| *all |= more);
}

/// Every text of up to four of these letters.
fn texts() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut at = 0;
    while all[at].len() < 4 {
        for letter in ['x', 'y', 'z'] {
            all.push(format!("{}{letter}", all[at]));
        }
        at += 1;
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever the rules, recursive or not: what is let through is what the format means.
    #[test]
    fn what_is_let_through_is_what_the_rules_say(root in body(), a in body(), b in body()) {
        let bodies = [("root", root), ("a", a), ("b", b)];
        let grammar: String = bodies.iter().map(|(name, body)| format!("{name} ::= {}\n", spelt(body))).collect();
        let texts = texts();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let expected: Vec<&str> = texts.iter().copied().filter(|text| Oracle::accepts(text, &bodies)).collect();
        // A grammar that nothing satisfies is refused before it is asked.
        prop_assume!(!expected.is_empty());
        prop_assert_eq!(accepted(&grammar, &texts), expected, "{}", grammar);
    }

    /// Whatever comes: a grammar, or a mistake with its place; and what is read is a grammar to the library, or a mistake too.
    #[test]
    fn no_text_does_harm(text in "(root|a)( ::= )?[a-z\":=|()\\[\\]{}*+?.,0-9\\\\^#<! \n-]{0,40}") {
        if let Ok(grammar) = translate(&text) {
            let tokenizer = nano_tokenizer();
            let target = Target {
                tokenizer: &tokenizer,
                vocabulary: tokenizer.id_limit() as usize,
                eos: &[2],
            };
            if let Err(error) = Grammars::default().compile(&grammar, target) {
                prop_assert!(!error.to_string().contains("panic"), "{}: {}", text, error);
            }
        }
    }
}
