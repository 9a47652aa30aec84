//! A bundle whose header is whatever comes: opening refuses it or gives something that can be computed with.
//!
//! The input is two texts with a zero between them: the header, and what lies in the data, where a config.json may be found. The
//! prelude is made to fit, because a checksum that does not match hides everything behind it.
//!
//! A good start is a real one: `bluelm convert DIR x.bluelm`, its header (from byte 64 on) and its config.json.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{Bundle, LogitRows, Model, NoTaps};
use std::io::Write;
use xxhash_rust::xxh64::xxh64;

/// docs/bundle.md, version 1.
fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    let begin = (64 + header.len()).next_multiple_of(64);
    let mut bytes = b"bluelm\r\n".to_vec();
    bytes.extend(1u32.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(xxh64(header, 0).to_le_bytes());
    bytes.extend(((begin + data.len()) as u64).to_le_bytes());
    bytes.resize(64, 0);
    bytes.extend(header);
    bytes.resize(begin, 0);
    bytes.extend(data);
    bytes
}

fuzz_target!(|input: &[u8]| {
    let middle = input.iter().position(|byte| *byte == 0);
    let (header, data) = input.split_at(middle.unwrap_or(input.len()));
    let mut place = tempfile::NamedTempFile::new().expect("a temporary file");
    let bytes = file(header, data.get(1..).unwrap_or_default());
    place.write_all(&bytes).expect("room for it");
    let Ok(bundle) = Bundle::open(place.path()) else {
        return;
    };
    let _ = bundle.check_data(&mut |_| {}, &|| false);
    let Ok(model) = Model::from_bundle(&bundle) else {
        return;
    };
    let mut cache = model.new_cache(1);
    let rows = model.embed(&[0]);
    let _ = model.forward(&rows, &mut cache, LogitRows::Last, &|| false, &mut NoTaps);
});
