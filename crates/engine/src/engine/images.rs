//! An engine's threads, and its images: encoded with a request, ahead of it, or alone.

use std::sync::Arc;
use std::time::Instant;

use image_prep::Picture;

use super::{Engine, milliseconds};
use crate::ahead::{ImageAhead, Owned};
use crate::cancel::Cancel;
use crate::encoding::{Batch, Encoding, MOST_BATCH_TILES, Pixels, Subject, Wanted};
use crate::error::EngineError;
use crate::identity;
use crate::image_cache::{CacheCounts, ImageCache};
use crate::network::Network;
use crate::prefill::Overlap;
use crate::request::Request;
use crate::room::MemoryRoom;
use crate::threads::Threads;
use crate::vision::Vision;

/// The rows of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedImage {
    /// `[rows, d]`.
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

    /// Keeps what images become, so that they are encoded once for all requests. Without this an engine keeps nothing beyond
    /// a request and what [`Engine::encode_ahead`] holds.
    ///
    /// Errors where the cache has a folder and the weights cannot be named, which reads weight files that are no bundle.
    pub fn with_image_cache(mut self, cache: ImageCache) -> Result<Self, EngineError> {
        let cache = cache.of_weights(|| self.weights.name())?;
        self.ahead.cache = Some(Arc::new(cache));
        Ok(self)
    }

    /// What the image cache holds and has done; none where there is none.
    pub fn image_cache_counts(&self) -> Option<CacheCounts> {
        self.ahead.cache.as_ref().map(|cache| cache.counts())
    }

    /// Whether a picture, looked at as the model's settings say, is encoded or being encoded.
    pub fn knows_image(&self, picture: &Picture) -> bool {
        self.knows(identity::of_picture(
            picture,
            &self.files.preprocessor.among(1),
        ))
    }

    /// Makes pictures smaller, or refuses, where a request would take more than this.
    pub fn with_memory_room(mut self, room: MemoryRoom) -> Self {
        self.room = room;
        self
    }

    /// Positions that a request's prompt may have, as memory allows.
    pub(super) fn memory_tokens(&self, request: &Request) -> Option<usize> {
        let bytes = self.room.bytes()?;
        // A position's keys and values, and an image token's row before it becomes them.
        let row_bytes = size_of::<f32>() * self.network.shape().hidden;
        let each = self.network.cache_bytes_per_token() + row_bytes;
        let tokens = usize::try_from(bytes / each.max(1) as u64).unwrap_or(usize::MAX);
        Some(tokens.saturating_sub(request.max_tokens.unwrap_or(1)))
    }

    /// Begins to encode a picture now, on a thread of its own. Requests with the same picture take its rows from there, as
    /// long as what this gives, or a copy of it, is held; they need not name it.
    ///
    /// Errors where the model takes no images.
    pub fn encode_ahead(&self, picture: Picture) -> Result<ImageAhead, EngineError>
    where
        N: 'static,
    {
        self.encode_ahead_as(picture, &Vision::default())
    }

    /// The same for a request that will look at its pictures so; of the details the first one counts.
    pub fn encode_ahead_as(
        &self,
        picture: Picture,
        vision: &Vision,
    ) -> Result<ImageAhead, EngineError>
    where
        N: 'static,
    {
        self.check_sight()?;
        let mut request = Request {
            images: vec![picture],
            vision: vision.clone(),
            ..Request::default()
        };
        let view = self.looking(&request).asked()?.swap_remove(0);
        let picture = request.images.swap_remove(0);
        let owned = Owned {
            name: view.name(&picture),
            picture,
            preprocessor: view.preprocessor,
        };
        Ok(self.ahead.begin(self.encoder.clone(), owned))
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
        let preprocessor = self.files.preprocessor.among(1);
        let subject = Subject {
            picture,
            preprocessor: &preprocessor,
            // Nothing is kept of it.
            name: 0,
        };
        let _at_work = encoder.begin();
        encoder.encode(subject, Pixels::Drop, cancel, &mut |batch: Batch| {
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
