//! Guessing the next tokens from what stands in the context already, so that one reading of the weights can give several.
//!
//! Where the last tokens have stood before, what came after them then is likely to come again: in copies, lists, JSON,
//! corrections (prompt lookup, <https://github.com/apoorvumang/prompt-lookup-decoding>). Where a grammar leaves no choice, what it
//! says is the guess ([`crate::grammar`]). The guess goes through the network
//! together with the last token. Each token is still chosen from its own logits, by the same sampler in the same order; a
//! guess only decides whether those logits are there already. Since the bits of a row do not depend on the rows computed with
//! it, the answer is the same with guesses and without.
//!
//! A guess that does not come true has cost its rows. So a [`Guesser`] keeps an account, in steps of the network: it earns a little with
//! every token, and a step with each token that came true, and pays for each row that it asks for. What it has not got it does not
//! guess. An answer that copies nothing is slowed by what is earned with its tokens and the little that an account begins with, no more.

use serde::Serialize;

/// Whether to guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// One token after the other.
    Off,
    /// Where the last tokens have stood before, and as long as it pays.
    #[default]
    Lookup,
}

/// How guesses went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Guesses {
    /// Tokens that were guessed.
    pub guessed_tokens: usize,
    /// Of these, tokens that the model then chose.
    pub accepted_tokens: usize,
}

/// So many last tokens must have stood before.
const MATCH_TOKENS: usize = 3;
/// Most tokens of one guess.
pub(crate) const LONGEST_GUESS: usize = 8;
/// Most of them that are looked up. Four more rows cost a small model, which computes more than it reads, two steps; eight would
/// cost it six (docs/numbers.md).
const LONGEST_LOOKUP: usize = 4;
/// What a row of a guess costs, in steps: more than was measured of any model for up to four.
const ROW_COST: f32 = 0.5;
/// What is earned with every token that is not guessed: the slowdown that is put up with.
const EARNED: f32 = 0.02;
/// What an account begins with: the first guess.
const AT_FIRST: f32 = ROW_COST;
/// Most that it holds, so that a copy that ends is noticed soon: two long guesses.
const MOST: f32 = 2.0 * ROW_COST * LONGEST_LOOKUP as f32;

/// Guesses for one answer.
pub(crate) struct Guesser {
    /// Tokens of prompt and completion that the network has read, or is about to.
    context: Vec<u32>,
    /// Tokens of the next guess, if there is enough for them.
    length: usize,
    /// Steps that may be spent on guesses.
    account: f32,
    pub guesses: Guesses,
}

impl Guesser {
    /// A guesser that knows the prompt.
    pub fn new(prompt: &[u32]) -> Self {
        Guesser {
            context: prompt.to_vec(),
            length: LONGEST_LOOKUP,
            account: AT_FIRST,
            guesses: Guesses::default(),
        }
    }

    /// Takes note of tokens at this position of the context; what stood from there on is forgotten.
    pub fn read(&mut self, position: usize, ids: &[u32]) {
        self.context.truncate(position);
        self.context.extend(ids);
    }

    /// What may come next, at most `room` tokens.
    pub fn guess(&mut self, room: usize) -> Vec<u32> {
        let affordable = (self.account / ROW_COST) as usize;
        let length = self.length.min(affordable).min(room);
        self.account = (self.account + EARNED).min(MOST);
        if length == 0 {
            return Vec::new();
        }
        let Some(after) = self.look_up() else {
            return Vec::new();
        };
        let end = self.context.len().min(after + length);
        self.context[after..end].to_vec()
    }

    /// Learns what became of a guess.
    pub fn learn(&mut self, guessed: usize, accepted: usize) {
        self.guesses.guessed_tokens += guessed;
        self.guesses.accepted_tokens += accepted;
        let gained = accepted as f32 - ROW_COST * guessed as f32;
        self.account = (self.account + gained).min(MOST);
        self.length = match accepted == guessed {
            true => (self.length * 2).min(LONGEST_LOOKUP),
            false => accepted.max(1),
        };
    }

    /// The position after the last place where the last tokens stood before.
    fn look_up(&self) -> Option<usize> {
        let earlier = self.context.len().checked_sub(MATCH_TOKENS)?;
        let last = &self.context[earlier..];
        self.context[..self.context.len() - 1]
            .windows(MATCH_TOKENS)
            .rposition(|tokens| tokens == last)
            .map(|at| at + MATCH_TOKENS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that can afford long guesses.
    fn rich(prompt: &[u32]) -> Guesser {
        Guesser {
            account: MOST,
            ..Guesser::new(prompt)
        }
    }

    #[test]
    fn what_followed_the_last_time_is_guessed() {
        let mut guesser = rich(&[1, 2, 3, 4, 9, 1, 2, 3, 5, 6, 7, 8, 9, 1, 2, 3]);
        assert_eq!(guesser.guess(100), [5, 6, 7, 8]);
        assert_eq!(guesser.guess(2), [5, 6]);
        assert!(guesser.guess(0).is_empty());
        guesser.read(16, &[4]);
        assert_eq!(guesser.guess(100), [9, 1, 2, 3]);
        guesser.read(16, &[7]);
        assert!(guesser.guess(100).is_empty());
    }

    #[test]
    fn a_tail_that_overlaps_itself_goes_on() {
        assert_eq!(rich(&[5, 5, 5, 5]).guess(100), [5]);
        assert!(rich(&[5, 5]).guess(9).is_empty());
        assert!(rich(&[]).guess(9).is_empty());
    }

    #[test]
    fn good_guesses_grow_and_wrong_ones_shrink() {
        let mut guesser = Guesser::new(&[1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17, 1, 2, 3]);
        let mut lengths = Vec::new();
        for accepted in [1, 2, 4, 1, 0, 0] {
            let guessed = guesser.guess(100).len();
            lengths.push(guessed);
            guesser.learn(guessed, accepted.min(guessed));
        }
        assert_eq!(lengths, [1, 2, 4, 4, 1, 1]);
        assert_eq!(
            guesser.guesses,
            Guesses {
                guessed_tokens: 13,
                accepted_tokens: 8
            }
        );
    }

    /// Ten thousand tokens that all seem to be a copy, none of which is.
    #[test]
    fn wrong_guesses_cost_no_more_than_is_put_up_with() {
        let mut guesser = Guesser::new(&[5; 8]);
        for _ in 0..10_000 {
            let guessed = guesser.guess(100).len();
            guesser.learn(guessed, 0);
        }
        let spent = ROW_COST * guesser.guesses.guessed_tokens as f32;
        // Half a step more for the rounding of ten thousand sums.
        assert!(spent <= AT_FIRST + EARNED * 10_000.0 + 0.5, "{spent}");
        assert!(spent >= EARNED * 9_000.0, "{spent}: it has given up");
    }
}
