//! The header: keys with their values, and where tensors lie.

use super::MAGIC;
use super::blocks::Blocks;
use super::cursor::Cursor;
use super::value::{List, Value};
use crate::error::listed;
use crate::stored::Stored;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes that a tensor begins at a multiple of, unless the file says otherwise.
const ALIGNMENT: u64 = 32;
/// Least bytes of a key and its value, and of what is said about a tensor.
const LEAST_BYTES: [u64; 2] = [8 + 1 + 4 + 1, 8 + 1 + 4 + 8 + 4 + 8];

/// What a file says.
#[derive(Debug)]
pub struct Gguf {
    values: BTreeMap<String, Value>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<GgufTensor>,
}

/// A tensor that lies in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTensor {
    /// As the file calls it.
    pub name: String,
    /// Row-major: the numbers of a row stand side by side, and their count comes last. (The file has it first.)
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub(crate) stored: Stored,
    /// Its bytes, counted from the beginning of the file.
    pub range: Range<usize>,
}

/// Number in the file, name, numbers of a block and their bytes of the types that are not read: a file may hold some.
const OTHERS: [(u32, &str, u64, u64); 24] = [
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (31, "Q4_0_4_4", 32, 18),
    (32, "Q4_0_4_8", 32, 18),
    (33, "Q4_0_8_8", 32, 18),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
];

/// The type of a number in a file, and how many numbers take how many bytes.
fn stored(number: u32) -> Option<(Stored, u64, u64)> {
    let blocks = Blocks::ALL.iter().find(|blocks| blocks.number() == number);
    if let Some(blocks) = blocks {
        let (numbers, bytes) = (blocks.numbers() as u64, blocks.bytes() as u64);
        return Some((Stored::Blocks(*blocks), numbers, bytes));
    }
    match number {
        0 => Some((Stored::F32, 1, 4)),
        1 => Some((Stored::F16, 1, 2)),
        30 => Some((Stored::Bf16, 1, 2)),
        _ => {
            let (_, name, numbers, bytes) = OTHERS.iter().find(|other| other.0 == number)?;
            Some((Stored::Other((*name).into()), *numbers, *bytes))
        }
    }
}

impl Gguf {
    /// Reads the header of a file, all of whose bytes these are.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(bytes: &[u8]) -> Result<Gguf, String> {
        let mut cursor = Cursor::new(bytes);
        let magic: [u8; 4] = cursor.array("the beginning")?;
        if magic != MAGIC {
            return Err(format!("begins with {magic:?}, expected GGUF"));
        }
        let version = cursor.u32("the version")?;
        if !(2..=3).contains(&version) {
            let swapped = match version.swap_bytes() {
                2..=3 => ": it is big-endian",
                _ => "",
            };
            return Err(format!(
                "GGUF of version {version}, expected 2 or 3{swapped}"
            ));
        }
        let tensors = cursor.count("the number of tensors", LEAST_BYTES[1])?;
        let keys = cursor.count("the number of keys", LEAST_BYTES[0])?;
        let mut gguf = Gguf {
            values: BTreeMap::new(),
            tensors: Vec::new(),
        };
        for _ in 0..keys {
            let key = cursor.name("the name of a key")?;
            let value = cursor.value(&key)?;
            if gguf.values.contains_key(&key) {
                return Err(format!("key {key} stands there twice"));
            }
            gguf.values.insert(key, value);
        }
        let described: Result<Vec<_>, _> = (0..tensors).map(|_| tensor(&mut cursor)).collect();
        let alignment = gguf.alignment()?;
        let data = (cursor.at() as u64).next_multiple_of(alignment);
        gguf.tensors = placed(described?, data, alignment, bytes.len() as u64)?;
        Ok(gguf)
    }

    fn alignment(&self) -> Result<u64, String> {
        let key = "general.alignment";
        let alignment = self.whole(key)?.unwrap_or(ALIGNMENT);
        match alignment.is_power_of_two() && (8..=1 << 16).contains(&alignment) {
            true => Ok(alignment),
            false => Err(format!(
                "{key} is {alignment}, expected a power of two from 8 to 65536"
            )),
        }
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A whole number that is not negative.
    pub fn whole(&self, key: &str) -> Result<Option<u64>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Whole(number)) if u64::try_from(*number).is_ok() => {
                Ok(Some(*number as u64))
            }
            Some(other) => Err(wrong(key, "a whole number that is not negative", other)),
        }
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Number(number)) if number.is_finite() => Ok(Some(*number)),
            Some(Value::Number(number)) => {
                Err(format!("{key} is {number}, expected a finite number"))
            }
            Some(Value::Whole(number)) => Ok(Some(*number as f64)),
            Some(other) => Err(wrong(key, "a number", other)),
        }
    }

    /// A flag.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong(key, "true or false", other)),
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(key, "a text", other)),
        }
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::List(List::Texts(texts))) => Ok(Some(texts)),
            Some(other) => Err(wrong(key, "a list of texts", other)),
        }
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<&[f32]>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::List(List::Numbers(numbers))) => Ok(Some(numbers)),
            Some(other) => Err(wrong(key, "a list of numbers", other)),
        }
    }

    /// A list of whole numbers.
    pub fn wholes(&self, key: &str) -> Result<Option<&[i64]>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::List(List::Whole(numbers))) => Ok(Some(numbers)),
            Some(other) => Err(wrong(key, "a list of whole numbers", other)),
        }
    }
}

