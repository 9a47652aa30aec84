//! Where the rows of an image come from: what was kept, what is being encoded ahead, or the encoder.

use std::time::Instant;

use crate::ahead::{Ahead, ImageAhead, Next};
use crate::cancel::Cancel;
use crate::encoding::{Batch, ImageEncoder, Pixels, Subject, Wanted};
use crate::error::EngineError;
use crate::network::Network;

/// One image's way to its rows.
pub(crate) struct ImageRows<'a, N: Network> {
    pub encoder: &'a ImageEncoder<N>,
    pub ahead: &'a Ahead,
    pub cancel: &'a Cancel,
    pub pixels: Pixels,
}

impl<N: Network> ImageRows<'_, N> {
    /// Gives all batches of a picture, in order.
    pub fn give(
        &self,
        subject: Subject,
        take: &mut dyn FnMut(Batch) -> Wanted,
    ) -> Result<(), EngineError> {
        self.cancel.check()?;
        // A record wants pixels as well, which are kept nowhere.
        if self.pixels == Pixels::Keep {
            let _turn = self.ahead.turn();
            return self.encode(subject, &mut 0, take);
        }
        let mut sent = 0;
        if let Some(ahead) = self.ahead.find(subject.name) {
            match self.take_ahead(&ahead, &mut sent, take) {
                Next::Failed => self.cancel.check()?,
                _ => return Ok(()),
            }
        } else if self.give_kept(subject, take) {
            return Ok(());
        }
        let _turn = self.ahead.turn();
        // Another request may have brought the same picture and had the turn before.
        if sent == 0 && self.give_kept(subject, take) {
            return Ok(());
        }
        self.encode(subject, &mut sent, take)
    }

    /// Gives what was kept of the picture; whether there was anything.
    fn give_kept(&self, subject: Subject, take: &mut dyn FnMut(Batch) -> Wanted) -> bool {
        let started = Instant::now();
        let cache = self.ahead.cache.as_ref();
        let kept = cache.and_then(|it| it.find(subject.name, self.encoder.numbers(subject)));
        let Some(kept) = kept else { return false };
        for features in kept {
            if take(Batch::made_before(features, started.elapsed())) == Wanted::Nothing {
                break;
            }
        }
        true
    }

    /// Encodes the picture now, and keeps what comes of it. The first `sent` numbers, which came from ahead before that
    /// failed, are not given twice.
    fn encode(
        &self,
        subject: Subject,
        sent: &mut usize,
        take: &mut dyn FnMut(Batch) -> Wanted,
    ) -> Result<(), EngineError> {
        let mut kept = Vec::new();
        let mut whole = true;
        let keep = self.ahead.cache.as_ref();
        self.encoder
            .encode(subject, self.pixels, self.cancel, &mut |mut batch| {
                if keep.is_some() {
                    kept.push(batch.features.clone());
                }
                let again = (*sent).min(batch.features.len());
                *sent -= again;
                if again > 0 && again == batch.features.len() {
                    return Wanted::More;
                }
                if again > 0 {
                    batch.features = batch.features[again..].into();
                }
                let wanted = take(batch);
                whole &= wanted == Wanted::More;
                wanted
            })?;
        if let Some(cache) = keep.filter(|_| whole) {
            cache.keep(subject.name, kept);
        }
        Ok(())
    }

    /// Gives what was encoded ahead as it comes; counts the numbers given. Ends with `Failed` where not all came.
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
                    // What was waited for: the rest was done before the request.
                    let batch = Batch::made_before(features, started.elapsed());
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
