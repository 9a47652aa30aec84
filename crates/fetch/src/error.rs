//! What can go wrong on the way to a file.

use std::path::PathBuf;

/// Why a model did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No name of a model.
    #[error("model {name:?}: {problem}")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The network is not to be used.
    #[error("{name}: it is not on this machine, and HF_HUB_OFFLINE says not to look elsewhere")]
    Offline {
        /// The model.
        name: String,
    },
    /// Nobody answers.
    #[error("{endpoint}: cannot be reached: {problem}")]
    NoConnection {
        /// Whom we asked.
        endpoint: String,
        /// What the connection said.
        problem: String,
    },
    /// There is no such model, or none that everybody may see.
    #[error(
        "{name}: {endpoint} has no such model, or does not show it to everybody (status {status})"
    )]
    NotFound {
        /// The model.
        name: String,
        /// Whom we asked.
        endpoint: String,
        /// Of HTTP.
        status: u16,
    },
    /// One must ask for it.
    #[error("{name}: {endpoint} gives it to those who were let in only (status {status})")]
    Denied {
        /// The model.
        name: String,
        /// Whom we asked.
        endpoint: String,
        /// Of HTTP.
        status: u16,
    },
    /// An answer that is none.
    #[error("{what}: {problem}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The model has nothing that could be run, or not the file that was asked for.
    #[error("{name}: {problem}")]
    Choice {
        /// The model.
        name: String,
        /// What was looked for, and what there is.
        problem: String,
        /// What to ask for instead.
        hint: String,
    },
    /// Other bytes came than the hub's list says.
    #[error("{file}: expected checksum {expected}, found {found}; what came was thrown away")]
    Checksum {
        /// The file.
        file: String,
        /// Of the list.
        expected: String,
        /// Of what came.
        found: String,
    },
    /// Another process is at it.
    #[error("{path}: another process is fetching this file")]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// The file system does not play along.
    #[error("{path}: {source}")]
    Disk {
        /// What was written or read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody stopped it.
    #[error("cancelled")]
    Cancelled,
}

impl FetchError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            FetchError::Name { .. } => {
                "models are named owner/name, or owner/name:file for one GGUF file".into()
            }
            FetchError::Offline { .. } => "unset HF_HUB_OFFLINE, or give a folder".into(),
            FetchError::NoConnection { .. } => {
                "models that are here need no network: `bluelm ls` lists them; HF_ENDPOINT names another hub".into()
            }
            FetchError::NotFound { .. } => {
                "look for a slip in the name; for a private model set HF_TOKEN".into()
            }
            FetchError::Denied { .. } => {
                "ask for access on the model's page, then set HF_TOKEN to a token of that account".into()
            }
            FetchError::Choice { hint, .. } if !hint.is_empty() => hint.clone(),
            FetchError::Checksum { .. } => "try again; it begins anew".into(),
            FetchError::Busy { .. } => "wait for it, or stop it".into(),
            FetchError::Disk { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "make room, or set HF_HOME to a larger disk; it goes on where it ended".into()
            }
            _ => return None,
        })
    }
}
