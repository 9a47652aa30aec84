//! The file that keeps replies: one JSON object a line, appended as soon as there is a reply.
//!
//! A line's `key` is a fingerprint of all that the reply depends on: program and model, options, the picture's bytes and
//! the question. A reply is taken over from an earlier run only if its key is the same; what was expected is not part of
//! it, so that a corrected task file is scored anew without asking anew. A file may hold the results of many models.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::thinking::Thought;

/// Every line begins so; nothing else is ever cut off.
const BEGINNING: &[u8] = b"{\"key\":\"";

/// A line of a results file.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) key: &'a str,
    pub(crate) image: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) question: &'a str,
    pub(crate) expected: &'a str,
    pub(crate) reply: &'a str,
    pub(crate) right: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thought: Option<&'a Thought>,
}

/// What is needed of an earlier line.
#[derive(Deserialize)]
struct Earlier {
    key: String,
    #[serde(flatten)]
    kept: Kept,
}

/// What is taken over of it.
#[derive(Deserialize)]
struct Kept {
    reply: String,
    #[serde(default)]
    thought: Option<Thought>,
}

/// A results file, open for appending.
pub struct ResultsFile {
    path: PathBuf,
    file: File,
    replies: HashMap<String, Kept>,
}

impl ResultsFile {
    /// `FILE.results.jsonl` beside the task file `FILE.jsonl`.
    pub fn beside(task: &Path) -> PathBuf {
        task.with_extension("results.jsonl")
    }

    /// Opens a results file or makes one. A last line that was cut off, as by a killed run, is removed.
    ///
    /// Errors, and changes nothing, if the file holds anything but results.
    pub fn open(path: &Path) -> Result<ResultsFile, EvalError> {
        let error = |source| EvalError::Write {
            path: path.into(),
            source,
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(error)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(error)?;
        let mut replies = HashMap::new();
        let mut good = 0;
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let whole = line.ends_with(b"\n");
            match serde_json::from_slice::<Earlier>(line) {
                Ok(earlier) if whole => {
                    replies.insert(earlier.key, earlier.kept);
                    good += line.len() as u64;
                }
                // The last line, cut off.
                _ if !whole && (line.starts_with(BEGINNING) || BEGINNING.starts_with(line)) => {}
                _ => {
                    return Err(EvalError::NotResults {
                        path: path.into(),
                        line: index + 1,
                    });
                }
            }
        }
        if good < bytes.len() as u64 {
            file.set_len(good).map_err(error)?;
            file.seek(SeekFrom::Start(good)).map_err(error)?;
        }
        Ok(ResultsFile {
            path: path.into(),
            file,
            replies,
        })
    }

    /// Forgets what earlier runs left; the file keeps it.
    pub fn forget(&mut self) {
        self.replies.clear();
    }

    /// The reply with this key, from this run or an earlier one.
    pub(crate) fn reply(&self, key: &str) -> Option<&str> {
        self.replies.get(key).map(|kept| kept.reply.as_str())
    }

    /// What is known of the thought before the reply with this key, if that was looked at.
    pub(crate) fn thought(&self, key: &str) -> Option<&Thought> {
        self.replies.get(key)?.thought.as_ref()
    }

    /// Appends a line, in one write, so that a killed run leaves whole lines.
    pub(crate) fn append(&mut self, line: &Line) -> Result<(), EvalError> {
        let error = |source| EvalError::Write {
            path: self.path.clone(),
            source,
        };
        let mut text = serde_json::to_vec(line)
            .map_err(|source| error(std::io::Error::new(ErrorKind::InvalidData, source)))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(error)?;
        let kept = Kept {
            reply: line.reply.into(),
            thought: line.thought.cloned(),
        };
        self.replies.insert(line.key.into(), kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(key: &'a str, reply: &'a str) -> Line<'a> {
        Line {
            key,
            image: "a.png",
            kind: "read",
            question: "Q?",
            expected: "A",
            reply,
            right: false,
            thought: None,
        }
    }

    #[test]
    fn replies_are_found_again_after_any_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.results.jsonl");
        let mut results = ResultsFile::open(&path).unwrap();
        results.append(&line("1", "one\n“1”")).unwrap();
        let first = std::fs::read(&path).unwrap().len();
        results.append(&line("2", "two")).unwrap();
        drop(results);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut results = ResultsFile::open(&path).unwrap();
            assert_eq!(results.reply("1"), (cut >= first).then_some("one\n“1”"));
            assert_eq!(results.reply("2"), (cut == whole.len()).then_some("two"));
            results.append(&line("3", "three")).unwrap();
            let again = ResultsFile::open(&path).unwrap();
            assert_eq!(again.reply("3"), Some("three"));
            assert_eq!(again.reply("1"), results.reply("1"));
        }
    }

    #[test]
    fn a_file_of_something_else_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        for (text, line) in [
            ("my notes", 1),
            ("{\"key\":\"1\",\"reply\":\"a\"}\nmy notes\n", 2),
            ("{\"image\":\"a.png\",\"question\":\"Q?\"}\n", 1),
            ("\n", 1),
        ] {
            std::fs::write(&path, text).unwrap();
            match ResultsFile::open(&path) {
                Err(EvalError::NotResults { line: found, .. }) => assert_eq!(found, line, "{text}"),
                _ => panic!("{text:?} was taken for results"),
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn forgetting_asks_again_and_keeps_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        let mut results = ResultsFile::open(&path).unwrap();
        results.append(&line("1", "one")).unwrap();
        results.forget();
        assert_eq!(results.reply("1"), None);
        // The later line of a key counts.
        results.append(&line("1", "two")).unwrap();
        assert_eq!(ResultsFile::open(&path).unwrap().reply("1"), Some("two"));
    }

    #[test]
    fn the_results_lie_beside_the_task() {
        assert_eq!(
            ResultsFile::beside(Path::new("a/b.jsonl")),
            Path::new("a/b.results.jsonl")
        );
    }
}
