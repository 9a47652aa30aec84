//! Files that are no picture, only half of one, or too much of one: one clear error each, and never a panic.

use crate::support::{fixture, table};
use image_prep::{ImageError, Limits, decode, dimensions};
use proptest::prelude::*;

fn error(bytes: &[u8]) -> ImageError {
    decode(bytes, &Limits::default()).expect_err("a bad file was read")
}

/// A PNG with this size in its header and no pixels.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = fixture("decode/rgb.png");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc =
        u32::from_str_radix(&crate::support::crc32(bytes[12..29].iter().copied()), 16).unwrap();
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn a_text_file_is_named_with_the_formats_that_are_read() {
    let error = error(b"Receipt\nCoffee 3.50\n");
    assert_eq!(
        error.to_string(),
        "expected a picture (PNG, JPEG, WebP, GIF, BMP and TIFF), found text that begins \"Receipt\""
    );
    assert!(error.hint().unwrap().contains("give a picture file"));
}

#[test]
fn other_files_are_called_by_their_name() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "an empty file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "an SVG drawing",
        ),
        (
            b"\x7fELF\x02\x01\x01\0\0",
            "9 bytes that begin 7f 45 4c 46 02 01 01 00",
        ),
        (
            "\u{4f60}\u{597d}, world".as_bytes(),
            "text that begins \"\u{4f60}\u{597d}, world\"",
        ),
        (b"\x1b[31mred", "8 bytes that begin 1b 5b 33 31 6d 72 65 64"),
    ];
    for (bytes, found) in cases {
        let message = error(bytes).to_string();
        assert!(message.ends_with(&format!("found {found}")), "{message}");
    }
}

#[test]
fn a_header_of_30000_by_30000_is_refused_before_anything_is_decoded() {
    let bytes = png_header(30_000, 30_000);
    let error = error(&bytes);
    assert_eq!(
        error.to_string(),
        "the picture is too large: expected at most 100000000 pixels and 131072 a side, found 30000x30000"
    );
    assert!(error.hint().unwrap().contains("scale the picture down"));
    assert_eq!(dimensions(&bytes).unwrap(), (30_000, 30_000));
}

#[test]
fn headers_with_absurd_sides_are_refused_by_the_same_words() {
    for (width, height) in [
        (i32::MAX as u32, i32::MAX as u32),
        (200_000, 1),
        (1, 200_000),
    ] {
        let error = error(&png_header(width, height));
        assert!(
            matches!(error, ImageError::TooLarge { .. }),
            "{width}x{height}: {error}"
        );
    }
}

#[test]
fn the_limit_is_the_callers() {
    let bytes = fixture("decode/rgb.png");
    assert!(
        decode(
            &bytes,
            &Limits {
                max_pixels: 23 * 17
            }
        )
        .is_ok()
    );
    let error = decode(
        &bytes,
        &Limits {
            max_pixels: 23 * 17 - 1,
        },
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            ImageError::TooLarge {
                width: 23,
                height: 17,
                ..
            }
        ),
        "{error}"
    );
}

/// Without this, a JPEG would be filled up with grey and the model would answer about a picture that nobody has.
#[test]
fn a_truncated_file_of_each_format_says_so() {
    for name in [
        "rgb.png",
        "rgb.jpg",
        "progressive.jpg",
        "lossless.webp",
        "lossy.webp",
        "plain.gif",
        "rgb.bmp",
        "rgb.tif",
        "lzw.tif",
    ] {
        let bytes = fixture(&format!("decode/{name}"));
        let half = &bytes[..bytes.len() * 3 / 5];
        let error = error(half);
        assert!(
            matches!(error, ImageError::Truncated { .. }),
            "{name}: {error:?}"
        );
        let (format, length) = (error.to_string(), half.len());
        assert!(
            format.contains(&format!("found the end after {length} bytes")),
            "{format}"
        );
        assert_eq!(error.hint().unwrap(), "copy or download the file again");
    }
}

/// Cut anywhere, a file gives an error, or, when what is missing was after the pixels, the whole picture.
#[test]
fn a_file_cut_anywhere_never_gives_another_picture() {
    for row in table("decode.tsv") {
        let bytes = fixture(&format!("decode/{}", row[0]));
        let whole = decode(&bytes, &Limits::default()).unwrap();
        let step = (bytes.len() / 150).max(1);
        for length in (0..bytes.len()).step_by(step) {
            let _ = dimensions(&bytes[..length]);
            if let Ok(found) = decode(&bytes[..length], &Limits::default()) {
                assert!(
                    found == whole,
                    "{} cut after {length} of {} bytes",
                    row[0],
                    bytes.len()
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Flipped bytes may give other pictures or errors, but never a panic and never a broken `Picture`.
    #[test]
    fn damaged_bytes_never_panic(file in 0usize..60, changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let rows = table("decode.tsv");
        let mut bytes = fixture(&format!("decode/{}", rows[file % rows.len()][0]));
        for (at, value) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        let _ = dimensions(&bytes);
        if let Ok(picture) = decode(&bytes, &Limits { max_pixels: 1_000_000 }) {
            prop_assert_eq!(picture.rgb.len(), 3 * picture.width as usize * picture.height as usize);
        }
    }
}
