//! What stands where in a bundle: the fixed beginning, and the header as JSON.

use super::xxh64::Xxh64;
use kernels::matmul_quantized::{Bits, LONGEST_BLOCK, PANEL, Precision, ScaleFormat};
use serde::{Deserialize, Serialize};

/// Begins every bundle; a transfer that changes line ends changes it.
pub(super) const MAGIC: [u8; 8] = *b"bluelm\r\n";
/// The version of the format that is written.
pub(super) const VERSION: u32 = 2;
/// The oldest that is read; it has no f16 scales.
pub(super) const OLDEST_VERSION: u32 = 1;
/// Bytes before the header: magic, version, four zeros, header length, header checksum, file length, zeros.
pub(super) const PRELUDE_BYTES: usize = 64;
/// Every section begins at a multiple of it, counted from the beginning of the file.
pub(super) const ALIGNMENT: u64 = 64;
/// Longest header that is read: a tensor takes about 300 bytes of it.
pub(super) const MAX_HEADER_BYTES: u64 = 64 << 20;

/// The header.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// How the weights were made, in a word.
    pub recipe: String,
    /// The small files of the model folder, whole.
    pub files: Vec<Section<FileLabel>>,
    /// The weights.
    pub tensors: Vec<Section<TensorLabel>>,
}

/// A stretch of bytes. Offsets count from the beginning of the data, the first multiple of 64 after the header.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Section<Label> {
    #[serde(flatten)]
    pub label: Label,
    pub offset: u64,
    pub length: u64,
    /// XXH64 of the bytes.
    pub checksum: Checksum,
}

/// What a file is called.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileLabel {
    pub name: String,
}

/// What a tensor is called, its shape as in the checkpoint, and how it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TensorLabel {
    pub name: String,
    pub shape: Vec<usize>,
    pub storage: Storage,
}

/// How a tensor's numbers lie in its section; docs/bundle.md says it at length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Storage {
    /// Row-major f32.
    F32,
    /// bf16 in panels of 32 outputs: `[panels, k, 32]`.
    Bf16Panels,
    /// Row-major bf16.
    Bf16Rows,
    /// Row-major INT8, then scales `[n, groups]`.
    Int8Rows {
        /// Numbers that share a scale.
        group: usize,
        /// What scales are written in.
        #[serde(default, skip_serializing_if = "Scales::is_bf16")]
        scales: Scales,
    },
    /// INT4 in panels of 16 outputs, then their scales: [`kernels::matmul_quantized::Weights`].
    Int4(Packed),
    /// INT8 in panels of 16 outputs, then their scales.
    Int8(Packed),
}

/// How quantized weights and the rows that go into them share scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Inputs of an output that share a scale; the last group is filled up with zeros.
    pub group: usize,
    /// Inputs of a row that share a scale: a divisor of the group.
    pub block: usize,
    /// What rows are quantized to.
    pub activations: Activations,
    /// What scales are written in.
    #[serde(default, skip_serializing_if = "Scales::is_bf16")]
    pub scales: Scales,
}

/// What the scales of weights are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scales {
    /// As what is rounded here has them.
    #[default]
    Bf16,
    /// As the blocks of GGUF have them, whose numbers stay what they are.
    F16,
}

impl Scales {
    fn is_bf16(&self) -> bool {
        *self == Scales::Bf16
    }

    pub(crate) fn format(self) -> ScaleFormat {
        match self {
            Scales::Bf16 => ScaleFormat::Bf16,
            Scales::F16 => ScaleFormat::F16,
        }
    }
}

/// What rows are quantized to before they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// -127 to 127.
    Int8,
    /// -32512 to 32512.
    Int16,
}

impl Activations {
    pub(super) fn precision(self) -> Precision {
        match self {
            Activations::Int8 => Precision::Int8,
            Activations::Int16 => Precision::Int16,
        }
    }
}

/// Sixteen hexadecimal digits, whatever the number, so that the header's length is known before the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checksum(pub u64);

impl Serialize for Checksum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Checksum, D::Error> {
        let text = String::deserialize(deserializer)?;
        let whole = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u64::from_str_radix(&text, 16) {
            Ok(number) if whole => Ok(Checksum(number)),
            _ => Err(serde::de::Error::custom(
                "a checksum has 16 hexadecimal digits",
            )),
        }
    }
}

