//! Limits, damage and strangers' files, with rows of a few numbers.

use std::path::PathBuf;

use super::*;

fn rows(level: f32) -> Rows {
    vec![Arc::from(vec![level; 6]), Arc::from(vec![level; 2])]
}

fn on_disk(folder: &Path, weights: u8, max_bytes: u64) -> ImageCache {
    let cache = ImageCache::new(0).with_folder(folder, max_bytes).unwrap();
    cache.of_weights(|| Ok([weights; 32])).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn flat(rows: Option<Rows>) -> Option<Vec<f32>> {
    rows.map(|rows| rows.iter().flat_map(|batch| batch.to_vec()).collect())
}

#[test]
fn the_image_used_longest_ago_makes_room() {
    // Two images of 32 bytes.
    let cache = ImageCache::new(64);
    for name in [1, 2] {
        cache.keep(name, rows(name as f32));
    }
    assert_eq!(flat(cache.find(1, 8)), Some(vec![1.0; 8]));
    cache.keep(3, rows(3.0));
    assert!(cache.find(2, 8).is_none());
    assert!(cache.has(1) && cache.has(3) && !cache.has(2));
    let counts = cache.counts();
    assert_eq!((counts.images, counts.bytes), (2, 64));
    assert_eq!((counts.found, counts.missed), (1, 1));
    // Kept again is kept once; what is too large is not kept, and costs the others nothing.
    cache.keep(3, rows(3.0));
    cache.keep(4, vec![Arc::from(vec![0.0; 17])]);
    assert_eq!(cache.counts().bytes, 64);
    assert!(cache.has(1) && !cache.has(4));
}

#[test]
fn rows_of_another_length_are_not_taken() {
    let cache = ImageCache::new(64);
    cache.keep(1, rows(1.0));
    assert!(cache.find(1, 7).is_none());
}

#[test]
fn a_file_outlives_its_cache_and_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    on_disk(&inner, 1, 1000).keep(7, rows(0.5));
    let again = on_disk(&inner, 1, 1000);
    assert!(again.has(7));
    assert_eq!(flat(again.find(7, 8)), Some(vec![0.5; 8]));
    assert!(again.find(8, 8).is_none());
    let counts = again.counts();
    assert_eq!((counts.found_in_folder, counts.missed), (1, 1));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&inner), 0o700);
        assert_eq!(mode(&files(&inner)[0]), 0o600);
    }
}

#[test]
fn another_models_file_is_refused_even_under_the_right_name() {
    let folder = tempfile::tempdir().unwrap();
    on_disk(folder.path(), 1, 1000).keep(7, rows(0.5));
    let [its] = &files(folder.path())[..] else {
        panic!("one file")
    };
    let other = on_disk(folder.path(), 2, 1000);
    assert!(other.find(7, 8).is_none());
    let name = its.file_name().unwrap().to_str().unwrap();
    std::fs::rename(its, folder.path().join(name.replace("01", "02"))).unwrap();
    assert!(other.has(7));
    assert!(other.find(7, 8).is_none());
}

#[test]
fn every_damage_to_a_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    on_disk(folder.path(), 1, 1000).keep(7, rows(0.5));
    let path = &files(folder.path())[0];
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes.len(), 68 + 32 + 32);
    let cache = on_disk(folder.path(), 1, 1000);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(path, damaged).unwrap();
        assert!(cache.find(7, 8).is_none(), "byte {at}");
        std::fs::write(path, &bytes[..at]).unwrap();
        assert!(cache.find(7, 8).is_none(), "{at} bytes");
    }
    std::fs::write(path, [&bytes[..], &[0]].concat()).unwrap();
    assert!(cache.find(7, 8).is_none());
    std::fs::write(path, &bytes).unwrap();
    assert!(cache.find(7, 8).is_some());
}

#[test]
fn a_folder_keeps_to_its_limit_and_to_its_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let strange = folder.path().join("holiday.rows");
    std::fs::write(&strange, [0; 5000]).unwrap();
    // Two files of 132 bytes.
    let cache = on_disk(folder.path(), 1, 264);
    let old = std::time::SystemTime::UNIX_EPOCH;
    for (name, age) in [(1, 2), (2, 1)] {
        cache.keep(name, rows(0.0));
        cache.wait();
        let path = folder
            .path()
            .join(format!("{name:032x}-0101010101010101.rows"));
        let time = old + std::time::Duration::from_secs(10 - age);
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }
    // The older one is used, so the other goes.
    assert!(cache.find(1, 8).is_some());
    cache.keep(3, rows(0.0));
    cache.wait();
    assert!(cache.has(1) && !cache.has(2) && cache.has(3));
    assert!(strange.exists());
    assert_eq!(cache.counts().failed_writes, 0);
}

#[test]
fn a_folder_that_cannot_be_written_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("gone");
    let cache = on_disk(&inner, 1, 1000);
    std::fs::remove_dir(&inner).unwrap();
    cache.keep(7, rows(0.5));
    cache.wait();
    assert_eq!(cache.counts().failed_writes, 1);
    assert!(cache.find(7, 8).is_none());
    // A file where the folder should be is told at once.
    std::fs::write(&inner, "").unwrap();
    let error = ImageCache::new(0).with_folder(&inner, 1000).err().unwrap();
    assert!(error.to_string().contains("gone"), "{error}");
}

#[test]
fn a_write_that_breaks_off_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let cache = on_disk(folder.path(), 1, 1000);
    // A folder that is not empty cannot be replaced by a file: the last step fails, as on a full disk an earlier one.
    let place = folder
        .path()
        .join(format!("{:032x}-0101010101010101.rows", 7));
    std::fs::create_dir_all(place.join("in the way")).unwrap();
    cache.keep(7, rows(0.5));
    cache.wait();
    assert_eq!(cache.counts().failed_writes, 1);
    assert_eq!(files(folder.path()), [place]);
}
