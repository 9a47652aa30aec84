//! Every kind of file against Pillow.

use crate::support::{fixture, number, table};
use image_prep::{ImageError, Limits, Picture, decode, dimensions};

fn read(name: &str) -> Result<Picture, ImageError> {
    decode(&fixture(name), &Limits::default())
}

#[test]
fn every_kind_of_file_decodes_to_what_pillow_makes_of_it() {
    let rows = table("decode.tsv");
    assert!(rows.len() > 60, "only {} files", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let expected = read(&format!("../fixtures/expected/{}", row[1])).unwrap();
        let found = match read(&format!("decode/{}", row[0])) {
            Ok(found) => found,
            Err(error) => {
                wrong.push(format!("{}: {error}", row[0]));
                continue;
            }
        };
        assert_eq!(
            (found.width, found.height),
            (expected.width, expected.height),
            "{}",
            row[0]
        );
        let difference = found
            .rgb
            .iter()
            .zip(&expected.rgb)
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        println!("{} {difference:?}", row[0]);
        if difference > Some(number(&row[2])) {
            wrong.push(format!(
                "{}: differs by {difference:?}, allowed {}",
                row[0], row[2]
            ));
        }
        assert_eq!(
            dimensions(&fixture(&format!("decode/{}", row[0]))).unwrap(),
            (found.width, found.height),
            "{}",
            row[0]
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The expected pictures of the test above are read by the code under test; this one is not.
#[test]
fn one_pixel_is_what_was_written() {
    assert_eq!(
        read("decode/one_pixel.png").unwrap(),
        Picture::filled(1, 1, [1, 2, 3])
    );
}
