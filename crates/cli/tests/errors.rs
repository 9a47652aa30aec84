//! Bad input gets one clear error: what, expected, found, and what to do.

mod support;

use std::fs::{read_to_string, remove_file, write};

use insta::assert_snapshot;
use support::Place;
use support::random_model::{Tensor, write_changed_model};

const ASK: [&str; 4] = ["run", "--model", "model", "What is the total?"];

/// Exit status and standard error of a run that must fail without an answer.
fn failure(place: &Place, arguments: &[&str]) -> String {
    let outcome = place.run(arguments);
    assert_eq!(outcome.stdout, "", "a failed run answers nothing");
    assert!(
        !outcome.stderr.contains('\u{1b}'),
        "colours without a terminal: {:?}",
        outcome.stderr
    );
    format!("exit {}\n{}", outcome.exit.unwrap(), outcome.stderr)
}

/// Asks about a picture with these bytes.
fn ask_about(bytes: &[u8]) -> String {
    let place = Place::new();
    place.write("picture.png", bytes);
    failure(
        &place,
        &[
            "run",
            "--model",
            "model",
            "--image",
            "picture.png",
            "What is the total?",
        ],
    )
}

/// Asks a model whose tensors were meddled with.
fn ask_changed(change: impl FnOnce(&mut Vec<Tensor>)) -> String {
    let place = Place::new();
    write_changed_model(&place.path("model"), 0, change);
    failure(&place, &ASK)
}

/// Asks a model one of whose files has another text.
fn ask_edited(file: &str, edit: impl FnOnce(String) -> String) -> String {
    let place = Place::new();
    let path = place.path("model").join(file);
    write(&path, edit(read_to_string(&path).unwrap())).unwrap();
    failure(&place, &ASK)
}

fn ask_without(file: &str) -> String {
    let place = Place::new();
    remove_file(place.path("model").join(file)).unwrap();
    failure(&place, &ASK)
}

/// The header of a PNG of this size, right to its checksum, with no picture after it.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let checksum = chunk.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ ((sum & 1) * 0xEDB8_8320)
        })
    });
    let mut png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d".to_vec();
    png.extend(chunk);
    png.extend((!checksum).to_be_bytes());
    png
}

#[test]
fn a_picture_cut_off() {
    let whole = Place::new().fixture("checks.png");
    assert_snapshot!(ask_about(&whole[..whole.len() * 2 / 3]));
}

#[test]
fn a_picture_of_nine_hundred_million_pixels() {
    assert_snapshot!(ask_about(&png_header(30000, 30000)));
}

#[test]
fn a_text_as_a_picture() {
    assert_snapshot!(ask_about(b"Dear Sir or Madam,\n"));
}

#[test]
fn an_empty_file_as_a_picture() {
    assert_snapshot!(ask_about(b""));
}

#[test]
fn a_picture_that_is_not_there() {
    assert_snapshot!(failure(
        &Place::new(),
        &["run", "--model", "model", "--image", "nowhere.png", "hi"]
    ));
}

#[test]
fn a_folder_as_a_picture() {
    assert_snapshot!(failure(
        &Place::new(),
        &["run", "--model", "model", "--image", "model", "hi"]
    ));
}

