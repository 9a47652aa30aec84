//! Perfect sight: what every image token would say if the encoder read without mistakes, as a sum of word embeddings.
//!
//! It stands in for encoder and projector while the decoder learns to read, and it is what the projector is drawn to.

use kernels::isa::Isa;
use kernels::rows::add;

use super::error::NetworkError;
use super::shape::Shape;

/// How much a word counts by its place in reading order within one image token. They differ so that the order can be told.
const SHARES: [f32; 4] = [1.0, 0.6, 0.4, 0.25];
/// Empty image tokens are many; each draws the projector less than one with words.
const EMPTY_WEIGHT: f32 = 0.2;

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
        let kept = &words[..words.len().min(SHARES.len())];
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
        for (&token, share) in self.words(place).iter().zip(SHARES) {
            for (value, part) in row.iter_mut().zip(words.row(token)) {
                *value += share * part;
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
        for (&token, share) in self.words(place).iter().zip(SHARES) {
            for (value, part) in embedding[row(token)].iter_mut().zip(dx) {
                *value += share * part;
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
        let rows = words.embedding.len() / words.width;
        let squares: f32 = words.embedding.iter().map(|value| value * value).sum();
        let length = (squares / rows as f32).max(f32::MIN_POSITIVE);
        let mut distance = Distance::default();
        let mut wanted = vec![0.0; words.width];
        for (place, row) in projected.chunks_exact(words.width).enumerate() {
            if !self.places[place].1 {
                continue;
            }
            let weight = if self.words(place).is_empty() {
                EMPTY_WEIGHT
            } else {
                1.0
            };
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
        (0..self.len())
            .filter(|&place| self.places[place].1)
            .map(|place| match self.words(place) {
                [] => EMPTY_WEIGHT,
                _ => 1.0,
            })
            .sum()
    }
}

impl<'a> Words<'a> {
    /// The embedding of one word.
    pub fn row(&self, token: u32) -> &'a [f32] {
        &self.embedding[token as usize * self.width..][..self.width]
    }
}
