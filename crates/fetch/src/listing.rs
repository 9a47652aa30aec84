//! A hub's list of a model's files, read as what a stranger says.

use serde::Deserialize;

use crate::error::FetchError;
use crate::name::is_path;

/// Most files of a model.
const MOST_FILES: usize = 10_000;

/// What a hub says of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The state of the model: 40 hexadecimal digits.
    pub commit: String,
    pub files: Vec<Listed>,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Inside the model, with `/`.
    pub path: String,
    pub bytes: u64,
    pub sum: Sum,
}

/// What a file must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// SHA-256 of its bytes: large files.
    Sha256(String),
    /// SHA-1 as git makes it, of a header with the length and the bytes: small files.
    Git(String),
}

impl Sum {
    /// In hexadecimal, which is also the name of the file's content in a cache.
    pub fn hex(&self) -> &str {
        match self {
            Sum::Sha256(hex) | Sum::Git(hex) => hex,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// Reads the answer to a question about `what`.
pub(crate) fn read(what: &str, answer: &[u8]) -> Result<Listing, FetchError> {
    let wrong = |problem: String| FetchError::Answer {
        what: what.into(),
        problem,
    };
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|error| wrong(format!("expected a list of the model's files: {error}")))?;
    if !is_hex(&answer.sha, 40) {
        return Err(wrong("expected a commit of 40 hexadecimal digits".into()));
    }
    if answer.siblings.len() > MOST_FILES {
        let found = answer.siblings.len();
        return Err(wrong(format!(
            "{found} files, expected at most {MOST_FILES}"
        )));
    }
    let files = answer.siblings.into_iter().map(|file| {
        let path = file.rfilename.escape_debug().to_string();
        listed(file).ok_or_else(|| {
            let expected = "expected a path inside the model, a size and a checksum";
            wrong(format!("file {path}: {expected}"))
        })
    });
    Ok(Listing {
        commit: answer.sha,
        files: files.collect::<Result<_, _>>()?,
    })
}

fn listed(file: Sibling) -> Option<Listed> {
    let (bytes, sum) = match file.lfs {
        Some(lfs) if is_hex(&lfs.sha256, 64) => (lfs.size, Sum::Sha256(lfs.sha256)),
        Some(_) => return None,
        None => {
            let id = file.blob_id.filter(|id| is_hex(id, 40))?;
            (file.size?, Sum::Git(id))
        }
    };
    is_path(&file.rfilename).then_some(Listed {
        path: file.rfilename,
        bytes,
        sum,
    })
}

pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == digits && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(siblings: &str) -> String {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        format!(r#"{{"sha": "{sha}", "id": "o/n", "siblings": [{siblings}]}}"#)
    }

    #[test]
    fn small_and_large_files_have_their_own_checksums() {
        let id = "89abcdef0123456789abcdef0123456789abcdef";
        let sha256 = "0".repeat(64);
        let text = answer(&format!(
            r#"{{"rfilename": "config.json", "size": 7, "blobId": "{id}"}},
               {{"rfilename": "llm/m.safetensors", "size": 9, "blobId": "{id}",
                 "lfs": {{"sha256": "{sha256}", "size": 9, "pointerSize": 1}}}}"#
        ));
        let listing = read("o/n", text.as_bytes()).unwrap();
        let sums: Vec<&Sum> = listing.files.iter().map(|file| &file.sum).collect();
        assert_eq!(sums, [&Sum::Git(id.into()), &Sum::Sha256(sha256)]);
        assert_eq!(listing.files[1].path, "llm/m.safetensors");
        assert_eq!((listing.files[0].bytes, listing.files[1].bytes), (7, 9));
    }

    #[test]
    fn answers_that_lie_are_refused() {
        let id = "89abcdef0123456789abcdef0123456789abcdef";
        let with = |path: &str, id: &str| {
            answer(&format!(
                r#"{{"rfilename": "{path}", "size": 7, "blobId": "{id}"}}"#
            ))
        };
        assert!(read("o/n", with("a/b", id).as_bytes()).is_ok());
        for text in [
            with("../a", id),
            with("/etc/passwd", id),
            with("a/../../b", id),
            with("a\\\\b", id),
            with("", id),
            with("a", "89AB"),
            with("a", "../../../../../../../../../../../etc/pass"),
            answer(r#"{"rfilename": "a", "size": 7}"#),
            answer(&format!(r#"{{"rfilename": "a", "blobId": "{id}"}}"#)),
            answer(&format!(
                r#"{{"rfilename": "a", "size": -1, "blobId": "{id}"}}"#
            )),
            answer(r#"{"rfilename": "a", "size": 7, "lfs": {"sha256": "ab", "size": 1}}"#),
            r#"{"sha": "../x", "siblings": []}"#.into(),
            "<html>".into(),
            String::new(),
        ] {
            assert!(read("o/n", text.as_bytes()).is_err(), "{text}");
        }
    }
}
