//! Keys and values of the positions so far: f32, or INT8 where the matrices around them take in whole numbers too.

use kernels::attention::{self, Reach};
use kernels::attention_kv8;
use kernels::isa::Isa;
use kernels::matmul::View;
use kernels::matmul_quantized::Precision;

use crate::layers::{head_of, worth_splitting};
use rayon::prelude::*;

/// Keys (rotated) and values of every layer, ready to be attended to.
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// Where the rows stood, of decoders whose positions do not count by one; else nothing.
    positions: Vec<[u32; 3]>,
    tokens: usize,
    capacity: usize,
}

/// What caches of one network look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheShape {
    pub layers: usize,
    /// Key heads.
    pub heads: usize,
    pub head_dim: usize,
    /// What queries and the weights of values are rounded to; keys and values are INT8 then. None: all is f32.
    pub precision: Option<Precision>,
}

/// Keys and values of one layer. Nothing outside this module knows how they are kept.
pub(crate) struct LayerCache {
    heads: Heads,
    head_dim: usize,
}

/// One memory for each key head.
enum Heads {
    Floats(Vec<attention::Memory>),
    Int8(Vec<attention_kv8::Memory>, Precision),
}

/// Query heads of one key head, side by side at each of some positions.
pub(crate) struct Asked<'a> {
    pub positions: usize,
    /// Query heads.
    pub group: usize,
    /// Begins with the first head of the first position.
    pub data: &'a [f32],
    /// Numbers from one position to the next.
    pub stride: usize,
    /// What they see; the heads of a position see the same.
    pub reach: Reach<'a>,
}

impl CacheShape {
    /// Memory that a position takes in all layers.
    pub fn bytes_per_token(&self) -> usize {
        let of_a_head = match self.precision {
            None => 2 * self.head_dim * size_of::<f32>(),
            Some(_) => attention_kv8::Memory::bytes_per_token(self.head_dim),
        };
        self.layers * self.heads * of_a_head
    }
}

impl CacheShape {
    /// Bytes of one layer in [`KvCache::to_bytes`]; none when there are more than a number can say.
    fn written_bytes(&self, tokens: usize) -> Option<usize> {
        // Blocks are rounded up; far below the largest number, nothing overflows.
        let tokens = Some(tokens).filter(|&tokens| tokens < 1 << 32)?;
        let of_a_head = match self.precision {
            None => (2 * self.head_dim * size_of::<f32>()).checked_mul(tokens)?,
            Some(_) => attention_kv8::Memory::written_bytes(self.head_dim, tokens),
        };
        of_a_head.checked_mul(self.heads)
    }
}

impl LayerCache {
    fn new(shape: &CacheShape) -> LayerCache {
        let (heads, width) = (shape.heads, shape.head_dim);
        LayerCache {
            heads: match shape.precision {
                None => Heads::Floats(vec![attention::Memory::empty(width); heads]),
                Some(precision) => {
                    Heads::Int8(vec![attention_kv8::Memory::empty(width); heads], precision)
                }
            },
            head_dim: width,
        }
    }

    /// Takes in `m` rows of keys and of values, all heads side by side.
    pub fn append(&mut self, isa: Isa, m: usize, k: &[f32], v: &[f32]) {
        if m == 0 {
            return;
        }
        let (width, d) = (self.head_dim, k.len() / m);
        let rows = |head: usize| [k, v].map(|x| head_of(x, d, head * width));
        match &mut self.heads {
            Heads::Floats(heads) => {
                for (head, memory) in heads.iter_mut().enumerate() {
                    let [k, v] = rows(head);
                    memory.append(m, k, v);
                }
            }
            Heads::Int8(heads, _) => {
                let append = |(head, memory): (usize, &mut attention_kv8::Memory)| {
                    let [k, v] = rows(head);
                    memory.append(isa, m, k, v);
                };
                match worth_splitting(16 * k.len()) {
                    true => heads.par_iter_mut().enumerate().for_each(append),
                    false => heads.iter_mut().enumerate().for_each(append),
                }
            }
        }
    }

