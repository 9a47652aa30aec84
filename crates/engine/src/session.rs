//! A conversation's memory in a file, so that it can go on tomorrow without being read again.
//!
//! The file: `BLUESESS`, version (u32), name of the weights (32 bytes), positions (u64), for each its token (u32) and picture
//! (u128), the bytes of the key-value cache, SHA-256 of all that. Numbers are little-endian. Nothing in it is trusted: the
//! checksum finds damage, the name another model, and every length is checked before it is used.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::files::{read_capped, write_whole};
use crate::memory::{Memory, Row};
use crate::network::{Cache, Network};

const MAGIC: [u8; 8] = *b"BLUESESS";
const VERSION: u32 = 1;
/// Magic, version, name, positions.
const HEAD_BYTES: usize = 8 + 4 + 32 + 8;
const ROW_BYTES: usize = 4 + 16;
const SUM_BYTES: usize = 32;
/// Longest file that is read.
const MAX_BYTES: u64 = 8 << 30;

impl<N: Network> Engine<N> {
    /// Writes what a memory holds. The file appears whole or not at all, and only its owner can read it: it has the
    /// conversation in it.
    pub fn save_session(&self, memory: &Memory<N>, path: &Path) -> Result<(), EngineError> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.weights.name()?);
        bytes.extend((memory.rows().len() as u64).to_le_bytes());
        for row in memory.rows() {
            bytes.extend(row.id.to_le_bytes());
            bytes.extend(row.picture.to_le_bytes());
        }
        if let Some(cache) = memory.cache() {
            bytes.extend(cache.to_bytes());
        }
        let sum = Sha256::digest(&bytes);
        bytes.extend(sum);
        write_whole(path, &bytes).map_err(|source| EngineError::Read {
            path: path.into(),
            source,
        })
    }

    /// Reads what [`Engine::save_session`] wrote. Refused: a file of another version or model, and one that is damaged.
    pub fn restore_session(&self, path: &Path) -> Result<Memory<N>, EngineError> {
        let bytes = read_capped(path, MAX_BYTES)?;
        self.parse_session(&bytes).map_err(|problem| match problem {
            Problem::Engine(error) => error,
            Problem::File(message) => EngineError::Session {
                path: path.into(),
                message,
            },
        })
    }

    fn parse_session(&self, bytes: &[u8]) -> Result<Memory<N>, Problem> {
        let wrong = |message: &str| Problem::File(message.to_owned());
        if !bytes.starts_with(&MAGIC) {
            return Err(wrong("not a saved session"));
        }
        let version = bytes.get(8..12).and_then(|version| version.first_chunk());
        match version.map(|version| u32::from_le_bytes(*version)) {
            Some(VERSION) => {}
            Some(found) => {
                let message = format!("expected a session of version {VERSION}, found {found}");
                return Err(Problem::File(message));
            }
            None => return Err(wrong("the file is cut off")),
        }
        let (content, sum) = bytes
            .split_last_chunk::<SUM_BYTES>()
            .filter(|(content, _)| content.len() >= HEAD_BYTES)
            .ok_or_else(|| wrong("the file is cut off"))?;
        if Sha256::digest(content).as_slice() != sum {
            return Err(wrong("the file is damaged: its checksum does not fit"));
        }
        let (head, body) = content.split_at(HEAD_BYTES);
        if head[12..44] != self.weights.name()? {
            return Err(wrong("the session was saved by another model"));
        }
        let count = head
            .last_chunk()
            .map_or(0, |count| u64::from_le_bytes(*count));
        let shape = self.network().shape();
        let count = usize::try_from(count)
            .ok()
            .filter(|&count| count <= shape.context_tokens && count <= body.len() / ROW_BYTES)
            .ok_or_else(|| wrong("more positions than the context or the file has"))?;
        let (rows, cache) = body.split_at(count * ROW_BYTES);
        let rows: Vec<Row> = rows.chunks_exact(ROW_BYTES).map(row).collect();
        if rows.iter().any(|row| row.id as usize >= shape.vocabulary) {
            return Err(wrong("a token that the model does not have"));
        }
        if rows.is_empty() {
            return Ok(Memory::new());
        }
        let cache = self
            .network()
            .cache_from_bytes(shape.context_tokens, count, cache)
            .ok_or_else(|| wrong("keys and values are not those of so many positions"))?;
        Ok(Memory::of(self.number, rows, cache))
    }
}

