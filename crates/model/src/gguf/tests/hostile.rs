//! Files that somebody made on purpose: cut off anywhere, with bits flipped, with numbers at which sizes turn over. Each is an
//! error or can be read; nothing panics. `fuzz/` looks further by chance; this runs with every test.

use super::*;

/// Numbers at which sizes, products and sums turn over.
const EXTREMES: [u64; 12] = [
    0,
    1,
    7,
    31,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 32,
    1 << 53,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

/// Reads a header and, where it is let in, every tensor that it tells of.
fn try_out(bytes: &[u8]) {
    let Ok(gguf) = Gguf::parse(bytes) else {
        return;
    };
    for tensor in &gguf.tensors {
        let data = &bytes[tensor.range.clone()];
        if let Stored::Blocks(blocks) = tensor.stored {
            let numbers: usize = tensor.shape.iter().product();
            assert_eq!(blocks.to_f32(data).len(), numbers, "{}", tensor.name);
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let bytes = whole().bytes();
    for length in 0..bytes.len() {
        assert!(Gguf::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_number_at_its_extreme_anywhere_does_no_harm() {
    let bytes = whole().bytes();
    let header = bytes.len() - whole().data.len();
    for at in 4..header {
        for extreme in EXTREMES {
            for width in [4, 8] {
                let mut changed = bytes.clone();
                let end = (at + width).min(changed.len());
                changed[at..end].copy_from_slice(&extreme.to_le_bytes()[..end - at]);
                try_out(&changed);
            }
        }
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    let bytes = whole().bytes();
    // The multiplier is Knuth's for MMIX: the same draws every time.
    let mut state = 1u64;
    let mut below = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for _ in 0..20_000 {
        let mut changed = bytes.clone();
        for _ in 0..1 + below(4) {
            let at = below(changed.len());
            changed[at] ^= 1 << below(8);
        }
        try_out(&changed);
    }
}

#[test]
fn lists_inside_of_lists_end_somewhere() {
    // Each list of one list takes twelve bytes.
    let mut value = Vec::new();
    for _ in 0..10_000 {
        value.extend(9u32.to_le_bytes());
        value.extend(1u64.to_le_bytes());
    }
    let problem = Pieces::default()
        .key("deep", 9, &value)
        .parse()
        .unwrap_err();
    assert_eq!(
        problem,
        "deep: lists inside of lists, expected at most 3 deep"
    );
}

#[test]
fn a_long_list_needs_a_long_file() {
    let list = [&0u32.to_le_bytes()[..], &(1u64 << 40).to_le_bytes()].concat();
    let problem = Pieces::default().key("long", 9, &list).parse().unwrap_err();
    assert!(
        problem.starts_with("the length of long is 1099511627776, and the "),
        "{problem}"
    );
    let many = [
        &0u32.to_le_bytes()[..],
        &(9u64 << 20).to_le_bytes(),
        &vec![0; 9 << 20],
    ]
    .concat();
    let problem = Pieces::default().key("many", 9, &many).parse().unwrap_err();
    assert_eq!(
        problem,
        "many: 9437184 values in lists, expected at most 8388608"
    );
}
