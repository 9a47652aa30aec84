//! Bundles that somebody made on purpose: headers and configurations with thousands of changes, their checksums put right, so
//! that what stands behind the checksum is met. `fuzz/` looks further by chance; this runs with every test.

use super::*;
use std::ops::RangeInclusive;

/// Numbers at which sizes, products and sums turn over.
const EXTREMES: [u64; 14] = [
    0,
    1,
    2,
    7,
    63,
    65,
    255,
    1 << 16,
    (1 << 24) + 8,
    (1 << 31) - 1,
    1 << 32,
    1 << 53,
    1 << 63,
    u64::MAX,
];

/// What JSON is made of, and some bytes that are not.
const CHARACTERS: &[u8] = b"0123456789\"{}[],:-.e\\\0\xff";

/// A sequence that looks random and is the same every time (the multiplier is Knuth's for MMIX).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

impl Place {
    /// Header and data of the bundle.
    fn parts(&self) -> (&[u8], &[u8]) {
        let length = u64::from_le_bytes(self.bytes[16..24].try_into().unwrap()) as usize;
        let data = (PRELUDE_BYTES + length).next_multiple_of(64);
        (
            &self.bytes[PRELUDE_BYTES..PRELUDE_BYTES + length],
            &self.bytes[data..],
        )
    }

    /// Opens a bundle of this header and data, and computes with it where it is let in. Whatever comes, nothing panics.
    fn try_out(&self, header: &[u8], data: &[u8]) -> Result<(), ModelError> {
        let begin = (PRELUDE_BYTES + header.len()).next_multiple_of(64);
        let mut bytes = prelude(VERSION, header, (begin + data.len()) as u64).to_vec();
        bytes.extend(header);
        bytes.resize(begin, 0);
        bytes.extend(data);
        let bundle = self.open(&bytes)?;
        compute(&bundle);
        bundle.check_data(&mut |_| {}, &|| false)
    }
}

/// Changes some bytes of a text: flips a bit, puts another character, cuts some out or says some twice.
fn changed(text: &[u8], draw: &mut Draw, times: RangeInclusive<usize>) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..times.start() + draw.below(times.end() - times.start() + 1) {
        let at = draw.below(text.len());
        let end = text.len().min(at + 1 + draw.below(12));
        match draw.below(5) {
            0 => text[at] ^= 1 << draw.below(8),
            1 => text[at] = CHARACTERS[draw.below(CHARACTERS.len())],
            2 => drop(text.drain(at..end)),
            3 => {
                let twice = text[at..end].to_vec();
                text.splice(at..at, twice);
            }
            // A digit more or less changes a number by its size.
            _ => text.insert(at, b'0' + draw.below(10) as u8),
        }
        if text.is_empty() {
            text.push(b'{');
        }
    }
    text
}

/// Every number in a JSON text, as a place in it: begin and end.
fn numbers(text: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut quoted = false;
    for (at, byte) in text.iter().enumerate() {
        quoted ^= *byte == b'"';
        if quoted || !byte.is_ascii_digit() {
            continue;
        }
        match found.last_mut() {
            Some(last) if last.end == at => last.end = at + 1,
            _ => found.push(at..at + 1),
        }
    }
    found
}

fn with_number(text: &[u8], place: &Range<usize>, number: u64) -> Vec<u8> {
    let mut text = text.to_vec();
    text.splice(place.clone(), number.to_string().bytes());
    text
}

#[test]
fn a_thousand_changed_headers_are_refused_or_harmless() {
    let place = bundle_of("bluelm_v", Recipe::Fast);
    let (header, data) = place.parts();
    place.try_out(header, data).unwrap();
    let mut draw = Draw(7);
    let mut refused = 0;
    for _ in 0..1000 {
        let header = changed(header, &mut draw, 1..=3);
        refused += usize::from(place.try_out(&header, data).is_err());
    }
    // A change may fall into the recipe's name or between two numbers, but not often.
    assert!(refused > 900, "{refused}");
}

#[test]
fn no_number_of_a_header_may_be_another() {
    let place = bundle_of("bluelm_v", Recipe::Paper);
    let (header, data) = place.parts();
    let places = numbers(header);
    assert!(places.len() > 200, "{}", places.len());
    for (at, number) in places.iter().zip(EXTREMES.into_iter().cycle()) {
        let old = std::str::from_utf8(&header[at.clone()]).unwrap();
        let other = with_number(header, at, number);
        // INT8 rows may share scales differently where the lengths stay the same; everything else has one right value.
        let before = std::str::from_utf8(&header[..at.start]).unwrap();
        let free = before.ends_with("\"block\":") || before.ends_with("\"group\":");
        if old != number.to_string() && !free {
            assert!(
                place.try_out(&other, data).is_err(),
                "{number} at byte {} of the header",
                at.start
            );
        } else {
            let _ = place.try_out(&other, data);
        }
    }
}

#[test]
fn a_changed_configuration_inside_does_no_harm() {
    // Its checksum is compared on request only, so anything may come out of it at opening.
    let place = bundle_of("bluelm_v", Recipe::Fast);
    let (header, data) = place.parts();
    let told: Header = serde_json::from_slice(header).unwrap();
    let section = &told.files[0];
    assert_eq!(section.label.name, "config.json");
    let range = section.offset as usize..(section.offset + section.length) as usize;
    // Without spaces there is room for longer numbers.
    let config: serde_json::Value = serde_json::from_slice(&data[range.clone()]).unwrap();
    let config = serde_json::to_vec(&config).unwrap();
    let mut draw = Draw(11);
    let drawn = (0..500).map(|_| changed(&config, &mut draw, 1..=2));
    let places = numbers(&config);
    let extreme = places.iter().flat_map(|place| {
        let config = &config;
        EXTREMES.map(|number| with_number(config, place, number))
    });
    let mut refused = 0;
    for mut other in drawn.chain(extreme) {
        // The section's length stays, so that only its content differs.
        other.resize(range.len(), b' ');
        let mut data = data.to_vec();
        data[range.clone()].copy_from_slice(&other);
        refused += usize::from(place.try_out(header, &data).is_err());
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn a_bundle_cut_off_at_any_of_its_first_bytes_is_refused() {
    let place = bundle_of("llama", Recipe::Paper);
    let (header, _) = place.parts();
    let header_end = PRELUDE_BYTES + header.len();
    let early = 0..PRELUDE_BYTES + 2;
    let later = (early.end..place.bytes.len()).step_by(place.bytes.len() / 100);
    for kept in early.chain(later).chain([header_end - 1, header_end]) {
        place.refused(&place.bytes[..kept]);
    }
}
