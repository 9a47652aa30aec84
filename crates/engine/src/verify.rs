//! Compares a model with what a reference recorded: token ids, pixels, image embeddings, hidden states, logits and tokens.
//!
//! A case is a folder with `oracle.json` (`messages`, `chat_kwargs`, `images`, `prompt`, `input_ids`, `greedy_tokens`,
//! `greedy_margins`), `oracle.safetensors` and the case's pictures. Names are compared in the order in which they are computed,
//! so that the first that differs is the cause of what follows.

use std::borrow::Cow;
use std::path::Path;

use image_prep::Limits;
use model::Checkpoint;
use serde::Serialize;
use serde_json::Value as Json;

use crate::cancel::Cancel;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::files::read_capped;
use crate::message::{Message, Part, Role};
use crate::picture::read_picture;
use crate::record::Record;
use crate::request::Request;

/// Largest difference allowed in what a network computes, as a share of the largest value of its tensor. Two f32 programs that add in
/// different orders differ by roundings, each of a value's few hundred additions by 2^-24 of a partial sum, some ten layers
/// deep: 1e-6 to 1e-5. A wrong formula shows as 1e-2 and more.
pub const RELATIVE: f64 = 1e-4;
/// Longest file of a case that is read.
const MAX_BYTES: u64 = 1 << 32;

/// One compared thing.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Its name in the reference.
    pub name: String,
    /// How far apart: the largest difference as a share of the reference's largest value; of ids 0 or 1. `None` where the shapes
    /// differ.
    pub apart: Option<f64>,
    /// Whether that is allowed.
    pub equal: bool,
    /// What was expected and what was found, where it is not.
    pub difference: Option<String>,
}

/// One compared case.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// Name of its folder.
    pub name: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Everything that was compared, in order.
    pub compared: Vec<Compared>,
    /// Tokens that were chosen as in the reference.
    pub tokens_equal: usize,
    /// Tokens that the reference all but tossed a coin for.
    pub tokens_open: usize,
}

impl Case {
    /// The first thing that differs.
    pub fn first_difference(&self) -> Option<&Compared> {
        self.compared.iter().find(|compared| !compared.equal)
    }

    /// The largest difference of what a network computes, and where.
    pub fn largest(&self) -> Option<(&str, f64)> {
        let computed =
            |compared: &&Compared| !matches!(&*compared.name, "input_ids" | "pixel_values");
        let all = self.compared.iter().filter(computed);
        let apart = all.filter_map(|compared| Some((compared.name.as_str(), compared.apart?)));
        apart.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// Compares a case. Errors where its files cannot be read, or the model refuses the request.
pub fn verify_case(
    engine: &Engine,
    folder: &Path,
    relative: f64,
    cancel: &Cancel,
) -> Result<Case, EngineError> {
    let reference = Reference::open(folder)?;
    let request = reference.request(folder)?;
    let record = engine.trace(&request, &reference.tokens, cancel)?;
    let views = engine.views(&request)?;
    let pixels = record.numbers("pixel_values").map(|pixels| {
        let sizes = views.iter().flat_map(|views| &views.list);
        let sizes: Vec<(u32, u32)> = sizes
            .map(|view| (view.cut.width, view.cut.height))
            .collect();
        engine.network().spec().reference_pixels(&sizes, pixels)
    });
    let tiles: Vec<usize> = views.iter().map(|views| views.list.len()).collect();
    let pictures = Pictures { pixels, tiles };
    let mut case = Case {
        name: folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into(),
        prompt_tokens: reference.ids.len(),
        compared: vec![reference.compare_ids(engine, &request, &record)],
        tokens_equal: 0,
        tokens_open: 0,
    };
    let hidden: Vec<String> = (0..)
        .map(|layer| format!("hidden.{layer}"))
        .take_while(|name| record.numbers(name).is_some())
        .collect();
    let order = ["pixel_values", "image_embeds", "inputs_embeds"].into_iter();
    let order = order.chain(hidden.iter().map(String::as_str));
    for name in order.chain(["hidden.norm", "prefill_logits", "decode_logits"]) {
        case.compared
            .extend(reference.compare(name, &record, &pictures, relative)?);
    }
    reference.compare_tokens(&record, &mut case, relative);
    Ok(case)
}

/// What is known of a case's pictures.
struct Pictures {
    /// As the reference lays them out.
    pixels: Option<Vec<f32>>,
    /// Views of each.
    tiles: Vec<usize>,
}

/// What a case's files say.
struct Reference {
    json: Json,
    tensors: Checkpoint,
    ids: Vec<u32>,
    tokens: Vec<u32>,
    margins: Vec<f64>,
}

impl Reference {
    fn open(folder: &Path) -> Result<Reference, EngineError> {
        const FILE: &str = "oracle.json";
        let bytes = read_capped(&folder.join(FILE), MAX_BYTES)?;
        let json: Json =
            serde_json::from_slice(&bytes).map_err(|error| EngineError::json(FILE, &error))?;
        let list = |key: &'static str| {
            json.get(key)
                .and_then(Json::as_array)
                .ok_or_else(|| wrong(key, "expected a list"))
        };
        let ids = |key: &'static str| {
            let id = |id: &Json| id.as_u64().and_then(|id| u32::try_from(id).ok());
            let ids: Option<Vec<u32>> = list(key)?.iter().map(id).collect();
            ids.ok_or_else(|| wrong(key, "expected token ids"))
        };
        let margins = list("greedy_margins")?
            .iter()
            .filter_map(Json::as_f64)
            .collect();
        let tensors = read_capped(&folder.join("oracle.safetensors"), MAX_BYTES)?;
        Ok(Reference {
            ids: ids("input_ids")?,
            tokens: ids("greedy_tokens")?,
            margins,
            // Only the reader of weight files is wanted; there is no configuration to go with these.
            tensors: Checkpoint::from_memory("{}", Cow::Owned(tensors))?,
            json,
        })
    }

