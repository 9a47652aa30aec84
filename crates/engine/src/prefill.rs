//! Makes the rows of a prompt, text embedded and images encoded on another thread, in chunks for the decoder to read.
//!
//! What waits for what is [`Overlap`]. How the rows fall into chunks may depend on the clock; the numbers do not, because the
//! bits of a row never depend on its chunk.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvError, TryRecvError, sync_channel};
use std::thread::Scope;
use std::time::Duration;

use crate::ahead::Ahead;
use crate::cancel::Cancel;
use crate::encoding::{Batch, ImageEncoder, Pixels, Subject, Wanted};
use crate::error::EngineError;
use crate::image_rows::ImageRows;
use crate::network::Network;
use crate::prompt::{Piece, Prompt};
use crate::request::RequestRef;
use crate::vision::View;
use crate::wake::Waker;

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

/// A prompt on its way into the cache.
pub(crate) struct Prefill {
    overlap: Overlap,
    /// Positions of the prompt that are remembered, or whose rows have been made.
    made: usize,
    /// Rows made and not read yet.
    rows: VecDeque<f32>,
    images: Option<Batches>,
    /// Time the images took on their own thread.
    pub image_time: Duration,
    /// Time the decoder worked.
    pub decoder_time: Duration,
}

/// Whether to wait for images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as they take.
    Wait,
    /// Not at all: others have work to do.
    None,
}

/// Batches of all images that are wanted, in the prompt's order.
struct Batches {
    ready: VecDeque<Batch>,
    coming: Receiver<Result<Batch, EngineError>>,
    /// Whether all are there.
    complete: bool,
}

impl Batches {
    /// Takes in all that come, or those that are there.
    fn gather(&mut self, patience: Patience) -> Result<(), EngineError> {
        while !self.complete {
            let next = match patience {
                Patience::Wait => self.coming.recv().map_err(|RecvError| true),
                Patience::None => {
                    let next = self.coming.try_recv();
                    next.map_err(|end| end == TryRecvError::Disconnected)
                }
            };
            match next {
                Ok(batch) => self.ready.push_back(batch?),
                Err(ended) => {
                    self.complete = ended;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The next one, or as much of it as is so many numbers; none where it is still awaited.
    fn next_up_to(
        &mut self,
        most: usize,
        patience: Patience,
    ) -> Result<Option<Batch>, EngineError> {
        let Some(mut batch) = self.next(patience)? else {
            return Ok(None);
        };
        if batch.features.len() > most {
            let (now, later) = batch.features.split_at(most);
            let later = Batch::made_before(later.into(), Duration::ZERO);
            self.ready.push_front(later);
            batch.features = now.into();
        }
        Ok(Some(batch))
    }

    /// The next one, unless it is still awaited.
    fn next(&mut self, patience: Patience) -> Result<Option<Batch>, EngineError> {
        if self.ready.is_empty() && patience == Patience::Wait {
            // One at a time: the decoder may go on with it.
            match self.coming.recv() {
                Ok(batch) => return Ok(Some(batch?)),
                Err(RecvError) => self.complete = true,
            }
        }
        self.gather(Patience::None)?;
        let next = self.ready.pop_front();
        // The encoder sends an error before it ends, so a closed channel means that it panicked.
        assert!(
            next.is_some() || !self.complete,
            "the image encoder answers for every image"
        );
        Ok(next)
    }
}

/// What making rows needs.
pub(crate) struct Sources<'a, N: Network> {
    pub network: &'a N,
    pub prompt: &'a Prompt,
    /// Most rows of a chunk.
    pub chunk_tokens: usize,
    pub patience: Patience,
    /// Sees batches of images as they are used.
    pub keep: &'a mut dyn FnMut(&Batch),
}

impl Prefill {
    /// Begins with a prompt of whose positions `done` are remembered: starts to encode the images of the others.
    pub fn begin<'scope, N: Network>(
        scope: &'scope Scope<'scope, '_>,
        images: Images<'scope, N>,
        (prompt, done): (&Prompt, usize),
        overlap: Overlap,
    ) -> Prefill {
        let wanted: Vec<usize> = prompt
            .pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Image {
                    image,
                    places,
                    first_row: 0,
                } if places.start >= done => Some(*image),
                _ => None,
            })
            .collect();
        let mut prefill = Prefill {
            overlap,
            made: done,
            rows: VecDeque::new(),
            images: None,
            image_time: Duration::ZERO,
            decoder_time: Duration::ZERO,
        };
        if !wanted.is_empty() {
            // Where the decoder works beside it, one batch waits in the channel while the next is encoded: ahead, but with
            // bounded memory. Where all are wanted first, none need wait for whoever collects them between other work: there
            // are at most as many batches as tiles.
            let waiting = match overlap {
                Overlap::Steps => 1,
                Overlap::None => wanted.iter().map(|at| images.views[*at].info.tiles).sum(),
            };
            let (sender, coming) = sync_channel(waiting);
            scope.spawn(move || {
                let send = &mut |batch| {
                    let sent = sender.send(batch);
                    images.waker.wake();
                    match sent {
                        Ok(()) => Wanted::More,
                        Err(_) => Wanted::Nothing,
                    }
                };
                images.encode(&wanted, send);
                // Whoever waits learns of the end only from a closed channel.
                drop(sender);
                images.waker.wake();
            });
            prefill.images = Some(Batches {
                ready: VecDeque::new(),
                coming,
                complete: false,
            });
        }
        prefill
    }

