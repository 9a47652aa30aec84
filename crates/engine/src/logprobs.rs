//! Log-probabilities of tokens, as the OpenAI API reports them.

use serde::Serialize;

use crate::error::EngineError;
use crate::tokenizer::Tokenizer;

/// A token of the answer with its log-probability.
///
/// The numbers are the network's own: the logarithm of the softmax of its logits, before penalties, bias, temperature and
/// cuts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token that was chosen.
    #[serde(flatten)]
    pub chosen: Logprob,
    /// The likeliest tokens, the likeliest first; of equals the smaller id.
    pub top_logprobs: Vec<Logprob>,
}

/// One token and how likely it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Logprob {
    /// Its text alone; U+FFFD where it is a part of a character.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its id.
    #[serde(skip)]
    pub id: u32,
}

impl TokenLogprob {
    /// The log-probability of `id` and of the `count` likeliest tokens, by logits that are all finite or minus infinity.
    pub(crate) fn new(
        logits: &[f32],
        id: u32,
        count: usize,
        tokenizer: &Tokenizer,
    ) -> Result<Self, EngineError> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits
            .iter()
            .map(|&logit| f64::from(logit - max).exp())
            .sum();
        let one = |id: u32| -> Result<Logprob, EngineError> {
            let logit = f64::from(logits[id as usize] - max);
            Ok(Logprob {
                token: tokenizer.decode(&[id])?,
                logprob: (logit - sum.ln()) as f32,
                id,
            })
        };
        let mut likeliest: Vec<u32> = (0..logits.len() as u32).collect();
        let order = |a: &u32, b: &u32| {
            let [a_logit, b_logit] = [a, b].map(|id| logits[*id as usize]);
            b_logit.total_cmp(&a_logit).then(a.cmp(b))
        };
        if count < likeliest.len() {
            likeliest.select_nth_unstable_by(count, order);
            likeliest.truncate(count);
        }
        likeliest.sort_by(order);
        Ok(TokenLogprob {
            chosen: one(id)?,
            top_logprobs: likeliest.into_iter().map(one).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::nano_tokenizer;

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let tokenizer = nano_tokenizer();
        let mut logits = vec![f32::NEG_INFINITY; 512];
        let [a, b, c] = ["a", "b", "c"].map(|text| tokenizer.encode(text).unwrap()[0]);
        // Weights 1, 2 and 5 of 8.
        for (id, weight) in [(a, 1.0f32), (b, 2.0), (c, 5.0)] {
            logits[id as usize] = weight.ln() + 7.0;
        }
        let token = TokenLogprob::new(&logits, a, 2, &tokenizer).unwrap();
        let likeliest: Vec<(&str, u32)> = token
            .top_logprobs
            .iter()
            .map(|top| (top.token.as_str(), top.id))
            .collect();
        assert_eq!(likeliest, [("c", c), ("b", b)]);
        assert_eq!((token.chosen.token.as_str(), token.chosen.id), ("a", a));
        // Logits around 7 are rounded by at most half an ulp, 2.4e-7, and two of them and the result enter here.
        let near = |found: f32, expected: f32| (found - expected).abs() < 1e-6;
        assert!(near(token.chosen.logprob, (1.0f32 / 8.0).ln()), "{token:?}");
        assert!(
            near(token.top_logprobs[0].logprob, (5.0f32 / 8.0).ln()),
            "{token:?}"
        );
    }

    #[test]
    fn no_likeliest_tokens_and_all_of_them_can_be_asked_for() {
        let tokenizer = nano_tokenizer();
        let logits = [1.0, 3.0, 3.0, 2.0];
        let ids = |count| {
            let token = TokenLogprob::new(&logits, 0, count, &tokenizer).unwrap();
            token
                .top_logprobs
                .iter()
                .map(|top| top.id)
                .collect::<Vec<_>>()
        };
        assert!(ids(0).is_empty());
        assert_eq!(ids(2), [1, 2]);
        assert_eq!(ids(9), [1, 2, 3, 0]);
    }
}
