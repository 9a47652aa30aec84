//! Perfect sight: what every image token would say if the encoder read without mistakes, as a sum of word embeddings.
//!
//! It stands in for encoder and projector while the decoder learns to read, and it is what the projector is drawn to.

use kernels::isa::Isa;
use kernels::rows::add;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::error::NetworkError;
use super::shape::Shape;

/// How many words one image token can tell, in reading order. The first stands as it is, each further one turned by a pattern of
/// signs of its own, so that words do not change places with each other.
const MOST_WORDS: usize = 4;
/// Empty image tokens are many; each draws the projector less than one with words.
const EMPTY_WEIGHT: f32 = 0.2;
/// How much a row or a column of the tile counts, beside a word: an encoder knows where in the tile it looks.
const PLACE_SHARE: f32 = 0.5;

/// The words of every image token, in the order of the tiles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sight {
    tokens: Vec<u32>,
    /// For each image token: where its words end in `tokens`, and whether that is all that stands there.
    places: Vec<(usize, bool)>,
}

/// The table that words are looked up in.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    pub isa: Isa,
    /// `[vocabulary, width]`.
    pub embedding: &'a [f32],
    pub width: usize,
    /// Every image token begins from this word.
    pub image_token: u32,
    /// Where in its tile an image token lies.
    pub places: &'a PlaceCodes,
    /// [`spread`] of the embedding, where something is told.
    pub spread: f32,
}

/// For each column and each row of a tile's image tokens a fixed pattern of signs.
#[derive(Clone, Debug)]
pub(crate) struct PlaceCodes {
    /// Image tokens along one side of a tile.
    side: usize,
    /// `[side + side, width]`, columns first.
    signs: Vec<f32>,
    /// `[MOST_WORDS, width]`; ones for the first.
    turns: Vec<f32>,
}

impl PlaceCodes {
    pub fn new(side: usize, width: usize) -> PlaceCodes {
        let mut random = ChaCha8Rng::seed_from_u64(0x0073_6967_6874);
        let sign = |_| 1.0 - 2.0 * (random.next_u32() >> 31) as f32;
        let signs: Vec<f32> = (0..(2 * side + MOST_WORDS - 1) * width).map(sign).collect();
        let (signs, turns) = signs.split_at(2 * side * width);
        PlaceCodes {
            side,
            signs: signs.to_vec(),
            turns: [vec![1.0; width], turns.to_vec()].concat(),
        }
    }

    /// The patterns of an image token's column and row.
    fn of(&self, place: usize, width: usize) -> impl Iterator<Item = f32> {
        let (column, row) = (place % self.side, place / self.side % self.side);
        let code = |at: usize| &self.signs[at * width..][..width];
        let pairs = code(column).iter().zip(code(self.side + row));
        pairs.map(|(column, row)| column + row)
    }
}

/// The distance of projected image tokens from perfect sight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Distance {
    /// Σ weight · squared distance, as a share of the mean squared length of an embedding.
    pub sum: f64,
    /// Σ weight.
    pub weight: f64,
}

impl Sight {
    /// The next image token shows `words` in reading order; only the first four are kept. `complete` is false where more
    /// stands there than can be told: such a token draws no projector.
    pub fn push(&mut self, words: &[u32], complete: bool) {
        let kept = &words[..words.len().min(MOST_WORDS)];
        self.tokens.extend(kept);
        self.places
            .push((self.tokens.len(), complete && kept.len() == words.len()));
    }

    /// Goes on with the image tokens of another picture.
    pub fn append(&mut self, other: Sight) {
        let first = self.tokens.len();
        self.tokens.extend(other.tokens);
        let moved = other.places.iter().map(|&(end, all)| (first + end, all));
        self.places.extend(moved);
    }

