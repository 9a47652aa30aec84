//! Where an answer in JSON was cut, so that whoever reads it sees which part had no end.

/// What is open at one depth.
enum Open {
    /// An object, and the name of the property that is being written.
    Object(Option<String>),
    /// A list, and how many items are whole.
    List(usize),
}

/// The place in a JSON text at which it ends before its time, as a path: `$.items[2].name`. Not for a text that is no beginning
/// of JSON.
pub(crate) fn place(text: &str) -> String {
    let mut open: Vec<Open> = Vec::new();
    let mut name_is_next = false;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if next == '"' {
            let Some(end) = end_of_string(rest) else {
                break;
            };
            if let (true, Some(Open::Object(name))) = (name_is_next, open.last_mut()) {
                *name = serde_json::from_str(&rest[..end]).ok();
                name_is_next = false;
            }
            rest = &rest[end..];
            continue;
        }
        match (next, open.last_mut()) {
            ('{', _) => {
                open.push(Open::Object(None));
                name_is_next = true;
            }
            ('[', _) => open.push(Open::List(0)),
            ('}' | ']', _) => {
                open.pop();
            }
            (',', Some(Open::List(items))) => *items += 1,
            (',', Some(Open::Object(name))) => {
                *name = None;
                name_is_next = true;
            }
            _ => {}
        }
        rest = &rest[next.len_utf8()..];
    }
    open.iter().fold("$".into(), |path, open| match open {
        Open::Object(None) => path,
        Open::Object(Some(name)) if is_plain(name) => format!("{path}.{name}"),
        Open::Object(Some(name)) => format!("{path}[{name:?}]"),
        Open::List(items) => format!("{path}[{items}]"),
    })
}

/// The bytes of the string at the beginning; none where it has no end.
fn end_of_string(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn is_plain(name: &str) -> bool {
    let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    !name.is_empty() && name.chars().all(is_of_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_open_part_is_named() {
        for (text, expected) in [
            ("", "$"),
            ("\"abc", "$"),
            ("{\"ans", "$"),
            ("{\"answer\": \"and so on", "$.answer"),
            (
                "{\"a\": 1, \"b\": [1, {\"c\": \"x, \\\" {\"}, {\"c d\": [[",
                "$.b[2][\"c d\"][0][0]",
            ),
            ("{\"a\": {\"b\": 1}, ", "$"),
            ("[1, 2, 3", "$[2]"),
            ("{\"a\\n\": 12", "$[\"a\\n\"]"),
            ("{\"é\": \"合", "$.é"),
        ] {
            assert_eq!(place(text), expected, "{text}");
        }
    }
}
