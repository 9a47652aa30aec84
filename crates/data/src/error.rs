//! What can go wrong while making, writing or reading examples.

use std::path::PathBuf;

use thiserror::Error;

/// Every error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A field of the recipe cannot be used.
    #[error("recipe field {field} is {found}; expected {expected}")]
    Recipe {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// The recipe names a font that is not shipped.
    #[error("recipe names the font {name:?}; known fonts are {known}")]
    UnknownFont {
        /// The unknown name.
        name: String,
        /// Names that would do.
        known: String,
    },
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder holds something else already.
    #[error("{} holds examples made with another seed, recipe or range: {found}", path.display())]
    OtherRun {
        /// The folder.
        path: PathBuf,
        /// What differs.
        found: String,
    },
    /// The folder exists, is not empty and was not written by this program.
    #[error("{} exists and is not empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file of a folder of examples cannot be understood.
    #[error("{}: {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
}

impl DataError {
    /// Advice for the person at the terminal, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            DataError::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("free some space and run the same command again: it goes on where it stopped")
            }
            DataError::OtherRun { .. } => Some("choose another folder, or delete this one"),
            DataError::NotEmpty { .. } => Some("choose an empty or a new folder"),
            _ => None,
        }
    }
}