    /// Whether a chunk is there: a whole one, or what is left of the prompt. False where an image is awaited.
    pub fn fill<N: Network>(&mut self, sources: &mut Sources<N>) -> Result<bool, EngineError> {
        if let (Some(images), Overlap::None) = (&mut self.images, self.overlap) {
            images.gather(sources.patience)?;
            if !images.complete {
                return Ok(false);
            }
        }
        let hidden = sources.network.shape().hidden;
        let most = self.chunk_rows(sources) * hidden;
        while self.rows.len() < most && self.made < sources.prompt.ids.len() {
            if !self.make(sources, hidden)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next chunk, `[m, d]`; none where an image is awaited.
    pub fn next<N: Network>(
        &mut self,
        sources: &mut Sources<N>,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        if !self.fill(sources)? {
            return Ok(None);
        }
        let most = self.chunk_rows(sources) * sources.network.shape().hidden;
        let count = most.min(self.rows.len());
        Ok(Some(self.rows.drain(..count).collect()))
    }

    /// Rows of the next chunk, at most: somewhat more than was asked for where a picture must not be cut.
    fn chunk_rows<N: Network>(&self, sources: &Sources<N>) -> usize {
        let first = self.made - self.rows.len() / sources.network.shape().hidden;
        let end = first + sources.chunk_tokens;
        let cut = |piece: &&Piece| match piece {
            Piece::Image { places, .. } => places.start < end && end < places.end,
            Piece::Text(_) => false,
        };
        let cut = match sources.network.reads_whole_pictures() {
            true => sources.prompt.pieces.iter().find(cut),
            false => None,
        };
        match cut {
            Some(Piece::Image { places, .. }) => places.end - first,
            _ => sources.chunk_tokens,
        }
    }

    /// Makes some more rows; false where an image is not there yet.
    fn make<N: Network>(
        &mut self,
        sources: &mut Sources<N>,
        hidden: usize,
    ) -> Result<bool, EngineError> {
        let within = |piece: &&Piece| match piece {
            Piece::Text(places) | Piece::Image { places, .. } => places.contains(&self.made),
        };
        let piece = sources.prompt.pieces.iter().find(within);
        match piece.expect("every position of a prompt is in a piece") {
            Piece::Text(places) => {
                // Embedded chunk by chunk: the rows of a long text need not exist at once.
                let end = places.end.min(self.made + sources.chunk_tokens);
                let rows = sources.network.embed(&sources.prompt.ids[self.made..end]);
                self.rows.extend(rows);
                self.made = end;
            }
            Piece::Image { places, .. } => {
                let images = self.images.as_mut().expect("its encoder was started");
                // What follows belongs to the next stretch of the image, or to the next image.
                let missing = (places.end - self.made) * hidden;
                let Some(batch) = images.next_up_to(missing, sources.patience)? else {
                    return Ok(false);
                };
                let rows = batch.features.len() / hidden;
                self.image_time += batch.time;
                (sources.keep)(&batch);
                self.rows.extend(batch.features.iter());
                self.made += rows;
            }
        }
        Ok(true)
    }
}

/// The other thread's part.
pub(crate) struct Images<'a, N: Network> {
    pub encoder: &'a ImageEncoder<N>,
    pub ahead: &'a Ahead,
    /// Whose pictures they are.
    pub request: RequestRef<'a>,
    /// How they are looked at.
    pub views: Vec<View>,
    /// What the encoder makes of each.
    pub names: Vec<u128>,
    pub cancel: Cancel,
    pub pixels: Pixels,
    /// Woken after each batch.
    pub waker: Waker,
}

impl<N: Network> Images<'_, N> {
    /// Sends the batches of these pictures, or an error after some.
    fn encode(
        &self,
        pictures: &[usize],
        send: &mut dyn FnMut(Result<Batch, EngineError>) -> Wanted,
    ) {
        let _at_work = self.encoder.begin();
        let images = ImageRows {
            encoder: self.encoder,
            ahead: self.ahead,
            cancel: &self.cancel,
            pixels: self.pixels,
        };
        for &at in pictures {
            let subject = Subject {
                picture: &self.request.images[at],
                preprocessor: &self.views[at].preprocessor,
                name: self.names[at],
            };
            let mut wanted = Wanted::More;
            let result = images.give(subject, &mut |batch| {
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
}
