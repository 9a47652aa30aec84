//! Bundles that somebody meddled with. The source is a small model of `golden/`.

mod hostile;

use super::header::{PRELUDE_BYTES, VERSION, prelude};
use super::*;
use crate::convert::{Conversion, Options, Origin, Recipe, Rounding};
use crate::{Checkpoint, KvCache, LogitRows, Model, NoTaps};

/// A bundle in memory, and a place to put it.
struct Place {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

/// Converts a model of `golden/`.
fn bundle_of(name: &str, recipe: Recipe) -> Place {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../golden")
        .join(name);
    let config = std::fs::read(golden.join("config.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bluelm");
    let conversion = Conversion {
        weights: Origin::Checkpoint(&mut Checkpoint::open(&golden).unwrap()),
        files: &[("config.json".into(), config)],
        options: Options {
            recipe,
            group: 32,
            rounding: Rounding::Search,
        },
        sequences: Vec::new(),
        progress: &mut |_| {},
        cancel: &|| false,
    };
    let written = conversion.write(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(written, bytes.len() as u64);
    Place { folder, bytes }
}

impl Place {
    fn open(&self, bytes: &[u8]) -> Result<Bundle, ModelError> {
        let path = self.folder.path().join("x.bluelm");
        std::fs::write(&path, bytes).unwrap();
        Bundle::open(&path)
    }

    /// The message of a bundle with these bytes, without its folder.
    fn refused(&self, bytes: &[u8]) -> String {
        let error = self.open(bytes).err().expect("it was accepted");
        let folder = format!("{}/", self.folder.path().display());
        error.to_string().replace(&folder, "")
    }

    /// The message of a bundle whose header was edited and fits its checksum again.
    fn edited(&self, edit: impl FnOnce(&mut serde_json::Value)) -> String {
        let length = u64::from_le_bytes(self.bytes[16..24].try_into().unwrap()) as usize;
        let data = (PRELUDE_BYTES + length).next_multiple_of(64);
        let header = &self.bytes[PRELUDE_BYTES..PRELUDE_BYTES + length];
        let mut header = serde_json::from_slice(header).unwrap();
        edit(&mut header);
        let header = serde_json::to_vec(&header).unwrap();
        let begin = (PRELUDE_BYTES + header.len()).next_multiple_of(64);
        let total = begin + self.bytes.len() - data;
        let mut bytes = prelude(VERSION, &header, total as u64).to_vec();
        bytes.extend(header);
        bytes.resize(begin, 0);
        bytes.extend(&self.bytes[data..]);
        self.refused(&bytes)
    }
}

/// One picture and two tokens through the network, whatever its numbers are.
fn compute(bundle: &Bundle) {
    let Ok(model) = Model::from_bundle(bundle) else {
        return;
    };
    let spec = model.spec();
    let pixels = vec![0.5; 3 * spec.image_size() * spec.image_size()];
    if spec.vision.is_some() {
        model
            .encode_tiles(&pixels, 1, &|| false, &mut NoTaps)
            .unwrap();
    }
    let mut cache: KvCache = model.new_cache(2);
    let rows = model.embed(&[1, 2]);
    let logits = LogitRows::Last;
    model
        .forward(&rows, &mut cache, logits, &|| false, &mut NoTaps)
        .unwrap();
}

#[test]
fn two_hundred_flipped_bits_are_found_at_opening_or_by_the_checksums() {
    let place = bundle_of("bluelm_v", Recipe::Fast);
    let whole = place.open(&place.bytes).unwrap();
    whole.check_data(&mut |_| {}, &|| false).unwrap();
    let mut state = 1u64;
    for flip in 0..200 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Half of them in the first kilobyte and a half, where the header is.
        let range = if flip % 2 == 0 {
            1500
        } else {
            place.bytes.len()
        };
        let (byte, bit) = ((state >> 33) as usize % range, state >> 20 & 7);
        let mut bytes = place.bytes.clone();
        bytes[byte] ^= 1 << bit;
        if let Ok(bundle) = place.open(&bytes) {
            compute(&bundle);
            let checked = bundle.check_data(&mut |_| {}, &|| false);
            assert!(checked.is_err(), "bit {bit} of byte {byte}");
        }
    }
}

#[test]
fn a_bundle_cut_off_anywhere_is_refused() {
    let place = bundle_of("bluelm_v", Recipe::Fast);
    let length = place.bytes.len();
    for kept in [
        0,
        1,
        7,
        8,
        12,
        63,
        64,
        65,
        1000,
        length / 2,
        length - 64,
        length - 1,
    ] {
        place.refused(&place.bytes[..kept]);
    }
    let mut longer = place.bytes.clone();
    longer.push(0);
    place.refused(&longer);
    assert_eq!(
        place.refused(&place.bytes[..length - 1]),
        format!("x.bluelm: expected {length} bytes, found {}", length - 1)
    );
}

#[test]
fn another_version_and_another_kind_of_file_are_told_apart() {
    let place = bundle_of("bluelm_v", Recipe::Bf16);
    let mut bytes = place.bytes.clone();
    bytes[8] = 7;
    assert_eq!(
        place.refused(&bytes),
        "x.bluelm: expected a bundle of version 2, found version 7"
    );
    // The version before has no f16 scales and is otherwise the same.
    bytes[8] = 1;
    assert!(place.open(&bytes).is_ok());
    assert_eq!(
        place.refused(b"{\"not\": \"a bundle\"}"),
        "x.bluelm: not a bundle: it does not begin as one"
    );
}

#[test]
fn headers_that_contradict_their_file_or_network_are_refused() {
    let place = bundle_of("bluelm_v", Recipe::Fast);
    let tensors =
        |header: &mut serde_json::Value| header["tensors"].as_array_mut().unwrap().clone();
    let expect = |edit: &dyn Fn(&mut serde_json::Value), message: &str| {
        let found = place.edited(edit);
        assert!(found.contains(message), "{found}\nexpected: {message}");
    };
    expect(
        &|h| h["tensors"][0]["offset"] = 1.into(),
        "expected a multiple of 64",
    );
    expect(
        &|h| h["tensors"][0]["offset"] = u64::MAX.into(),
        "and the data has",
    );
    expect(
        &|h| h["tensors"][0]["offset"] = 0.into(),
        "lie over each other",
    );
    expect(&|h| h["tensors"][0]["length"] = 64.into(), "expected");
    expect(&|h| h["tensors"][0]["name"] = "x".into(), "missing");
    expect(&|h| h["tensors"][0]["name"] = "x".into(), "x: not expected");
    expect(
        &|h| h["tensors"][0]["shape"] = vec![1].into(),
        "expected shape",
    );
    expect(
        &|h| h["tensors"][0]["storage"]["kind"] = "f32".into(),
        "cannot be used",
    );
    expect(
        &|h| h["tensors"][0]["storage"]["kind"] = "int2".into(),
        "cannot be read",
    );
    expect(
        &|h| h["tensors"][0]["storage"]["group"] = 12.into(),
        "groups of 12",
    );
    expect(
        &|h| h["tensors"][0]["storage"]["group"] = 0.into(),
        "groups of 0",
    );
    expect(
        &|h| h["tensors"][0]["storage"]["block"] = 512.into(),
        "blocks of 512",
    );
    expect(
        &|h| h["tensors"][0]["storage"]["block"] = 0.into(),
        "blocks of 0",
    );
    expect(
        &|h| h["tensors"][0]["checksum"] = "abc".into(),
        "16 hexadecimal digits",
    );
    expect(&|h| h["files"][0]["name"] = "x".into(), "no config.json");
    expect(&|h| h["surprise"] = 1.into(), "cannot be read");
    expect(
        &|h| {
            let twice = tensors(h)[0].clone();
            h["tensors"].as_array_mut().unwrap().push(twice);
        },
        "lie over each other",
    );
    // Everything at once, and not only the first.
    let many = place.edited(|h| {
        for at in 0..3 {
            h["tensors"][at]["name"] = format!("x{at}").into();
        }
    });
    assert!(
        many.contains("6 problems") && many.contains("x2: not expected"),
        "{many}"
    );
}

#[test]
fn a_folder_and_a_missing_file_are_no_bundles() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!Bundle::is_bundle(folder.path()));
    assert!(!Bundle::is_bundle(&folder.path().join("x")));
    assert!(matches!(
        Bundle::open(folder.path()),
        Err(ModelError::Bundle { .. })
    ));
    let missing = Bundle::open(&folder.path().join("x"));
    assert!(matches!(missing, Err(ModelError::Io { .. })));
}