    /// What queries of one key head find: rows `[positions, group · head_dim]`.
    pub fn attend(&self, isa: Isa, head: usize, asked: &Asked) -> Vec<f32> {
        let width = self.head_dim;
        let share = asked.group * width;
        let mut out = vec![0.0; asked.positions * share];
        let count = asked.positions * asked.group;
        let scale = 1.0 / (width as f32).sqrt();
        let reach = asked.reach;
        match &self.heads {
            Heads::Floats(heads) => {
                let own = |position| &asked.data[position * asked.stride..][..share];
                let own: Vec<f32> = (0..asked.positions).flat_map(own).copied().collect();
                let queries = attention::Queries {
                    count,
                    rows: View::rows(&own, width),
                    scale,
                    reach,
                };
                let scratch = &mut attention::Scratch::default();
                attention::attend(isa, &queries, &heads[head], scratch, &mut out, width);
            }
            Heads::Int8(heads, precision) => {
                let queries = attention_kv8::Queries {
                    count,
                    data: asked.data,
                    stride: asked.stride,
                    group: asked.group,
                    scale,
                    reach,
                    precision: *precision,
                };
                let scratch = &mut attention_kv8::Scratch::default();
                attention_kv8::attend(isa, &queries, &heads[head], scratch, &mut out, share);
            }
        }
        out
    }

    fn write_bytes(&self, tokens: usize, out: &mut Vec<u8>) {
        match &self.heads {
            Heads::Floats(heads) => {
                for head in heads {
                    let numbers = (0..tokens).flat_map(|at| head.numbers_at(at));
                    out.extend(numbers.flat_map(f32::to_le_bytes));
                }
            }
            Heads::Int8(heads, _) => heads.iter().for_each(|head| head.write_bytes(out)),
        }
    }

    /// Fills an empty one from what another wrote.
    fn read_bytes(&mut self, tokens: usize, bytes: &[u8]) {
        let width = self.head_dim;
        match &mut self.heads {
            Heads::Floats(heads) => {
                let of_head = bytes.len() / heads.len();
                for (head, bytes) in heads.iter_mut().zip(bytes.chunks_exact(of_head)) {
                    let fours = bytes.as_chunks().0.iter();
                    let numbers: Vec<f32> = fours.map(|four| f32::from_le_bytes(*four)).collect();
                    let rows = |first: usize| View {
                        data: &numbers[first..],
                        row_stride: 2 * width,
                        column_stride: 1,
                    };
                    head.append(tokens, rows(0), rows(width));
                }
            }
            Heads::Int8(heads, _) => {
                let of_head = attention_kv8::Memory::written_bytes(width, tokens);
                for (head, bytes) in heads.iter_mut().zip(bytes.chunks_exact(of_head)) {
                    *head = attention_kv8::Memory::from_bytes(width, tokens, bytes);
                }
            }
        }
    }

    /// Another one with the first positions.
    fn copy(&self, tokens: usize) -> LayerCache {
        let heads = match &self.heads {
            Heads::Floats(heads) => {
                let mut heads = heads.clone();
                heads.iter_mut().for_each(|head| head.truncate(tokens));
                Heads::Floats(heads)
            }
            Heads::Int8(heads, precision) => {
                let copies = heads.iter().map(|head| head.copy(tokens));
                Heads::Int8(copies.collect(), *precision)
            }
        };
        LayerCache {
            heads,
            head_dim: self.head_dim,
        }
    }

    fn truncate(&mut self, tokens: usize) {
        match &mut self.heads {
            Heads::Floats(heads) => heads.iter_mut().for_each(|head| head.truncate(tokens)),
            Heads::Int8(heads, _) => heads.iter_mut().for_each(|head| head.truncate(tokens)),
        }
    }
}

