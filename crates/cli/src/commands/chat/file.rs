//! A conversation in a file: the body of a chat completion, so that `bluelm run --request` and other programs can read it, and
//! beside it (`.session`) what the model remembers, so that it need not be read again.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::request_json::{self, Pictures, Rules};
use engine::{Engine, Memory, Message, Request};
use model::Model;
use serde_json::{Value as Json, json};

/// Writes a conversation and its memory. Only the owner can read them.
pub fn save(
    path: &Path,
    request: &Request,
    engine: &Engine,
    memory: &Memory<Model>,
) -> anyhow::Result<()> {
    let body = body(request).to_string();
    let part = beside(path, "part");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(&part)
        .and_then(|mut file| file.write_all(body.as_bytes()))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // The error to tell is the first one.
        let _ = std::fs::remove_file(&part);
    }
    written.with_context(|| path.display().to_string())?;
    Ok(engine.save_session(memory, &beside(path, "session"))?)
}

/// What was read of a saved conversation.
pub struct Loaded {
    /// Messages and pictures.
    pub request: Request,
    /// What the model remembers of it; nothing where that is not there or not this model's.
    pub memory: Memory<Model>,
    /// Why it has to be read again, if it has.
    pub forgotten: Option<String>,
}

/// Reads a conversation; settings are those of `defaults`.
pub fn load(path: &Path, defaults: &Request, engine: &Engine) -> anyhow::Result<Loaded> {
    let rules = Rules::new(Pictures::DataUrls);
    let body = request_json::read_body(path, &rules)?;
    let request =
        request_json::parse(&body, defaults, &rules).with_context(|| path.display().to_string())?;
    let restored = engine.restore_session(&beside(path, "session"));
    let (memory, forgotten) = match restored {
        Ok(memory) => (memory, None),
        Err(error) => (Memory::new(), Some(error.to_string())),
    };
    Ok(Loaded {
        request,
        memory,
        forgotten,
    })
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// The conversation as messages, pictures as data URLs: PNG, which loses nothing, so that they are the same pictures again.
fn body(request: &Request) -> Json {
    let image = |index: usize| {
        let png = image_prep::encode_png(&request.images[index]);
        let url = format!("data:image/png;base64,{}", STANDARD.encode(png));
        json!({"type": "image_url", "image_url": {"url": url}})
    };
    let message = |message: &Message| message.to_json(&image);
    let messages: Vec<Json> = request.messages.iter().map(message).collect();
    json!({"messages": messages})
}
