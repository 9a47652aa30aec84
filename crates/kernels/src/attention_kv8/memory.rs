//! Keys and values as INT8 in the layout that products read.

#[cfg(target_arch = "x86_64")]
use super::avx512vnni;
use super::{BLOCK, LINE, PANEL, WIDEST};
#[cfg(target_arch = "x86_64")]
use crate::isa::Dot;
use crate::isa::{Isa, per_isa};
use crate::matmul::View;
use crate::matmul_quantized::quantizing::{factor_and_scale, largest_magnitude, rounded};

/// The largest magnitude of a key's or value's number.
const LIMIT: f32 = 127.0;

/// Tokens that are asked for ahead: in an encoder a head's numbers lie a page apart.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 12;

/// The keys and values of one key head, each with one scale for each token; they may grow. Room is taken in blocks of 128 tokens.
#[derive(Clone, Debug)]
pub struct Memory {
    width: usize,
    len: usize,
    /// Panels of 16 keys; in each `[width / 4, 16, 4]` bytes, each as value + 128.
    keys: Vec<u8>,
    /// Blocks of 128 values; in each panels of 16 columns; in each `[32, 16, 4]`: four tokens side by side.
    values: Vec<i8>,
    key_scales: Vec<f32>,
    value_scales: Vec<f32>,
}

impl Memory {
    /// Without keys, for heads of `width` numbers.
    ///
    /// # Panics
    /// When the width is 0 or above [`WIDEST`]: the exact sum of INT16 by INT8 would not fit 32 bits.
    pub fn empty(width: usize) -> Memory {
        assert!(
            (1..=WIDEST).contains(&width),
            "heads of {width} numbers, expected 1 to {WIDEST}"
        );
        Memory {
            width,
            len: 0,
            keys: Vec::new(),
            values: Vec::new(),
            key_scales: Vec::new(),
            value_scales: Vec::new(),
        }
    }

    /// Memory that a key and its value take: their numbers, filled up to what products read, and a scale for each.
    pub fn bytes_per_token(width: usize) -> usize {
        width.next_multiple_of(4) + width.next_multiple_of(PANEL) + 2 * size_of::<f32>()
    }

    /// Keys so far.
    #[allow(clippy::len_without_is_empty)] // nothing asks
    pub fn len(&self) -> usize {
        self.len
    }

    /// Numbers of a head.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Takes memory for up to `count` keys at once, so that growing does not copy.
    pub fn reserve(&mut self, count: usize) {
        let blocks = count.div_ceil(BLOCK);
        let more = |held: usize, wanted: usize| wanted.saturating_sub(held);
        let (keys, values) = (blocks * self.key_bytes(), blocks * self.value_bytes());
        self.keys.reserve_exact(more(self.keys.len(), keys));
        self.values.reserve_exact(more(self.values.len(), values));
        for scales in [&mut self.key_scales, &mut self.value_scales] {
            scales.reserve_exact(more(scales.len(), blocks * BLOCK));
        }
    }

    /// Forgets the keys from `count` on.
    pub fn truncate(&mut self, count: usize) {
        self.len = self.len.min(count);
    }

    /// Another one with the first `count` keys and values, or with all where there are fewer; it takes memory for those alone.
    pub fn copy(&self, count: usize) -> Memory {
        let len = count.min(self.len);
        let blocks = len.div_ceil(BLOCK);
        let scales = |all: &[f32]| all[..blocks * BLOCK].to_vec();
        Memory {
            width: self.width,
            len,
            keys: self.keys[..blocks * self.key_bytes()].to_vec(),
            values: self.values[..blocks * self.value_bytes()].to_vec(),
            key_scales: scales(&self.key_scales),
            value_scales: scales(&self.value_scales),
        }
    }

    /// Adds `count` keys and values: rows of the head's width, numbers side by side.
    ///
    /// # Panics
    /// When there are fewer rows.
    pub fn append(&mut self, isa: Isa, count: usize, keys: View, values: View) {
        assert!(
            keys.column_stride == 1 && values.column_stride == 1,
            "keys and values lie in rows"
        );
        let blocks = (self.len + count).div_ceil(BLOCK);
        if blocks * BLOCK > self.key_scales.len() {
            self.keys.resize(blocks * self.key_bytes(), 0);
            self.values.resize(blocks * self.value_bytes(), 0);
            self.key_scales.resize(blocks * BLOCK, 0.0);
            self.value_scales.resize(blocks * BLOCK, 0.0);
        }
        let width = self.width;
        let row_of = |view: &View, row: usize| row * view.row_stride..row * view.row_stride + width;
        let mut row = 0;
        while row < count {
            // Four tokens are side by side in the layout: together where they are.
            let together = if self.len.is_multiple_of(4) && count - row >= 4 {
                4
            } else {
                1
            };
            let mut tokens = [[[].as_slice(); 2]; 4];
            for (at, token) in tokens[..together].iter_mut().enumerate() {
                *token = [&keys, &values].map(|view| &view.data[row_of(view, row + at)]);
            }
            #[cfg(target_arch = "x86_64")]
            for view in [&keys, &values] {
                let coming = (row + AHEAD).min(count)..(row + AHEAD + together).min(count);
                avx512vnni::fetch(coming.map(|row| &view.data[row_of(view, row)]));
            }
            if together == 4 {
                self.put_four(isa, &tokens);
            } else {
                put(isa, self, tokens[0]);
            }
            self.len += together;
            row += together;
        }
    }