    /// The request that the case describes.
    fn request(&self, folder: &Path) -> Result<Request, EngineError> {
        let list =
            |value: Option<&Json>| value.and_then(Json::as_array).cloned().unwrap_or_default();
        let limits = Limits::default();
        let images = list(self.json.get("images"));
        let images = images.iter().map(|file| {
            let name = file.as_str().filter(|name| !name.contains(['/', '\\']));
            let name = name.ok_or_else(|| wrong("images", "expected names of files"))?;
            read_picture(&folder.join(name), &limits)
        });
        let mut shown = 0;
        let mut messages = Vec::new();
        for message in list(self.json.get("messages")) {
            let role = match message["role"].as_str() {
                Some("system") => Role::System,
                Some("assistant") => Role::Assistant,
                _ => Role::User,
            };
            let content = match &message["content"] {
                Json::Array(parts) => parts
                    .iter()
                    .map(|part| match part["text"].as_str() {
                        Some(text) => Part::Text(text.into()),
                        None => {
                            shown += 1;
                            Part::Image(shown - 1)
                        }
                    })
                    .collect(),
                text => vec![Part::Text(text.as_str().unwrap_or_default().into())],
            };
            messages.push(Message { role, content });
        }
        Ok(Request {
            messages,
            images: images.collect::<Result<_, _>>()?,
            thinking: self.json["chat_kwargs"]["enable_thinking"].as_bool(),
            ..Request::default()
        })
    }

    fn compare_ids(&self, engine: &Engine, request: &Request, record: &Record) -> Compared {
        let found = record.ids("input_ids").unwrap_or_default();
        let same = |(a, b): &(&i64, &u32)| **a == i64::from(**b);
        let equal =
            found.len() == self.ids.len() && found.iter().zip(&self.ids).all(|pair| same(&pair));
        let difference = (!equal).then(|| {
            let at = found.iter().zip(&self.ids).take_while(same).count();
            let stretch = |ids: Vec<i64>| format!("{:?}", &ids[at.min(ids.len())..ids.len().min(at + 6)]);
            let expected = self.ids.iter().map(|id| i64::from(*id)).collect();
            let prompt = engine.prompt(request).map_or(String::new(), |prompt| prompt.text);
            format!(
                "{} ids, expected {}; from id {at} on expected {}, found {}; the prompt is {prompt:?}, expected {}",
                found.len(),
                self.ids.len(),
                stretch(expected),
                stretch(found.to_vec()),
                self.json.get("prompt").unwrap_or(&Json::Null)
            )
        });
        Compared {
            name: "input_ids".into(),
            apart: Some(if equal { 0.0 } else { 1.0 }),
            equal,
            difference,
        }
    }