/// The two parts of a section's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    pub values: u64,
    pub scales: u64,
}

impl Storage {
    /// Bytes of values and of the scales behind them for this shape, or what is wrong with it.
    pub(super) fn lengths(&self, shape: &[usize]) -> Result<Lengths, String> {
        let (n, k) = matrix(shape).ok_or("its size is past all bounds")?;
        if let Storage::Int4(packed) | Storage::Int8(packed) = self {
            packed.check()?;
        }
        self.bytes(n, k)
            .ok_or_else(|| "its size is past all bounds".to_string())
    }

    fn bytes(&self, n: u64, k: u64) -> Option<Lengths> {
        let product = |factors: &[u64]| factors.iter().try_fold(1u64, |p, f| p.checked_mul(*f));
        let (values, scales) = match self {
            Storage::F32 => (product(&[n, k, 4])?, 0),
            Storage::Bf16Rows => (product(&[n, k, 2])?, 0),
            Storage::Bf16Panels => {
                let panel = kernels::matmul::PANEL as u64;
                (product(&[n.div_ceil(panel), panel, k, 2])?, 0)
            }
            Storage::Int8Rows { group, .. } => {
                let groups = k.div_ceil(u64::try_from(*group).ok().filter(|group| *group > 0)?);
                let values = align(product(&[n, k])?)?;
                (values, product(&[n, groups, 2])?)
            }
            Storage::Int4(packed) | Storage::Int8(packed) => {
                let group = packed.group as u64;
                let (panels, groups) = (n.div_ceil(PANEL as u64), k.div_ceil(group));
                let outputs = product(&[panels, PANEL as u64])?;
                let weights = product(&[outputs, groups, group])?;
                let values = match self.bits() {
                    Some(Bits::Four) => weights / 2,
                    _ => weights,
                };
                (values, product(&[outputs, groups, 2])?)
            }
        };
        values.checked_add(scales)?;
        Some(Lengths { values, scales })
    }

    /// What scales are written in; nothing where there are none.
    pub(crate) fn scales(&self) -> Option<Scales> {
        match self {
            Storage::Int4(packed) | Storage::Int8(packed) => Some(packed.scales),
            Storage::Int8Rows { scales, .. } => Some(*scales),
            _ => None,
        }
    }

    /// Bits of a packed weight.
    pub(super) fn bits(&self) -> Option<Bits> {
        match self {
            Storage::Int4(_) => Some(Bits::Four),
            Storage::Int8(_) => Some(Bits::Eight),
            _ => None,
        }
    }
}

impl Packed {
    /// Kernels rely on it.
    fn check(&self) -> Result<(), String> {
        let Packed { group, block, .. } = *self;
        if group == 0 || !group.is_multiple_of(8) || group > 1 << 24 {
            return Err(format!("groups of {group}, expected a multiple of 8"));
        }
        if block == 0
            || !block.is_multiple_of(8)
            || block > LONGEST_BLOCK
            || !group.is_multiple_of(block)
        {
            return Err(format!(
                "blocks of {block} in groups of {group}, expected a divisor that is a multiple of 8 up to {LONGEST_BLOCK}"
            ));
        }
        Ok(())
    }
}

/// Outputs, and inputs of each.
fn matrix(shape: &[usize]) -> Option<(u64, u64)> {
    let (n, inputs) = shape.split_first()?;
    let k = inputs
        .iter()
        .try_fold(1u64, |product, side| product.checked_mul(*side as u64))?;
    Some((*n as u64, k))
}

/// The first multiple of the alignment that is not below.
pub(super) fn align(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(ALIGNMENT)
}

/// The fixed beginning of a file.
pub(super) fn prelude(version: u32, header: &[u8], file_bytes: u64) -> [u8; PRELUDE_BYTES] {
    let mut prelude = [0; PRELUDE_BYTES];
    prelude[..8].copy_from_slice(&MAGIC);
    prelude[8..12].copy_from_slice(&version.to_le_bytes());
    prelude[16..24].copy_from_slice(&(header.len() as u64).to_le_bytes());
    prelude[24..32].copy_from_slice(&Xxh64::of(header).to_le_bytes());
    prelude[32..40].copy_from_slice(&file_bytes.to_le_bytes());
    prelude
}