enum Problem {
    Engine(EngineError),
    File(String),
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        Problem::Engine(error)
    }
}

fn row(bytes: &[u8]) -> Row {
    Row {
        id: bytes
            .first_chunk()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes)),
        picture: bytes
            .last_chunk()
            .map_or(0, |bytes| u128::from_le_bytes(*bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::identity::Weights;
    use crate::request::Request;
    use crate::testing::{FakeNetwork, nano_files, picture};

    fn engine(name: u8) -> Engine<FakeNetwork> {
        let mut engine = Engine::new(FakeNetwork::new("yes</s>"), nano_files(), &[]).unwrap();
        engine.weights = Weights::Named([name; 32]);
        engine
    }

    fn request() -> Request {
        Request::question(vec![picture(8, 8, 3)], "hi")
    }

    /// The file of a conversation of one turn.
    fn saved(folder: &Path) -> (std::path::PathBuf, Memory<FakeNetwork>) {
        let (engine, mut memory) = (engine(1), Memory::new());
        engine
            .generate_in(&mut memory, &request(), &Cancel::new(), &mut |_| {})
            .unwrap();
        let path = folder.join("a.session");
        engine.save_session(&memory, &path).unwrap();
        (path, memory)
    }

    fn message(engine: &Engine<FakeNetwork>, path: &Path) -> String {
        let error = engine.restore_session(path).err().unwrap().to_string();
        error.replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn a_restored_session_knows_what_the_saved_one_knew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, memory) = saved(folder.path());
        let engine = engine(1);
        let mut again = engine.restore_session(&path).unwrap();
        assert_eq!(again.rows(), memory.rows());
        assert_eq!(again.cache().unwrap().rows, memory.cache().unwrap().rows);
        let reply = engine
            .generate_in(&mut again, &request(), &Cancel::new(), &mut |_| {})
            .unwrap();
        // All but the last row of the prompt, picture included.
        assert_eq!(reply.usage.cached_tokens, reply.usage.prompt_tokens - 1);
        assert!(engine.network().encoded.lock().unwrap().is_empty());
        assert_eq!(reply.text, "yes");
    }

    #[test]
    fn an_empty_memory_can_be_saved_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        engine(1).save_session(&Memory::new(), &path).unwrap();
        assert_eq!(engine(1).restore_session(&path).unwrap().tokens(), 0);
    }

    #[test]
    fn another_model_refuses_a_session() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut memory) = saved(folder.path());
        assert_eq!(
            message(&engine(2), &path),
            "FILE: the session was saved by another model"
        );
        // Nor does another engine use what is in memory.
        assert_eq!(engine(1).remembered_tokens(&memory, &request()).unwrap(), 0);
        let reply = engine(1)
            .generate_in(&mut memory, &request(), &Cancel::new(), &mut |_| {})
            .unwrap();
        assert_eq!(reply.usage.cached_tokens, 0);
    }

    #[test]
    fn every_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = saved(folder.path());
        let (engine, bytes) = (engine(1), std::fs::read(&path).unwrap());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, damaged).unwrap();
            assert!(engine.restore_session(&path).is_err(), "byte {at}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(engine.restore_session(&path).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn a_file_that_lies_under_a_fitting_checksum_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = saved(folder.path());
        let (engine, bytes) = (engine(1), std::fs::read(&path).unwrap());
        let lie = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut content = bytes[..bytes.len() - SUM_BYTES].to_vec();
            change(&mut content);
            let sum = Sha256::digest(&content);
            content.extend(sum);
            std::fs::write(&path, content).unwrap();
            message(&engine, &path)
        };
        let count = |count: u64| {
            move |content: &mut Vec<u8>| content[44..52].copy_from_slice(&count.to_le_bytes())
        };
        for many in [u64::MAX, 1 << 60, 65] {
            assert_eq!(
                lie(&count(many)),
                "FILE: more positions than the context or the file has"
            );
        }
        assert_eq!(
            lie(&count(3)),
            "FILE: keys and values are not those of so many positions"
        );
        assert_eq!(
            lie(&|content| content[52..56].copy_from_slice(&528u32.to_le_bytes())),
            "FILE: a token that the model does not have"
        );
        assert_eq!(
            lie(&|content| content[8] = 9),
            "FILE: expected a session of version 1, found 9"
        );
        assert_eq!(lie(&|content| content[0] = 9), "FILE: not a saved session");
    }
}
