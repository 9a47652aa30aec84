//! Writing a decoder as GGUF, so that llama.cpp loads it. Encoders and projectors are not written.

use super::Blocks;
use super::encode::{TensorType, blocks};
use super::names::{self, HeadRows};
use super::value::{List, Value};
use crate::bundle::Whole;
use crate::convert::{Partial, strips};
use crate::spec::{DecoderSpec, EmbeddingNorm, QkNorm, Role, RopeScaling};
use crate::{Bundle, Checkpoint, ModelError, ModelSpec, TensorSpec};
use half::f16;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// Tensors begin at multiples of it, as files that say nothing else have them.
const ALIGNMENT: usize = 32;

/// A decoder on its way into a file.
pub struct Export<'a> {
    /// Where it comes from.
    pub weights: Weights<'a>,
    /// What matrices are written as; none for what comes closest to what they are.
    pub kind: Option<TensorType>,
    /// Keys of the tokenizer.
    pub keys: Vec<(String, Value)>,
    /// Is told how many weights are written, and how many there are.
    pub progress: &'a mut dyn FnMut(u64, u64),
    /// Is asked whether to stop.
    pub cancel: &'a dyn Fn() -> bool,
}

/// Where weights come from.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// A folder, or another GGUF file.
    Checkpoint(&'a Checkpoint),
    /// A bundle.
    Bundle(&'a Bundle),
}

/// What became of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Bytes of the file.
    pub bytes: u64,
    /// Matrices whose numbers are what they were.
    pub kept: usize,
    /// Matrices in all.
    pub matrices: usize,
}

/// A tensor that will be written.
struct Planned {
    tensor: TensorSpec,
    name: String,
    kind: TensorType,
    /// Rows of the source, in the order of the file; none for as they come.
    order: Option<Vec<usize>>,
}

impl Planned {
    fn width(&self) -> usize {
        self.tensor.shape[1..].iter().product()
    }

    /// Numbers of a row in the file: a tensor of one side is one row.
    fn row(&self) -> usize {
        self.tensor.shape.last().copied().unwrap_or(1)
    }

    /// Rows that are written at a time; all of those that come in another order.
    fn strips(&self) -> Vec<Range<usize>> {
        match self.order {
            Some(_) => std::iter::once(0..self.tensor.shape[0]).collect(),
            None => strips(&self.tensor).collect(),
        }
    }

    fn bytes(&self) -> usize {
        let numbers: usize = self.tensor.shape.iter().product();
        numbers / self.row() * self.kind.bytes_of(self.row())
    }
}

impl Export<'_> {
    /// Writes the file under a temporary name beside `path`, syncs it and renames it.
    pub fn write(mut self, path: &Path) -> Result<Exported, ModelError> {
        let spec = self.weights.spec()?;
        let architecture = architecture(&spec.decoder).map_err(|problem| ModelError::Gguf {
            path: path.into(),
            problem,
        })?;
        let planned = self.plan(&spec, architecture);
        let mut keys = keys(&spec.decoder, architecture);
        keys.append(&mut self.keys);
        let partial = Partial::beside(path);
        let io = |action| ModelError::io(action, partial.path());
        let file = std::fs::File::create(partial.path()).map_err(io("creating"))?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
        let head = head(&keys, &planned);
        out.write_all(&head).map_err(io("writing"))?;
        let size = |p: &Planned| p.tensor.shape.iter().product::<usize>();
        let mut written = Exported {
            bytes: head.len() as u64,
            kept: 0,
            matrices: 0,
        };
        let (mut done, total) = (0, planned.iter().map(size).sum::<usize>());
        for planned in &planned {
            let mut same = true;
            for strip in planned.strips() {
                if (self.cancel)() {
                    return Err(ModelError::Cancelled);
                }
                done += strip.len() * planned.width();
                let encoded = self.weights.encode(planned, strip)?;
                same &= encoded.same;
                out.write_all(&encoded.bytes).map_err(io("writing"))?;
                (self.progress)(done as u64, total as u64);
            }
            let matrix = planned.tensor.role != Role::Numbers;
            written.matrices += usize::from(matrix);
            written.kept += usize::from(same && matrix);
            let filled = planned.bytes().next_multiple_of(ALIGNMENT);
            let filling = vec![0; filled - planned.bytes()];
            out.write_all(&filling).map_err(io("writing"))?;
            written.bytes += filled as u64;
        }
        let file = out
            .into_inner()
            .map_err(|e| io("writing")(e.into_error()))?;
        file.sync_all().map_err(io("writing"))?;
        drop(file);
        partial.rename(path)?;
        Ok(written)
    }

    fn plan(&self, spec: &ModelSpec, architecture: &Written) -> Vec<Planned> {
        let mut planned = Vec::new();
        for tensor in spec.tensors() {
            let Some(name) = names::of_native(&spec.decoder_prefix, &tensor.name) else {
                continue;
            };
            let nearest = || self.weights.nearest(&tensor.name);
            let kind = match tensor.role {
                Role::Numbers => TensorType::F32,
                _ => self.kind.unwrap_or_else(nearest),
            };
            let width = tensor.shape[1..].iter().product::<usize>();
            let whole = |blocks: Blocks| width.is_multiple_of(blocks.numbers());
            let kind = match kind.blocks().is_none_or(whole) {
                true => kind,
                // Blocks do not go from one row to the next.
                false => TensorType::F32,
            };
            planned.push(Planned {
                order: names::order_of(&spec.decoder, architecture.rows, &name),
                tensor,
                name,
                kind,
            });
        }
        planned
    }
}

