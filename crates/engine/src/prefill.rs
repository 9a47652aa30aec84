//! Takes a prompt into the cache in steps of 128 rows, while another thread encodes the images that come later.
//!
//! Where an image is not ready, the rows before it go through the decoder first, so that both work at once. How the rows fall
//! into steps thus depends on the clock; the numbers do not, because the bits of a row never depend on its step.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use image_prep::{Picture, Preprocessor};
use model::{LogitRows, NoTaps, Taps};

use crate::cancel::Cancel;
use crate::error::EngineError;
use crate::network::{Cache, Network};
use crate::prompt::{Piece, Prompt};
use crate::record::Record;

/// Rows of one step: enough for full use of the processor, few enough to cancel and report between.
pub const STEP_TOKENS: usize = 128;

/// One prefill.
pub(crate) struct Prefill<'a, N: Network> {
    pub network: &'a N,
    pub preprocessor: &'a Preprocessor,
    pub prompt: &'a Prompt,
    pub pictures: &'a [Picture],
    pub step_tokens: usize,
    pub cancel: &'a Cancel,
    /// Called with the rows done so far.
    pub progress: &'a mut dyn FnMut(usize),
    pub record: Option<&'a mut Record>,
}

/// The end of a prefill.
pub(crate) struct Prefilled {
    /// Logits after the last row of the prompt.
    pub logits: Vec<f32>,
    /// Time the images took on their own thread.
    pub image_time: Duration,
    /// Time the decoder worked.
    pub decoder_time: Duration,
}

/// One encoded image.
struct Encoded {
    features: Vec<f32>,
    /// Pixels and their tiles, only for a record.
    pixels: Option<(Vec<f32>, usize)>,
    time: Duration,
}

impl<N: Network> Prefill<'_, N> {
    /// Fills the cache, which already holds the first rows of this prompt, up to the prompt's end.
    pub fn run(mut self, cache: &mut N::Cache) -> Result<Prefilled, EngineError> {
        let done = cache.tokens();
        let wanted: Vec<usize> = self
            .prompt
            .pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Image { image, places } if places.start >= done => Some(*image),
                _ => None,
            })
            .collect();
        let encoder = ImageEncoder {
            network: self.network,
            preprocessor: self.preprocessor,
            pictures: self.pictures,
            cancel: self.cancel,
            keep_pixels: self.record.is_some(),
        };
        std::thread::scope(|scope| {
            // One image waits in the channel while the next is encoded: ahead, but with bounded memory.
            let (sender, receiver) = sync_channel(1);
            if !wanted.is_empty() {
                scope.spawn(move || {
                    for image in wanted {
                        let encoded = encoder.encode(image);
                        let failed = encoded.is_err();
                        if sender.send(encoded).is_err() || failed {
                            break;
                        }
                    }
                });
            }
            self.consume(cache, receiver)
        })
    }

    fn consume(
        &mut self,
        cache: &mut N::Cache,
        images: Receiver<Result<Encoded, EngineError>>,
    ) -> Result<Prefilled, EngineError> {
        let hidden = self.network.shape().hidden;
        let mut done = Prefilled {
            logits: Vec::new(),
            image_time: Duration::ZERO,
            decoder_time: Duration::ZERO,
        };
        let mut rows: Vec<f32> = Vec::with_capacity(self.step_tokens * hidden);
        let reused = cache.tokens();
        for piece in &self.prompt.pieces {
            match piece {
                Piece::Text(range) => {
                    let range = range.start.max(reused)..range.end.max(reused);
                    // Embedded step by step: the rows of a long text need not exist at once.
                    for ids in self.prompt.ids[range].chunks(self.step_tokens) {
                        rows.extend(self.network.embed(ids));
                        self.take_steps(&mut rows, cache, &mut done)?;
                    }
                }
                Piece::Image { places, .. } if places.start < reused => {}
                Piece::Image { .. } => {
                    let encoded = match images.try_recv() {
                        Ok(ready) => ready?,
                        Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                            self.take_step(&mut rows, usize::MAX, cache, &mut done)?;
                            // The encoder sends an error before it ends, so a closed channel means that it panicked.
                            images
                                .recv()
                                .expect("the image encoder answers for every image")?
                        }
                    };
                    done.image_time += encoded.time;
                    self.keep(&encoded);
                    rows.extend(encoded.features);
                    self.take_steps(&mut rows, cache, &mut done)?;
                }
            }
        }
        self.take_step(&mut rows, usize::MAX, cache, &mut done)?;
        Ok(done)
    }

    /// Takes all whole steps out of `rows`.
    fn take_steps(
        &mut self,
        rows: &mut Vec<f32>,
        cache: &mut N::Cache,
        done: &mut Prefilled,
    ) -> Result<(), EngineError> {
        let step = self.step_tokens * self.network.shape().hidden;
        while rows.len() >= step {
            self.take_step(rows, step, cache, done)?;
        }
        Ok(())
    }

    /// Takes the first `count` numbers of `rows`, or all, through the decoder.
    fn take_step(
        &mut self,
        rows: &mut Vec<f32>,
        count: usize,
        cache: &mut N::Cache,
        done: &mut Prefilled,
    ) -> Result<(), EngineError> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let shape = self.network.shape();
        let inputs: Vec<f32> = rows.drain(..count.min(rows.len())).collect();
        let tokens = inputs.len() / shape.hidden;
        let last = cache.tokens() + tokens == self.prompt.ids.len();
        let wanted = match (&self.record, last) {
            (Some(_), _) => LogitRows::All,
            (None, true) => LogitRows::Last,
            (None, false) => LogitRows::None,
        };
        let started = Instant::now();
        let mut silent = NoTaps;
        let taps: &mut dyn Taps = match &mut self.record {
            Some(record) => &mut **record,
            None => &mut silent,
        };
        let mut logits = self
            .network
            .forward(&inputs, cache, wanted, self.cancel, taps)?;
        done.decoder_time += started.elapsed();
        if let Some(record) = &mut self.record {
            record.append("inputs_embeds", &[tokens, shape.hidden], &inputs);
            record.append("prefill_logits", &[tokens, shape.vocabulary], &logits);
            logits.drain(..logits.len() - shape.vocabulary);
        }
        if last {
            done.logits = logits;
        }
        (self.progress)(cache.tokens());
        Ok(())
    }

    fn keep(&mut self, encoded: &Encoded) {
        let shape = self.network.shape();
        if let (Some(record), Some((pixels, tiles))) = (&mut self.record, &encoded.pixels) {
            record.append(
                "pixel_values",
                &[*tiles, 3, shape.tile_side, shape.tile_side],
                pixels,
            );
            record.append(
                "image_embeds",
                &[encoded.features.len() / shape.hidden, shape.hidden],
                &encoded.features,
            );
        }
    }
}

/// The other thread's part.
struct ImageEncoder<'a, N: Network> {
    network: &'a N,
    preprocessor: &'a Preprocessor,
    pictures: &'a [Picture],
    cancel: &'a Cancel,
    keep_pixels: bool,
}

impl<N: Network> ImageEncoder<'_, N> {
    fn encode(&self, image: usize) -> Result<Encoded, EngineError> {
        let started = Instant::now();
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let tiles = self.preprocessor.prepare(&self.pictures[image]);
        let features = self
            .network
            .encode(&tiles.pixels, tiles.plan.tiles, self.cancel)?;
        let pixels = self.keep_pixels.then_some((tiles.pixels, tiles.plan.tiles));
        Ok(Encoded {
            features,
            pixels,
            time: started.elapsed(),
        })
    }
}
