//! Takes a prompt into the cache in steps of 128 rows, while another thread encodes its images batch by batch.
//!
//! What waits for what is [`Overlap`]. How the rows fall into steps may depend on the clock; the numbers do not, because the
//! bits of a row never depend on its step.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use image_prep::Picture;
use model::{Inputs, LogitRows, NoTaps, Taps};

use crate::ahead::{Ahead, ImageAhead, Next};
use crate::cancel::Cancel;
use crate::encoding::{Batch, ImageEncoder, Pixels, Wanted};
use crate::error::EngineError;
use crate::network::{Cache, Network};
use crate::prompt::{Piece, Prompt};
use crate::record::Record;

/// Rows of one step: enough for full use of the processor, few enough to cancel and report between.
pub const STEP_TOKENS: usize = 128;

/// Whether the decoder works while images of the same prompt are encoded. Answers do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// First all images, then the decoder: the weights of encoder and decoder need not be in memory together.
    #[default]
    None,
    /// Whole steps of rows that are known go through the decoder while later tiles are encoded.
    Steps,
}

/// One prefill.
pub(crate) struct Prefill<'a, N: Network> {
    pub network: &'a N,
    pub encoder: &'a ImageEncoder<N>,
    pub ahead: &'a Ahead,
    pub prompt: &'a Prompt,
    pub pictures: &'a [Picture],
    pub step_tokens: usize,
    pub overlap: Overlap,
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

/// Batches of all images that are wanted, in the prompt's order.
struct Batches {
    ready: VecDeque<Batch>,
    coming: Receiver<Result<Batch, EngineError>>,
}

impl Batches {
    /// Waits for all that come.
    fn wait(&mut self) -> Result<(), EngineError> {
        for batch in &self.coming {
            self.ready.push_back(batch?);
        }
        Ok(())
    }

    /// The next batch, of which at most so many numbers: the rest comes next.
    fn next_up_to(&mut self, most: usize) -> Result<Batch, EngineError> {
        let mut batch = self.next()?;
        if batch.features.len() > most {
            let (now, later) = batch.features.split_at(most);
            self.ready.push_front(Batch {
                features: later.into(),
                pixels: None,
                time: Duration::ZERO,
            });
            batch.features = now.into();
        }
        Ok(batch)
    }

    fn next(&mut self) -> Result<Batch, EngineError> {
        match self.ready.pop_front() {
            Some(batch) => Ok(batch),
            // The encoder sends an error before it ends, so a closed channel means that it panicked.
            None => self
                .coming
                .recv()
                .expect("the image encoder answers for every image"),
        }
    }
}