    /// A tensor of both; nothing where the reference lacks it.
    fn compare(
        &self,
        name: &str,
        record: &Record,
        pictures: &Pictures,
        relative: f64,
    ) -> Result<Option<Compared>, EngineError> {
        let in_file = if name == "pixel_values" {
            "in.pixel_values"
        } else {
            name
        };
        let shape = self.json["tensors"].get(in_file).and_then(Json::as_array);
        let Some(shape) = shape else {
            return Ok(None);
        };
        let shape: Vec<usize> = shape
            .iter()
            .filter_map(|n| n.as_u64()?.try_into().ok())
            .collect();
        let mut expected = self.tensors.tensor_f32(in_file)?;
        let pixels = name == "pixel_values";
        if pixels && shape.len() == 5 {
            expected = without_padding(&expected, &shape, &pictures.tiles);
        }
        let found = match &pictures.pixels {
            Some(pixels) if name == "pixel_values" => pixels.as_slice(),
            _ => record.numbers(name).unwrap_or_default(),
        };
        if found.len() != expected.len() {
            let ours = record.shapes().find(|(known, _)| *known == name);
            let ours = ours.map_or("nothing".into(), |(_, shape)| format!("{shape:?}"));
            return Ok(Some(Compared {
                name: name.into(),
                apart: None,
                equal: false,
                difference: Some(format!("expected shape {shape:?}, found {ours}")),
            }));
        }
        let (at, apart) = farthest(found, &expected);
        let largest = expected
            .iter()
            .fold(0.0, |most: f64, v| most.max(f64::from(v.abs())));
        // One step of a byte, over the smallest deviation in use, 0.224; rounding on the way to f32 is far below.
        let allowed = if pixels {
            1.001 / 255.0 / 0.224
        } else {
            relative * largest
        };
        let equal = apart <= allowed;
        let width = shape.last().copied().unwrap_or(1).max(1);
        let difference = (!equal).then(|| {
            let (row, column) = (at / width, at % width);
            let (expected, found) = (expected[at], found[at]);
            format!("row {row}, column {column}: expected {expected}, found {found}")
        });
        Ok(Some(Compared {
            name: name.into(),
            apart: Some(if pixels {
                apart
            } else {
                apart / largest.max(f64::MIN_POSITIVE)
            }),
            equal,
            difference,
        }))
    }

    /// The likeliest tokens, as far as the reference was decided.
    fn compare_tokens(&self, record: &Record, case: &mut Case, relative: f64) {
        let logits = record.numbers("decode_logits").unwrap_or_default();
        let vocabulary = logits.len() / self.tokens.len().max(1);
        let mut difference = None;
        for (step, row) in logits.chunks_exact(vocabulary.max(1)).enumerate() {
            let best =
                (0..row.len()).reduce(|best, at| if row[at] > row[best] { at } else { best });
            let largest = row
                .iter()
                .fold(0.0, |most: f64, v| most.max(f64::from(v.abs())));
            let open = self
                .margins
                .get(step)
                .is_some_and(|margin| *margin < 2.0 * relative * largest);
            match best == Some(self.tokens[step] as usize) {
                true => case.tokens_equal += 1,
                false if open => case.tokens_open += 1,
                false => {
                    let expected = self.tokens[step];
                    let found = best.unwrap_or_default();
                    difference
                        .get_or_insert(format!("token {step}: expected {expected}, found {found}"));
                }
            }
        }
        case.compared.push(Compared {
            name: "greedy_tokens".into(),
            apart: None,
            equal: difference.is_none(),
            difference,
        });
    }
}

/// Tiles `[pictures, most, 3, h, w]`, of which each picture has so many, one after the other.
fn without_padding(values: &[f32], shape: &[usize], tiles: &[usize]) -> Vec<f32> {
    let of_tile: usize = shape[2..].iter().product();
    let of_picture = shape[1] * of_tile;
    let pictures = values.chunks_exact(of_picture.max(1)).enumerate();
    let kept = |(at, values)| -> &[f32] {
        let values: &[f32] = values;
        // The reference may also write all tiles of all pictures as if they were one picture's.
        let count = if shape[0] == 1 {
            tiles.iter().sum()
        } else {
            tiles.get(at).copied().unwrap_or(0)
        };
        &values[..(count * of_tile).min(values.len())]
    };
    pictures.flat_map(kept).copied().collect()
}

/// Where two tensors are farthest apart, and how far. What is not a number is as far as can be.
fn farthest(found: &[f32], expected: &[f32]) -> (usize, f64) {
    let mut worst = (0, 0.0);
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*a) - f64::from(*b)).abs();
        let apart = if apart.is_nan() { f64::INFINITY } else { apart };
        if apart > worst.1 {
            worst = (at, apart);
        }
    }
    worst
}

fn wrong(key: &str, problem: &str) -> EngineError {
    EngineError::Configuration {
        file: "oracle.json",
        message: format!("{key}: {problem}"),
    }
}
