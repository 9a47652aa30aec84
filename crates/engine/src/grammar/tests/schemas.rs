//! Random JSON schemas, and a plain reading of what they mean: the oracle for grammars made of them. It knows the keywords
//! that are made here and fails on any other.

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

/// A schema whose instances are not too long.
pub(super) fn schema() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "null"})),
        Just(json!({"type": ["integer", "null"]})),
        (-50i64..50, 0i64..100).prop_map(
            |(low, span)| json!({"type": "integer", "minimum": low, "maximum": low + span})
        ),
        (0u32..100)
            .prop_map(|most| json!({"type": "number", "exclusiveMinimum": -1, "maximum": most})),
        (0usize..3, 0usize..4).prop_map(
            |(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})
        ),
        prop::collection::vec("[a-z\"\\\\é合]{0,4}", 1..4)
            .prop_map(|values| json!({"enum": values})),
        prop_oneof![
            Just(json!(3)),
            Just(json!("x\ny")),
            Just(json!([1, {"a": null}])),
            Just(json!(2.5))
        ]
        .prop_map(|value| json!({"const": value})),
    ];
    let inner = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), 0usize..2, 0usize..3).prop_map(|(items, least, more)| {
                json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
            }),
            (prop::collection::vec((inner.clone(), any::<bool>()), 0..4), any::<bool>()).prop_map(
                |(properties, open)| object(properties, open)
            ),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|any| json!({"anyOf": any})),
            (inner.clone(), inner).prop_map(|(a, b)| {
                json!({"type": "array", "prefixItems": [a, b], "items": false, "minItems": 2})
            }),
        ]
    });
    prop_oneof![
        3 => inner.clone(),
        // A list that refers to itself.
        1 => inner.prop_map(|value| json!({
            "$ref": "#/$defs/node",
            "$defs": {"node": {"type": "object", "properties": {"value": value, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
                "required": ["value", "next"], "additionalProperties": false}},
        })),
    ]
}

fn object(properties: Vec<(Json, bool)>, open: bool) -> Json {
    let named = |(index, (schema, required)): (usize, (Json, bool))| {
        (
            ["a", "name with \"quotes\"", "ü", "d"][index].to_owned(),
            schema,
            required,
        )
    };
    let properties: Vec<_> = properties.into_iter().enumerate().map(named).collect();
    let required: Vec<&String> = properties
        .iter()
        .filter(|(.., required)| *required)
        .map(|(name, ..)| name)
        .collect();
    let map: Map<String, Json> = properties
        .iter()
        .map(|(name, schema, _)| (name.clone(), schema.clone()))
        .collect();
    let additional = if open {
        json!({"type": "integer"})
    } else {
        json!(false)
    };
    json!({"type": "object", "properties": map, "required": required, "additionalProperties": additional})
}

/// What of the schema a value breaks, if anything. `root` is where references begin.
pub(crate) fn violation(root: &Json, schema: &Json, value: &Json) -> Option<String> {
    let map = match schema {
        Json::Bool(true) => return None,
        Json::Bool(false) => return Some(format!("nothing is allowed, found {value}")),
        Json::Object(map) => map,
        _ => panic!("not a schema: {schema}"),
    };
    map.iter()
        .find_map(|(key, rule)| broken(root, map, (key.as_str(), rule), value))
}

fn broken(
    root: &Json,
    schema: &Map<String, Json>,
    rule: (&str, &Json),
    value: &Json,
) -> Option<String> {
    let (key, rule) = rule;
    let number = || rule.as_f64().unwrap();
    let holds = match key {
        "$defs" | "description" | "title" => true,
        "$ref" => {
            let target = rule.as_str().unwrap().strip_prefix('#').unwrap();
            return violation(root, root.pointer(target).unwrap(), value);
        }
        "type" => match rule {
            Json::Array(kinds) => kinds.iter().any(|kind| is_of(kind, value)),
            kind => is_of(kind, value),
        },
        "enum" => rule.as_array().unwrap().iter().any(|one| equal(one, value)),
        "const" => equal(rule, value),
        "anyOf" => rule
            .as_array()
            .unwrap()
            .iter()
            .any(|one| violation(root, one, value).is_none()),
        "minimum" => value.as_f64().is_none_or(|found| found >= number()),
        "maximum" => value.as_f64().is_none_or(|found| found <= number()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|found| found > number()),
        "minLength" => value
            .as_str()
            .is_none_or(|text| text.chars().count() as f64 >= number()),
        "maxLength" => value
            .as_str()
            .is_none_or(|text| text.chars().count() as f64 <= number()),
        "minItems" => value
            .as_array()
            .is_none_or(|items| items.len() as f64 >= number()),
        "maxItems" => value
            .as_array()
            .is_none_or(|items| items.len() as f64 <= number()),
        "required" => rule.as_array().unwrap().iter().all(|name| {
            value
                .as_object()
                .is_none_or(|map| map.contains_key(name.as_str().unwrap()))
        }),
        "prefixItems" => {
            let pairs = rule
                .as_array()
                .unwrap()
                .iter()
                .zip(value.as_array().into_iter().flatten());
            return pairs
                .into_iter()
                .find_map(|(schema, item)| violation(root, schema, item));
        }
        "items" => {
            let prefix = schema
                .get("prefixItems")
                .map_or(0, |prefix| prefix.as_array().unwrap().len());
            let items = value.as_array().into_iter().flatten().skip(prefix);
            return items
                .into_iter()
                .find_map(|item| violation(root, rule, item));
        }
        "properties" => {
            let named = value
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(name, item)| Some((rule.get(name)?, item)));
            return named
                .into_iter()
                .find_map(|(schema, item)| violation(root, schema, item));
        }
        "additionalProperties" => {
            let known = schema.get("properties");
            let others = value
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, _)| known.is_none_or(|known| known.get(name).is_none()));
            return others
                .into_iter()
                .find_map(|(_, item)| violation(root, rule, item));
        }
        other => panic!("a keyword that this does not know: {other}"),
    };
    (!holds).then(|| format!("{key}: {rule}, found {value}"))
}

fn is_of(kind: &Json, value: &Json) -> bool {
    match kind.as_str().unwrap() {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("a type that this does not know: {other}"),
    }
}

/// Numbers are equal by value: 3 and 3.0.
fn equal(a: &Json, b: &Json) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[test]
fn the_oracle_sees_what_is_wrong() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}, "b": {"enum": ["x"]}}, "required": ["a"], "additionalProperties": false});
    let wrong = |value: Json| violation(&schema, &schema, &value).is_some();
    assert!(!wrong(json!({"a": 3, "b": "x"})));
    for value in [
        json!({"a": 2}),
        json!({"a": 3.5}),
        json!({"b": "x"}),
        json!({"a": 3, "b": "y"}),
        json!({"a": 3, "c": 1}),
        json!([]),
    ] {
        assert!(wrong(value.clone()), "{value}");
    }
}