impl<N: Network> Prefill<'_, N> {
    /// Fills the cache, which already holds the first rows of this prompt, up to the prompt's end.
    pub fn run(mut self, cache: &mut N::Cache) -> Result<Prefilled, EngineError> {
        let done = cache.tokens();
        let wanted: Vec<&Picture> = self
            .prompt
            .pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Image {
                    image,
                    places,
                    first_row: 0,
                } if places.start >= done => Some(&self.pictures[*image]),
                _ => None,
            })
            .collect();
        let images = Images {
            encoder: self.encoder,
            ahead: self.ahead,
            cancel: self.cancel,
            pixels: match self.record {
                Some(_) => Pixels::Keep,
                None => Pixels::Drop,
            },
        };
        std::thread::scope(|scope| {
            // One batch waits in the channel while the next is encoded: ahead, but with bounded memory.
            let (sender, coming) = sync_channel(1);
            if !wanted.is_empty() {
                scope.spawn(move || {
                    let send = &mut |batch| match sender.send(batch) {
                        Ok(()) => Wanted::More,
                        Err(_) => Wanted::Nothing,
                    };
                    images.encode(&wanted, send);
                });
            } else {
                drop(sender);
            }
            let mut batches = Batches {
                ready: VecDeque::new(),
                coming,
            };
            if self.overlap == Overlap::None {
                batches.wait()?;
            }
            self.consume(cache, batches)
        })
    }

    fn consume(
        &mut self,
        cache: &mut N::Cache,
        mut images: Batches,
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
                Piece::Image { places, .. } => {
                    let mut missing = places.len() * hidden;
                    while missing > 0 {
                        let batch = images.next_up_to(missing)?;
                        missing -= batch.features.len();
                        done.image_time += batch.time;
                        self.keep(&batch);
                        rows.extend(batch.features.iter());
                        self.take_steps(&mut rows, cache, &mut done)?;
                    }
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
        self.cancel.check()?;
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
        let (network, cancel) = (self.network, self.cancel);
        let before = cache.tokens();
        let positions = self.prompt.positions.as_deref();
        let inputs_at = Inputs {
            rows: &inputs,
            positions: positions.map(|positions| &positions[before..before + tokens]),
        };
        let forward = || network.forward_at(inputs_at, cache, wanted, cancel, taps);
        let mut logits = self.encoder.threads.run(forward)?;
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

    fn keep(&mut self, encoded: &Batch) {
        let hidden = self.network.shape().hidden;
        let Some(record) = &mut self.record else {
            return;
        };
        if let Some((pixels, shape)) = &encoded.pixels {
            record.append("pixel_values", shape, pixels);
        }
        record.append(
            "image_embeds",
            &[encoded.features.len() / hidden, hidden],
            &encoded.features,
        );
    }
}

/// The other thread's part.
struct Images<'a, N: Network> {
    encoder: &'a ImageEncoder<N>,
    ahead: &'a Ahead,
    cancel: &'a Cancel,
    pixels: Pixels,
}

impl<N: Network> Images<'_, N> {
    /// Sends the batches of all pictures, or an error after some.
    fn encode(
        &self,
        pictures: &[&Picture],
        send: &mut dyn FnMut(Result<Batch, EngineError>) -> Wanted,
    ) {
        let _at_work = self.encoder.begin();
        for picture in pictures {
            let mut wanted = Wanted::More;
            let result = self.encode_one(picture, &mut |batch| {
                wanted = send(Ok(batch));
                wanted
            });
            if let Err(error) = result {
                send(Err(error));
                return;
            }
            if wanted == Wanted::Nothing {
                return;
            }
        }
    }

    fn encode_one(
        &self,
        picture: &Picture,
        take: &mut dyn FnMut(Batch) -> Wanted,
    ) -> Result<(), EngineError> {
        self.cancel.check()?;
        // A record wants pixels as well, which are not kept ahead.
        let ahead = match self.pixels {
            Pixels::Drop => self.ahead.find(picture),
            Pixels::Keep => None,
        };
        let mut sent = 0;
        if let Some(ahead) = ahead {
            match self.take_ahead(&ahead, &mut sent, take) {
                Next::Failed => self.cancel.check()?,
                _ => return Ok(()),
            }
        }
        // What came from ahead before it failed is not sent twice.
        self.encoder
            .encode(picture, self.pixels, self.cancel, &mut |mut batch| {
                let again = sent.min(batch.features.len());
                sent -= again;
                if again > 0 && again == batch.features.len() {
                    return Wanted::More;
                }
                if again > 0 {
                    batch.features = batch.features[again..].into();
                }
                take(batch)
            })
    }

    /// Sends what was encoded ahead as it comes; counts the numbers sent. Ends with `Failed` where not all came.
    fn take_ahead(
        &self,
        ahead: &ImageAhead,
        sent: &mut usize,
        take: &mut dyn FnMut(Batch) -> Wanted,
    ) -> Next {
        let mut started = Instant::now();
        for number in 0.. {
            match ahead.next(number, self.cancel) {
                Next::Batch(features) => {
                    *sent += features.len();
                    let batch = Batch {
                        features,
                        pixels: None,
                        // What was waited for: the rest was done before the request.
                        time: started.elapsed(),
                    };
                    if take(batch) == Wanted::Nothing {
                        break;
                    }
                    started = Instant::now();
                }
                end => return end,
            }
        }
        Next::NoMore
    }
}
