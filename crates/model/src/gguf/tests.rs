//! What is read of files in order, and what is refused of others.

mod exact;
mod hostile;
mod writing;

use super::*;
use crate::stored::Stored;
use safetensors::SafeTensors;

/// A file piece by piece, as the format's document has it.
#[derive(Default)]
pub(super) struct Pieces {
    pub keys: Vec<(String, Vec<u8>)>,
    /// Name, sides (numbers of a row first), type, place.
    pub tensors: Vec<(String, Vec<u64>, u32, u64)>,
    pub data: Vec<u8>,
    pub alignment: usize,
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u64).to_le_bytes();
    [&length[..], text.as_bytes()].concat()
}

impl Pieces {
    pub fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Pieces {
        let value = [&kind.to_le_bytes()[..], value].concat();
        self.keys.push((key.into(), value));
        self
    }

    pub fn tensor(mut self, name: &str, sides: &[u64], kind: u32, place: u64) -> Pieces {
        self.tensors.push((name.into(), sides.into(), kind, place));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        for (name, sides, kind, place) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((sides.len() as u32).to_le_bytes());
            bytes.extend(sides.iter().flat_map(|side| side.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(place.to_le_bytes());
        }
        let begin = bytes.len().next_multiple_of(self.alignment.max(32));
        bytes.resize(begin, 0);
        bytes.extend(&self.data);
        bytes
    }

    pub fn parse(&self) -> Result<Gguf, String> {
        Gguf::parse(&self.bytes())
    }
}

/// A file with a value of every type, and two tensors.
pub(super) fn whole() -> Pieces {
    let strings = [
        &8u32.to_le_bytes()[..],
        &2u64.to_le_bytes(),
        &text("a"),
        &text("的"),
    ]
    .concat();
    let nested = [
        &9u32.to_le_bytes()[..],
        &1u64.to_le_bytes(),
        &4u32.to_le_bytes(),
        &2u64.to_le_bytes(),
        &[7, 0, 0, 0, 9, 0, 0, 0],
    ]
    .concat();
    let mut pieces = Pieces::default()
        .key("u8", 0, &[200])
        .key("i8", 1, &[200])
        .key("u16", 2, &[1, 2])
        .key("i16", 3, &[255, 255])
        .key("u32", 4, &[1, 0, 0, 128])
        .key("i32", 5, &[255, 255, 255, 255])
        .key("f32", 6, &1.5f32.to_le_bytes())
        .key("flag", 7, &[1])
        .key("text", 8, &text("bluelm"))
        .key("texts", 9, &strings)
        .key("nested", 9, &nested)
        .key("u64", 10, &u64::MAX.to_le_bytes())
        .key("i64", 11, &i64::MIN.to_le_bytes())
        .key("f64", 12, &0.25f64.to_le_bytes())
        .key("nan", 6, &f32::NAN.to_le_bytes())
        .tensor("matrix", &[32, 3], 2, 0)
        .tensor("row", &[4], 0, 64);
    pieces.data = vec![0; 64 + 16];
    pieces
}

#[test]
fn every_type_of_value_is_read() {
    let gguf = whole().parse().unwrap();
    let whole = |key: &str| gguf.value(key).cloned().unwrap();
    assert_eq!(whole("u8"), Value::Whole(200));
    assert_eq!(whole("i8"), Value::Whole(-56));
    assert_eq!(whole("u16"), Value::Whole(513));
    assert_eq!(whole("i16"), Value::Whole(-1));
    assert_eq!(whole("u32"), Value::Whole(0x8000_0001));
    assert_eq!(whole("i32"), Value::Whole(-1));
    assert_eq!(whole("u64"), Value::Whole(u64::MAX.into()));
    assert_eq!(whole("i64"), Value::Whole(i64::MIN.into()));
    assert_eq!(
        whole("nested"),
        Value::List(List::Lists(vec![List::Whole(vec![7, 9])]))
    );
    assert_eq!(gguf.number("f32"), Ok(Some(1.5)));
    assert_eq!(gguf.number("f64"), Ok(Some(0.25)));
    assert_eq!(gguf.number("u8"), Ok(Some(200.0)));
    assert_eq!(gguf.flag("flag"), Ok(Some(true)));
    assert_eq!(gguf.text("text"), Ok(Some("bluelm")));
    assert_eq!(gguf.texts("texts").unwrap().unwrap(), ["a", "的"]);
    assert_eq!(gguf.whole("absent"), Ok(None));
    assert_eq!(
        gguf.number("nan").unwrap_err(),
        "nan is NaN, expected a finite number"
    );
    assert_eq!(
        gguf.whole("i8").unwrap_err(),
        "i8 is a whole number, expected a whole number that is not negative"
    );
    assert_eq!(
        gguf.text("u8").unwrap_err(),
        "u8 is a whole number, expected a text"
    );
}

#[test]
fn tensors_lie_behind_the_header_with_their_sides_turned_around() {
    let pieces = whole();
    let gguf = pieces.parse().unwrap();
    let data = pieces.bytes().len() - pieces.data.len();
    let [matrix, row] = gguf.tensors.as_slice() else {
        panic!("{:?}", gguf.tensors);
    };
    assert_eq!(
        (matrix.name.as_str(), matrix.shape.as_slice()),
        ("matrix", &[3, 32][..])
    );
    assert_eq!(matrix.range, data..data + 3 * 18);
    assert_eq!(matrix.stored, Stored::Blocks(Blocks::Q4_0));
    assert_eq!(row.range, data + 64..data + 80);
}

#[test]
fn blocks_become_the_numbers_of_the_reference_bit_for_bit() {
    let file = SafeTensors::deserialize(include_bytes!("tests/blocks.safetensors")).unwrap();
    for blocks in Blocks::ALL {
        let tensor = |what: &str| file.tensor(&format!("{}.{what}", blocks.name())).unwrap();
        let expected = tensor("numbers").data().to_vec();
        let found = blocks.to_f32(tensor("blocks").data());
        let found: Vec<u8> = found
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let first = found
            .chunks(4)
            .zip(expected.chunks(4))
            .position(|(a, b)| a != b);
        assert_eq!(first, None, "the first other number of {}", blocks.name());
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let two = |first: u64, second: u64| {
        let mut pieces = Pieces::default()
            .tensor("a", &[8], 0, first)
            .tensor("b", &[8], 0, second);
        pieces.data = vec![0; 64];
        pieces
    };
    let one = |sides: &[u64], kind: u32| {
        let mut pieces = Pieces::default().tensor("a", sides, kind, 0);
        pieces.data = vec![0; 64];
        pieces
    };
    let file_bytes = one(&[8], 0).bytes().len();
    let cases = [
        (two(0, 0), "tensors a and b lie over each other".to_string()),
        (
            two(0, 16),
            "tensor b begins at byte 16 of the data, expected a multiple of 32".into(),
        ),
        (
            one(&[8], 99),
            "tensor a is of type 99, which is not known".into(),
        ),
        (
            one(&[31], 2),
            "tensor a has sides [31], expected none of 0, and whole blocks of 32 in a row".into(),
        ),
        (
            one(&[17], 0),
            format!(
                "tensor a with sides [17] from byte 0 of the data on does not lie in the file of {file_bytes} bytes"
            ),
        ),
        (
            one(&[0], 0),
            "tensor a has sides [0], expected none of 0, and whole blocks of 1 in a row".into(),
        ),
        (
            one(&[1; 5], 0),
            "tensor a has 5 dimensions, expected 1 to 4".into(),
        ),
        (
            one(&[8], 0).tensor("a", &[8], 0, 32),
            "tensor a stands there twice".into(),
        ),
        (
            whole().key("u8", 0, &[1]),
            "key u8 stands there twice".into(),
        ),
        (
            whole().key("x", 13, &[1]),
            "x has a value of type 13, expected 0 to 12".into(),
        ),
        (whole().key("x", 7, &[2]), "x is 2, expected 0 or 1".into()),
        (
            whole().key("general.alignment", 4, &[33, 0, 0, 0]),
            "general.alignment is 33, expected a power of two from 8 to 65536".into(),
        ),
    ];
    for (pieces, problem) in cases {
        assert_eq!(pieces.parse().unwrap_err(), problem);
    }
    assert_eq!(
        Gguf::parse(b"GGUF\0\0\0\x03").unwrap_err(),
        "GGUF of version 50331648, expected 2 or 3: it is big-endian"
    );
    assert_eq!(
        Gguf::parse(b"GGUF\x01\0\0\0").unwrap_err(),
        "GGUF of version 1, expected 2 or 3"
    );
}

#[test]
fn an_alignment_of_its_own_moves_the_data() {
    let mut pieces = whole().key("general.alignment", 4, &[128, 0, 0, 0]);
    pieces.tensors[1].3 = 128;
    (pieces.alignment, pieces.data) = (128, vec![0; 128 + 16]);
    let gguf = pieces.parse().unwrap();
    assert_eq!(gguf.tensors[0].range.start, pieces.bytes().len() - 144);
}
