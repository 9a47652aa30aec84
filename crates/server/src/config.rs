//! What a server allows.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use crate::remote::Remote;

/// The settings of a server. The defaults are for one's own machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Keys that clients may show; without any, every client may ask.
    pub keys: Vec<String>,
    /// Names beside `localhost` and addresses under which browsers may reach the server.
    pub hosts: Vec<String>,
    /// Origins, such as `https://app.example`, whose pages may ask; none but the server's own by default.
    pub origins: Vec<String>,
    /// The folder from which `file://` pictures may be read.
    pub media: Option<PathBuf>,
    /// How pictures are fetched from the network; none by default.
    pub remote: Option<Remote>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds on what clients may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest body.
    pub body_bytes: usize,
    /// Longest picture file.
    pub picture_bytes: usize,
    /// Most pixels of a picture, by its header.
    pub picture_pixels: u64,
    /// Most pictures of a request.
    pub pictures: usize,
    /// Bodies and decoded pictures of all requests in flight together.
    pub memory_bytes: usize,
    /// Pictures kept for later requests, decoded.
    pub kept_picture_bytes: usize,
    /// How long an uploaded picture is kept after its last use.
    pub picture_life: Duration,
    /// Open connections.
    pub connections: usize,
    /// Until a request's head is there.
    pub header_time: Duration,
    /// Until a request's body is there.
    pub body_time: Duration,
    /// Until a client takes what it is sent.
    pub write_time: Duration,
    /// Between two signs of life in a stream.
    pub ping_time: Duration,
    /// For requests in flight when the server is told to end.
    pub grace_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes: 64 << 20,
            picture_bytes: 32 << 20,
            picture_pixels: 40_000_000,
            pictures: 16,
            memory_bytes: 1 << 30,
            kept_picture_bytes: 256 << 20,
            picture_life: Duration::from_secs(30 * 60),
            connections: 128,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            ping_time: Duration::from_secs(10),
            grace_time: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// No keys, no names, no folder.
    pub fn new(limits: Limits) -> Self {
        Config {
            keys: Vec::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            media: None,
            remote: None,
            limits,
        }
    }

    /// The place of a key among the keys; looks at every byte of every key, so that the time tells nothing of how much is
    /// right but the length.
    pub fn find_key(&self, shown: &[u8]) -> Option<usize> {
        let mut found = None;
        for (index, key) in self.keys.iter().enumerate() {
            if same_bytes(key.as_bytes(), shown) {
                found = Some(index);
            }
        }
        found
    }
}

/// Compares all bytes, whatever the first ones are.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
    // Keeps the compiler from leaving the loop early.
    std::hint::black_box(differ) == 0 && a.len() == b.len()
}

/// A name that cannot be guessed: 128 bits from SipHash under the keys that the standard library draws from the system
/// for its hash maps.
pub fn secret_name(prefix: &str) -> String {
    let draw = || RandomState::new().build_hasher().finish();
    let (high, low) = (draw(), draw());
    format!("{prefix}{high:016x}{low:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_only_whole() {
        let mut config = Config::new(Limits::default());
        assert_eq!(config.find_key(b""), None);
        config.keys = vec!["alpha".into(), "beta".into()];
        assert_eq!(config.find_key(b"alpha"), Some(0));
        assert_eq!(config.find_key(b"beta"), Some(1));
        for wrong in ["", "a", "alph", "alphaa", "Alpha", "bet\0"] {
            assert_eq!(config.find_key(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn secret_names_differ() {
        let names: std::collections::HashSet<String> =
            (0..100).map(|_| secret_name("x-")).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.len() == 34));
    }
}
