//! Where the settings of a server come from: the command line, else the environment, else a file, else the default.
//!
//! Every setting has one name. In the file (TOML) it is the key, in the environment it is `BLUELM_` and the name in capitals,
//! on the command line it is the flag. A value is checked in the same way wherever it comes from, and all that is wrong is told
//! at once, each with where it stands.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use toml::{Table, Value};

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// In the environment separated by commas.
    Texts,
    Switch,
    /// A whole number within these bounds.
    Whole(u64, u64),
}

/// All settings.
const SETTINGS: [(&str, Kind); 25] = [
    ("model", Kind::Text),
    ("mmproj", Kind::Text),
    ("host", Kind::Text),
    ("port", Kind::Whole(0, 65_535)),
    ("api_key", Kind::Texts),
    ("allow_without_key", Kind::Switch),
    ("allow_host", Kind::Texts),
    ("allow_origin", Kind::Texts),
    ("media_path", Kind::Text),
    ("allow_remote_images", Kind::Switch),
    ("parallel", Kind::Whole(1, 64)),
    ("cache_mb", Kind::Whole(1, 100_000_000)),
    ("max_waiting", Kind::Whole(1, 100_000)),
    ("max_body_mb", Kind::Whole(1, 4000)),
    ("max_megapixels", Kind::Whole(1, 1000)),
    ("max_pictures", Kind::Whole(1, 10_000)),
    ("max_memory_mb", Kind::Whole(1, 1_000_000)),
    ("picture_minutes", Kind::Whole(1, 1_000_000)),
    ("image_cache_mb", Kind::Whole(0, 1_000_000)),
    ("image_cache", Kind::Text),
    ("image_cache_disk_mb", Kind::Whole(1, 100_000_000)),
    ("threads", Kind::Whole(1, engine::MOST_THREADS as u64)),
    (
        "tile_batch",
        Kind::Whole(1, engine::MOST_BATCH_TILES as u64),
    ),
    ("keep_encoder", Kind::Switch),
    ("max_request_mb", Kind::Whole(1, 100_000_000)),
];

/// The names of all settings, sorted.
#[cfg(test)]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Flag,
    Environment,
    File(PathBuf),
}

/// A value and where it stands.
#[derive(Clone, Debug)]
struct Set {
    value: Value,
    source: Source,
}

/// Settings that are wrong, all of them.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Wrong(Vec<String>);

impl Wrong {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "`bluelm serve --help` has all settings; docs/server.md has a file with each of them"
    }
}

/// Settings, checked.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<&'static str, Set>);

impl Settings {
    /// From the flags that were given, this environment, and a file if there is one.
    pub fn read(
        flags: Table,
        environment: impl Fn(&str) -> Option<String>,
        file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut settings = Settings::default();
        let mut problems = Vec::new();
        if let Some(path) = file {
            settings.take_file(path, &mut problems)?;
        }
        for (name, kind) in SETTINGS {
            let text = environment(&variable(name)).filter(|text| !text.is_empty());
            if let Some(text) = text {
                let value = of_text(kind, text);
                settings.take(name, value, Source::Environment, &mut problems);
            }
        }
        for (name, value) in flags {
            settings.take(&name, value, Source::Flag, &mut problems);
        }
        match problems.is_empty() {
            true => Ok(settings),
            false => Err(Wrong(problems).into()),
        }
    }

    fn take_file(&mut self, path: &Path, problems: &mut Vec<String>) -> anyhow::Result<()> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| shown.clone())?;
        let table: Table = text.parse().with_context(|| format!("{shown}: not TOML"))?;
        for (name, value) in table {
            self.take(&name, value, Source::File(path.into()), problems);
        }
        Ok(())
    }

    /// Takes a value above what is there.
    fn take(&mut self, name: &str, value: Value, source: Source, problems: &mut Vec<String>) {
        let Some(&(name, kind)) = SETTINGS.iter().find(|(known, _)| *known == name) else {
            let place = source.place(name);
            problems.push(format!("{place}: there is no such setting{}", near(name)));
            return;
        };
        match kind.takes(&value) {
            true => drop(self.0.insert(name, Set { value, source })),
            false => problems.push(format!(
                "{}: expected {kind}, found {value}",
                source.place(name)
            )),
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str()
    }

    /// A list of texts; empty where nobody has said.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let items = self.value(name).and_then(Value::as_array);
        let texts = items.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }

    /// A switch; off where nobody has said.
    pub fn switch(&self, name: &str) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A whole number.
    pub fn whole(&self, name: &str) -> Option<u64> {
        u64::try_from(self.value(name)?.as_integer()?).ok()
    }

    /// Where a value stands, for messages about what it leads to.
    pub fn place(&self, name: &str) -> String {
        self.0
            .get(name)
            .map_or(name.into(), |set| set.source.place(name))
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).map(|set| &set.value)
    }
}

