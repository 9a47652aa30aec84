//! Reads LLaVA-style JSON that anybody may have written.
//!
//! Nothing in such a file is trusted: picture paths stay inside of the folder, roles are those that LLaVA and its
//! relatives use, and every complaint names the sample. Pictures are not opened here.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::DataError;

/// The largest file that is read as a whole.
const MAX_BYTES: u64 = 2 << 30;

/// A conversation about at most one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Name of the sample in its file, or its number.
    pub id: String,
    /// Path of the picture below the folder of the file.
    pub image: Option<PathBuf>,
    /// What was said, first the human, then in turn.
    pub turns: Vec<(Speaker, String)>,
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// `human` or `user`.
    Human,
    /// `gpt` or `assistant`.
    Model,
    /// `system`.
    System,
}

#[derive(Deserialize)]
struct Sample {
    #[serde(default)]
    id: serde_json::Value,
    #[serde(default)]
    image: Option<String>,
    conversations: Vec<crate::llava::Turn>,
}

/// Reads a list of conversations; picture paths are joined to the folder of the file.
///
/// # Errors
/// [`DataError::File`] if the file cannot be read, [`DataError::Malformed`] with the first twenty complaints.
pub fn read_llava(path: &Path) -> Result<Vec<Conversation>, DataError> {
    let malformed = |found: String| DataError::Malformed {
        path: path.to_owned(),
        found,
    };
    let failed = |source| DataError::File {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let read = file
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if read as u64 > MAX_BYTES {
        return Err(malformed(format!(
            "more than {MAX_BYTES} bytes; split the file"
        )));
    }
    let samples: Vec<serde_json::Value> = serde_json::from_str(&text)
        .map_err(|error| malformed(format!("expected a list of samples: {error}")))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut conversations = Vec::with_capacity(samples.len());
    let mut complaints = Vec::new();
    for (number, sample) in samples.into_iter().enumerate() {
        match conversation(number, sample, folder) {
            Ok(conversation) => conversations.push(conversation),
            Err(complaint) => complaints.push(complaint),
        }
    }
    if complaints.is_empty() {
        return Ok(conversations);
    }
    let more = complaints.len().saturating_sub(20);
    complaints.truncate(20);
    if more > 0 {
        complaints.push(format!("and {more} more"));
    }
    Err(malformed(complaints.join("\n")))
}

fn conversation(
    number: usize,
    sample: serde_json::Value,
    folder: &Path,
) -> Result<Conversation, String> {
    let sample: Sample =
        serde_json::from_value(sample).map_err(|error| format!("sample {number}: {error}"))?;
    let id = match sample.id {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => number.to_string(),
        other => other.to_string(),
    };
    let complain = |what: String| format!("sample {number} ({id}): {what}");
    let image = match &sample.image {
        Some(name) => Some(inside(folder, name).map_err(complain)?),
        None => None,
    };
    let mut turns = Vec::with_capacity(sample.conversations.len());
    for turn in sample.conversations {
        let speaker = match turn.from.as_str() {
            "human" | "user" => Speaker::Human,
            "gpt" | "assistant" | "model" => Speaker::Model,
            "system" => Speaker::System,
            other => {
                return Err(complain(format!(
                    "expected human or gpt in `from`, found {other:?}"
                )));
            }
        };
        turns.push((speaker, turn.value));
    }
    if !turns.iter().any(|turn| turn.0 == Speaker::Model) {
        return Err(complain(
            "nothing to learn: no turn of the model".to_owned(),
        ));
    }
    Ok(Conversation { id, image, turns })
}

/// Joins a relative path of plain names only.
fn inside(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = Path::new(name);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if name.is_empty() || !plain || name.contains('\\') {
        return Err(format!(
            "expected the path of a picture inside of the folder, found {name:?}"
        ));
    }
    Ok(folder.join(path))
}