/// Rows as bytes, and whether they are the very numbers of the source.
struct Encoded {
    bytes: Vec<u8>,
    same: bool,
}

impl Weights<'_> {
    /// The network.
    fn spec(&self) -> Result<ModelSpec, ModelError> {
        match self {
            Weights::Checkpoint(checkpoint) => {
                let spec = ModelSpec::from_json(checkpoint.config())?;
                checkpoint.check(&spec)?;
                Ok(spec)
            }
            Weights::Bundle(bundle) => Ok(bundle.spec().clone()),
        }
    }

    /// The type that comes closest to what a matrix is.
    fn nearest(&self, name: &str) -> TensorType {
        match self {
            Weights::Checkpoint(checkpoint) => checkpoint.nearest_type(name),
            Weights::Bundle(bundle) => bundle.nearest_type(name),
        }
    }

    fn whole(
        &self,
        name: &str,
        width: usize,
        rows: Range<usize>,
    ) -> Result<Option<Whole>, ModelError> {
        Ok(match self {
            Weights::Checkpoint(checkpoint) => {
                let symmetric = checkpoint
                    .blocks(name)
                    .filter(|blocks| blocks.is_symmetric());
                match symmetric {
                    None => None,
                    Some(_) => {
                        let (values, scales) = checkpoint.rows_whole(name, width, rows)?;
                        let scales = scales.iter().map(|bits| f16::from_bits(*bits).to_f32());
                        Some(Whole {
                            values,
                            scales: scales.collect(),
                        })
                    }
                }
            }
            Weights::Bundle(bundle) => bundle.rows_whole(name, width, rows),
        })
    }

    fn rows_f32(
        &self,
        name: &str,
        width: usize,
        rows: Range<usize>,
    ) -> Result<Vec<f32>, ModelError> {
        match self {
            Weights::Checkpoint(checkpoint) => checkpoint.rows_f32(name, width, rows),
            Weights::Bundle(bundle) => bundle.rows_f32(name, width, rows),
        }
    }

    fn encode(&self, planned: &Planned, rows: Range<usize>) -> Result<Encoded, ModelError> {
        let mut encoded = match self.encode_whole(planned, rows.clone())? {
            Some(encoded) => encoded,
            None => {
                let numbers = self.rows_f32(&planned.tensor.name, planned.width(), rows)?;
                let same = match planned.kind {
                    TensorType::F32 => true,
                    TensorType::F16 => numbers.iter().all(|v| f16::from_f32(*v).to_f32() == *v),
                    TensorType::Bf16 => numbers.iter().all(|v| v.to_bits() & 0xffff == 0),
                    TensorType::Q8_0 | TensorType::Q4_0 => false,
                };
                let bytes = planned.kind.encode(&numbers);
                Encoded { bytes, same }
            }
        };
        if let Some(order) = &planned.order {
            let row = encoded.bytes.len() / order.len().max(1);
            let ordered = order
                .iter()
                .flat_map(|from| &encoded.bytes[from * row..][..row]);
            encoded.bytes = ordered.copied().collect();
        }
        Ok(encoded)
    }

    /// Rows whose whole numbers go into blocks as they are; nothing where there are none or they have too many bits.
    fn encode_whole(
        &self,
        planned: &Planned,
        rows: Range<usize>,
    ) -> Result<Option<Encoded>, ModelError> {
        let Some(kind) = planned.kind.blocks() else {
            return Ok(None);
        };
        let bounds = match kind {
            Blocks::Q4_0 => -8..=7,
            _ => i8::MIN..=i8::MAX,
        };
        let whole = self.whole(&planned.tensor.name, planned.width(), rows)?;
        let fits = |whole: &Whole| whole.values.iter().all(|value| bounds.contains(value));
        let Some(whole) = whole.filter(fits) else {
            return Ok(None);
        };
        let scales: Vec<f16> = whole.scales.iter().map(|v| f16::from_f32(*v)).collect();
        let mut pairs = scales.iter().zip(&whole.scales);
        let same = pairs.all(|(written, own)| written.to_f32() == *own);
        let scales: Vec<u16> = scales.iter().map(|scale| scale.to_bits()).collect();
        let bytes = blocks(kind, &whole.values, &scales);
        Ok(Some(Encoded { bytes, same }))
    }
}

/// An architecture that is written.
pub(super) struct Written {
    name: &'static str,
    rows: HeadRows,
    /// Of queries, keys and values, and of the output.
    biases: &'static [[bool; 2]],
    qk_norm: QkNorm,
}

