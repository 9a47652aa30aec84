//! What the engine needs of a network, so that its own logic is tested with a fake one.

use std::borrow::Cow;
use std::ops::Range;

use image_prep::Views;
use model::spec::Segment as PromptSegment;
use model::{Inputs, LogitRows, NoTaps, Patches, Taps};

use crate::cancel::Cancel;
use crate::error::EngineError;

/// The sizes of a network that a prompt depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkShape {
    /// Width of an input row, `d`.
    pub hidden: usize,
    /// Length of a row of logits; ids are below it.
    pub vocabulary: usize,
    /// Positions that the decoder was made for.
    pub context_tokens: usize,
    /// Rows that one tile becomes.
    pub tokens_per_tile: usize,
    /// Side of a tile in pixels.
    pub tile_side: usize,
    /// Ids of the control tokens around and for an image; none for a model that sees nothing.
    pub image_ids: Option<ImageIds>,
}

/// Control tokens of images. What marks an image's borders in a prompt of another family than the native one, its layout says;
/// all three are then the image's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageIds {
    /// `<im_start>`.
    pub start: u32,
    /// `<image>`, one for each row of features.
    pub image: u32,
    /// `<im_end>`.
    pub end: u32,
}

/// The key-value cache of one conversation.
pub trait Cache: Send {
    /// Positions it holds.
    fn tokens(&self) -> usize;
    /// Forgets all positions from `tokens` on.
    fn truncate(&mut self, tokens: usize);
    /// Another one with the same first `tokens` positions, for at most as many as this one; none where caches cannot be
    /// copied.
    fn copy(&self, _tokens: usize) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
    /// All of it as bytes, for [`Network::cache_from_bytes`]; nothing where caches are not for files.
    fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Rows of one conversation among those of others.
pub struct Segment<'a, C> {
    /// Input rows `[m, d]`, which take the next m places of the cache.
    pub inputs: Vec<f32>,
    /// Where they stand (time, row, column), for decoders whose positions are those; None: each follows the one before.
    pub positions: Option<&'a [[u32; 3]]>,
    /// Which of them are pictures, for decoders in which the rows of a picture see each other.
    pub pictures: Vec<Range<usize>>,
    /// What it remembers.
    pub cache: &'a mut C,
    /// Of which rows logits are wanted.
    pub logits: LogitRows,
}

/// A multimodal language model. The bits of every output depend only on the inputs before it, never on how they were cut
/// into calls.
pub trait Network: Send + Sync {
    /// What it remembers of a conversation.
    type Cache: Cache;

    /// Its sizes.
    fn shape(&self) -> NetworkShape;

    /// Rows that a picture becomes.
    fn image_tokens(&self, views: &Views) -> usize {
        views.list.len() * self.shape().tokens_per_tile
    }

    /// What stands in the prompt for a picture, the one with this index of so many: as many places as it has rows.
    fn image_text(&self, views: &Views, _of: (usize, usize)) -> Vec<PromptSegment> {
        vec![PromptSegment::Rows(self.image_tokens(views))]
    }

    /// Rows and columns of a picture whose rows have positions of their own; none where positions count by one.
    fn position_grid(&self, _views: &Views) -> Option<[usize; 2]> {
        None
    }

    /// Whether all rows of a picture must be given to the decoder at once, because they see each other.
    fn reads_whole_pictures(&self) -> bool {
        false
    }

    /// What of some input rows goes into the decoder's first layer: all, unless pictures bring more for later ones.
    fn first_rows<'r>(&self, rows: &'r [f32]) -> Cow<'r, [f32]> {
        Cow::Borrowed(rows)
    }

    /// Pixels `[tiles, 3, height, width]` of one size (width and height) to what the encoder's blocks begin with.
    fn embed_patches(&self, pixels: &[f32], size: (u32, u32)) -> Patches;

    /// Whether the rows of a picture come from all of its views at once.
    fn assembles(&self) -> bool {
        false
    }

    /// The rows of a picture, of the features of all its views: only where [`Network::assembles`] says so.
    fn assemble(&self, _views: &Views, features: Vec<f32>) -> Vec<f32> {
        features
    }

    /// From there to features `[tiles · tokens_per_tile, d]`. Ends within a layer of a cancel.
    fn encode_patches(&self, patches: Patches, cancel: &Cancel) -> Result<Vec<f32>, EngineError>;

    /// Bytes of cache for each position; 0 where nobody knows.
    fn cache_bytes_per_token(&self) -> usize {
        0
    }

    /// No image is being encoded: memory that only encoding needs may go. Encoding goes on to work.
    fn release_encoder(&self) {}

    /// Ids, all below `vocabulary`, to input rows `[ids, d]`.
    fn embed(&self, ids: &[u32]) -> Vec<f32>;

    /// An empty cache for at most so many positions; memory is taken as they come.
    fn new_cache(&self, tokens: usize) -> Self::Cache;

    /// The cache of `tokens` positions that [`Cache::to_bytes`] wrote, for at most `capacity` positions; none when the bytes
    /// are not those of such a cache, or caches are not for files.
    fn cache_from_bytes(
        &self,
        _capacity: usize,
        _tokens: usize,
        _bytes: &[u8],
    ) -> Option<Self::Cache> {
        None
    }

    /// Input rows `[m, d]`, which take the next m places of the cache, to logits: `[m, vocabulary]`, `[vocabulary]` of the last row, or
    /// nothing. Ends within a layer of a cancel; the cache is then only good up to where it was.
    fn forward(
        &self,
        inputs: Inputs,
        cache: &mut Self::Cache,
        logits: LogitRows,
        cancel: &Cancel,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, EngineError>;

    /// Rows of several conversations, in one reading of the weights where it can: for each what [`Network::forward`] gives,
    /// in the same bits. Ends within a layer once `stop` says so, with an error; the caches are then as they were.
    fn forward_batch(
        &self,
        batch: &mut [Segment<Self::Cache>],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let cancel = Cancel::new();
        let forward = |segment: &mut Segment<Self::Cache>| {
            if stop() {
                return Err(EngineError::Cancelled);
            }
            let inputs = Inputs {
                rows: &segment.inputs,
                positions: segment.positions,
                pictures: &segment.pictures,
            };
            let logits = segment.logits;
            self.forward(inputs, segment.cache, logits, &cancel, &mut NoTaps)
        };
        batch.iter_mut().map(forward).collect()
    }
}
