//! What a network computes on the way to tokens that are given: for comparing with another implementation.

use std::time::Instant;

use model::{LogitRows, NoTaps};

use super::Engine;
use crate::cancel::Cancel;
use crate::error::EngineError;
use crate::network::{Cache, Network};
use crate::record::Record;
use crate::request::{Request, RequestRef};
use crate::sequence::{Begin, Sequence};
use crate::wake::Waker;

impl<N: Network> Engine<N> {
    /// Reads the prompt of a request, then `tokens` one by one, and keeps what [`Engine::generate_with_taps`] keeps of the
    /// prompt, and `decode_logits` `[tokens, vocabulary]`: those from which each token would have been chosen.
    pub fn trace(
        &self,
        request: &Request,
        tokens: &[u32],
        cancel: &Cancel,
    ) -> Result<Record, EngineError> {
        let started = Instant::now();
        let prepared = self.prepare_rows(request)?;
        let mut record = Record::new();
        record.keep_ids("input_ids", &prepared.prompt.ids);
        let prompt_tokens = prepared.prompt.ids.len();
        let cache = self.network.new_cache(prompt_tokens + tokens.len());
        let begin = Begin {
            request: RequestRef::Borrowed(request),
            cancel: cancel.clone(),
            events: Box::new(|_| {}),
            record: Some(&mut record),
            waker: Waker::new(),
            started,
        };
        let mut cache = std::thread::scope(|scope| -> Result<_, EngineError> {
            let mut sequence = Sequence::begin(scope, self, (prepared, cache), begin);
            sequence.read_prompt()?;
            let (_, _, cache) = sequence.finish();
            Ok(cache)
        })?;
        cache.truncate(prompt_tokens);
        let vocabulary = self.network.shape().vocabulary;
        let logits = record.numbers("prefill_logits").unwrap_or_default();
        let mut logits = logits[logits.len() - vocabulary..].to_vec();
        for (step, id) in tokens.iter().enumerate() {
            record.append("decode_logits", &[1, vocabulary], &logits);
            if step + 1 < tokens.len() {
                let row = self.network.embed(&[*id]);
                debug_assert_eq!(cache.tokens(), prompt_tokens + step);
                let next = || {
                    let network = &self.network;
                    let row = row.as_slice().into();
                    network.forward(row, &mut cache, LogitRows::Last, cancel, &mut NoTaps)
                };
                logits = self.encoder.threads.run(next)?;
            }
        }
        Ok(record)
    }
}
