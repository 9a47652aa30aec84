//! Weights that `torch.save` wrote (`pytorch_model*.bin`): a zip file with a pickle that says what tensors lie where.
//!
//! A pickle is a program that calls functions by name. Nothing is called here: the few names that describe tensors are
//! understood as data, any other makes a value that nobody can use. Formats from before zip files (PyTorch 1.6) are refused.

use super::zip;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use std::collections::{BTreeMap, HashMap};

/// Longest program that is read: a name and some numbers for each of a million tensors.
const MAX_PICKLE_BYTES: usize = 1 << 28;
/// Values of a list inside a list inside …: no checkpoint is that deep.
const MAX_DEPTH: usize = 64;

/// Name, type, shape and bytes of every tensor of a file.
pub(super) fn tensors(file: &[u8]) -> Result<Vec<(String, TensorInfo)>, String> {
    let entries =
        zip::entries(file).map_err(|problem| format!("not a checkpoint of PyTorch: {problem}"))?;
    let (folder, program) = entries
        .iter()
        .find_map(|(name, bytes)| Some((name.strip_suffix("data.pkl")?, bytes)))
        .ok_or("not a checkpoint of PyTorch: there is no data.pkl in it")?;
    if program.len() > MAX_PICKLE_BYTES {
        return Err(format!(
            "its data.pkl has {} bytes, expected at most {MAX_PICKLE_BYTES}",
            program.len()
        ));
    }
    let storages: HashMap<&str, _> = entries
        .iter()
        .filter_map(|(name, bytes)| {
            let key = name.strip_prefix(folder)?.strip_prefix("data/")?;
            Some((key, bytes.clone()))
        })
        .collect();
    let mut machine = Machine::default();
    let root = machine
        .run(&file[program.clone()])
        .ok_or("its data.pkl is damaged, or in a form that is not read")?;
    let Value::Dictionary(items) = root else {
        return Err("its data.pkl is not a dictionary of tensors".into());
    };
    let mut tensors = Vec::new();
    for (name, value) in items {
        let (Value::Text(name), Value::Tensor(tensor)) = (name, value) else {
            continue;
        };
        let bytes = storages.get(tensor.storage.as_str());
        let info = bytes.and_then(|bytes| tensor.place(bytes));
        let info =
            info.ok_or_else(|| format!("tensor {name} does not lie in its storage row by row"))?;
        tensors.push((name, info));
    }
    Ok(tensors)
}

#[derive(Clone, Debug)]
enum Value {
    Nothing,
    Number(i64),
    Text(String),
    /// A function or class, by its module and name.
    Name(String),
    Tuple(Vec<Value>),
    Dictionary(Vec<(Value, Value)>),
    Storage(String, Dtype),
    Tensor(Tensor),
    /// Something that is not needed.
    Other,
}

#[derive(Clone, Debug)]
struct Tensor {
    storage: String,
    dtype: Dtype,
    /// Elements before its first.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Tensor {
    /// Where it lies in the file; nothing where it is not row by row inside its storage.
    fn place(&self, storage: &std::ops::Range<usize>) -> Option<TensorInfo> {
        let mut count = 1usize;
        for (side, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *side != 1 && *stride != count {
                return None;
            }
            count = count.checked_mul(*side)?;
        }
        let size = self.dtype.bitsize() / 8;
        let begin = storage.start.checked_add(self.offset.checked_mul(size)?)?;
        let end = begin.checked_add(count.checked_mul(size)?)?;
        (self.shape.len() == self.strides.len() && end <= storage.end).then(|| TensorInfo {
            dtype: self.dtype,
            shape: self.shape.clone(),
            data_offsets: (begin, end),
        })
    }
}

/// What runs through a pickle's instructions.
#[derive(Default)]
struct Machine {
    stack: Vec<Value>,
    /// Lengths of the stack at the marks.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Value>,
}

impl Machine {
    fn run(&mut self, mut rest: &[u8]) -> Option<Value> {
        loop {
            let (code, after) = rest.split_first()?;
            rest = after;
            match code {
                b'.' => return self.stack.pop(),
                // Protocol, frame.
                0x80 => rest = rest.get(1..)?,
                0x95 => rest = rest.get(8..)?,
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.stack.push(Value::Nothing),
                0x88 | 0x89 => self.stack.push(Value::Number(i64::from(*code == 0x88))),
                b'J' => self.number(&mut rest, 4)?,
                b'K' => self.number(&mut rest, 1)?,
                b'M' => self.number(&mut rest, 2)?,
                0x8a => {
                    let length = take(&mut rest, 1)?[0];
                    self.number(&mut rest, length.into())?;
                }
                b'G' => {
                    take(&mut rest, 8)?;
                    self.stack.push(Value::Other);
                }
                b'X' => self.text(&mut rest, 4)?,
                0x8c => self.text(&mut rest, 1)?,
                b'c' => {
                    let (module, name) = (line(&mut rest)?, line(&mut rest)?);
                    self.stack.push(Value::Name(format!("{module}.{name}")));
                }
                0x93 => {
                    let (name, module) = (self.stack.pop()?, self.stack.pop()?);
                    let (Value::Text(module), Value::Text(name)) = (module, name) else {
                        return None;
                    };
                    self.stack.push(Value::Name(format!("{module}.{name}")));
                }
                b'q' => self.remember(unsigned(take(&mut rest, 1)?))?,
                b'r' => self.remember(unsigned(take(&mut rest, 4)?))?,
                0x94 => self.remember(self.memo.len() as u64)?,
                b'h' => self.recall(unsigned(take(&mut rest, 1)?))?,
                b'j' => self.recall(unsigned(take(&mut rest, 4)?))?,
                b')' => self.stack.push(Value::Tuple(Vec::new())),
                0x85..=0x87 => {
                    let first = self.stack.len().checked_sub(usize::from(code - 0x84))?;
                    self.tuple(first)?;
                }
                b't' => {
                    let first = self.marks.pop()?;
                    self.tuple(first)?;
                }
                b'}' => self.stack.push(Value::Dictionary(Vec::new())),
                b']' => self.stack.push(Value::Other),
                // Lists are nothing that a tensor is told by.
                b'a' => drop(self.stack.pop()?),
                b'e' => self.stack.truncate(self.marks.pop()?),
                b's' => self.set_items(self.stack.len().checked_sub(2)?)?,
                b'u' => {
                    let first = self.marks.pop()?;
                    self.set_items(first)?;
                }
                b'0' => drop(self.stack.pop()?),
                // The state of an object.
                b'b' => drop(self.stack.pop()?),
                b'R' | 0x81 => {
                    let (arguments, called) = (self.stack.pop()?, self.stack.pop()?);
                    self.stack.push(understood(called, arguments)?);
                }
                b'Q' => {
                    let named = self.stack.pop()?;
                    self.stack.push(storage(named)?);
                }
                _ => return None,
            }
        }
    }