    /// Bytes that [`Memory::write_bytes`] writes for so many keys.
    pub fn written_bytes(width: usize, len: usize) -> usize {
        let memory = Memory::empty(width);
        len.div_ceil(BLOCK) * (memory.key_bytes() + memory.value_bytes() + 2 * BLOCK * 4)
    }

    /// Writes all as it lies in memory, whole blocks, to be read by [`Memory::from_bytes`]: the same on every machine.
    pub fn write_bytes(&self, out: &mut Vec<u8>) {
        let blocks = self.len.div_ceil(BLOCK);
        out.extend_from_slice(&self.keys[..blocks * self.key_bytes()]);
        let values = &self.values[..blocks * self.value_bytes()];
        out.extend(values.iter().map(|value| value.cast_unsigned()));
        for scales in [&self.key_scales, &self.value_scales] {
            out.extend(
                scales[..blocks * BLOCK]
                    .iter()
                    .flat_map(|scale| scale.to_le_bytes()),
            );
        }
    }

    /// The memory of `len` keys that was written. Any bytes make a memory, though perhaps one of senseless numbers.
    ///
    /// # Panics
    /// When there are not [`Memory::written_bytes`] of them.
    pub fn from_bytes(width: usize, len: usize, bytes: &[u8]) -> Memory {
        let expected = Memory::written_bytes(width, len);
        assert_eq!(
            bytes.len(),
            expected,
            "bytes of {len} keys of {width} numbers"
        );
        let mut memory = Memory::empty(width);
        let blocks = len.div_ceil(BLOCK);
        let (keys, rest) = bytes.split_at(blocks * memory.key_bytes());
        let (values, scales) = rest.split_at(blocks * memory.value_bytes());
        let scales: Vec<f32> = scales
            .as_chunks()
            .0
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect();
        memory.len = len;
        memory.keys = keys.to_vec();
        memory.values = values.iter().map(|value| value.cast_signed()).collect();
        memory.key_scales = scales[..blocks * BLOCK].to_vec();
        memory.value_scales = scales[blocks * BLOCK..].to_vec();
        memory
    }

    /// Writes four tokens behind the last ones, of which there is a multiple of four.
    fn put_four(&mut self, isa: Isa, tokens: &[[&[f32]; 2]; 4]) {
        #[cfg(target_arch = "x86_64")]
        if Dot::detect(isa) == Dot::Avx512Vnni {
            let (block, token) = (self.len / BLOCK, self.len % BLOCK);
            let (fours, panels) = (self.fours(), self.panels());
            let panel = block * self.key_bytes() + token / PANEL * fours * LINE;
            let line = block * self.value_bytes() + token / 4 * LINE;
            let places = avx512vnni::Places {
                keys: &mut self.keys[panel + token % PANEL * 4..],
                fours,
                values: &mut self.values[line..],
                panels,
            };
            // SAFETY: detection found the instructions.
            #[allow(unsafe_code)]
            let [keys, values] = unsafe { avx512vnni::put_four(places, tokens, LIMIT) };
            self.key_scales[self.len..][..4].copy_from_slice(&keys);
            self.value_scales[self.len..][..4].copy_from_slice(&values);
            return;
        }
        put_four(isa, self, tokens);
    }

    /// Fours of a key's numbers.
    pub(super) fn fours(&self) -> usize {
        self.width.div_ceil(4)
    }

    /// Panels of a value's numbers.
    pub(super) fn panels(&self) -> usize {
        self.width.div_ceil(PANEL)
    }

    fn key_bytes(&self) -> usize {
        BLOCK * self.fours() * 4
    }

    fn value_bytes(&self) -> usize {
        BLOCK * self.panels() * PANEL
    }

    /// Panels of 16 keys.
    pub(super) fn block_keys(&self, block: usize) -> &[u8] {
        &self.keys[block * self.key_bytes()..][..self.key_bytes()]
    }

    /// Panels of 16 columns.
    pub(super) fn block_values(&self, block: usize) -> &[i8] {
        &self.values[block * self.value_bytes()..][..self.value_bytes()]
    }

    pub(super) fn block_scales(&self, block: usize) -> [&[f32; BLOCK]; 2] {
        [&self.key_scales, &self.value_scales].map(|scales| &scales.as_chunks().0[block])
    }

