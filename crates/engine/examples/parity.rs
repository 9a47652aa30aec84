//! Compares the whole path, from messages and picture files to tokens, with a reference's recorded values.
//!
//! `cargo run --release -p engine --example parity -- FOLDER...`, where each folder has `model/` and `cases/NAME/` with
//! `oracle.json`, `oracle.safetensors` and the case's pictures. Prints one line a folder and, for each case that differs, the first value that does.

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

fn main() {
    let mut failed = 0;
    for folder in std::env::args_os().skip(1) {
        let folder = Path::new(&folder);
        let engine = Engine::load(&folder.join("model"))
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut cases: Vec<_> = std::fs::read_dir(folder.join("cases"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        cases.sort();
        let mut worst = Worst::default();
        for case in &cases {
            compare(&engine, case, &mut worst);
        }
        println!(
            "{}: {} cases, {}",
            folder.display(),
            cases.len(),
            worst.summary()
        );
        failed += worst.problems.len();
    }
    println!("{failed} problems");
    std::process::exit(i32::from(failed > 0));
}

#[derive(Default)]
struct Worst {
    relative: f32,
    tensor: String,
    tokens: usize,
    undecided: usize,
    problems: Vec<String>,
}

impl Worst {
    fn summary(&self) -> String {
        let mut text = format!(
            "largest relative difference {:.1e} ({}), {} tokens equal, {} cases left open by a small margin",
            self.relative, self.tensor, self.tokens, self.undecided
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
    let mut ours: Vec<&str> = record.shapes().map(|(tensor, _)| tensor).collect();
    // In the order in which they are computed; what is not listed is `hidden.0`, `hidden.1`, ...
    let order = |tensor: &&str| match *tensor {
        "pixel_values" => 0,
        "image_embeds" => 1,
        "inputs_embeds" => 2,
        "hidden.norm" => 4,
        "prefill_logits" => 5,
        _ => 3,
    };
    ours.sort_by_key(order);
    for tensor in ["image_embeds", "inputs_embeds", "prefill_logits"] {
        let missing = expected["tensors"].get(tensor).is_some() && !ours.contains(&tensor);
        worst.require(name, !missing, || format!("no {tensor}"));
    }
    for tensor in ours {
        let theirs = if tensor == "pixel_values" {
            "in.pixel_values"
        } else {
            tensor
        };
        let wanted = reference.tensor_f32(theirs).unwrap();
        let found = record.numbers(tensor).unwrap();
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