#[test]
fn numbers_that_are_not_finite_are_found_by_the_check_and_change_nothing_else() {
    let place = bundle_of("llama", Recipe::Paper);
    let bundle = place.open(&place.bytes).unwrap();
    let packed = bundle
        .tensors()
        .position(|t| matches!(t.storage, Storage::Int4(_)))
        .unwrap();
    let section = &bundle.header.tensors[packed];
    let end = bundle.range(section).end;
    let mut bytes = place.bytes.clone();
    // The last scale of the tensor becomes infinity, and the checksum fits again.
    bytes[end - 2..end].copy_from_slice(&0x7f80u16.to_le_bytes());
    let sum = Xxh64::of(&bytes[bundle.range(section)]);
    let place = Place { bytes, ..place };
    let message = place.edited_check(packed, sum);
    assert!(message.contains("is not finite"), "{message}");
}

impl Place {
    /// What the check of the data says when a tensor's checksum is this one.
    fn edited_check(&self, tensor: usize, sum: u64) -> String {
        let length = u64::from_le_bytes(self.bytes[16..24].try_into().unwrap()) as usize;
        let header = &self.bytes[PRELUDE_BYTES..PRELUDE_BYTES + length];
        let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
        header["tensors"][tensor]["checksum"] = format!("{sum:016x}").into();
        let header: Header = serde_json::from_value(header).unwrap();
        let header = serde_json::to_vec(&header).unwrap();
        assert_eq!(header.len(), length);
        let mut bytes = prelude(VERSION, &header, self.bytes.len() as u64).to_vec();
        bytes.extend(header);
        bytes.extend(&self.bytes[PRELUDE_BYTES + length..]);
        let bundle = self.open(&bytes).unwrap();
        compute(&bundle);
        bundle
            .check_data(&mut |_| {}, &|| false)
            .unwrap_err()
            .to_string()
    }
}
