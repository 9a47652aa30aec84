//! What a network computes on the way to tokens that are given: for comparing with another implementation.

use model::{LogitRows, NoTaps};

use super::Engine;
use crate::cancel::Cancel;
use crate::error::EngineError;
use crate::network::{Cache, Network};
use crate::prefill::Prefill;
use crate::record::Record;
use crate::request::Request;

impl<N: Network> Engine<N> {
    /// Reads the prompt of a request, then `tokens` one by one, and keeps what [`Engine::generate_with_taps`] keeps of the
    /// prompt, and `decode_logits` `[tokens, vocabulary]`: those from which each token would have been chosen.
    pub fn trace(
        &self,
        request: &Request,
        tokens: &[u32],
        cancel: &Cancel,
    ) -> Result<Record, EngineError> {
        let (prompt, _) = self.prepare(request)?;
        let mut record = Record::new();
        record.keep_ids("input_ids", &prompt.ids);
        let mut cache = self.network.new_cache(prompt.ids.len() + tokens.len());
        let encoder = self.encoder.among(request.images.len());
        let prefilled = Prefill {
            network: &*self.network,
            encoder: &encoder,
            ahead: &Default::default(),
            prompt: &prompt,
            pictures: &request.images,
            step_tokens: self.step_tokens,
            overlap: self.overlap,
            cancel,
            progress: &mut |_| {},
            record: Some(&mut record),
        }
        .run(&mut cache)?;
        let mut logits = prefilled.logits;
        let vocabulary = self.network.shape().vocabulary;
        for (step, id) in tokens.iter().enumerate() {
            record.append("decode_logits", &[1, vocabulary], &logits);
            if step + 1 < tokens.len() {
                let row = self.network.embed(&[*id]);
                debug_assert_eq!(cache.tokens(), prompt.ids.len() + step);
                let next = || {
                    let network = &self.network;
                    network.forward(&row, &mut cache, LogitRows::Last, cancel, &mut NoTaps)
                };
                logits = self.encoder.threads.run(next)?;
            }
        }
        Ok(record)
    }
}