    fn number(&mut self, rest: &mut &[u8], bytes: usize) -> Option<()> {
        let bytes = take(rest, bytes).filter(|bytes| bytes.len() <= 8)?;
        let value = unsigned(bytes);
        // Only the longer ones have a sign.
        let bits = 8 * bytes.len() as u32;
        let negative = bytes.len() > 2 && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let value = if negative && bits < 64 {
            value | u64::MAX << bits
        } else {
            value
        };
        self.stack.push(Value::Number(value as i64));
        Some(())
    }

    fn text(&mut self, rest: &mut &[u8], bytes: usize) -> Option<()> {
        let length = usize::try_from(unsigned(take(rest, bytes)?)).ok()?;
        let text = std::str::from_utf8(take(rest, length)?).ok()?;
        self.stack.push(Value::Text(text.into()));
        Some(())
    }

    /// Containers are remembered as they are now: empty ones, which nothing looks at again.
    fn remember(&mut self, at: u64) -> Option<()> {
        let value = self.stack.last()?.clone();
        self.memo.insert(at, value);
        Some(())
    }

    fn recall(&mut self, at: u64) -> Option<()> {
        self.stack.push(self.memo.get(&at)?.clone());
        Some(())
    }

    fn tuple(&mut self, first: usize) -> Option<()> {
        let items = self
            .stack
            .split_off(Some(first).filter(|first| *first <= self.stack.len())?);
        let deep = items.iter().map(depth).max().unwrap_or(0);
        self.stack.push(Value::Tuple(items));
        (deep < MAX_DEPTH).then_some(())
    }

    fn set_items(&mut self, first: usize) -> Option<()> {
        let items = self
            .stack
            .split_off(Some(first).filter(|first| *first <= self.stack.len())?);
        let into = self.stack.last_mut()?;
        if let Value::Dictionary(into) = into {
            let mut items = items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                // Other values, and dictionaries inside, are left out: they would only be copied about.
                if let Value::Tensor(_) = value {
                    into.push((key, value));
                }
            }
        }
        Some(())
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Tuple(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// What a call would give, where it is one that describes tensors.
fn understood(called: Value, arguments: Value) -> Option<Value> {
    let (Value::Name(name), Value::Tuple(arguments)) = (called, arguments) else {
        return Some(Value::Other);
    };
    Some(match (name.as_str(), arguments.as_slice()) {
        ("collections.OrderedDict", _) => Value::Dictionary(Vec::new()),
        ("torch._utils._rebuild_parameter", [tensor, ..]) => tensor.clone(),
        (
            "torch._utils._rebuild_tensor_v2",
            [
                Value::Storage(storage, dtype),
                Value::Number(offset),
                Value::Tuple(shape),
                Value::Tuple(strides),
                ..,
            ],
        ) => Value::Tensor(Tensor {
            storage: storage.clone(),
            dtype: *dtype,
            offset: usize::try_from(*offset).ok()?,
            shape: sizes(shape)?,
            strides: sizes(strides)?,
        }),
        _ => Value::Other,
    })
}

fn sizes(values: &[Value]) -> Option<Vec<usize>> {
    let size = |value: &Value| match value {
        Value::Number(number) => usize::try_from(*number).ok(),
        _ => None,
    };
    values.iter().map(size).collect()
}

/// `('storage', class, key, place, count)`.
fn storage(named: Value) -> Option<Value> {
    let Value::Tuple(parts) = named else {
        return None;
    };
    let [Value::Text(kind), Value::Name(class), Value::Text(key), ..] = parts.as_slice() else {
        return None;
    };
    let dtype = match class.strip_prefix("torch.")? {
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "DoubleStorage" => Dtype::F64,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "BoolStorage" => Dtype::BOOL,
        "ByteStorage" => Dtype::U8,
        _ => return Some(Value::Other),
    };
    (kind == "storage").then(|| Value::Storage(key.clone(), dtype))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

fn unsigned(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev().take(8);
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn line(rest: &mut &[u8]) -> Option<String> {
    let length = rest.iter().position(|byte| *byte == b'\n')?;
    let text = std::str::from_utf8(take(rest, length)?).ok()?.to_owned();
    take(rest, 1)?;
    Some(text)
}

#[cfg(test)]
mod tests;
