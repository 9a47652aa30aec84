//! What scripts/make_image_fixtures.py did, once more in Rust: drawn pictures and checksums.

use image_prep::Picture;
use std::path::PathBuf;

/// A file of tests/fixtures.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a fixture table, comments left out, split at tabs.
pub fn table(name: &str) -> Vec<Vec<String>> {
    let text = String::from_utf8(fixture(name)).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

/// A field of a fixture table as a number.
pub fn number<T: std::str::FromStr>(field: &str) -> T {
    field
        .parse()
        .unwrap_or_else(|_| panic!("{field} is not a number"))
}

/// The script's `pattern`.
pub fn pattern(kind: &str, seed: u32, width: u32, height: u32) -> Picture {
    let bytes = 3 * width * height;
    let byte = |index: u32| match kind {
        "ramp" => {
            let (channel, pixel) = (index % 3, index / 3);
            let (column, row) = (pixel % width, pixel / width);
            (column * (3 + channel) + row * 5 + seed) as u8
        }
        "extremes" => 255 * (noise(index.wrapping_add(seed)) & 1),
        "noise" => noise(index.wrapping_add(seed)),
        other => panic!("no pattern {other}"),
    };
    Picture::new(width, height, (0..bytes).map(byte).collect()).unwrap()
}

fn noise(index: u32) -> u8 {
    let mut x = index.wrapping_mul(2_654_435_761);
    x ^= x >> 15;
    x = x.wrapping_mul(2_246_822_519);
    x ^= x >> 13;
    (x >> 8) as u8
}

/// CRC-32 as in zlib, in hexadecimal.
pub fn crc32(bytes: impl IntoIterator<Item = u8>) -> String {
    let crc = bytes.into_iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    });
    format!("{:08x}", !crc)
}

#[test]
fn the_checksum_is_that_of_zlib() {
    assert_eq!(crc32(*b"123456789"), "cbf43926");
}