#[test]
fn a_picture_of_one_pixel_works() {
    let place = Place::new();
    place.fixture("dot.png");
    let outcome = place.run(&[
        "run",
        "--model",
        "model",
        "--image",
        "dot.png",
        "--max-tokens",
        "2",
        "hi",
    ]);
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains("image 1x1: 1x1 grid, 1 tiles, 4 tokens"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_model_that_is_not_there() {
    assert_snapshot!(failure(&Place::new(), &["run", "--model", "nowhere", "hi"]));
}

#[test]
fn a_folder_that_is_no_model() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    assert_snapshot!(failure(&place, &["run", "--model", "empty", "hi"]));
}

#[test]
fn a_model_without_its_configuration() {
    assert_snapshot!(ask_without("config.json"));
}

#[test]
fn a_model_without_its_tokenizer() {
    assert_snapshot!(ask_without("tokenizer.json"));
}

#[test]
fn a_model_without_its_weights() {
    assert_snapshot!(ask_without("model.safetensors"));
}

#[test]
fn a_model_with_missing_tensors() {
    assert_snapshot!(ask_changed(
        |tensors| tensors.retain(|(name, ..)| !name.contains("layers.1.mlp"))
    ));
}

#[test]
fn a_model_with_a_tensor_of_another_shape_and_one_too_many() {
    assert_snapshot!(ask_changed(|tensors| {
        let (_, shape, values) = tensors
            .iter_mut()
            .find(|(name, ..)| name == "multi_modal_projector.linear_2.weight")
            .unwrap();
        *shape = vec![32, 31];
        values.truncate(32 * 31);
        tensors.push(("language_model.lm_head.bias".into(), vec![2], vec![0, 0]));
    }));
}

#[test]
fn a_model_with_a_weight_that_is_no_number() {
    assert_snapshot!(ask_changed(|tensors| {
        let (.., values) = tensors
            .iter_mut()
            .find(|(name, ..)| name == "language_model.model.layers.1.mlp.up_proj.weight")
            .unwrap();
        values[100] = 0x7FC0;
    }));
}

#[test]
fn a_weight_file_cut_off() {
    let place = Place::new();
    let path = place.path("model/model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_snapshot!(failure(&place, &ASK));
}

#[test]
fn a_configuration_that_is_no_json() {
    assert_snapshot!(ask_edited("config.json", |text| text.replacen(
        "\"model_type\":",
        "\"model_type\"",
        1
    )));
}

#[test]
fn a_broken_tokenizer() {
    assert_snapshot!(ask_edited("tokenizer.json", |text| text[..text.len() / 2].to_owned()));
}

#[test]
fn a_tokenizer_of_another_model() {
    assert_snapshot!(ask_edited("config.json", |text| text
        .replace("\"vocab_size\": 528", "\"vocab_size\": 500")));
}

#[test]
fn a_broken_template() {
    assert_snapshot!(ask_edited("chat_template.jinja", |text| text
        .replacen("endif", "endfi", 1)));
}

#[test]
fn tiles_of_another_size_than_the_encoder_takes() {
    assert_snapshot!(ask_edited("preprocessor_config.json", |text| text.replace("32", "48")));
}

#[test]
fn preprocessing_without_its_mean_and_with_a_wrong_grid() {
    assert_snapshot!(ask_edited("preprocessor_config.json", |text| {
        text.replace("image_mean", "imagemean")
            .replace("\"alpha\": 0.1", "\"alpha\": \"much\"")
    }));
}

#[test]
fn a_text_longer_than_the_context() {
    let place = Place::new();
    assert_snapshot!(failure(
        &place,
        &["run", "--model", "model", &"abcde ".repeat(100)]
    ));
}

#[test]
fn pictures_longer_than_the_context() {
    let place = Place::new();
    place.fixture("checks.png");
    let images = ["--image", "checks.png"].repeat(40);
    let arguments = [
        ["run", "--model", "model", "--detail", "high"].as_slice(),
        &images,
        &["Compare."],
    ]
    .concat();
    assert_snapshot!(failure(&place, &arguments));
}

#[test]
fn a_request_with_an_address() {
    let place = Place::new();
    place.write(
        "request.json",
        r#"{"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]}]}"#,
    );
    assert_snapshot!(failure(
        &place,
        &["run", "--model", "model", "--request", "request.json"]
    ));
}

#[test]
fn a_request_that_is_no_json() {
    let place = Place::new();
    place.write("request.json", "{\"messages\": [}");
    assert_snapshot!(failure(
        &place,
        &["run", "--model", "model", "--request", "request.json"]
    ));
}

#[test]
fn a_request_with_an_unknown_setting() {
    let place = Place::new();
    place.write(
        "request.json",
        r#"{"messages": [{"role": "user", "content": "hi"}], "n": 2}"#,
    );
    assert_snapshot!(failure(
        &place,
        &["run", "--model", "model", "--request", "request.json"]
    ));
}

#[test]
fn no_question() {
    assert_snapshot!(failure(&Place::new(), &["run"]));
}

#[test]
fn a_question_and_a_request() {
    assert_snapshot!(failure(
        &Place::new(),
        &["run", "--request", "request.json", "hi"]
    ));
}

#[test]
fn both_ways_of_thinking() {
    assert_snapshot!(failure(
        &Place::new(),
        &["run", "--think", "--no-think", "hi"]
    ));
}

#[test]
fn a_temperature_below_zero() {
    assert_snapshot!(failure(
        &Place::new(),
        &["run", "--model", "model", "--temperature=-1", "hi"]
    ));
}
