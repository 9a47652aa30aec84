//! What CONVENTIONS.md says of files, counted, and whether the documents name files that are there.

use std::path::{Path, PathBuf};

/// Most lines of a file, tests included.
const MAX_LINES: usize = 600;
/// Most lines of a model family's file.
const MAX_FAMILY_LINES: usize = 150;
/// How a longer file explains itself, in its first lines.
const REASON: &str = "lines because";
/// Names that say nothing.
const EMPTY_NAMES: [&str; 5] = ["utils", "util", "common", "helpers", "misc"];

/// Every Rust file of the workspace's crates.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 100, "the crates were not found");
    files
}

fn report(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        let folder = path.parent().and_then(Path::file_name);
        let most = match folder.is_some_and(|name| name == "families") {
            true => MAX_FAMILY_LINES,
            false => MAX_LINES,
        };
        let explained = text.lines().take(12).any(|line| line.contains(REASON));
        if lines > most && !explained {
            let path = path.display();
            wrong.push(format!(
                "{path} has {lines} lines, more than {most}; its top may say why"
            ));
        }
    }
    report(wrong);
}

#[test]
fn files_open_with_what_they_are_for() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not begin with //!", path.display()));
        }
    }
    report(wrong);
}

#[test]
fn no_merge_was_left_half_done() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = sources();
    for folder in [root.clone(), root.join("docs")] {
        files.extend(
            std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
    }
    let kinds = ["rs", "md", "toml"];
    files.retain(|path| {
        path.extension()
            .is_some_and(|end| kinds.iter().any(|kind| end == *kind))
    });
    let mut wrong = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
                wrong.push(format!("{}:{}: {line}", path.display(), index + 1));
            }
        }
    }
    report(wrong);
}

#[test]
fn names_of_files_say_something() {
    let empty = |path: &PathBuf| {
        path.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            EMPTY_NAMES.contains(&name.trim_end_matches(".rs"))
        })
    };
    let crates = |path: &PathBuf| {
        path.components()
            .rev()
            .take(6)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<PathBuf>()
    };
    let named = sources()
        .iter()
        .map(crates)
        .filter(empty)
        .map(|path| path.display().to_string())
        .collect();
    report(named);
}

#[test]
fn unsafe_stays_in_the_kernels_and_the_memory_map() {
    let mut wrong = Vec::new();
    for path in sources() {
        let name = path.to_string_lossy().replace('\\', "/");
        let may = name.contains("/kernels/") || name.ends_with("/model/src/mapped.rs");
        let text = std::fs::read_to_string(&path).unwrap();
        if !may && text.contains(&format!("allow({}", "unsafe_code")) {
            wrong.push(format!("{name} allows unsafe code"));
        }
    }
    report(wrong);
}

/// What a document links to or shows, without addresses elsewhere and places inside of a document.
fn links(text: &str) -> Vec<&str> {
    let after = |mark: &'static str, end: char| {
        text.match_indices(mark).filter_map(move |(place, _)| {
            let (link, _) = text[place + mark.len()..].split_once(end)?;
            let (file, _) = link.split_once('#').unwrap_or((link, ""));
            (!file.is_empty() && !file.contains("://")).then_some(file)
        })
    };
    after("](", ')').chain(after("src=\"", '"')).collect()
}

#[test]
fn links_in_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut documents = Vec::new();
    for folder in [root.clone(), root.join("docs")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path);
            }
        }
    }
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            count += 1;
            if !document.with_file_name(link).exists() {
                wrong.push(format!("{}: {link} is not there", document.display()));
            }
        }
    }
    assert!(count > 20, "only {count} links were found");
    report(wrong);
}
