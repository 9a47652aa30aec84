//! How a model computes changes no bit of what it says: threads, tiles together, encoder kept or not; with the model inside
//! and with its bundle.

#[allow(dead_code)] // it needs neither fixtures nor input
mod support;

use support::Place;

/// What the model computed of a picture of two tiles and a thumbnail: all logits, and the answer.
fn computed(place: &Place, model: &[&str], how: &[&str]) -> (Vec<u8>, String) {
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/list.png");
    let ask = [
        "run",
        "--max-tokens",
        "6",
        "--taps",
        "taps",
        "--image",
        picture,
        "What is this?",
    ];
    let outcome = place.run(&[&ask[..], model, how].concat());
    assert_eq!(outcome.exit, Some(0), "{how:?}: {}", outcome.stderr);
    (std::fs::read(place.path("taps")).unwrap(), outcome.stdout)
}

#[test]
fn threads_and_batches_change_no_bit_of_the_model_inside_and_of_its_bundle() {
    let place = Place::new();
    let convert = [
        "convert",
        "bluelm-nano",
        "x.bluelm",
        "--rounding",
        "nearest",
    ];
    let outcome = place.run(&convert);
    assert_eq!(outcome.exit, Some(0), "{}", outcome.stderr);
    for model in [&[][..], &["--model", "x.bluelm"]] {
        let one = computed(&place, model, &["--threads", "1", "--tile-batch", "1"]);
        assert!(one.0.len() > 1_000_000, "{} bytes of taps", one.0.len());
        for how in [
            &["--threads", "2", "--tile-batch", "2"][..],
            &["--threads", "3", "--keep-encoder"],
        ] {
            let other = computed(&place, model, how);
            assert_eq!(one.1, other.1, "{model:?} {how:?}");
            assert!(one.0 == other.0, "{model:?} {how:?}");
        }
    }
}

#[test]
fn a_number_of_threads_or_tiles_that_cannot_be_is_a_mistake_before_anything_is_loaded() {
    let place = Place::new();
    for command in [
        &["run", "hi"][..],
        &["chat"],
        &["eval", "--task", "none.jsonl"],
        &["bench"],
    ] {
        for (option, most) in [("--threads", 1024), ("--tile-batch", 4096)] {
            if (command[0], option) == ("eval", "--tile-batch") {
                continue;
            }
            for found in ["0", "5000", "-1", "many"] {
                let outcome = place.run(&[command, &[&format!("{option}={found}")]].concat());
                assert_eq!(outcome.exit, Some(2), "{command:?} {found}");
                let expected = format!("invalid value '{found}' for '{option} <N>'");
                assert!(outcome.stderr.contains(&expected), "{}", outcome.stderr);
                let range = format!("{found} is not in 1..={most}");
                let said = outcome.stderr.contains(&range);
                assert_eq!(said, found != "many", "{}", outcome.stderr);
            }
        }
    }
}
