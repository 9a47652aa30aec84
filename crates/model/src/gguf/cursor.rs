//! Reading a header from its beginning, never past the end of the file.

use super::value::{List, Value};

/// Values of all lists together that are read: a vocabulary has some hundred thousand tokens, scores, kinds and merges each.
const MOST_VALUES: u64 = 1 << 23;
/// Lists inside of lists.
const DEEPEST: usize = 3;
/// Longest name of a key or a tensor.
const LONGEST_NAME: u64 = 1 << 10;

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Values of lists so far.
    values: u64,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor {
            bytes,
            at: 0,
            values: 0,
        }
    }

    /// Bytes that were read.
    pub fn at(&self) -> usize {
        self.at
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], String> {
        if count > self.left() {
            return Err(format!(
                "{what} of {count} bytes at byte {}, and the file has {}: it is cut off or damaged",
                self.at,
                self.bytes.len()
            ));
        }
        let taken = &self.bytes[self.at..][..count as usize];
        self.at += count as usize;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let taken = self.take(N as u64, what)?;
        Ok(std::array::from_fn(|at| taken[at]))
    }

    pub fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// How many of something come, each of at least so many bytes.
    pub fn count(&mut self, what: &str, least_bytes: u64) -> Result<usize, String> {
        let count = self.u64(what)?;
        match count <= self.left() / least_bytes {
            true => Ok(count as usize),
            false => Err(format!(
                "{what} is {count}, and the {} bytes that follow have room for {}",
                self.left(),
                self.left() / least_bytes
            )),
        }
    }

    /// A key, or what a tensor is called.
    pub fn name(&mut self, what: &str) -> Result<String, String> {
        let length = self.u64(what)?;
        if length == 0 || length > LONGEST_NAME {
            return Err(format!(
                "{what} has {length} bytes, expected 1 to {LONGEST_NAME}"
            ));
        }
        self.utf8(length, what)
    }

    fn utf8(&mut self, length: u64, what: &str) -> Result<String, String> {
        let bytes = self.take(length, what)?;
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned)
            .map_err(|_| format!("{what} at byte {} is not UTF-8 text", self.at))
    }

    fn text(&mut self, key: &str) -> Result<String, String> {
        let length = self.u64(key)?;
        self.utf8(length, key)
    }

    /// The value of a key, after the number of its type.
    pub fn value(&mut self, key: &str) -> Result<Value, String> {
        match self.u32(key)? {
            6 => Ok(Value::Number(self.f32(key)?.into())),
            7 => Ok(Value::Flag(self.flag(key)?)),
            8 => self.text(key).map(Value::Text),
            9 => self.list(key, 1).map(Value::List),
            12 => Ok(Value::Number(f64::from_le_bytes(self.array(key)?))),
            kind => self.whole(kind, key).map(Value::Whole),
        }
    }

    fn f32(&mut self, key: &str) -> Result<f32, String> {
        self.array(key).map(f32::from_le_bytes)
    }

    fn whole(&mut self, kind: u32, key: &str) -> Result<i128, String> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array(key)?).into(),
            1 => i8::from_le_bytes(self.array(key)?).into(),
            2 => u16::from_le_bytes(self.array(key)?).into(),
            3 => i16::from_le_bytes(self.array(key)?).into(),
            4 => self.u32(key)?.into(),
            5 => i32::from_le_bytes(self.array(key)?).into(),
            10 => self.u64(key)?.into(),
            11 => i64::from_le_bytes(self.array(key)?).into(),
            _ => return Err(no_type(kind, key)),
        })
    }

    fn flag(&mut self, key: &str) -> Result<bool, String> {
        match self.array(key)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("{key} is {other}, expected 0 or 1")),
        }
    }

    fn list(&mut self, key: &str, depth: usize) -> Result<List, String> {
        let kind = self.u32(key)?;
        let count = self.count(&format!("the length of {key}"), least_bytes(kind, key)?)?;
        self.values = self.values.saturating_add(count as u64);
        if self.values > MOST_VALUES {
            return Err(format!(
                "{key}: {} values in lists, expected at most {MOST_VALUES}",
                self.values
            ));
        }
        let all = 0..count;
        match kind {
            6 => all
                .map(|_| self.f32(key))
                .collect::<Result<_, _>>()
                .map(List::Numbers),
            8 => all
                .map(|_| self.text(key))
                .collect::<Result<_, _>>()
                .map(List::Texts),
            9 if depth == DEEPEST => Err(format!(
                "{key}: lists inside of lists, expected at most {DEEPEST} deep"
            )),
            9 => {
                let lists = all.map(|_| self.list(key, depth + 1));
                lists.collect::<Result<_, _>>().map(List::Lists)
            }
            12 => {
                let numbers = all.map(|_| Ok(f64::from_le_bytes(self.array(key)?) as f32));
                numbers.collect::<Result<_, String>>().map(List::Numbers)
            }
            kind => {
                let numbers = all.map(|_| {
                    let number = match kind {
                        7 => self.flag(key)?.into(),
                        kind => self.whole(kind, key)?,
                    };
                    i64::try_from(number)
                        .map_err(|_| format!("{key} holds {number}, expected at most 63 bits"))
                });
                numbers.collect::<Result<_, _>>().map(List::Whole)
            }
        }
    }
}

/// Bytes that a value of a list takes at least.
fn least_bytes(kind: u32, key: &str) -> Result<u64, String> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        8 | 10..=12 => Ok(8),
        9 => Ok(12),
        other => Err(no_type(other, key)),
    }
}

fn no_type(kind: u32, key: &str) -> String {
    format!("{key} has a value of type {kind}, expected 0 to 12")
}