    /// A key as the numbers that it stands for, and the value.
    #[cfg(test)]
    pub(super) fn numbers_at(&self, at: usize) -> [Vec<f64>; 2] {
        let (block, token) = (at / BLOCK, at % BLOCK);
        let key = |i: usize| {
            let place = token / PANEL * self.fours() * LINE + i / 4 * LINE;
            let byte = self.block_keys(block)[place + token % PANEL * 4 + i % 4];
            (f64::from(byte) - 128.0) * f64::from(self.key_scales[at])
        };
        let value = |i: usize| {
            let place = (i / PANEL * (BLOCK / 4) + token / 4) * LINE;
            let byte = self.block_values(block)[place + i % PANEL * 4 + token % 4];
            f64::from(byte) * f64::from(self.value_scales[at])
        };
        [
            (0..self.width).map(key).collect(),
            (0..self.width).map(value).collect(),
        ]
    }
}

per_isa! {
    /// Writes a key and a value behind the last ones.
    put(memory: &mut Memory, token: [&[f32]; 2]) => put_body
}
per_isa! {
    /// The same of four tokens, the first of which stands at a multiple of four.
    put_four(memory: &mut Memory, tokens: &[[&[f32]; 2]; 4]) => put_four_body
}

#[inline(always)]
fn put_body(memory: &mut Memory, [key, value]: [&[f32]; 2]) {
    let (block, token) = (memory.len / BLOCK, memory.len % BLOCK);
    let (key_bytes, value_bytes) = (memory.key_bytes(), memory.value_bytes());
    let mut bytes = [0; WIDEST];
    memory.key_scales[memory.len] = quantize(key, &mut bytes);
    let panel = block * key_bytes + token / PANEL * memory.fours() * LINE + token % PANEL * 4;
    let fours = bytes.as_chunks::<4>().0[..memory.fours()].iter();
    let lines = memory.keys[panel..].chunks_mut(LINE);
    for (four, line) in fours.zip(lines) {
        for (byte, place) in four.iter().zip(line) {
            *place = *byte as u8 ^ 0x80;
        }
    }
    memory.value_scales[memory.len] = quantize(value, &mut bytes);
    let first = block * value_bytes + token / 4 * LINE + token % 4;
    let panels = memory.values[first..].chunks_mut(BLOCK / 4 * LINE);
    for (bytes, panel) in bytes[..value.len()].chunks(PANEL).zip(panels) {
        for (byte, place) in bytes.iter().zip(panel.iter_mut().step_by(4)) {
            *place = *byte;
        }
    }
}

#[inline(always)]
fn put_four_body(memory: &mut Memory, tokens: &[[&[f32]; 2]; 4]) {
    let (block, token) = (memory.len / BLOCK, memory.len % BLOCK);
    let (key_bytes, value_bytes) = (memory.key_bytes(), memory.value_bytes());
    let mut bytes = [[0; WIDEST]; 4];
    for (at, ([key, _], bytes)) in tokens.iter().zip(&mut bytes).enumerate() {
        memory.key_scales[memory.len + at] = quantize(key, bytes);
    }
    let (fours, panels) = (memory.fours(), memory.panels());
    let panel = block * key_bytes + token / PANEL * fours * LINE + token % PANEL * 4;
    let lines = memory.keys[panel..].chunks_mut(LINE).take(fours);
    for (four, line) in lines.enumerate() {
        let (places, _) = line.as_chunks_mut::<4>();
        for (place, bytes) in places.iter_mut().zip(&bytes) {
            *place = bytes.as_chunks::<4>().0[four].map(|byte| byte as u8 ^ 0x80);
        }
    }
    for (at, ([_, value], bytes)) in tokens.iter().zip(&mut bytes).enumerate() {
        memory.value_scales[memory.len + at] = quantize(value, bytes);
    }
    let first = block * value_bytes + token / 4 * LINE;
    let places = memory.values[first..].chunks_mut(BLOCK / 4 * LINE);
    let [a, b, c, d] = bytes.each_ref().map(|bytes| bytes.as_chunks::<PANEL>().0);
    for (panel, (((a, b), c), d)) in places.take(panels).zip(a.iter().zip(b).zip(c).zip(d)) {
        let (places, _) = panel.as_chunks_mut::<4>();
        for (place, (((a, b), c), d)) in places[..PANEL]
            .iter_mut()
            .zip(a.iter().zip(b).zip(c).zip(d))
        {
            *place = [*a, *b, *c, *d];
        }
    }
}

/// Bytes of a row, behind them zeros up to the next whole four; the scale.
#[inline(always)]
fn quantize(x: &[f32], bytes: &mut [i8; WIDEST]) -> f32 {
    let (factor, scale) = factor_and_scale(largest_magnitude(x), LIMIT);
    for (byte, value) in bytes.iter_mut().zip(x) {
        *byte = rounded(value * factor) as i8;
    }
    let filled = x.len().next_multiple_of(4).min(WIDEST);
    bytes[x.len()..filled].fill(0);
    scale
}
