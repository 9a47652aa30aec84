//! The pickle of a state dict, read without executing it: an interpreter of the few operations that torch writes, for which
//! a name in the file means one of the few things listed here, or an error.
//!
//! Source: Python's `Lib/pickletools.py` for the operations; torch/_utils.py and torch/serialization.py for the names.
//!
//! Objects stand in a list and refer to each other by their number, so that nothing is copied or walked recursively; their
//! count and the stack's height are bounded, and both grow by at most one for each byte.

use safetensors::Dtype;
use std::collections::BTreeMap;

/// Most objects, and most values on the stack: seven for each tensor, so that 300000 of them pass.
const MAX_OBJECTS: usize = 1 << 21;
const MAX_STACK: usize = 1 << 20;
/// Longest name of a tensor or a storage, and most sides of a tensor: what one object repeats for each that refers to it.
const MAX_NAME_BYTES: usize = 1024;
const MAX_SIDES: usize = 8;

/// A tensor as the pickle describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor<'a> {
    /// The name of its storage in the archive.
    pub storage: &'a str,
    pub dtype: Dtype,
    /// First number of the storage.
    pub offset: usize,
    pub shape: Vec<usize>,
    /// Numbers from one index of a side to the next.
    pub strides: Vec<usize>,
}

/// What an operation takes or gives.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    None,
    /// True and false as well, which count as 1 and 0.
    Whole(i64),
    Text(&'a str),
    Name(Name),
    /// Its number in the list of objects.
    Object(usize),
}

#[derive(Clone, Debug)]
enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage { key: &'a str, dtype: Dtype },
    Tensor(Box<Tensor<'a>>),
}

/// Everything that a file may name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Name {
    fn find(module: &str, name: &str) -> Result<Name, String> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Name::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Name::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Name::RebuildParameter,
            ("torch", "FloatStorage") => Name::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Name::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Name::Storage(Dtype::BF16),
            ("torch", "DoubleStorage") => Name::Storage(Dtype::F64),
            ("torch", "LongStorage") => Name::Storage(Dtype::I64),
            ("torch", "IntStorage") => Name::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Name::Storage(Dtype::I16),
            ("torch", "CharStorage") => Name::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Name::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Name::Storage(Dtype::BOOL),
            _ => {
                return Err(format!(
                    "it asks for {}, which no plain weights need; nothing was executed",
                    format!("{module}.{name}").escape_debug()
                ));
            }
        })
    }
}

/// A pickle while it is read.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value<'a>>,
    objects: Vec<Object<'a>>,
}

impl<'a> Pickle<'a> {
    /// Names and tensors in the order of the file.
    pub fn read(bytes: &'a [u8]) -> Result<Vec<(&'a str, Tensor<'a>)>, String> {
        let mut pickle = Pickle {
            bytes,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
            objects: Vec::new(),
        };
        loop {
            let at = pickle.at;
            match pickle.step() {
                Ok(Step::On) => {}
                Ok(Step::Stop) => return pickle.tensors(),
                Err(problem) => return Err(format!("byte {at}: {problem}")),
            }
        }
    }