const WRITTEN: [Written; 3] = [
    Written {
        name: "llama",
        rows: HeadRows::Neighbours,
        biases: &[[false; 2], [true; 2]],
        qk_norm: QkNorm::None,
    },
    Written {
        name: "qwen2",
        rows: HeadRows::Halves,
        biases: &[[true, false]],
        qk_norm: QkNorm::None,
    },
    Written {
        name: "qwen3",
        rows: HeadRows::Halves,
        biases: &[[false; 2]],
        qk_norm: QkNorm::PerHead,
    },
];

/// The architecture that computes what this decoder does.
pub(super) fn architecture(d: &DecoderSpec) -> Result<&'static Written, String> {
    let stretched = DecoderSpec {
        rope_scaling: RopeScaling::None,
        ..d.clone()
    };
    let scaled = matches!(
        d.rope_scaling,
        RopeScaling::None | RopeScaling::Linear { .. }
    );
    let plain = stretched.is_plain() && scaled && d.embedding_norm == EmbeddingNorm::None;
    let mut written = WRITTEN.iter();
    let same = |known: &&Written| {
        known.biases.contains(&[d.qkv_bias, d.output_bias]) && known.qk_norm == d.qk_norm
    };
    written.find(|known| plain && same(known)).ok_or_else(|| {
        let known: Vec<&str> = WRITTEN.iter().map(|known| known.name).collect();
        format!(
            "the decoder is none of those that are written as GGUF: {}",
            known.join(", ")
        )
    })
}

fn keys(d: &DecoderSpec, architecture: &Written) -> Vec<(String, Value)> {
    let whole = |number: usize| Value::Whole(number as i128);
    let mut keys = vec![(
        "general.architecture".to_string(),
        Value::Text(architecture.name.into()),
    )];
    let mut own = vec![
        ("context_length", whole(d.context_tokens)),
        ("embedding_length", whole(d.hidden)),
        ("block_count", whole(d.layers)),
        ("feed_forward_length", whole(d.ffn)),
        ("attention.head_count", whole(d.heads)),
        ("attention.head_count_kv", whole(d.kv_heads)),
        ("attention.key_length", whole(d.head_dim)),
        ("attention.value_length", whole(d.head_dim)),
        ("rope.dimension_count", whole(d.head_dim)),
        ("rope.freq_base", Value::Number(d.rope_base)),
        (
            "attention.layer_norm_rms_epsilon",
            Value::Number(d.norm_eps.into()),
        ),
        ("vocab_size", whole(d.vocabulary)),
    ];
    if let RopeScaling::Linear { factor } = d.rope_scaling {
        own.push(("rope.scaling.type", Value::Text("linear".into())));
        own.push(("rope.scaling.factor", Value::Number(factor)));
    }
    let own = own.into_iter();
    keys.extend(own.map(|(key, value)| (format!("{}.{key}", architecture.name), value)));
    keys
}

/// All that stands before the data, with its filling.
fn head(keys: &[(String, Value)], tensors: &[Planned]) -> Vec<u8> {
    let mut out = super::MAGIC.to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        put_text(&mut out, key);
        put_value(&mut out, value);
    }
    let mut place = 0u64;
    for planned in tensors {
        put_text(&mut out, &planned.name);
        out.extend((planned.tensor.shape.len() as u32).to_le_bytes());
        let sides = planned.tensor.shape.iter().rev();
        out.extend(sides.flat_map(|side| (*side as u64).to_le_bytes()));
        out.extend(planned.kind.number().to_le_bytes());
        out.extend(place.to_le_bytes());
        place += planned.bytes().next_multiple_of(ALIGNMENT) as u64;
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A value after the number of its type. Whole numbers are u32 where they fit, and i32 in lists: what llama.cpp asks for.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut kind = |kind: u32| out.extend(kind.to_le_bytes());
    match value {
        Value::Whole(number) => match u32::try_from(*number) {
            Ok(number) => {
                kind(4);
                out.extend(number.to_le_bytes());
            }
            Err(_) => {
                kind(11);
                out.extend((*number as i64).to_le_bytes());
            }
        },
        Value::Number(number) => {
            kind(6);
            out.extend((*number as f32).to_le_bytes());
        }
        Value::Flag(flag) => {
            kind(7);
            out.push(u8::from(*flag));
        }
        Value::Text(text) => {
            kind(8);
            put_text(out, text);
        }
        Value::List(list) => {
            kind(9);
            put_list(out, list);
        }
    }
}

fn put_list(out: &mut Vec<u8>, list: &List) {
    let mut begin = |kind: u32, count: usize| {
        out.extend(kind.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match list {
        List::Whole(numbers) => {
            begin(5, numbers.len());
            out.extend(
                numbers
                    .iter()
                    .flat_map(|number| (*number as i32).to_le_bytes()),
            );
        }
        List::Numbers(numbers) => {
            begin(6, numbers.len());
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        List::Texts(texts) => {
            begin(8, texts.len());
            texts.iter().for_each(|text| put_text(out, text));
        }
        List::Lists(lists) => {
            begin(9, lists.len());
            lists.iter().for_each(|list| put_list(out, list));
        }
    }
}
