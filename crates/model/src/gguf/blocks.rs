//! Numbers in blocks that share scales, as ggml packs them
//! (<https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>), and back to f32 in ggml's order of operations, so that
//! the bits are those of its reference.

use half::f16;

/// A type of blocks that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// 32 numbers of 4 bits, -8 to 7, and an f16 scale.
    Q4_0,
    /// 32 numbers of 4 bits from 0 on, an f16 scale and the least one.
    Q4_1,
    /// 32 numbers of 5 bits, -16 to 15, and an f16 scale.
    Q5_0,
    /// 32 numbers of 5 bits from 0 on, an f16 scale and the least one.
    Q5_1,
    /// 32 numbers of 8 bits and an f16 scale.
    Q8_0,
    /// 256 numbers of 4 bits; each 32 have 6 bits of scale and of least one.
    Q4K,
    /// The same of 5 bits.
    Q5K,
    /// 256 numbers of 6 bits; each 16 have 8 bits of scale.
    Q6K,
    /// 32 numbers of 4 bits that are places in a table.
    Iq4Nl,
}

/// Numbers of the larger blocks.
const LARGE: usize = 256;
/// Numbers of the smaller ones.
const SMALL: usize = 32;

/// What the 4 bits of IQ4_NL stand for.
const TABLE: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

impl Blocks {
    /// Every one.
    pub const ALL: [Blocks; 9] = [
        Blocks::Q4_0,
        Blocks::Q4_1,
        Blocks::Q5_0,
        Blocks::Q5_1,
        Blocks::Q8_0,
        Blocks::Q4K,
        Blocks::Q5K,
        Blocks::Q6K,
        Blocks::Iq4Nl,
    ];

    /// What files call it: number, name, numbers of a block, bytes of a block.
    fn facts(self) -> (u32, &'static str, usize, usize) {
        match self {
            Blocks::Q4_0 => (2, "Q4_0", SMALL, 18),
            Blocks::Q4_1 => (3, "Q4_1", SMALL, 20),
            Blocks::Q5_0 => (6, "Q5_0", SMALL, 22),
            Blocks::Q5_1 => (7, "Q5_1", SMALL, 24),
            Blocks::Q8_0 => (8, "Q8_0", SMALL, 34),
            Blocks::Q4K => (12, "Q4_K", LARGE, 144),
            Blocks::Q5K => (13, "Q5_K", LARGE, 176),
            Blocks::Q6K => (14, "Q6_K", LARGE, 210),
            Blocks::Iq4Nl => (20, "IQ4_NL", SMALL, 18),
        }
    }

    /// Its number in files.
    pub fn number(self) -> u32 {
        self.facts().0
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.facts().1
    }

    /// Numbers of a block.
    pub fn numbers(self) -> usize {
        self.facts().2
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        self.facts().3
    }

