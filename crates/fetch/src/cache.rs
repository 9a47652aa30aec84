//! Models on this machine, in the layout of the hub's own tools
//! (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>): in `models--OWNER--NAME` contents lie in `blobs` by their
//! checksum, `snapshots/COMMIT` shows them under their names, and `refs/main` names the commit that is meant. The latter is
//! written when everything is there.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::choice;
use crate::error::FetchError;
use crate::listing::is_hex;
use crate::name::ModelName;

/// The models of a folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A model that is on this machine.
#[derive(Clone, Debug)]
pub struct Kept {
    /// `owner/name`.
    pub name: ModelName,
    /// Where its files are; none where it has not come as a whole yet.
    pub folder: Option<PathBuf>,
    /// Of the model's state.
    pub commit: Option<String>,
    /// Names of its files, with `/`, sorted.
    pub files: Vec<String>,
    /// What it takes on the disk, unfinished and older files too.
    pub bytes: u64,
    /// When it last changed.
    pub changed: Option<SystemTime>,
}

impl Cache {
    /// The models in this folder, which need not be there yet.
    pub fn new(root: PathBuf) -> Cache {
        Cache { root }
    }

    /// Where the models lie.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A model's own folder.
    pub(crate) fn folder(&self, name: &ModelName) -> PathBuf {
        self.root.join(name.folder())
    }

    /// Where a model, or the file of it that is named, can be loaded from; none where it is not here.
    pub fn find(&self, name: &ModelName) -> Option<PathBuf> {
        let (_, snapshot) = self.snapshot(name)?;
        let Some(file) = name.file() else {
            return Some(snapshot);
        };
        if snapshot.join(file).is_file() {
            return Some(snapshot.join(file));
        }
        let paths = paths(&snapshot).into_iter();
        let mut similar = paths.filter(|path| choice::may_mean(file, path));
        match (similar.next(), similar.next()) {
            (Some(path), None) => Some(snapshot.join(path)),
            _ => None,
        }
    }

    /// All models, by name.
    pub fn list(&self) -> Result<Vec<Kept>, FetchError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.disk(source)),
        };
        let mut kept = Vec::new();
        for entry in entries {
            let folder = entry.map_err(|source| self.disk(source))?.file_name();
            let name = folder.to_str().and_then(ModelName::of_folder);
            kept.extend(name.map(|name| self.look(name)));
        }
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(kept)
    }

    /// One model; none where nothing of it is here.
    pub fn show(&self, name: &ModelName) -> Option<Kept> {
        self.folder(name).is_dir().then(|| self.look(name.clone()))
    }

    /// Deletes all that is here of a model.
    pub fn remove(&self, name: &ModelName) -> Result<(), FetchError> {
        let folder = self.folder(name);
        fs::remove_dir_all(&folder).map_err(|source| FetchError::Disk {
            path: folder,
            source,
        })
    }

    fn look(&self, name: ModelName) -> Kept {
        let snapshot = self.snapshot(&name);
        let (bytes, changed) = weigh(&self.folder(&name));
        let (commit, folder) = snapshot.unzip();
        Kept {
            files: folder.as_deref().map(paths).unwrap_or_default(),
            name,
            folder,
            commit,
            bytes,
            changed,
        }
    }

    /// The commit that is meant, and its files.
    fn snapshot(&self, name: &ModelName) -> Option<(String, PathBuf)> {
        let folder = self.folder(name);
        let commit = fs::read_to_string(folder.join("refs/main")).ok()?;
        let commit = commit.trim();
        let snapshot = folder.join("snapshots").join(commit);
        (is_hex(commit, 40) && snapshot.is_dir()).then(|| (commit.to_owned(), snapshot))
    }

    fn disk(&self, source: io::Error) -> FetchError {
        FetchError::Disk {
            path: self.root.clone(),
            source,
        }
    }
}

/// Shows a content under its name.
pub(crate) fn link(blob: &Path, snapshot: &Path, path: &str) -> io::Result<()> {
    let place = snapshot.join(path);
    let depth = path.split('/').count();
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    // Something of another state may stand there, or a link whose content was deleted.
    if place.symlink_metadata().is_ok() {
        fs::remove_file(&place)?;
    }
    let content = blob.file_name().unwrap_or_default();
    let mut target: PathBuf = std::iter::repeat_n("..", depth + 1).collect();
    target.extend([Path::new("blobs"), Path::new(content)]);
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, place);
    // Links need a privilege there.
    #[cfg(not(unix))]
    return fs::hard_link(blob, place);
}

/// The files of a snapshot, with `/`, sorted.
fn paths(snapshot: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(snapshot.join(&folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = folder.join(entry.file_name());
            // Contents are links; folders never are.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) => paths.push(path.to_string_lossy().replace('\\', "/")),
                Err(_) => {}
            }
        }
    }
    paths.sort();
    paths
}

/// Bytes of all files of a folder, and when the last of them changed. Links are not followed, and what has several names
/// counts once.
fn weigh(folder: &Path) -> (u64, Option<SystemTime>) {
    let (mut bytes, mut changed) = (0, None);
    let mut folders = vec![folder.to_owned()];
    let mut seen = HashSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(facts) = entry.metadata() else {
                continue;
            };
            if facts.is_dir() {
                folders.push(entry.path());
            } else if facts.is_file() && seen.insert(identity(&entry.path(), &facts)) {
                bytes += facts.len();
                changed = changed.max(facts.modified().ok());
            }
        }
    }
    (bytes, changed)
}

#[cfg(unix)]
fn identity(_: &Path, facts: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    facts.ino()
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &fs::Metadata) -> PathBuf {
    path.to_owned()
}