    /// Image tokens described.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing is described.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn check(&self, image_tokens: usize, shape: &Shape) -> Result<(), NetworkError> {
        let vocabulary = shape.decoder.vocabulary;
        let wrong = |what, expected, found| {
            Err(NetworkError::Sight {
                what,
                expected,
                found,
            })
        };
        match self.tokens.iter().find(|&&t| t as usize >= vocabulary) {
            Some(&token) => wrong("words below", vocabulary, token as usize),
            None if self.len() != image_tokens => wrong("image tokens", image_tokens, self.len()),
            None => Ok(()),
        }
    }

    fn words(&self, place: usize) -> &[u32] {
        let start = place
            .checked_sub(1)
            .map_or(0, |before| self.places[before].0);
        &self.tokens[start..self.places[place].0]
    }

    /// Writes the embedding of one image token, `[width]`.
    pub(super) fn embed(&self, place: usize, words: Words, row: &mut [f32]) {
        row.copy_from_slice(words.row(words.image_token));
        let share = PLACE_SHARE * words.spread;
        for (value, code) in row.iter_mut().zip(words.places.of(place, words.width)) {
            *value += share * code;
        }
        let turns = words.places.turns.chunks_exact(words.width);
        for (&token, turn) in self.words(place).iter().zip(turns) {
            for ((value, part), sign) in row.iter_mut().zip(words.row(token)).zip(turn) {
                *value += sign * part;
            }
        }
    }

    /// Adds the gradient of one image token's embedding to those of its words; `embedding` holds the gradients.
    pub(super) fn embed_backward(
        &self,
        place: usize,
        words: Words,
        dx: &[f32],
        embedding: &mut [f32],
    ) {
        let row = |token: u32| token as usize * words.width..(token as usize + 1) * words.width;
        add(words.isa, &mut embedding[row(words.image_token)], dx);
        let turns = words.places.turns.chunks_exact(words.width);
        for (&token, turn) in self.words(place).iter().zip(turns) {
            for ((value, part), sign) in embedding[row(token)].iter_mut().zip(dx).zip(turn) {
                *value += sign * part;
            }
        }
    }

    /// How far `projected` `[image tokens, width]` is from perfect sight; adds `scale` times that distance's gradient to
    /// `gradient`, the scale taken per unit of weight.
    pub(super) fn distance(
        &self,
        projected: &[f32],
        words: Words,
        scale: f32,
        mut gradient: Option<&mut [f32]>,
    ) -> Distance {
        let length = (words.spread * words.spread * words.width as f32).max(f32::MIN_POSITIVE);
        let mut distance = Distance::default();
        let mut wanted = vec![0.0; words.width];
        for (place, row) in projected.chunks_exact(words.width).enumerate() {
            let weight = self.weight_at(place);
            if weight == 0.0 {
                continue;
            }
            self.embed(place, words, &mut wanted);
            let mut sum = 0.0;
            for (wanted, found) in wanted.iter_mut().zip(row) {
                *wanted = found - *wanted;
                sum += *wanted * *wanted;
            }
            distance.sum += f64::from(weight * sum / length);
            distance.weight += f64::from(weight);
            if let Some(gradient) = gradient.as_deref_mut() {
                let factor = 2.0 * scale * weight / length;
                let row = &mut gradient[place * words.width..][..words.width];
                for (value, difference) in row.iter_mut().zip(&wanted) {
                    *value += factor * difference;
                }
            }
        }
        distance
    }

    /// Σ weight of the image tokens that draw the projector.
    pub fn weight(&self) -> f32 {
        (0..self.len()).map(|place| self.weight_at(place)).sum()
    }

    fn weight_at(&self, place: usize) -> f32 {
        match (self.places[place].1, self.words(place)) {
            (false, _) => 0.0,
            (true, []) => EMPTY_WEIGHT,
            (true, _) => 1.0,
        }
    }
}

/// Root mean square of an embedding.
pub(crate) fn spread(embedding: &[f32]) -> f32 {
    let squares: f32 = embedding.iter().map(|value| value * value).sum();
    (squares / embedding.len().max(1) as f32).sqrt()
}

impl<'a> Words<'a> {
    /// The embedding of one word.
    pub fn row(&self, token: u32) -> &'a [f32] {
        &self.embedding[token as usize * self.width..][..self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_by_their_order_and_the_place_in_the_tile_is_told() {
        // Word w is the w-th unit vector of 64; the picture's own word is the last.
        let width = 64;
        let embedding: Vec<f32> = (0..width * width)
            .map(|at| f32::from(at % width == at / width))
            .collect();
        let places = PlaceCodes::new(2, width);
        let words = Words {
            isa: Isa::detect(),
            embedding: &embedding,
            width,
            image_token: 63,
            places: &places,
            spread: spread(&embedding),
        };
        assert_eq!(words.spread, 0.125);
        let mut sight = Sight::default();
        sight.push(&[7, 9], true);
        (0..4).for_each(|_| sight.push(&[], true));
        let embed = |place| {
            let mut row = vec![0.0; width];
            sight.embed(place, words, &mut row);
            row
        };
        // Places 0 and 4 are the same corner of two tiles.
        let told: Vec<f32> = embed(0).iter().zip(embed(4)).map(|(a, b)| a - b).collect();
        let expected = |at: usize| match at {
            7 => 1.0,
            9 => places.turns[64 + 9],
            _ => 0.0,
        };
        for (at, value) in told.iter().enumerate() {
            // The value below 2 was rounded at most twice, the difference once: three halves of 2⁻²³.
            assert!(
                (value - expected(at)).abs() <= 1.5 * f32::EPSILON,
                "{at}: {value}"
            );
        }
        for (one, other) in [(1, 2), (1, 3), (2, 3), (3, 4)] {
            assert_ne!(embed(one), embed(other), "{one} and {other}");
        }
        // Column and row each move every number by half the spread.
        let blank = embed(3);
        let allowed = [-0.125, 0.0, 0.125, 0.875, 1.0, 1.125];
        assert!(blank.iter().all(|value| allowed.contains(value)));
    }
}
