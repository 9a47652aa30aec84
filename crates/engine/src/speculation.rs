//! Guessing the next tokens from what stands in the context already, so that one reading of the weights can give several.
//!
//! Where the last tokens have stood before, what came after them then is likely to come again: in copies, lists, JSON,
//! corrections (prompt lookup, <https://github.com/apoorvumang/prompt-lookup-decoding>). Where a grammar leaves no choice, what it
//! says is the guess ([`crate::grammar`]). The guess goes through the network
//! together with the last token. Each token is still chosen from its own logits, by the same sampler in the same order; a
//! guess only decides whether those logits are there already. Since the bits of a row do not depend on the rows computed with
//! it, the answer is the same with guesses and without.

use serde::Serialize;

/// Whether to guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// One token after the other.
    #[default]
    Off,
    /// Where the last tokens have stood before, and as long as guesses come true.
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
/// After guesses that were all wrong, at most so many chances are let pass.
const LONGEST_PAUSE: usize = 64;

/// Guesses for one answer.
pub(crate) struct Guesser {
    /// Tokens of prompt and completion that the network has read, or is about to.
    context: Vec<u32>,
    length: usize,
    /// Chances to let pass, now and after the next wrong guess.
    pause: usize,
    next_pause: usize,
    pub guesses: Guesses,
}

impl Guesser {
    /// A guesser that knows the prompt.
    pub fn new(prompt: &[u32]) -> Self {
        Guesser {
            context: prompt.to_vec(),
            length: LONGEST_GUESS / 2,
            pause: 0,
            next_pause: 1,
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
        let Some(after) = self.look_up() else {
            return Vec::new();
        };
        if self.pause > 0 {
            self.pause -= 1;
            return Vec::new();
        }
        let end = self.context.len().min(after + self.length.min(room));
        self.context[after..end].to_vec()
    }

    /// Learns what became of a guess.
    pub fn learn(&mut self, guessed: usize, accepted: usize) {
        self.guesses.guessed_tokens += guessed;
        self.guesses.accepted_tokens += accepted;
        match accepted {
            0 => {
                self.length = (self.length / 2).max(1);
                self.pause = self.next_pause;
                self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
            }
            _ if accepted == guessed => {
                self.length = (self.length * 2).min(LONGEST_GUESS);
                self.next_pause = 1;
            }
            _ => self.length = accepted.max(2),
        }
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

    #[test]
    fn what_followed_the_last_time_is_guessed() {
        let mut guesser = Guesser::new(&[1, 2, 3, 4, 9, 1, 2, 3, 5, 6, 7, 8, 9, 1, 2, 3]);
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
        let mut guesser = Guesser::new(&[5, 5, 5, 5]);
        assert_eq!(guesser.guess(100), [5]);
        assert!(Guesser::new(&[5, 5]).guess(9).is_empty());
        assert!(Guesser::new(&[]).guess(9).is_empty());
    }

    #[test]
    fn good_guesses_grow_and_wrong_ones_pause() {
        let mut guesser = Guesser::new(&[1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17, 1, 2, 3]);
        assert_eq!(guesser.guess(100).len(), 4);
        guesser.learn(4, 4);
        assert_eq!(guesser.guess(100).len(), 8);
        guesser.learn(8, 0);
        let lengths = |guesser: &mut Guesser| [(); 3].map(|()| guesser.guess(100).len());
        assert_eq!(lengths(&mut guesser), [0, 4, 4]);
        guesser.learn(4, 0);
        assert_eq!(lengths(&mut guesser), [0, 0, 2]);
        guesser.learn(2, 1);
        assert_eq!(guesser.guess(100).len(), 2);
        assert_eq!(
            guesser.guesses,
            Guesses {
                guessed_tokens: 18,
                accepted_tokens: 5
            }
        );
    }
}