fn wrong(key: &str, expected: &str, found: &Value) -> String {
    format!("{key} is {}, expected {expected}", found.kind())
}

/// What the header says about a tensor.
struct Described {
    name: String,
    /// Numbers of a row first.
    sides: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn tensor(cursor: &mut Cursor) -> Result<Described, String> {
    let name = cursor.name("the name of a tensor")?;
    let dimensions = cursor.u32(&name)?;
    if !(1..=4).contains(&dimensions) {
        return Err(format!(
            "tensor {name} has {dimensions} dimensions, expected 1 to 4"
        ));
    }
    let sides = (0..dimensions).map(|_| cursor.u64(&name));
    Ok(Described {
        sides: sides.collect::<Result<_, _>>()?,
        kind: cursor.u32(&name)?,
        offset: cursor.u64(&name)?,
        name,
    })
}

/// Tensors whose places were found in order: each in the file, aligned, none over another, none twice.
fn placed(
    described: Vec<Described>,
    data: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<Vec<GgufTensor>, String> {
    let (mut problems, mut tensors) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for tensor in described {
        if !names.insert(tensor.name.clone()) {
            problems.push(format!("tensor {} stands there twice", tensor.name));
        }
        match place(&tensor, data, alignment, file_bytes) {
            Ok(tensor) => tensors.push(tensor),
            Err(problem) => problems.push(format!("tensor {} {problem}", tensor.name)),
        }
    }
    let mut order: Vec<&GgufTensor> = tensors.iter().collect();
    order.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    for pair in order.windows(2) {
        if pair[0].range.end > pair[1].range.start {
            let (first, second) = (&pair[0].name, &pair[1].name);
            problems.push(format!("tensors {first} and {second} lie over each other"));
        }
    }
    match problems.is_empty() {
        true => Ok(tensors),
        false => Err(listed(&problems)),
    }
}

fn place(
    tensor: &Described,
    data: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<GgufTensor, String> {
    let kind = stored(tensor.kind);
    let (stored, numbers, bytes) =
        kind.ok_or_else(|| format!("is of type {}, which is not known", tensor.kind))?;
    let row = tensor.sides[0];
    if tensor.sides.contains(&0) || !row.is_multiple_of(numbers) {
        return Err(format!(
            "has sides {:?}, expected none of 0, and whole blocks of {numbers} in a row",
            tensor.sides
        ));
    }
    if !tensor.offset.is_multiple_of(alignment) {
        return Err(format!(
            "begins at byte {} of the data, expected a multiple of {alignment}",
            tensor.offset
        ));
    }
    let rows = tensor.sides[1..].iter();
    let length = rows.fold((row / numbers).checked_mul(bytes), |length, side| {
        length?.checked_mul(*side)
    });
    let begin = data.checked_add(tensor.offset);
    let end = begin
        .zip(length)
        .and_then(|(begin, length)| begin.checked_add(length));
    match begin.zip(end) {
        Some((begin, end)) if end <= file_bytes => Ok(GgufTensor {
            name: tensor.name.clone(),
            shape: tensor
                .sides
                .iter()
                .rev()
                .map(|side| *side as usize)
                .collect(),
            stored,
            range: begin as usize..end as usize,
        }),
        _ => Err(format!(
            "with sides {:?} from byte {} of the data on does not lie in the file of {file_bytes} bytes",
            tensor.sides, tensor.offset
        )),
    }
}
