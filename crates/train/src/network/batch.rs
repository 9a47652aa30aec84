//! What a step computes on: sequences with branches, pixels, patch labels; and whether they fit the network.

use super::error::NetworkError;
use super::shape::Shape;
use super::sight::Sight;
use crate::losses::IGNORE;

/// Positions beyond this are a mistake, not a long text: the rope table grows with them.
const MOST_POSITIONS: u32 = 1 << 20;

/// One picture (or text) with its questions. Token i sees token j <= i when j lies in the prefix (branch 0) or in i's
/// own branch, so the result equals one sample per question while the picture is computed once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequence {
    /// Token ids; places of `image_token_id` take the image embeddings in order.
    pub tokens: Vec<u32>,
    /// Rotary positions; each branch goes on behind the prefix.
    pub positions: Vec<u32>,
    /// 0 for the prefix, then 1, 2, … for the branches: never falling.
    pub branch: Vec<u32>,
    /// The id to be predicted from this token's output, or -100.
    pub labels: Vec<i32>,
    /// Weight of that token's loss.
    pub weights: Vec<f32>,
    /// Tiles of this sequence.
    pub tiles: usize,
    /// What its image tokens say, instead of pixels: its tiles are then not encoded.
    pub sight: Option<Sight>,
}

/// Dense labels for every patch of every tile: which characters lie in it.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchLabels {
    /// Labels of one patch.
    pub slots: usize,
    /// `[tiles, patches, slots]`; -100 = ignore, 0 = blank.
    pub classes: Vec<i32>,
    /// What the sum of these labels' losses is multiplied by (the step's scale is not): wanted share / labels of the
    /// whole optimizer step.
    pub weight: f32,
}

/// What one thread computes at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MicroBatch {
    /// May be empty: then only patch labels teach, on whatever tiles `pixels` holds.
    pub sequences: Vec<Sequence>,
    /// `[tiles, 3, image, image]` of all sequences without `sight` in order.
    pub pixels: Vec<f32>,
    /// Labels for the auxiliary patch head.
    pub patch_labels: Option<PatchLabels>,
    /// What the projector is drawn to, for all tiles in `pixels`, and the weight of that distance per unit of its own weight
    /// (wanted share / weight of the whole optimizer step).
    pub target: Option<(Sight, f32)>,
}

/// Size of the auxiliary patch head; zeros for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuxSpec {
    /// Classes, blank among them.
    pub patch_classes: usize,
    /// Labels of one patch.
    pub patch_slots: usize,
}

impl MicroBatch {
    /// Tiles in `pixels`, everything checked.
    pub(crate) fn check(&self, shape: &Shape, aux: AuxSpec) -> Result<usize, NetworkError> {
        for (index, sequence) in self.sequences.iter().enumerate() {
            sequence.check(index, shape)?;
        }
        let tile = shape.vision.tile_values();
        let tiles = if self.sequences.is_empty() {
            self.pixels.len() / tile
        } else {
            let seen = self.sequences.iter().filter(|s| s.sight.is_none());
            seen.map(|sequence| sequence.tiles).sum()
        };
        if self.pixels.len() != tiles * tile {
            return Err(NetworkError::Pixels {
                expected: tiles * tile,
                found: self.pixels.len(),
            });
        }
        if let Some(labels) = &self.patch_labels {
            labels.check(tiles * shape.vision.patches(), aux)?;
        }
        if let Some((sight, _)) = &self.target {
            sight.check(tiles * shape.vision.tokens(), shape)?;
        }
        Ok(tiles)
    }
}

impl PatchLabels {
    fn check(&self, patches: usize, aux: AuxSpec) -> Result<(), NetworkError> {
        let wrong = |what, expected, found| {
            Err(NetworkError::PatchLabels {
                what,
                expected,
                found,
            })
        };
        if self.slots != aux.patch_slots || self.slots == 0 {
            return wrong("slots", aux.patch_slots, self.slots as i64);
        }
        if self.classes.len() != patches * self.slots {
            return wrong(
                "number of labels",
                patches * self.slots,
                self.classes.len() as i64,
            );
        }
        let allowed = |class: i32| {
            class == IGNORE || (0..aux.patch_classes as i64).contains(&i64::from(class))
        };
        match self.classes.iter().find(|&&class| !allowed(class)) {
            Some(&class) => wrong("classes below", aux.patch_classes, i64::from(class)),
            None => Ok(()),
        }
    }
}

impl Sequence {
    fn check(&self, index: usize, shape: &Shape) -> Result<(), NetworkError> {
        let wrong = |what, expected: String, found: String| {
            Err(NetworkError::Sequence {
                sequence: index,
                what,
                expected,
                found,
            })
        };
        let length = self.tokens.len();
        let lengths = [
            self.positions.len(),
            self.branch.len(),
            self.labels.len(),
            self.weights.len(),
        ];
        if lengths.iter().any(|&other| other != length) {
            return wrong(
                "lengths of positions, branch, labels, weights",
                length.to_string(),
                format!("{lengths:?}"),
            );
        }
        let vocabulary = shape.decoder.vocabulary as u32;
        if let Some(token) = self.tokens.iter().find(|&&token| token >= vocabulary) {
            return wrong("token", format!("below {vocabulary}"), token.to_string());
        }
        if let Some(label) = self
            .labels
            .iter()
            .find(|&&label| label != IGNORE && !(0..vocabulary as i32).contains(&label))
        {
            return wrong(
                "label",
                format!("-100 or below {vocabulary}"),
                label.to_string(),
            );
        }
        if let Some(position) = self
            .positions
            .iter()
            .find(|&&position| position >= MOST_POSITIONS)
        {
            return wrong(
                "position",
                format!("below {MOST_POSITIONS}"),
                position.to_string(),
            );
        }
        if !self.branch.is_sorted() {
            return wrong(
                "branch",
                "never falling".into(),
                "a branch behind a higher one".into(),
            );
        }
        if let Some(weight) = self.weights.iter().find(|weight| !weight.is_finite()) {
            return wrong("weight", "finite".into(), weight.to_string());
        }
        let images = self
            .tokens
            .iter()
            .filter(|&&token| token == shape.image_token)
            .count();
        let expected = self.tiles * shape.vision.tokens();
        if images != expected {
            return wrong(
                "image tokens",
                format!("{expected} for {} tiles", self.tiles),
                images.to_string(),
            );
        }
        if let Some(sight) = &self.sight {
            sight.check(expected, shape)?;
        }
        if self.labels.iter().all(|&label| label == IGNORE) {
            return Err(NetworkError::NoSupervisedTokens {
                sequence: index,
                tokens: length,
            });
        }
        Ok(())
    }
}
