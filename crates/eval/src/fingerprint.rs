//! Short names for contents, so that a reply is only taken over from an earlier run if all it depends on is the same.

use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::error::EvalError;

/// A hash of whatever was added, in order. Good against accidents, not against forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// Files of a model folder that bear on its answers end in one of these.
const MODEL_FILES: [&str; 7] = [
    "json",
    "safetensors",
    "bin",
    "jinja",
    "txt",
    "model",
    "tiktoken",
];

/// Odd, with about as many ones as zeros: 2⁶⁴ divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bytes of a file that are read at a time; a whole number of words.
const BLOCK_BYTES: usize = 1 << 18;

impl Default for Fingerprint {
    fn default() -> Self {
        Fingerprint(MULTIPLIER)
    }
}

impl Fingerprint {
    /// Adds some bytes. Where one piece ends and the next begins makes a difference.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        self.blocks(bytes).word(bytes.len() as u64)
    }

    /// Adds the content of a file.
    pub fn with_file(self, path: &Path) -> Result<Self, EvalError> {
        let added = self.read_file(path);
        added.map_err(|source| EvalError::Read {
            path: path.into(),
            source,
        })
    }

    /// Adds the names and contents of a model folder's files.
    pub fn with_model_folder(self, folder: &Path) -> Result<Self, EvalError> {
        let read = |source| EvalError::Read {
            path: folder.into(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_file() && extension.is_some_and(|name| MODEL_FILES.contains(&name)) {
                paths.push(path);
            }
        }
        paths.sort();
        let mut fingerprint = self;
        // A model's parts may have folders of their own.
        for part in ["llm", "mm_projector", "vision_tower"] {
            let part = folder.join(part);
            if part.is_dir() {
                fingerprint = fingerprint.with_model_folder(&part)?;
            }
        }
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            fingerprint = fingerprint.with(name.as_bytes()).with_file(&path)?;
        }
        Ok(fingerprint)
    }

    fn read_file(self, path: &Path) -> std::io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let mut fingerprint = self;
        let mut bytes = 0;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        loop {
            block.clear();
            // Full blocks but for the last, so that words begin at the same places as in one piece.
            (&mut file)
                .take(BLOCK_BYTES as u64)
                .read_to_end(&mut block)?;
            fingerprint = fingerprint.blocks(&block);
            bytes += block.len() as u64;
            if block.len() < BLOCK_BYTES {
                return Ok(fingerprint.word(bytes));
            }
        }
    }

    fn blocks(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut fingerprint = words.iter().fold(self, |fingerprint, word| {
            fingerprint.word(u64::from_le_bytes(*word))
        });
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            fingerprint = fingerprint.word(u64::from_le_bytes(word));
        }
        fingerprint
    }

    /// Multiplying carries a difference up, folding the product brings it down again.
    fn word(self, word: u64) -> Self {
        let product = u128::from(self.0.rotate_left(5) ^ word) * u128::from(MULTIPLIER);
        Fingerprint(product as u64 ^ (product >> 64) as u64)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&[u8]]) -> Fingerprint {
        pieces
            .iter()
            .fold(Fingerprint::default(), |fingerprint, piece| {
                fingerprint.with(piece)
            })
    }

    #[test]
    fn any_change_of_one_bit_changes_it() {
        let bytes = [7u8; 40];
        let original = of(&[&bytes]);
        for bit in 0..8 * bytes.len() {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(of(&[&other]), original, "bit {bit}");
        }
    }

    #[test]
    fn ends_of_pieces_and_trailing_zeros_count() {
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"a\0"]), of(&[b"a"]));
        assert_ne!(of(&[b""]), Fingerprint::default());
    }

    #[test]
    fn a_file_counts_as_its_bytes_whatever_its_length() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, 8, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 3] {
            let bytes: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let path = folder.path().join("file");
            std::fs::write(&path, &bytes).unwrap();
            let of_file = Fingerprint::default().with_file(&path).unwrap();
            assert_eq!(of_file, of(&[&bytes]), "{length}");
        }
    }

    #[test]
    fn a_model_folder_counts_what_bears_on_answers() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let fingerprint = || {
            Fingerprint::default()
                .with_model_folder(folder.path())
                .unwrap()
        };
        write("config.json", "{}");
        write("model.safetensors", "abc");
        let first = fingerprint();
        write("README.md", "hello");
        assert_eq!(fingerprint(), first);
        write("model.safetensors", "abd");
        let second = fingerprint();
        assert_ne!(second, first);
        write("chat_template.jinja", "");
        assert_ne!(fingerprint(), second);
        for file in [
            "pytorch_model.bin",
            "tokenizer.model",
            "llm/model.safetensors",
        ] {
            let before = fingerprint();
            std::fs::create_dir_all(folder.path().join("llm")).unwrap();
            write(file, "abc");
            assert_ne!(fingerprint(), before, "{file}");
        }
    }
}
