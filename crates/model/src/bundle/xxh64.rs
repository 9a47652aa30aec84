//! XXH64 with seed 0 (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>): fast, and good against accidents, not
//! against forgery.

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

/// A hash of whatever was added so far.
pub(super) struct Xxh64 {
    lanes: [u64; 4],
    /// The bytes that do not fill a stripe yet.
    rest: [u8; 32],
    filled: usize,
    total: u64,
}

impl Xxh64 {
    pub fn new() -> Xxh64 {
        Xxh64 {
            lanes: [P1.wrapping_add(P2), P2, 0, 0u64.wrapping_sub(P1)],
            rest: [0; 32],
            filled: 0,
            total: 0,
        }
    }

    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut hash = Xxh64::new();
        hash.add(bytes);
        hash.finish()
    }

    pub fn add(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        if self.filled > 0 {
            let taken = bytes.len().min(32 - self.filled);
            self.rest[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled < 32 {
                return;
            }
            let stripe = self.rest;
            self.stripe(&stripe);
            self.filled = 0;
        }
        let (stripes, rest) = bytes.as_chunks::<32>();
        for stripe in stripes {
            self.stripe(stripe);
        }
        self.rest[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    fn stripe(&mut self, stripe: &[u8; 32]) {
        for (lane, word) in self.lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }

    pub fn finish(&self) -> u64 {
        let mut hash = if self.total >= 32 {
            let turned = [1, 7, 12, 18]
                .iter()
                .zip(self.lanes)
                .fold(0u64, |sum, (by, lane)| {
                    sum.wrapping_add(lane.rotate_left(*by))
                });
            self.lanes.iter().fold(turned, |hash, lane| {
                (hash ^ round(0, *lane)).wrapping_mul(P1).wrapping_add(P4)
            })
        } else {
            P5
        };
        hash = hash.wrapping_add(self.total);
        let (words, rest) = self.rest[..self.filled].as_chunks::<8>();
        for word in words {
            hash ^= round(0, u64::from_le_bytes(*word));
            hash = hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        }
        let (halves, rest) = rest.as_chunks::<4>();
        for half in halves {
            hash ^= u64::from(u32::from_le_bytes(*half)).wrapping_mul(P1);
            hash = hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        }
        for byte in rest {
            hash ^= u64::from(*byte).wrapping_mul(P5);
            hash = hash.rotate_left(11).wrapping_mul(P1);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
        hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
        hash ^ (hash >> 32)
    }
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2))
        .rotate_left(31)
        .wrapping_mul(P1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_have_their_known_hashes() {
        // From the test vectors of the reference implementation and of its ports.
        assert_eq!(Xxh64::of(b""), 0xef46_db37_51d8_e999);
        assert_eq!(Xxh64::of(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(Xxh64::of(b"abc"), 0x44bc_2cf5_ad77_0999);
        let long = b"Nobody inspects the spammish repetition";
        assert_eq!(Xxh64::of(long), 0xfbce_a83c_8a37_8bf1);
    }

    #[test]
    fn the_hash_does_not_depend_on_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..200u8).collect();
        for cut in [0, 1, 31, 32, 33, 64, 199] {
            let mut hash = Xxh64::new();
            hash.add(&bytes[..cut]);
            hash.add(&bytes[cut..]);
            assert_eq!(hash.finish(), Xxh64::of(&bytes), "cut at {cut}");
        }
    }
}
