//! preprocessor_config.json: read, written back, and refused with all that is wrong.

use image_prep::{ImageError, Preprocessor};
use serde_json::{Value, json};

fn native() -> Value {
    json!({
        "image_processor_type": "BlueLMVImageProcessor", "tiling": "relaxed", "alpha": 0.1, "tile_size": 384,
        "max_grid": [4, 4], "thumbnail": true, "resample": 3, "pad_color": [0, 0, 0],
        "rescale_factor": 0.00392156862745098, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]
    })
}

fn problems(settings: &Value) -> Vec<String> {
    match Preprocessor::from_json(&settings.to_string()) {
        Err(ImageError::Settings { problems }) => problems,
        other => panic!("expected problems, found {other:?}"),
    }
}

#[test]
fn settings_written_back_are_the_ones_that_were_read() {
    let internvl = json!({
        "image_processor_type": "BlueLMVImageProcessor", "tiling": "internvl", "tile_size": 448, "min_tiles": 2,
        "max_tiles": 12, "thumbnail": true, "resample": 1, "pad_color": [1, 2, 3], "rescale_factor": 1.0,
        "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]
    });
    let mut llava = native();
    llava["tiling"] = json!("llava-next");
    llava.as_object_mut().unwrap().remove("alpha");
    for settings in [native(), internvl, llava] {
        let written = Preprocessor::from_json(&settings.to_string())
            .unwrap()
            .to_json();
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), settings);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let found = problems(&json!({
        "image_processor_type": "LlavaNextImageProcessor", "tiling": "relaxed", "alpha": -1, "max_grid": [4],
        "thumbnial": true, "resample": 0, "pad_color": [0, 0, 256], "rescale_factor": 0,
        "image_mean": [0.5, "half", 0.5], "image_std": [0.5, 0, 0.5], "tile_size": 3.5
    }));
    let expected = [
        "image_processor_type: expected \"BlueLMVImageProcessor\", found \"LlavaNextImageProcessor\"",
        "tile_size: expected a whole number from 1 to 4096, found 3.5",
        "alpha: expected a number from 0 to 1, found -1",
        "max_grid: expected two whole numbers from 1 to 1024, columns and rows, found [4]",
        "thumbnail: expected true or false, found nothing",
        "resample: expected 1 (Lanczos), 2 (bilinear) or 3 (bicubic), found 0",
        "pad_color: expected three whole numbers from 0 to 255, found [0,0,256]",
        "rescale_factor: expected a number above 0, found 0",
        "image_mean: expected three numbers, found [0.5,\"half\",0.5]",
        "image_std: expected three numbers above 0, found [0.5,0,0.5]",
    ];
    assert_eq!(found, expected);
}

#[test]
fn hostile_numbers_are_refused() {
    let cases = [
        ("tile_size", json!(0)),
        ("tile_size", json!(1_000_000_000)),
        ("tile_size", json!(-384)),
        ("tile_size", json!(4096)),
        ("max_grid", json!([0, 4])),
        ("max_grid", json!([4, 0])),
        ("max_grid", json!([4_294_967_297_u64, 1])),
        ("max_grid", json!([1024, 1024])),
        ("alpha", json!(1e300)),
        ("image_std", json!([1e-300, 0.5, 0.5])),
        ("tiling", json!("anyres")),
        ("image_mean", json!(0.5)),
    ];
    for (key, value) in cases {
        let mut settings = native();
        settings[key] = value.clone();
        let found = problems(&settings);
        assert_eq!(found.len(), 1, "{key} {value}: {found:?}");
    }
    let mut internvl = native();
    internvl["tiling"] = json!("internvl");
    internvl["min_tiles"] = json!(13);
    internvl["max_tiles"] = json!(12);
    assert_eq!(
        problems(&internvl),
        ["min_tiles: expected a whole number from 1 to 12, found 13"]
    );
}

#[test]
fn the_tile_memory_is_bounded_by_name_and_number() {
    let mut settings = native();
    settings["tile_size"] = json!(4096);
    let expected = "tile_size and the largest grid: expected at most 67108864 pixels for one picture, \
                    found 17 tiles of 4096x4096, which are 285212672";
    assert_eq!(problems(&settings), [expected]);
}

#[test]
fn what_is_not_an_object_is_an_error() {
    for (text, found) in [
        ("{", "text that is not JSON"),
        ("[1]", "JSON of another kind ([1])"),
        ("", "text that is not JSON"),
    ] {
        let error = Preprocessor::from_json(text).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("preprocessor_config.json: expected a JSON object, found ")
        );
        assert!(error.to_string().contains(found), "{error}");
        assert!(error.hint().is_some());
    }
}