    fn step(&mut self) -> Result<Step, String> {
        let operation = self.take(1)?[0];
        if self.stack.len() + self.marks.len() >= MAX_STACK || self.objects.len() >= MAX_OBJECTS {
            return Err(format!("expected at most {MAX_OBJECTS} objects"));
        }
        match operation {
            // PROTO and FRAME announce what comes.
            0x80 => self.take(1).map(drop)?,
            0x95 => self.take(8).map(drop)?,
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Whole(1)),
            0x89 => self.stack.push(Value::Whole(0)),
            b'K' => self.whole(1)?,
            b'M' => self.whole(2)?,
            b'J' => self.whole(4)?,
            0x8a => {
                let length = self.take(1)?[0];
                self.whole(length.into())?;
            }
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b')' => self.push(Object::Tuple(Vec::new())),
            b't' => {
                let values = self.marked()?;
                self.push(Object::Tuple(values));
            }
            0x85..=0x87 => {
                let values = self.pop_many(usize::from(operation - 0x84))?;
                self.push(Object::Tuple(values));
            }
            b'}' => self.push(Object::Dict(Vec::new())),
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(items)?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set_items(items)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Name(Name::find(module, name)?));
            }
            0x93 => self.name_of_stack()?,
            b'Q' => self.storage()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b'.' => return Ok(Step::Stop),
            other => {
                return Err(format!(
                    "operation {other:#04x}, which no plain weights need; nothing was executed"
                ));
            }
        }
        Ok(Step::On)
    }

    /// The dict on the stack, all of it tensors under names.
    fn tensors(&self) -> Result<Vec<(&'a str, Tensor<'a>)>, String> {
        let Some(Object::Dict(items)) = self.stack.last().and_then(|value| self.object(*value))
        else {
            return Err("expected a dict of tensors".into());
        };
        let named = items
            .iter()
            .map(|(key, value)| match (key, self.object(*value)) {
                (Value::Text(name), _) if name.len() > MAX_NAME_BYTES => Err(format!(
                    "a name of {} bytes, expected at most {MAX_NAME_BYTES}",
                    name.len()
                )),
                (Value::Text(name), Some(Object::Tensor(tensor))) => {
                    Ok((*name, (**tensor).clone()))
                }
                (Value::Text(name), _) => {
                    Err(format!("expected a tensor under {}", name.escape_debug()))
                }
                _ => Err("expected names of tensors".into()),
            });
        named.collect()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let bytes = self.bytes[self.at..]
            .get(..count)
            .ok_or("the pickle is cut off")?;
        self.at += count;
        Ok(bytes)
    }

    /// A little-endian number of up to eight bytes. Four and more have a sign, as pickles of version 2 have it.
    fn number(&mut self, count: usize) -> Result<i64, String> {
        if count > 8 {
            return Err(format!("a number of {count} bytes, expected at most 8"));
        }
        let bytes = self.take(count)?;
        let number = bytes
            .iter()
            .rev()
            .fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        Ok(number as i64)
    }

    fn whole(&mut self, count: usize) -> Result<(), String> {
        let number = self.number(count)?;
        // One and two bytes have no sign (BININT1, BININT2) unless they come after a length (LONG1); sizes of tensors that
        // are below zero are refused anyway, and a LONG1 that is above has a zero byte on top.
        let shift = 64 - 8 * count as u32;
        let number = if count >= 4 {
            number << shift >> shift
        } else {
            number
        };
        self.stack.push(Value::Whole(number));
        Ok(())
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let length = usize::try_from(self.number(width)?).map_err(|_| "a text of that length")?;
        let text =
            std::str::from_utf8(self.take(length)?).map_err(|_| "a text that is not UTF-8")?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or("a name without an end")?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "a name that is not UTF-8".into())
    }

    fn put(&mut self, width: usize) -> Result<(), String> {
        let place = self.number(width)? as u32;
        self.remember(place)
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        let value = *self.stack.last().ok_or("nothing to remember")?;
        self.memo.insert(place, value);
        Ok(())
    }

    fn get(&mut self, width: usize) -> Result<(), String> {
        let place = self.number(width)? as u32;
        let value = self
            .memo
            .get(&place)
            .ok_or_else(|| format!("nothing was remembered as {place}"))?;
        self.stack.push(*value);
        Ok(())
    }

    fn push(&mut self, object: Object<'a>) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
    }

    fn object(&self, value: Value) -> Option<&Object<'a>> {
        match value {
            Value::Object(at) => self.objects.get(at),
            _ => None,
        }
    }

    fn tuple(&self, value: Value) -> Option<&[Value<'a>]> {
        match self.object(value) {
            Some(Object::Tuple(values)) => Some(values),
            _ => None,
        }
    }

    /// The last values, none of which stands below the last mark.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self
            .stack
            .len()
            .checked_sub(count)
            .filter(|from| *from >= floor);
        Ok(self
            .stack
            .split_off(from.ok_or("more values than there are")?))
    }

    fn marked(&mut self) -> Result<Vec<Value<'a>>, String> {
        let from = self
            .marks
            .pop()
            .ok_or("values since a mark, of which there is none")?;
        Ok(self.stack.split_off(from))
    }

    fn set_items(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        let Some(Value::Object(at)) = self.stack.last() else {
            return Err("items of no dict".into());
        };
        let (Some(Object::Dict(dict)), (pairs, [])) =
            (self.objects.get_mut(*at), items.as_chunks::<2>())
        else {
            return Err("items of no dict".into());
        };
        dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    /// A name as later versions of pickle have it: from the stack.
    fn name_of_stack(&mut self) -> Result<(), String> {
        let [Value::Text(module), Value::Text(name)] = self.pop_many(2)?[..] else {
            return Err("expected a module and a name".into());
        };
        self.stack.push(Value::Name(Name::find(module, name)?));
        Ok(())
    }

    /// ("storage", type, key, device, numbers), which stands for a file of the archive.
    fn storage(&mut self) -> Result<(), String> {
        let tuple = self.pop_many(1)?[0];
        let Some(
            [
                Value::Text("storage"),
                Value::Name(Name::Storage(dtype)),
                Value::Text(key),
                ..,
            ],
        ) = self.tuple(tuple)
        else {
            return Err("expected the description of a storage".into());
        };
        let (key, dtype) = (*key, *dtype);
        if key.len() > MAX_NAME_BYTES {
            return Err(format!(
                "the name of a storage has {} bytes, expected at most {MAX_NAME_BYTES}",
                key.len()
            ));
        }
        self.push(Object::Storage { key, dtype });
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), String> {
        let [function, given] = self.pop_many(2)?[..] else {
            return Err("expected a function and what it is given".into());
        };
        let given = self
            .tuple(given)
            .ok_or("expected a tuple of what a function is given")?;
        let object = match (function, given) {
            (Value::Name(Name::OrderedDict), []) => Object::Dict(Vec::new()),
            (Value::Name(Name::RebuildParameter), [tensor, ..]) => match self.object(*tensor) {
                Some(Object::Tensor(tensor)) => Object::Tensor(tensor.clone()),
                _ => return Err("expected a parameter that is a tensor".into()),
            },
            (
                Value::Name(Name::RebuildTensor),
                [storage, Value::Whole(offset), shape, strides, ..],
            ) => Object::Tensor(Box::new(self.tensor(*storage, *offset, *shape, *strides)?)),
            _ => return Err("a call that no plain weights need; nothing was executed".into()),
        };
        self.push(object);
        Ok(())
    }

    fn tensor(
        &self,
        storage: Value,
        offset: i64,
        shape: Value,
        strides: Value,
    ) -> Result<Tensor<'a>, String> {
        let size = |number: &Value| match number {
            Value::Whole(number) => usize::try_from(*number).ok(),
            _ => None,
        };
        let sizes = |tuple: Value| -> Option<Vec<usize>> {
            let sides = self.tuple(tuple).filter(|sides| sides.len() <= MAX_SIDES)?;
            sides.iter().map(size).collect()
        };
        let Some(Object::Storage { key, dtype }) = self.object(storage) else {
            return Err("expected a tensor's storage".into());
        };
        let whole = size(&Value::Whole(offset))
            .zip(sizes(shape))
            .zip(sizes(strides));
        let ((offset, shape), strides) = whole
            .ok_or("expected an offset, sides and strides of at least 0, and at most 8 sides")?;
        Ok(Tensor {
            storage: key,
            dtype: *dtype,
            offset,
            shape,
            strides,
        })
    }

    /// Sets attributes: of the dict of a module they are versions of its parts, which no weights depend on.
    fn build(&mut self) -> Result<(), String> {
        self.pop_many(1)?;
        match self.stack.last().and_then(|value| self.object(*value)) {
            Some(Object::Dict(_)) => Ok(()),
            _ => Err("attributes of something that is no dict".into()),
        }
    }
}

