//! Names of models: `owner/name`, or `owner/name:file` for one file of several.

use std::fmt;

use crate::error::FetchError;

/// Longest part of a name.
const MOST_PART: usize = 96;
/// Longest name of a file.
const MOST_FILE: usize = 256;

/// The name of a model on a hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName {
    owner: String,
    name: String,
    file: Option<String>,
}

impl ModelName {
    /// Reads `owner/name` or `owner/name:file`.
    pub fn parse(text: &str) -> Result<ModelName, FetchError> {
        let wrong = |problem| FetchError::Name {
            name: text.chars().take(200).collect(),
            problem,
        };
        let (model, file) = match text.split_once(':') {
            Some((model, file)) => (model, Some(file)),
            None => (text, None),
        };
        let (owner, name) = model
            .split_once('/')
            .ok_or_else(|| wrong("expected owner/name"))?;
        if !is_part(owner) || !is_part(name) {
            return Err(wrong(
                "expected two parts of letters, digits, '.', '_' and '-'",
            ));
        }
        if let Some(file) = file
            && !is_path(file)
        {
            return Err(wrong("expected a file of the model after ':'"));
        }
        Ok(ModelName {
            owner: owner.into(),
            name: name.into(),
            file: file.map(str::to_owned),
        })
    }

    /// `owner/name`.
    pub fn model(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The one file that is meant, or a part of its name.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Its folder in a cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }

    /// The model of a folder in a cache.
    pub(crate) fn of_folder(folder: &str) -> Option<ModelName> {
        let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
        ModelName::parse(&format!("{owner}/{name}")).ok()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}/{}", self.owner, self.name)?;
        match &self.file {
            Some(file) => write!(out, ":{file}"),
            None => Ok(()),
        }
    }
}

/// Whether it can be an owner or a model: a part of an address and of a folder's name.
fn is_part(part: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=MOST_PART).contains(&part.len())
        && part.chars().all(known)
        && !part.starts_with(['.', '-'])
        && !part.ends_with(['.', '-'])
        // What folders in a cache are divided by, and what leads out of one.
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether it can be a file's path inside of a model, and nothing outside of it on any system.
pub(crate) fn is_path(path: &str) -> bool {
    let known = |c: char| !c.is_control() && !"\\:*?\"<>|".contains(c);
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= MOST_FILE && path.chars().all(known) && path.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_and_written() {
        let plain = ModelName::parse("Qwen/Qwen2.5-VL-3B-Instruct").unwrap();
        assert_eq!(plain.model(), "Qwen/Qwen2.5-VL-3B-Instruct");
        assert_eq!(plain.folder(), "models--Qwen--Qwen2.5-VL-3B-Instruct");
        assert_eq!(ModelName::of_folder(&plain.folder()), Some(plain));
        let file = ModelName::parse("o/n:sub/x-Q4_0.gguf").unwrap();
        assert_eq!(file.file(), Some("sub/x-Q4_0.gguf"));
        assert_eq!(file.to_string(), "o/n:sub/x-Q4_0.gguf");
    }

    #[test]
    fn what_would_lead_elsewhere_is_no_name() {
        let wrong = [
            "",
            "/",
            "name",
            "/name",
            "owner/",
            "a/b/c",
            "../b",
            "a/..",
            "./b",
            "a/b:",
            "a/b:/x",
            "a/b:../x",
            "a/b:x/../../y",
            "a/b:c\\d",
            "a b/c",
            "a/b?c",
            "a/b#c",
            "a--b/c",
            "C:/x",
            "/tmp/x",
            "~/x",
            "a/b:c:d",
            "-a/b",
            "a/b.",
        ];
        for text in wrong {
            assert!(ModelName::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_is_read_stays_inside(text in "[a./:~\\\\ -]{0,12}") {
            if let Ok(name) = ModelName::parse(&text) {
                prop_assert!(!name.folder().contains('/'));
                prop_assert!(name.file().is_none_or(is_path));
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
