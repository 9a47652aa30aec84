//! Names of pictures and models by their content, wherever something is kept by what it was made from.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Take};
use std::path::{Path, PathBuf};

use image_prep::{Picture, Preprocessor};
use sha2::{Digest, Sha256};

use crate::error::EngineError;
use crate::files::ModelFiles;

/// SHA-256 of something.
pub(crate) type Name = [u8; 32];

/// A picture by its pixels and how they are cut and scaled: half of a SHA-256, and never 0. What the encoder makes of it
/// is the same for the same weights.
pub(crate) fn of_picture(picture: &Picture, preprocessor: &Preprocessor) -> u128 {
    let mut hash = Sha256::new();
    hash.update(picture.width.to_le_bytes());
    hash.update(picture.height.to_le_bytes());
    hash.update(&picture.rgb);
    hash.update(preprocessor.to_json());
    let name: Name = hash.finalize().into();
    name.first_chunk()
        .map_or(1, |half| u128::from_le_bytes(*half).max(1))
}

/// Where an engine's weights came from, to name them when somebody asks: hashing gigabytes takes seconds, which a start
/// that never saves a session should not.
#[derive(Clone, Debug)]
pub(crate) enum Weights {
    Folder(PathBuf),
    Bundle(PathBuf),
    Files(Vec<PathBuf>),
    Inside(&'static [u8]),
    Named(Name),
}

/// Bytes of a bundle that are read to name it: what stands before the header, and the longest header. The header has the
/// checksums of all that comes after it.
const BUNDLE_BEGINNING: u64 = 64 + (64 << 20);

impl Weights {
    /// Weights that are like no others, such as those made up for a test.
    pub fn unnamed() -> Weights {
        let once = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(b"unnamed");
        hash.update(once.as_nanos().to_le_bytes());
        hash.update(std::process::id().to_le_bytes());
        Weights::Named(hash.finalize().into())
    }

    /// Weights that were handed over in memory.
    pub fn of_memory(files: &ModelFiles) -> Weights {
        match &files.weights {
            Cow::Borrowed(weights) => Weights::Inside(weights),
            Cow::Owned(weights) => Weights::Named(Sha256::digest(weights).into()),
        }
    }

    /// Their name: the same for the same numbers wherever they lie, but not for a folder and a bundle made of it, whose
    /// numbers differ.
    pub fn name(&self) -> Result<Name, EngineError> {
        match self {
            Weights::Named(name) => Ok(*name),
            Weights::Inside(weights) => Ok(Sha256::digest(weights).into()),
            Weights::Bundle(path) => of_files(std::slice::from_ref(path), bundle_bytes),
            Weights::Files(paths) => of_files(paths, |_| Ok(u64::MAX)),
            Weights::Folder(folder) => of_files(&model::weight_paths(folder)?, |_| Ok(u64::MAX)),
        }
    }
}

/// Bytes of prelude and header; the length of the header stands in the prelude.
fn bundle_bytes(path: &Path) -> std::io::Result<u64> {
    let mut prelude = [0; 24];
    File::open(path)?.read_exact(&mut prelude)?;
    let length = prelude
        .last_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(length.saturating_add(64).min(BUNDLE_BEGINNING))
}

fn of_files(
    paths: &[PathBuf],
    bytes: impl Fn(&Path) -> std::io::Result<u64>,
) -> Result<Name, EngineError> {
    let mut hash = Sha256::new();
    for path in paths {
        let take = || Ok(File::open(path)?.take(bytes(path)?));
        let read = take().and_then(|file| hash_file(file, &mut hash));
        read.map_err(|source| EngineError::Read {
            path: path.clone(),
            source,
        })?;
    }
    Ok(hash.finalize().into())
}

fn hash_file(mut file: Take<File>, hash: &mut Sha256) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{nano_files, picture};

    #[test]
    fn a_picture_is_named_by_size_pixels_and_preparation() {
        let preprocessor = nano_files().preprocessor;
        let name = |picture: &Picture| of_picture(picture, &preprocessor);
        let one = picture(4, 2, 9);
        assert_eq!(name(&one), name(&one.clone()));
        assert_ne!(name(&one), name(&picture(2, 4, 9)));
        let mut other = one.clone();
        other.rgb[23] += 1;
        assert_ne!(name(&one), name(&other));
        let small = nano_files().preprocessor.at_most(image_prep::tiling::Grid {
            columns: 1,
            rows: 1,
        });
        assert_ne!(name(&one), of_picture(&one, &small));
    }

    #[test]
    fn weights_are_named_by_what_is_in_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let name = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Weights::Folder(folder.path().into()).name().unwrap()
        };
        assert_eq!(name(b"abc"), name(b"abc"));
        assert_ne!(name(b"abc"), name(b"abd"));
        // SHA-256 of "abc", from FIPS 180-2.
        assert_eq!(name(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(Weights::Inside(b"abc").name().unwrap(), name(b"abc"));
    }

    #[test]
    fn weights_of_torch_and_of_parts_in_folders_name_a_model_too() {
        let folder = tempfile::tempdir().unwrap();
        let name = |path: &str, bytes: &[u8]| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
            Weights::Folder(folder.path().into()).name().unwrap()
        };
        assert_ne!(
            name("pytorch_model.bin", b"abc"),
            name("pytorch_model.bin", b"abd")
        );
        for part in ["mm_projector", "vision_tower", "llm"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
            std::fs::write(folder.path().join(part).join("model.safetensors"), part).unwrap();
        }
        let file = "vision_tower/model.safetensors";
        assert_ne!(name(file, b"abc"), name(file, b"abd"));
    }

    #[test]
    fn a_bundle_is_named_by_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.bluelm");
        let name = |header: &[u8], data: &[u8]| {
            let mut bytes = vec![0; 64];
            bytes[16..24].copy_from_slice(&(header.len() as u64).to_le_bytes());
            bytes.extend_from_slice(header);
            bytes.extend_from_slice(data);
            std::fs::write(&path, bytes).unwrap();
            Weights::Bundle(path.clone()).name().unwrap()
        };
        assert_eq!(name(b"head", b"data"), name(b"head", b"other"));
        assert_ne!(name(b"head", b"data"), name(b"herd", b"data"));
    }
}
