//! `--json-schema` and `--grammar` of `bluelm run`.

#[allow(dead_code)] // it needs no fixtures
mod support;

use serde_json::{Value as Json, json};
use support::Place;

const SCHEMA: &str = r#"{"type": "object", "properties": {"total": {"type": "integer", "minimum": 0, "maximum": 99}, "paid": {"type": "boolean"}}, "required": ["total", "paid"], "additionalProperties": false}"#;

/// Random weights, which would say nothing of the kind.
fn run(place: &Place, arguments: &[&str]) -> support::Outcome {
    let all = [
        &["run", "--model", "model"],
        arguments,
        &["What is the total?"],
    ]
    .concat();
    place.run(&all)
}

fn holds(text: &str) -> bool {
    let answer: Json = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    keys == ["total", "paid"]
        && answer["total"].as_u64().unwrap() < 100
        && answer["paid"].is_boolean()
}

#[test]
fn an_answer_holds_a_schema_from_a_file_or_from_the_line() {
    let place = Place::new();
    place.write("schema.json", SCHEMA.as_bytes());
    let by_file = run(&place, &["--json-schema", "schema.json"]);
    assert_eq!(by_file.exit, Some(0), "{}", by_file.stderr);
    assert!(holds(&by_file.stdout), "{}", by_file.stdout);
    let by_line = run(&place, &["--json-schema", SCHEMA, "--json"]);
    let reply: Json = serde_json::from_str(&by_line.stdout).unwrap();
    assert_eq!(reply["text"], by_file.stdout.trim_end());
    assert_eq!(reply["finish_reason"], "stop");
    let request = json!({"messages": [{"role": "user", "content": "What is the total?"}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": serde_json::from_str::<Json>(SCHEMA).unwrap()}}});
    place.write("request.json", request.to_string().as_bytes());
    let by_request = place.run(&["run", "--model", "model", "--request", "request.json"]);
    assert_eq!(by_request.stdout, by_file.stdout);
}

#[test]
fn an_answer_holds_a_grammar() {
    let place = Place::new();
    place.write(
        "date.lark",
        b"start: YEAR \"-\" MONTH\nYEAR: /[12][0-9]{3}/\nMONTH: /0[1-9]|1[0-2]/\n",
    );
    let outcome = run(&place, &["--grammar", "date.lark"]);
    let (year, month) = outcome.stdout.trim_end().split_once('-').unwrap();
    assert_eq!((year.len(), month.len()), (4, 2), "{}", outcome.stdout);
    let month: u32 = month.parse().unwrap();
    assert!((1..=12).contains(&month));
}

/// A random model does not come to an end by itself.
#[test]
fn an_answer_that_is_cut_says_where() {
    let place = Place::new();
    let schema = r#"{"type": "object", "properties": {"name": {"type": "string", "minLength": 200}}, "required": ["name"]}"#;
    let cut = ["--json-schema", schema, "--max-tokens", "20"];
    let outcome = run(&place, &[&cut[..], &["--json"]].concat());
    let reply: Json = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&reply["finish_reason"], &reply["cut_inside"]),
        (&json!("length"), &json!("$.name"))
    );
    let told = run(&place, &cut).stderr;
    assert!(
        told.contains("cut off by --max-tokens or the context, inside of $.name"),
        "{told}"
    );
    let whole = run(&place, &["--json-schema", SCHEMA, "--json"]);
    let reply: Json = serde_json::from_str(&whole.stdout).unwrap();
    assert_eq!(reply.get("cut_inside"), None);
}

#[test]
fn a_grammar_of_llama_cpp_is_read_as_well() {
    let place = Place::new();
    let gbnf = "# a sum\nroot ::= num ([-+] num){1,2}\nnum ::= [1-9] [0-9]? | \"(\" root \")\"";
    place.write("sum.gbnf", gbnf);
    let outcome = run(&place, &["--grammar", "sum.gbnf"]);
    let answer = outcome.stdout.trim_end();
    assert!(answer.contains(['+', '-']), "{answer}");
    assert!(
        answer.chars().all(|c| "0123456789+-()".contains(c)),
        "{answer}"
    );
    place.write("broken.gbnf", "root ::= [a-z]\nmore ::= (\"a\"");
    let outcome = run(&place, &["--grammar", "broken.gbnf"]);
    let expected = "broken.gbnf: grammar: line 2, column 14: expected the ) of the group that began in line 2, found the end";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
}

#[test]
fn bad_schemas_and_grammars_are_one_clear_error() {
    let place = Place::new();
    place.write("broken.json", b"{\"type\": }");
    place.write("list.json", b"[]");
    place.write("broken.lark", b"start: \"a");
    for (arguments, expected) in [
        (
            ["--json-schema", "broken.json"],
            "broken.json: expected a JSON schema",
        ),
        (
            ["--json-schema", "list.json"],
            "list.json: grammar: expected a JSON object",
        ),
        (
            ["--json-schema", "nowhere.json"],
            "nowhere.json: No such file",
        ),
        (
            [
                "--json-schema",
                "{\"type\": \"array\", \"uniqueItems\": true}",
            ],
            "--json-schema: not supported: [\"uniqueItems\"]",
        ),
        (
            ["--json-schema", "{\"type\""],
            "--json-schema: expected a JSON schema",
        ),
        (["--grammar", "broken.lark"], "broken.lark: "),
        (["--grammar", "nowhere.lark"], "nowhere.lark: No such file"),
    ] {
        let outcome = run(&place, &arguments);
        assert_eq!(
            (outcome.exit, outcome.stdout.as_str()),
            (Some(1), ""),
            "{arguments:?}"
        );
        assert!(
            outcome.stderr.contains(expected),
            "{expected}: {}",
            outcome.stderr
        );
    }
}
