//! From a picture to rows for the decoder: tiles in batches, and what comes before the encoder's blocks (resizing, cutting,
//! patch embedding) done for the next batch while the blocks of this one are computed.
//!
//! At most two batches exist at once, whatever the picture's size. How tiles are put together and what runs beside what
//! changes no bit: tiles do not see each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use image_prep::{Picture, Preprocessor, TileReader};
use model::Patches;

use crate::cancel::Cancel;
use crate::error::EngineError;
use crate::network::Network;
use crate::threads::Threads;

/// Most tiles of a batch: more than any picture has.
pub const MOST_BATCH_TILES: usize = 4096;

/// How images are encoded. Answers do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Tiles that go through the encoder together, from 1 to [`MOST_BATCH_TILES`].
    pub batch_tiles: usize,
    /// What is done beside the encoder's blocks.
    pub schedule: Schedule,
    /// What becomes of the encoder's weights in memory.
    pub weights: EncoderWeights,
}

impl Default for Encoding {
    /// What measured best: docs/numbers.md, "The paper's size".
    fn default() -> Self {
        Encoding {
            batch_tiles: 4,
            schedule: Schedule::Pipeline,
            weights: EncoderWeights::Release,
        }
    }
}

/// What is done while a batch goes through the encoder's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Nothing else: one after the other.
    Sequence,
    /// The next batch is resized, cut and embedded.
    Pipeline,
}

/// What becomes of the encoder's weights when no image is left to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderWeights {
    /// Those of a mapped bundle give their memory back; the next image reads them again.
    Release,
    /// They stay.
    Keep,
}

/// One batch of an image's rows.
pub(crate) struct Batch {
    /// `[rows, d]`, none where the rows of an image come from all of its tiles at once and this is not the last batch; shared
    /// where the image was encoded ahead.
    pub features: Arc<[f32]>,
    /// Pixels and their shape, only for a record.
    pub pixels: Option<(Vec<f32>, Vec<usize>)>,
    /// Tiles that were encoded for it.
    pub tiles: usize,
    /// How long it took.
    pub time: Duration,
}

impl Batch {
    /// Rows that were encoded before they were asked for, which took so long to come.
    pub fn made_before(features: Arc<[f32]>, waited: Duration) -> Self {
        Batch {
            features,
            pixels: None,
            tiles: 0,
            time: waited,
        }
    }
}

/// A picture on its way to the encoder.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub picture: &'a Picture,
    /// How it is cut and scaled.
    pub preprocessor: &'a Preprocessor,
    /// What is made of it, by [`crate::identity::of_picture`].
    pub name: u128,
}

/// Whoever takes batches says whether it wants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    More,
    Nothing,
}

/// Whether a batch keeps its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pixels {
    Drop,
    Keep,
}

/// What encoding needs. Copies share the threads and the count of images in work.
pub(crate) struct ImageEncoder<N> {
    pub network: Arc<N>,
    pub threads: Threads,
    pub encoding: Encoding,
    pub at_work: Arc<AtomicUsize>,
}

impl<N> Clone for ImageEncoder<N> {
    fn clone(&self) -> Self {
        ImageEncoder {
            network: self.network.clone(),
            threads: self.threads.clone(),
            encoding: self.encoding,
            at_work: self.at_work.clone(),
        }
    }
}

/// Tiles on their way to the blocks.
struct Prepared {
    patches: Patches,
    pixels: Vec<f32>,
    /// Width and height of a tile.
    size: (u32, u32),
}

impl<N: Network> ImageEncoder<N> {
    /// Says that images are being encoded, until what it gives is dropped; when nobody is at work any more, the encoder's
    /// weights go as [`Encoding::weights`] says.
    pub fn begin(&self) -> AtWork<'_, N> {
        self.at_work.fetch_add(1, Ordering::AcqRel);
        AtWork(self)
    }

    /// Encodes a picture; `take` gets its batches in order, on the caller's thread, and may wait. It ends within a layer of
    /// a cancel, or when nothing more is wanted.
    pub fn encode(
        &self,
        subject: Subject,
        pixels: Pixels,
        cancel: &Cancel,
        take: &mut dyn FnMut(Batch) -> Wanted,
    ) -> Result<(), EngineError> {
        let tiles = &mut subject.preprocessor.tiles(subject.picture);
        let mut whole = self.network.assembles().then(Vec::new);
        let mut started = Instant::now();
        let mut next = self.threads.run(|| self.prepare(tiles, cancel))?;
        while let Some(now) = next {
            let blocks = || self.network.encode_patches(now.patches, cancel);
            let (features, following) = match self.encoding.schedule {
                Schedule::Pipeline => self.threads.join(blocks, || self.prepare(tiles, cancel)),
                Schedule::Sequence => self.threads.run(|| (blocks(), self.prepare(tiles, cancel))),
            };
            next = following?;
            let (width, height) = (now.size.0 as usize, now.size.1 as usize);
            let count = now.pixels.len() / (3 * width * height);
            let shape = vec![count, 3, height, width];
            let mut features = features?;
            if let Some(whole) = &mut whole {
                whole.append(&mut features);
                if next.is_none() {
                    features = self.network.assemble(tiles.views(), std::mem::take(whole));
                }
            }
            let batch = Batch {
                features: features.into(),
                pixels: (pixels == Pixels::Keep).then_some((now.pixels, shape)),
                tiles: count,
                time: started.elapsed(),
            };
            if take(batch) == Wanted::Nothing {
                return Ok(());
            }
            started = Instant::now();
        }
        Ok(())
    }

    /// The next batch up to the encoder's blocks; `None` after the last.
    fn prepare(
        &self,
        tiles: &mut TileReader,
        cancel: &Cancel,
    ) -> Result<Option<Prepared>, EngineError> {
        let (count, size) = tiles.alike(self.encoding.batch_tiles.max(1));
        if count == 0 {
            return Ok(None);
        }
        let mut pixels = Vec::with_capacity(count * 3 * size.0 as usize * size.1 as usize);
        for _ in 0..count {
            cancel.check()?;
            tiles.read(1, &mut pixels);
        }
        cancel.check()?;
        let patches = self.network.embed_patches(&pixels, size);
        Ok(Some(Prepared {
            patches,
            pixels,
            size,
        }))
    }

    /// Numbers in all rows of a picture.
    pub fn numbers(&self, subject: Subject) -> usize {
        let (width, height) = (subject.picture.width, subject.picture.height);
        let views = subject.preprocessor.views(width, height);
        self.network.image_tokens(&views) * self.network.shape().hidden
    }
}

/// Somebody encodes.
pub(crate) struct AtWork<'a, N: Network>(&'a ImageEncoder<N>);

impl<N: Network> Drop for AtWork<'_, N> {
    fn drop(&mut self) {
        let last = self.0.at_work.fetch_sub(1, Ordering::AcqRel) == 1;
        // Somebody may begin right now: then pages are read once more, and nothing is wrong.
        if last && self.0.encoding.weights == EncoderWeights::Release {
            self.0.network.release_encoder();
        }
    }
}