/// Whether there is more to come.
enum Step {
    On,
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(pickle: &[u8]) -> String {
        Pickle::read(pickle).expect_err("a pickle that must not be read")
    }

    #[test]
    fn what_is_no_weight_is_refused_by_name_and_not_executed() {
        let system = b"cos\nsystem\nX\x02\0\0\0ls\x85R.";
        assert_eq!(
            problem(system),
            "byte 0: it asks for os.system, which no plain weights need; nothing was executed"
        );
        assert_eq!(
            problem(b"\x8c\x08builtins\x8c\x04eval\x93."),
            "byte 16: it asks for builtins.eval, which no plain weights need; nothing was executed"
        );
        // INST, OBJ, NEWOBJ and EXT1 also make objects.
        for operation in [b'i', b'o', 0x81, 0x82] {
            assert!(problem(&[operation, b'\n', b'\n']).contains("which no plain weights need"));
        }
    }

    #[test]
    fn operations_without_what_they_take_are_errors() {
        let without: [&[u8]; 16] = [
            b"",
            b"K",
            b"J\0\0",
            b"X\xff\xff\xff\xffx",
            b"\x8a\x09",
            b"ccollections",
            b"q\0",
            b"h\0",
            b"t",
            b"\x85",
            b"s",
            b"u",
            b"R",
            b"Q",
            b"b",
            b".",
        ];
        for pickle in without {
            problem(pickle);
        }
        // What stands before a mark is out of reach until the mark is taken.
        assert!(problem(b"}K\x01(K\x02s.").contains("more values than there are"));
    }

    #[test]
    fn a_tuple_of_a_tuple_twice_and_so_on_takes_no_time() {
        // Each line remembers a pair of what was remembered: 2^40 numbers, if they were copied.
        let pairs = b"h\0h\0\x86q\0".repeat(40);
        let error = problem(&[b"K\x01q\0", &pairs[..], b"."].concat());
        assert_eq!(error, "expected a dict of tensors");
    }

    #[test]
    fn one_object_named_many_times_is_not_copied_as_often() {
        let mut long = b"}X".to_vec();
        long.extend(2000u32.to_le_bytes());
        long.extend([b'a'; 2000]);
        long.extend(b"Ns.");
        assert!(
            problem(&long).contains("a name of 2000 bytes"),
            "{}",
            problem(&long)
        );
        let shape = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0";
        let mut wide = shape.to_vec();
        wide.extend(b"(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t(ttR.");
        assert!(
            problem(&wide).contains("at most 8 sides"),
            "{}",
            problem(&wide)
        );
        let mut deep = vec![b'('; MAX_STACK + 1];
        deep.push(b'.');
        assert!(problem(&deep).contains("expected at most"));
    }
}
