//! Compares the whole path, from messages and picture files to tokens, with a reference's recorded values.
//!
//! A folder has `model/` and `cases/NAME/` with `oracle.json` (messages, prompt, ids, tokens), `oracle.safetensors` (what
//! was computed on the way) and the case's pictures.

use std::borrow::Cow;
use std::path::Path;

use engine::{AtEnd, Cancel, Engine, Message, Part, Record, Request, Role, read_picture};
use image_prep::Limits;
use model::Checkpoint;
use serde_json::Value;

/// Largest difference allowed, as a share of the largest value of its tensor.
const RELATIVE: f32 = 1e-4;
/// Where the reference's two best tokens are closer than this, either may win.
const MARGIN: f64 = 1e-3;

/// Compares all cases of a folder.
pub fn compare_folder(folder: &Path) -> Worst {
    let engine = Engine::load(&folder.join("model"))
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let cases = std::fs::read_dir(folder.join("cases")).unwrap();
    let mut cases: Vec<_> = cases.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut worst = Worst::default();
    for case in &cases {
        compare(&engine, case, &mut worst);
        worst.cases += 1;
    }
    worst
}

/// How far apart a folder and its reference are.
#[derive(Default)]
pub struct Worst {
    pub cases: usize,
    relative: f32,
    tensor: String,
    tokens: usize,
    undecided: usize,
    /// The first value that differs, for each case that has one.
    pub problems: Vec<String>,
}

impl Worst {
    /// One line, and one for each problem.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "{} cases, largest relative difference {:.1e} ({}), {} tokens equal, {} cases left open by a small margin",
            self.cases, self.relative, self.tensor, self.tokens, self.undecided
        );
        for problem in &self.problems {
            text.push_str(&format!("\n  {problem}"));
        }
        text
    }

    /// Notes a problem, unless an earlier one of the same case explains it.
    fn require(&mut self, case: &str, right: bool, problem: impl FnOnce() -> String) {
        let case = format!("{case}: ");
        if !right && !self.problems.iter().any(|known| known.starts_with(&case)) {
            self.problems.push(case + &problem());
        }
    }
}

fn compare(engine: &Engine, case: &Path, worst: &mut Worst) {
    let name = &*case.file_name().unwrap().to_string_lossy();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(case.join("oracle.json")).unwrap()).unwrap();
    let wanted: Vec<u32> = numbers(&expected["greedy_tokens"])
        .iter()
        .map(|&id| id as u32)
        .collect();
    let request = Request {
        max_tokens: Some(wanted.len()),
        at_end: AtEnd::Continue,
        ..request(case, &expected)
    };
    let mut record = Record::new();
    let reply = engine
        .generate_with_taps(&request, &Cancel::new(), &mut |_| {}, &mut record)
        .unwrap();

    let prompt = engine.prompt(&request).unwrap();
    worst.require(
        name,
        prompt.text == expected["prompt"].as_str().unwrap(),
        || format!("prompt {:?}", prompt.text),
    );
    let ids: Vec<f64> = prompt.ids.iter().map(|&id| f64::from(id)).collect();
    worst.require(name, ids == numbers(&expected["input_ids"]), || {
        format!(
            "{} input_ids, expected {}",
            ids.len(),
            numbers(&expected["input_ids"]).len()
        )
    });
    compare_tensors(name, case, &expected, &record, worst);

    let margins = numbers(&expected["greedy_margins"]);
    for (step, (&found, &wanted)) in reply.output_ids.iter().zip(&wanted).enumerate() {
        if found != wanted {
            worst.undecided += 1;
            worst.require(name, margins[step] < MARGIN, || {
                format!("token {step} is {found}, expected {wanted}")
            });
            break;
        }
        worst.tokens += 1;
    }
}

fn compare_tensors(name: &str, case: &Path, expected: &Value, record: &Record, worst: &mut Worst) {
    let bytes = std::fs::read(case.join("oracle.safetensors")).unwrap();
    // Only the reader of weight files is wanted; there is no configuration to go with these.
    let reference = Checkpoint::from_memory("{}", Cow::Owned(bytes)).unwrap();
    let theirs = expected["tensors"].as_object().unwrap();
    let ours: Vec<&str> = record.shapes().map(|(tensor, _)| tensor).collect();
    // In the order in which they are computed, so that the first difference is the cause of the others.
    let hidden: Vec<String> = (0..)
        .map(|layer| format!("hidden.{layer}"))
        .take_while(|name| ours.contains(&&**name))
        .collect();
    let order = ["pixel_values", "image_embeds", "inputs_embeds"].into_iter();
    let order = order
        .chain(hidden.iter().map(String::as_str))
        .chain(["hidden.norm", "prefill_logits"]);
    for tensor in order {
        let in_file = if tensor == "pixel_values" {
            "in.pixel_values"
        } else {
            tensor
        };
        if !theirs.contains_key(in_file) {
            continue;
        }
        let Some(found) = record.numbers(tensor) else {
            worst.require(name, false, || format!("no {tensor}"));
            continue;
        };
        let wanted = reference.tensor_f32(in_file).unwrap();
        worst.require(name, found.len() == wanted.len(), || {
            format!("{tensor}: {} values", found.len())
        });
        let largest = wanted
            .iter()
            .fold(0f32, |largest, value| largest.max(value.abs()));
        let apart = found
            .iter()
            .zip(&wanted)
            .fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
        let relative = apart / largest;
        if tensor == "pixel_values" {
            worst.require(name, found == wanted, || {
                format!("pixel_values differ by {apart}")
            });
        } else if relative > worst.relative {
            worst.relative = relative;
            worst.tensor = format!("{name} {tensor}");
        }
        worst.require(name, relative <= RELATIVE, || {
            format!("{tensor} differs by {relative:.1e}")
        });
    }
}

/// The request that a case describes.
fn request(case: &Path, expected: &Value) -> Request {
    let images = expected["images"].as_array().unwrap().iter();
    let limits = Limits::default();
    let images = images
        .map(|file| read_picture(&case.join(file.as_str().unwrap()), &limits).unwrap())
        .collect();
    let mut shown = 0;
    let mut part = |part: &Value| match part["type"].as_str().unwrap() {
        "text" => Part::Text(part["text"].as_str().unwrap().into()),
        _ => {
            shown += 1;
            Part::Image(shown - 1)
        }
    };
    let messages = expected["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| {
            let role = match message["role"].as_str().unwrap() {
                "system" => Role::System,
                "user" => Role::User,
                _ => Role::Assistant,
            };
            match &message["content"] {
                Value::String(text) => Message::text(role, text),
                content => Message {
                    role,
                    content: content.as_array().unwrap().iter().map(&mut part).collect(),
                },
            }
        });
    Request {
        messages: messages.collect(),
        images,
        thinking: expected["chat_kwargs"]["enable_thinking"].as_bool(),
        ..Request::default()
    }
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}
