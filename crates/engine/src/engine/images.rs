//! An engine's threads, and its images: encoded with a request, ahead of it, or alone.

use std::time::Instant;

use image_prep::Picture;

use super::{Engine, milliseconds};
use crate::ahead::ImageAhead;
use crate::cancel::Cancel;
use crate::encoding::{Batch, Encoding, MOST_BATCH_TILES, Pixels, Wanted};
use crate::error::EngineError;
use crate::network::Network;
use crate::prefill::Overlap;
use crate::threads::Threads;

/// The rows of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedImage {
    /// `[tiles · tokens_per_tile, d]`.
    pub features: Vec<f32>,
    /// From the picture to the last row.
    pub milliseconds: f64,
}

impl<N: Network> Engine<N> {
    /// Computes on these threads instead of one for each core. The answer's bits do not depend on it. Requests must come from
    /// outside of them: a request waits for its images, and a thread that waits cannot encode.
    pub fn with_threads(mut self, threads: Threads) -> Self {
        self.encoder.threads = threads;
        self
    }

    /// The threads that it computes on.
    pub fn threads(&self) -> &Threads {
        &self.encoder.threads
    }

    /// Encodes images so. Errors for a batch of no tile, or of more than [`MOST_BATCH_TILES`].
    pub fn with_encoding(mut self, encoding: Encoding) -> Result<Self, EngineError> {
        check(encoding)?;
        self.encoder.encoding = encoding;
        Ok(self)
    }

    /// Prefills so, while images are encoded.
    pub fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Begins to encode a picture now, on a thread of its own. Requests with the same picture take its rows from there, as
    /// long as what this gives, or a copy of it, is held; they need not name it.
    ///
    /// Errors where the model takes no images.
    pub fn encode_ahead(&self, picture: Picture) -> Result<ImageAhead, EngineError>
    where
        N: 'static,
    {
        self.check_sight()?;
        Ok(self.ahead.begin(self.encoder.clone(), picture))
    }

    /// Encodes a picture and does nothing else, in the way that is asked for.
    ///
    /// Errors as [`Engine::with_encoding`] and [`Engine::encode_ahead`].
    pub fn encode(
        &self,
        picture: &Picture,
        encoding: Encoding,
        cancel: &Cancel,
    ) -> Result<EncodedImage, EngineError> {
        self.check_sight()?;
        check(encoding)?;
        let started = Instant::now();
        let mut encoder = self.encoder.clone();
        encoder.encoding = encoding;
        let mut features = Vec::new();
        let _at_work = encoder.begin();
        encoder.encode(picture, Pixels::Drop, cancel, &mut |batch: Batch| {
            features.extend(batch.features.iter());
            Wanted::More
        })?;
        Ok(EncodedImage {
            features,
            milliseconds: milliseconds(started.elapsed()),
        })
    }

    fn check_sight(&self) -> Result<(), EngineError> {
        match self.network.shape().image_ids {
            Some(_) => Ok(()),
            None => Err(EngineError::request("images", "this model takes none")),
        }
    }
}

fn check(encoding: Encoding) -> Result<(), EngineError> {
    if (1..=MOST_BATCH_TILES).contains(&encoding.batch_tiles) {
        return Ok(());
    }
    let found = encoding.batch_tiles;
    let message = format!("expected 1 to {MOST_BATCH_TILES} tiles, found {found}");
    Err(EngineError::request("batch", message))
}

#[cfg(test)]
mod tests;
