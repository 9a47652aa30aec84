//! GGUF files byte by byte, as the format's document has them: what reads is not tested with what writes.

use model::gguf::{List, Value};

/// A tensor of f32: its name, its sides with the rows first, its numbers.
pub type Tensor = (String, Vec<usize>, Vec<f32>);

/// A file of these keys and tensors.
pub fn file(keys: &[(String, Value)], tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        text(&mut out, key);
        put(&mut out, value);
    }
    let mut place = 0u64;
    for (name, sides, numbers) in tensors {
        text(&mut out, name);
        out.extend((sides.len() as u32).to_le_bytes());
        out.extend(
            sides
                .iter()
                .rev()
                .flat_map(|side| (*side as u64).to_le_bytes()),
        );
        out.extend(0u32.to_le_bytes());
        out.extend(place.to_le_bytes());
        place += (numbers.len() as u64 * 4).next_multiple_of(32);
    }
    for (_, _, numbers) in tensors {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put(out: &mut Vec<u8>, value: &Value) {
    let kind: u32 = match value {
        Value::Whole(_) => 4,
        Value::Number(_) => 6,
        Value::Flag(_) => 7,
        Value::Text(_) => 8,
        Value::List(_) => 9,
    };
    out.extend(kind.to_le_bytes());
    match value {
        Value::Whole(number) => out.extend((*number as u32).to_le_bytes()),
        Value::Number(number) => out.extend((*number as f32).to_le_bytes()),
        Value::Flag(flag) => out.push(u8::from(*flag)),
        Value::Text(own) => text(out, own),
        Value::List(List::Whole(numbers)) => {
            head(out, 5, numbers.len());
            out.extend(
                numbers
                    .iter()
                    .flat_map(|number| (*number as i32).to_le_bytes()),
            );
        }
        Value::List(List::Numbers(numbers)) => {
            head(out, 6, numbers.len());
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Value::List(List::Texts(texts)) => {
            head(out, 8, texts.len());
            texts.iter().for_each(|own| text(out, own));
        }
        Value::List(List::Lists(_)) => unreachable!("no key here has lists of lists"),
    }
}

fn head(out: &mut Vec<u8>, kind: u32, count: usize) {
    out.extend(kind.to_le_bytes());
    out.extend((count as u64).to_le_bytes());
}