    /// The numbers of whole blocks.
    pub fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        let blocks = bytes.chunks_exact(self.bytes());
        let mut numbers = vec![0.0; blocks.len() * self.numbers()];
        for (block, out) in blocks.zip(numbers.chunks_exact_mut(self.numbers())) {
            self.block(block, out);
        }
        numbers
    }

    /// Whether its numbers are whole ones of up to 8 bits times a scale, which other programs of matrices can hold as they are.
    pub(crate) fn is_symmetric(self) -> bool {
        matches!(self, Blocks::Q4_0 | Blocks::Q8_0)
    }

    /// The whole numbers of symmetric blocks, and the bits of their f16 scales.
    pub(crate) fn whole(self, bytes: &[u8]) -> (Vec<i8>, Vec<u16>) {
        assert!(self.is_symmetric(), "{} is not symmetric", self.name());
        let (mut values, mut scales) = (Vec::new(), Vec::new());
        for block in bytes.chunks_exact(self.bytes()) {
            scales.push(u16::from_le_bytes([block[0], block[1]]));
            let rest = &block[2..];
            match self {
                Blocks::Q8_0 => values.extend(rest.iter().map(|byte| *byte as i8)),
                _ => {
                    values.extend(rest.iter().map(|byte| (byte & 15) as i8 - 8));
                    values.extend(rest.iter().map(|byte| (byte >> 4) as i8 - 8));
                }
            }
        }
        (values, scales)
    }

    fn block(self, block: &[u8], out: &mut [f32]) {
        let scale = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let d = scale(0);
        match self {
            Blocks::Q4_0 => halves(&block[2..], out, |q, _| (f32::from(q) - 8.0) * d),
            Blocks::Iq4Nl => halves(&block[2..], out, |q, _| {
                d * f32::from(TABLE[usize::from(q)])
            }),
            Blocks::Q4_1 => {
                let least = scale(2);
                halves(&block[4..], out, |q, _| f32::from(q) * d + least);
            }
            Blocks::Q5_0 => {
                let high = fifth_bits(&block[2..6]);
                halves(&block[6..], out, |q, at| {
                    (f32::from(q | high(at)) - 16.0) * d
                });
            }
            Blocks::Q5_1 => {
                let (least, high) = (scale(2), fifth_bits(&block[4..8]));
                halves(&block[8..], out, |q, at| {
                    f32::from(q | high(at)) * d + least
                });
            }
            Blocks::Q8_0 => {
                for (out, value) in out.iter_mut().zip(&block[2..]) {
                    *out = f32::from(*value as i8) * d;
                }
            }
            Blocks::Q4K => large(&block[4..16], &block[16..], &[], [d, scale(2)], out),
            Blocks::Q5K => {
                let (high, low) = block[16..].split_at(LARGE / 8);
                large(&block[4..16], low, high, [d, scale(2)], out);
            }
            Blocks::Q6K => six_bits(block, scale(208), out),
        }
    }
}

/// The numbers of 16 bytes: the lower halves, then the upper ones. `number` is told the half and its place.
fn halves(bytes: &[u8], out: &mut [f32], number: impl Fn(u8, usize) -> f32) {
    let (first, second) = out.split_at_mut(SMALL / 2);
    for (at, byte) in bytes.iter().enumerate() {
        first[at] = number(byte & 15, at);
        second[at] = number(byte >> 4, at + SMALL / 2);
    }
}

/// The fifth bit of each number, from four bytes.
fn fifth_bits(bytes: &[u8]) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes(std::array::from_fn(|at| bytes[at]));
    move |at| ((bits >> at & 1) << 4) as u8
}

/// 256 numbers of 4 bits, or of 5 with `high`: each 32 bytes hold 64 numbers, the lower halves before the upper ones.
fn large(scales: &[u8], low: &[u8], high: &[u8], [d, least]: [f32; 2], out: &mut [f32]) {
    for (group, out) in out.chunks_exact_mut(SMALL).enumerate() {
        let (scale, min) = scale_and_least(scales, group);
        let (d, least) = (d * f32::from(scale), least * f32::from(min));
        let low = &low[group / 2 * SMALL..][..SMALL];
        for (at, (out, byte)) in out.iter_mut().zip(low).enumerate() {
            let half = byte >> (group % 2 * 4) & 15;
            let fifth = high.get(at).map_or(0, |bits| (bits >> group & 1) << 4);
            *out = d * f32::from(half | fifth) - least;
        }
    }
}

/// Six bits each of the scale and the least number of a group, of eight groups in twelve bytes.
fn scale_and_least(bytes: &[u8], group: usize) -> (u8, u8) {
    match group {
        0..4 => (bytes[group] & 63, bytes[group + 4] & 63),
        _ => {
            let (both, above) = (bytes[group + 4], group - 4);
            (
                both & 15 | bytes[above] >> 6 << 4,
                both >> 4 | bytes[above + 4] >> 6 << 4,
            )
        }
    }
}

/// Q6_K: 128 bytes of lower halves, 64 of upper two bits, 16 scales; each half of the block in four runs of 32.
fn six_bits(block: &[u8], d: f32, out: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    for (at, out) in out.iter_mut().enumerate() {
        let (half, run, place) = (at / 128, at % 128 / 32, at % 32);
        let low = low[half * 64 + run % 2 * 32 + place] >> (run / 2 * 4) & 15;
        let high = high[half * 32 + place] >> (run * 2) & 3;
        let scale = d * f32::from(scales[at / 16] as i8);
        *out = scale * (f32::from(low | high << 4) - 32.0);
    }
}