impl Kind {
    fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (Kind::Text, Value::String(text)) => !text.is_empty(),
            (Kind::Texts, Value::Array(items)) => items.iter().all(|item| Kind::Text.takes(item)),
            (Kind::Switch, Value::Boolean(_)) => true,
            (Kind::Whole(least, most), Value::Integer(number)) => {
                u64::try_from(*number).is_ok_and(|number| (least..=most).contains(&number))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text => formatter.write_str("a text"),
            Kind::Texts => formatter.write_str("a list of texts"),
            Kind::Switch => formatter.write_str("true or false"),
            Kind::Whole(least, most) => {
                write!(formatter, "a whole number from {least} to {most}")
            }
        }
    }
}

impl Source {
    fn place(&self, name: &str) -> String {
        match self {
            Source::Flag => format!("--{}", name.replace('_', "-")),
            Source::Environment => variable(name),
            Source::File(path) => format!("{}: {name}", path.display()),
        }
    }
}

/// The variable of a setting.
fn variable(name: &str) -> String {
    format!("BLUELM_{}", name.to_ascii_uppercase())
}

/// What a text of the environment means; what it cannot mean stays a text, which is then refused.
fn of_text(kind: Kind, text: String) -> Value {
    match kind {
        Kind::Text => Value::String(text),
        Kind::Texts => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.into())).collect())
        }
        Kind::Switch => match text.as_str() {
            "1" | "true" | "yes" => Value::Boolean(true),
            "0" | "false" | "no" => Value::Boolean(false),
            _ => Value::String(text),
        },
        Kind::Whole(..) => text.parse().map_or(Value::String(text), Value::Integer),
    }
}

/// The setting that was perhaps meant: the one that begins alike for longest, if that is four letters at least.
fn near(name: &str) -> String {
    let name = name.replace('-', "_");
    let alike = |known: &str| {
        let pairs = known.bytes().zip(name.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let known = SETTINGS.iter().map(|(known, _)| *known);
    let meant = known.max_by_key(|known| alike(known));
    let meant = meant.filter(|known| alike(known) >= 4);
    meant.map_or(String::new(), |known| format!("; is `{known}` meant?"))
}

/// The file that is read when none is named, if it is there.
pub fn usual_file() -> Option<PathBuf> {
    let path = crate::folders::config()?.join("serve.toml");
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    fn read(flags: &str, environment: &[(&str, &str)], file: &str) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serve.toml");
        std::fs::write(&path, file).unwrap();
        let variable = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        };
        Settings::read(table(flags), variable, Some(&path)).map_err(|error| {
            anyhow::anyhow!(format!("{error:#}").replace(&path.display().to_string(), "FILE"))
        })
    }

    #[test]
    fn a_flag_counts_more_than_the_environment_and_that_more_than_the_file() {
        let file = "port = 1\nmax_waiting = 2\nmax_pictures = 3\nallow_host = ['a', 'b']";
        let environment = [("BLUELM_PORT", "10"), ("BLUELM_MAX_WAITING", "20")];
        let settings = read("port = 100", &environment, file).unwrap();
        assert_eq!(settings.whole("port"), Some(100));
        assert_eq!(settings.whole("max_waiting"), Some(20));
        assert_eq!(settings.whole("max_pictures"), Some(3));
        assert_eq!(settings.whole("max_body_mb"), None);
        assert_eq!(settings.texts("allow_host"), ["a", "b"]);
        assert_eq!(settings.place("port"), "--port");
        assert_eq!(settings.place("max_waiting"), "BLUELM_MAX_WAITING");
        assert!(!settings.switch("keep_encoder"));
    }

    #[test]
    fn the_environment_says_lists_with_commas_and_switches_with_words() {
        let environment = [
            ("BLUELM_API_KEY", "alpha, beta,"),
            ("BLUELM_KEEP_ENCODER", "1"),
            ("BLUELM_HOST", "0.0.0.0"),
            ("BLUELM_MODEL", ""),
        ];
        let settings = read("", &environment, "keep_encoder = false").unwrap();
        assert_eq!(settings.texts("api_key"), ["alpha", "beta"]);
        assert!(settings.switch("keep_encoder"));
        assert_eq!(settings.text("host"), Some("0.0.0.0"));
        assert_eq!(settings.text("model"), None);
    }

    #[test]
    fn all_that_is_wrong_is_told_with_where_it_stands() {
        let file = "port = 70000\nmax-waiting = 3\nhost = 127\nmedia = 'x'\napi_key = 'one'";
        let environment = [
            ("BLUELM_MAX_PICTURES", "many"),
            ("BLUELM_KEEP_ENCODER", "perhaps"),
        ];
        let error = read("tile_batch = 0", &environment, file).unwrap_err();
        insta::assert_snapshot!(error.to_string(), @r#"
        FILE: api_key: expected a list of texts, found "one"
        FILE: host: expected a text, found 127
        FILE: max-waiting: there is no such setting; is `max_waiting` meant?
        FILE: media: there is no such setting; is `media_path` meant?
        FILE: port: expected a whole number from 0 to 65535, found 70000
        BLUELM_MAX_PICTURES: expected a whole number from 1 to 10000, found "many"
        BLUELM_KEEP_ENCODER: expected true or false, found "perhaps"
        --tile-batch: expected a whole number from 1 to 4096, found 0
        "#);
        let error = read("", &[], "port = ").unwrap_err().to_string();
        assert!(error.starts_with("FILE: not TOML"), "{error}");
    }
}