impl KvCache {
    /// For up to `capacity` positions; memory is taken as they come.
    pub(crate) fn new(shape: &CacheShape, capacity: usize) -> KvCache {
        KvCache {
            layers: (0..shape.layers).map(|_| LayerCache::new(shape)).collect(),
            positions: Vec::new(),
            tokens: 0,
            capacity,
        }
    }

    /// All keys and values as bytes, for [`KvCache::from_bytes`]: the same on every machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for layer in &self.layers {
            layer.write_bytes(self.tokens, &mut bytes);
        }
        let positions = self.positions.iter().flatten();
        bytes.extend(positions.flat_map(|position| position.to_le_bytes()));
        bytes
    }

    /// The cache of `tokens` positions that was written; none when the bytes are too few or too many for it.
    pub(crate) fn from_bytes(
        shape: &CacheShape,
        capacity: usize,
        tokens: usize,
        bytes: &[u8],
    ) -> Option<KvCache> {
        let mut cache = KvCache::new(shape, capacity);
        let of_layer = shape.written_bytes(tokens)?;
        let of_layers = of_layer.checked_mul(shape.layers)?;
        let (bytes, positions) = bytes.split_at_checked(of_layers)?;
        let written = 12 * tokens.min(capacity);
        if tokens > capacity || ![0, written].contains(&positions.len()) {
            return None;
        }
        cache.tokens = tokens;
        let numbers = positions
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b));
        let numbers: Vec<u32> = numbers.collect();
        cache.positions = numbers.as_chunks::<3>().0.to_vec();
        // A picture takes at least as many places as its rows and columns count on.
        let farthest =
            |(at, position): (usize, &[u32; 3])| position.iter().all(|p| *p as usize <= at);
        if !cache.positions.iter().enumerate().all(farthest) {
            return None;
        }
        if tokens > 0 {
            for (layer, bytes) in cache.layers.iter_mut().zip(bytes.chunks_exact(of_layer)) {
                layer.read_bytes(tokens, bytes);
            }
        }
        Some(cache)
    }

    /// Another cache with the first `tokens` positions, for as many as this one.
    pub fn copy(&self, tokens: usize) -> KvCache {
        let tokens = tokens.min(self.tokens);
        KvCache {
            layers: self.layers.iter().map(|layer| layer.copy(tokens)).collect(),
            positions: self.positions[..tokens.min(self.positions.len())].to_vec(),
            tokens,
            capacity: self.capacity,
        }
    }

    /// Positions it holds.
    #[allow(clippy::len_without_is_empty)] // nothing asks whether a cache is empty
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Positions it may hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the positions from `tokens` on.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
        self.positions.truncate(tokens);
        for layer in &mut self.layers {
            layer.truncate(self.tokens);
        }
    }

    /// What a layer remembers.
    pub(crate) fn layer(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    /// Where the next row stands: after the farthest that the last one reached, which is where a text goes on after a picture.
    pub(crate) fn next_position(&self) -> u32 {
        self.positions
            .last()
            .and_then(|position| position.iter().max())
            .map_or(self.tokens as u32, |position| position.saturating_add(1))
    }

    /// Where the rows stand that are taken in next.
    pub(crate) fn remember_positions(&mut self, positions: &[[u32; 3]]) {
        self.positions.truncate(self.tokens);
        self.positions.extend_from_slice(positions);
    }

    /// All layers have taken in the positions up to `tokens`.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.tokens = tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::numbers;

    fn shape(precision: Option<Precision>) -> CacheShape {
        CacheShape {
            layers: 1,
            heads: 2,
            head_dim: 64,
            precision,
        }
    }

    /// What 100 positions of six query heads find after 300 others.
    fn found(precision: Option<Precision>) -> Vec<f32> {
        let isa = Isa::detect();
        let mut cache = KvCache::new(&shape(precision), 400);
        let layer = cache.layer(0);
        layer.append(isa, 400, &numbers(400 * 128, 1), &numbers(400 * 128, 2));
        let queries = numbers(100 * 6 * 64, 3);
        let of_head = |head: usize| {
            let asked = Asked {
                positions: 100,
                group: 3,
                data: &queries[head * 3 * 64..],
                stride: 6 * 64,
                reach: Reach::Past {
                    first: 301,
                    group: 3,
                },
            };
            layer.attend(isa, head, &asked)
        };
        (0..2).flat_map(of_head).collect()
    }

    #[test]
    fn int8_keys_and_values_are_near_those_of_f32() {
        let exact = found(None);
        // Standard deviations, relative to a value's 0.58: rounding a value to 127 steps 0.4%; rounding a key, and a query of INT8,
        // 0.13% of each weight; rounding a weight of INT8 to 255 steps of one three times the mean 0.35%. Weights are nearly
        // even here, so a result shrinks as its error does: in all 0.42% with INT16 and 0.57% with INT8, and half as much again.
        for (precision, most) in [(Precision::Int16, 0.0063), (Precision::Int8, 0.0086)] {
            let found = found(Some(precision));
            let square = |x: f32| f64::from(x) * f64::from(x);
            let pairs = exact.iter().zip(&found);
            let error: f64 = pairs.map(|(a, b)| square(a - b)).sum();
            let size: f64 = exact.iter().map(|a| square(*a)).sum();
            let relative = (error / size).sqrt();
            assert!(relative < most, "{precision:?}: {relative}");
            assert!(relative > most / 10.0, "{precision:?} rounds: {relative}");
        }
    }

    #[test]
    fn a_position_takes_its_numbers_and_two_scales_a_head() {
        assert_eq!(shape(None).bytes_per_token(), 2 * 2 * 64 * 4);
        let int8 = shape(Some(Precision::Int8)).bytes_per_token();
        assert_eq!(int8, 2 * (2 * 64 + 2 * 4));
    }

    #[test]
    fn a_cache_comes_back_from_its_bytes_and_grows_on() {
        let isa = Isa::detect();
        let queries = numbers(3 * 64, 3);
        let find = |cache: &mut KvCache, tokens: usize| {
            let layer = cache.layer(0);
            layer.append(isa, 5, &numbers(5 * 128, 4), &numbers(5 * 128, 5));
            let asked = Asked {
                positions: 1,
                group: 3,
                data: &queries,
                stride: 3 * 64,
                reach: Reach::Past {
                    first: tokens + 5,
                    group: 3,
                },
            };
            layer.attend(isa, 1, &asked)
        };
        for precision in [None, Some(Precision::Int16), Some(Precision::Int8)] {
            for tokens in [1, 127, 128, 131] {
                let shape = shape(precision);
                let mut cache = KvCache::new(&shape, 200);
                // More than are kept: what was forgotten must not come back.
                let rows = (tokens + 3) * 128;
                cache
                    .layer(0)
                    .append(isa, tokens + 3, &numbers(rows, 1), &numbers(rows, 2));
                cache.advance(tokens + 3);
                cache.truncate(tokens);
                let bytes = cache.to_bytes();
                let read = |tokens, bytes| KvCache::from_bytes(&shape, 200, tokens, bytes);
                let mut again = read(tokens, &bytes).unwrap();
                assert_eq!(again.len(), tokens);
                assert_eq!(
                    find(&mut again, tokens),
                    find(&mut cache, tokens),
                    "{precision:?} {tokens}"
                );
                let mut copy = again.copy(tokens / 2);
                assert_eq!((copy.len(), copy.capacity()), (tokens / 2, 200));
                again.truncate(tokens / 2);
                assert_eq!(find(&mut copy, tokens / 2), find(&mut again, tokens / 2));
                assert!(read(tokens, &bytes[1..]).is_none());
                assert!(read(tokens + 128, &bytes).is_none());
                assert!(read(usize::MAX, &bytes).is_none());
                assert!(read(201, &bytes).is_none());
            }
        }
        assert_eq!(
            KvCache::from_bytes(&shape(None), 9, 0, &[]).unwrap().len(),
            0
        );
    }
}
