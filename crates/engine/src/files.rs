//! The small files of a model folder: everything between a question and the network but the weights.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use image_prep::Preprocessor;
use model::spec::PromptSpec;
use model::{Bundle, ModelSpec};
use serde_json::{Map, Value as Json};

use crate::error::EngineError;
use crate::tags::ThinkingTags;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::sentencepiece::{self, AddedToken};
use crate::tokenizer::tiktoken;

/// Longest of these files that is read; a tokenizer.json of a large vocabulary has some tens of megabytes.
pub(crate) const MAX_BYTES: u64 = 256 << 20;

/// The contents of a model's files, such as the ones inside the program.
///
/// `generation` may be empty: a generation_config.json is optional.
#[derive(Clone)]
pub struct ModelFiles {
    /// config.json.
    pub config: Cow<'static, str>,
    /// model.safetensors.
    pub weights: Cow<'static, [u8]>,
    /// tokenizer.json.
    pub tokenizer: Cow<'static, [u8]>,
    /// tokenizer_config.json.
    pub tokenizer_config: Cow<'static, str>,
    /// chat_template.jinja.
    pub template: Cow<'static, str>,
    /// preprocessor_config.json.
    pub preprocessor: Cow<'static, str>,
    /// generation_config.json, or nothing.
    pub generation: Cow<'static, str>,
}

/// Names of the small files of a model folder. What a model can do without may be missing.
const SMALL_FILES: [&str; 10] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "generation_config.json",
    "tokenizer.model",
    "added_tokens.json",
    "chat_template.json",
    "tiktoken.model",
];

/// Names and contents of the small files that a model folder has, config.json among them, for another place to hold.
/// They are read as they are; [`PromptFiles::open`] says whether they are good.
pub fn read_small_files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
    let mut files = Vec::new();
    for name in SMALL_FILES {
        if let Some(bytes) = read_small(folder, name)? {
            files.push((name.to_string(), bytes));
        }
    }
    Ok(files)
}

impl ModelFiles {
    /// Names and contents of the small files, as [`read_small_files`] gives them.
    pub fn small_files(&self) -> Vec<(String, Vec<u8>)> {
        let contents: [&[u8]; 6] = [
            self.config.as_bytes(),
            &self.tokenizer,
            self.tokenizer_config.as_bytes(),
            self.template.as_bytes(),
            self.preprocessor.as_bytes(),
            self.generation.as_bytes(),
        ];
        let files = SMALL_FILES.iter().zip(contents);
        files
            .filter(|(_, bytes)| !bytes.is_empty())
            .map(|(name, bytes)| (name.to_string(), bytes.to_vec()))
            .collect()
    }
}

/// Tokenizer, chat template, preprocessing and generation settings of one model.
pub struct PromptFiles {
    /// tokenizer.json.
    pub tokenizer: Tokenizer,
    /// chat_template.jinja, or the template in tokenizer_config.json.
    pub template: ChatTemplate,
    /// preprocessor_config.json.
    pub preprocessor: Preprocessor,
    /// generation_config.json.
    pub generation: GenerationConfig,
    /// The token that ends an answer, by its name in tokenizer_config.json.
    pub eos_token: Option<String>,
    /// What the family does between messages and ids.
    pub prompt: PromptSpec,
    /// Ids that the tokenizer puts before a text.
    pub begin: Vec<u32>,
}

/// What generation_config.json says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerationConfig {
    /// Ids that end an answer.
    pub eos_token_ids: Vec<u32>,
    /// How the model writes its thoughts, if it has any.
    pub thinking: Option<ThinkingTags>,
}

/// Where small files come from.
struct Small<'a> {
    /// The contents of a file, where there is one.
    get: &'a dyn Fn(&'static str) -> Result<Option<Vec<u8>>, EngineError>,
    /// The error of a file that must be there.
    missing: &'a dyn Fn(&'static str) -> EngineError,
}

impl Small<'_> {
    fn text(&self, file: &'static str) -> Result<Option<String>, EngineError> {
        let bytes = (self.get)(file)?;
        bytes.map(|bytes| utf8(file, bytes)).transpose()
    }

    fn need(&self, file: &'static str) -> Result<String, EngineError> {
        self.text(file)?.ok_or_else(|| (self.missing)(file))
    }

    /// A tokenizer.json, or what else a folder has; and the ids that it puts before a text.
    fn tokenizer(&self, config: &Map<String, Json>) -> Result<(Tokenizer, Vec<u32>), EngineError> {
        if let Some(json) = (self.get)("tokenizer.json")? {
            let tokenizer = Tokenizer::from_bytes(&json)?;
            let begin = tokenizer.begin();
            return Ok((tokenizer, begin));
        }
        if let Some(model) = (self.get)("tiktoken.model")? {
            // It puts nothing before a text: templates do.
            return Ok((
                tiktoken::read(&model, &self.added_tokens(config)?)?,
                Vec::new(),
            ));
        }
        let Some(model) = (self.get)("tokenizer.model")? else {
            return Err((self.missing)("tokenizer.json"));
        };
        let tokenizer = sentencepiece::read(&model, &self.added_tokens(config)?)?;
        let adds = config.get("add_bos_token").and_then(Json::as_bool);
        let begin = token_name(config, "bos_token")?.and_then(|name| tokenizer.token_to_id(&name));
        let begin = begin.filter(|_| adds.unwrap_or(true));
        Ok((tokenizer, begin.into_iter().collect()))
    }

    /// Tokens beside those of a tokenizer.model: in tokenizer_config.json by id, in added_tokens.json by name.
    fn added_tokens(&self, config: &Map<String, Json>) -> Result<Vec<AddedToken>, EngineError> {
        let mut tokens = Vec::new();
        let decoder = config.get("added_tokens_decoder").and_then(Json::as_object);
        for (id, token) in decoder.into_iter().flatten() {
            let content = token.get("content").and_then(Json::as_str);
            if let (Ok(id), Some(content)) = (id.parse(), content) {
                tokens.push(AddedToken {
                    id,
                    content: content.into(),
                    special: token
                        .get("special")
                        .and_then(Json::as_bool)
                        .unwrap_or(false),
                });
            }
        }
        let names = self.text("added_tokens.json")?;
        let names = names
            .map(|names| object("added_tokens.json", &names))
            .transpose()?;
        for (content, id) in names.into_iter().flatten() {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let known = |token: &AddedToken| token.content == content;
            if let Some(id) = id.filter(|_| !tokens.iter().any(known)) {
                let special = true;
                tokens.push(AddedToken {
                    id,
                    content,
                    special,
                });
            }
        }
        Ok(tokens)
    }

    /// The folder's chat template, or the family's own.
    fn template(&self, config: &str, family: &PromptSpec) -> Result<String, EngineError> {
        if let Some(template) = self.text("chat_template.jinja")? {
            return Ok(template);
        }
        let inside = |json: &str| template_inside(json);
        let older = self.text("chat_template.json")?;
        let older = older.map(|json| inside(&json)).transpose()?.flatten();
        match older.or(inside(config)?).or(family.template.clone()) {
            Some(template) => Ok(template),
            None => Err((self.missing)("chat_template.jinja")),
        }
    }
}

impl PromptFiles {
    /// Reads the small files of a model folder; there need be no weights.
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        std::fs::read_dir(folder).map_err(|source| EngineError::Read {
            path: folder.into(),
            source,
        })?;
        Self::read(&Small {
            get: &|file| read_small(folder, file),
            missing: &|file| EngineError::MissingFile {
                folder: folder.into(),
                file,
            },
        })
    }

    /// Takes the small files out of a bundle.
    pub fn from_bundle(bundle: &Bundle) -> Result<Self, EngineError> {
        Self::read(&Small {
            get: &|file| Ok(bundle.file(file).map(<[u8]>::to_vec)),
            missing: &|file| EngineError::Configuration {
                file,
                message: "the bundle does not hold it".into(),
            },
        })
    }

    /// Takes the small files out of a model in memory.
    pub fn from_files(files: &ModelFiles) -> Result<Self, EngineError> {
        Self::from_small(&files.small_files(), "it is empty")
    }

    /// Takes small files by name; the error of one that is missing says `missing`.
    pub fn from_small(files: &[(String, Vec<u8>)], missing: &str) -> Result<Self, EngineError> {
        Self::read(&Small {
            get: &|file| {
                let found = files.iter().find(|(name, _)| name == file);
                Ok(found.map(|(_, bytes)| bytes.clone()))
            },
            missing: &|file| EngineError::Configuration {
                file,
                message: missing.into(),
            },
        })
    }

    fn read(small: &Small) -> Result<Self, EngineError> {
        let tokenizer_config = small.need("tokenizer_config.json")?;
        let names = object("tokenizer_config.json", &tokenizer_config)?;
        let bos = token_name(&names, "bos_token")?;
        let eos_token = token_name(&names, "eos_token")?;
        let (tokenizer, begin) = small.tokenizer(&names)?;
        // A config.json that describes no network is an error of whoever loads the network.
        let config = small.text("config.json")?.unwrap_or_default();
        let spec = ModelSpec::from_json(&config).ok();
        let preprocessor = preprocessor(small, &config, spec.as_ref())?;
        let prompt = spec.map_or(PromptSpec::default(), |spec| spec.prompt);
        let source = small.template(&tokenizer_config, &prompt)?;
        let template = ChatTemplate::new(
            &source,
            bos.as_deref().unwrap_or(""),
            eos_token.as_deref().unwrap_or(""),
        )?;
        let mut generation = match small.text("generation_config.json")?.as_deref() {
            None | Some("") => GenerationConfig::default(),
            Some(json) => GenerationConfig::from_json(json)?,
        };
        if generation.thinking.is_none() {
            generation.thinking = ThinkingTags::recognise(&source, &tokenizer);
        }
        Ok(PromptFiles {
            tokenizer,
            template,
            preprocessor,
            generation,
            eos_token,
            prompt,
            begin,
        })
    }
}

/// How pictures are prepared. A model that sees nothing has settings that nobody asks for.
fn preprocessor(
    small: &Small,
    config: &str,
    spec: Option<&ModelSpec>,
) -> Result<Preprocessor, EngineError> {
    const FILE: &str = "preprocessor_config.json";
    if spec.is_some_and(|spec| spec.vision.is_none()) && (small.get)(FILE)?.is_none() {
        let blind = r#"{"tiling": "internvl", "tile_size": 1, "max_tiles": 1, "thumbnail": false, "resample": 3,
            "rescale_factor": 1, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}"#;
        return Preprocessor::from_json(blind).map_err(EngineError::Preprocessor);
    }
    let text = small.need(FILE)?;
    let of_family = spec
        .map(|_| ModelSpec::pictures(config, &text))
        .transpose()?;
    match of_family.flatten() {
        Some(preprocessor) => Ok(preprocessor),
        None => Preprocessor::from_json(&text).map_err(EngineError::Preprocessor),
    }
}

impl GenerationConfig {
    /// Reads a generation_config.json.
    pub fn from_json(json: &str) -> Result<Self, EngineError> {
        const FILE: &str = "generation_config.json";
        let map = object(FILE, json)?;
        Ok(GenerationConfig {
            eos_token_ids: eos_ids(FILE, &map)?,
            thinking: ThinkingTags::from_json(&map)?,
        })
    }
}

/// The `eos_token_id` of a configuration file: a number, a list of numbers, or nothing.
fn eos_ids(file: &'static str, map: &Map<String, Json>) -> Result<Vec<u32>, EngineError> {
    let id = |value: &Json| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| EngineError::Configuration {
                file,
                message: format!(
                    "eos_token_id: expected a token id or a list of them, found {value}"
                ),
            })
    };
    match map.get("eos_token_id") {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(ids)) => ids.iter().map(id).collect(),
        Some(one) => Ok(vec![id(one)?]),
    }
}

/// A JSON file that must be an object.
fn object(file: &'static str, json: &str) -> Result<Map<String, Json>, EngineError> {
    match serde_json::from_str(json).map_err(|error| EngineError::json(file, &error))? {
        Json::Object(map) => Ok(map),
        _ => Err(EngineError::Configuration {
            file,
            message: "expected a JSON object".into(),
        }),
    }
}

/// A special token's spelling: a string, or an object with `content`.
fn token_name(names: &Map<String, Json>, key: &str) -> Result<Option<String>, EngineError> {
    match names.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(name)) => Ok(Some(name.clone())),
        Some(other) => match other.get("content").and_then(Json::as_str) {
            Some(name) => Ok(Some(name.to_owned())),
            None => Err(EngineError::Configuration {
                file: "tokenizer_config.json",
                message: format!(
                    "{key}: expected a text or an object with `content`, found {other}"
                ),
            }),
        },
    }
}

/// The chat template in an older tokenizer_config.json: a text, or a list of named ones of which `default` is taken.
fn template_inside(tokenizer_config: &str) -> Result<Option<String>, EngineError> {
    let names = object("tokenizer_config.json", tokenizer_config)?;
    Ok(match names.get("chat_template") {
        Some(Json::String(template)) => Some(template.clone()),
        Some(Json::Array(named)) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Json::as_str) == Some("default"))
            .and_then(|entry| entry.get("template").and_then(Json::as_str))
            .map(str::to_owned),
        _ => None,
    })
}

/// A small file of a model folder, or `None` if it is not there. A model whose parts have folders of their own has its tokenizer
/// beside the decoder and its preprocessor beside the encoder.
fn read_small(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
    if !folder.join("llm").is_dir() {
        return read_file(folder, name);
    }
    if name == "config.json" && folder.join(name).is_file() {
        return Ok(Some(model::folder_config(folder)?.into_bytes()));
    }
    for place in ["", "llm", "vision_tower"] {
        if let Some(bytes) = read_file(&folder.join(place), name)? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// A file of a folder, or `None` if it is not there.
fn read_file(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
    let path = folder.join(name);
    match read_capped(&path, MAX_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(EngineError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn utf8(file: &'static str, bytes: Vec<u8>) -> Result<String, EngineError> {
    String::from_utf8(bytes).map_err(|_| EngineError::Configuration {
        file,
        message: "not UTF-8 text".into(),
    })
}

/// A whole file of at most `max_bytes`; only regular files, since a pipe or a device may never end.
pub(crate) fn read_capped(path: &Path, max_bytes: u64) -> Result<Vec<u8>, EngineError> {
    let failed = |source| EngineError::Read {
        path: path.into(),
        source,
    };
    let other = |message: String| failed(std::io::Error::other(message));
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(other("not a regular file".into()));
    }
    let mut bytes = Vec::new();
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() as u64 {
        size if size > max_bytes => Err(other(format!(
            "larger than the {} MiB that are read",
            max_bytes >> 20
        ))),
        _ => Ok(bytes),
    }
}

/// Writes beside the file, then renames: it appears whole or not at all, and only its owner can read it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // The error to tell is the first one.
        let _ = std::fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_may_be_one_id_or_several() {
        let ids = |json: &str| GenerationConfig::from_json(json).map(|config| config.eos_token_ids);
        assert_eq!(ids(r#"{"eos_token_id": 2}"#).unwrap(), [2]);
        assert_eq!(ids(r#"{"eos_token_id": [2, 7]}"#).unwrap(), [2, 7]);
        assert!(ids("{}").unwrap().is_empty());
        assert_eq!(
            ids(r#"{"eos_token_id": "x"}"#).unwrap_err().to_string(),
            "generation_config.json: eos_token_id: expected a token id or a list of them, found \"x\""
        );
    }

    #[test]
    fn tags_of_thoughts_are_read_and_must_be_texts() {
        let tags = |json: &str| GenerationConfig::from_json(json).map(|config| config.thinking);
        let expected = ThinkingTags::new("<think>", "</think>");
        assert_eq!(
            tags(r#"{"thinking": {"start": "<think>", "end": "</think>"}}"#).unwrap(),
            Some(expected)
        );
        assert_eq!(tags("{}").unwrap(), None);
        let error = tags(r#"{"thinking": {"start": "<think>"}}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "generation_config.json: thinking.end is not a text"
        );
    }

    #[test]
    fn token_names_are_texts_or_objects() {
        let names = object(
            "x",
            r#"{"a": "<s>", "b": {"content": "</s>", "lstrip": false}, "c": null, "d": 3}"#,
        )
        .unwrap();
        assert_eq!(token_name(&names, "a").unwrap().as_deref(), Some("<s>"));
        assert_eq!(token_name(&names, "b").unwrap().as_deref(), Some("</s>"));
        assert_eq!(token_name(&names, "c").unwrap(), None);
        assert!(token_name(&names, "d").is_err());
    }

    #[test]
    fn a_syntax_error_says_where() {
        let error = object("config.json", "{\n\"a\": }").unwrap_err();
        assert_eq!(
            error.to_string(),
            "config.json: not valid JSON: expected value at line 2 column 6"
        );
    }

    #[test]
    fn a_template_is_also_found_in_the_tokenizer_configuration() {
        let list = r#"{"chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        assert_eq!(template_inside(list).unwrap().as_deref(), Some("d"));
        assert_eq!(
            template_inside(r#"{"chat_template": "x"}"#)
                .unwrap()
                .as_deref(),
            Some("x")
        );
        assert_eq!(template_inside("{}").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_too_long_or_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, [0; 11]).unwrap();
        assert_eq!(read_capped(&path, 11).unwrap().len(), 11);
        assert!(
            read_capped(&path, 10)
                .unwrap_err()
                .to_string()
                .contains("larger than")
        );
        assert!(read_capped(folder.path(), 10).is_err());
    }
}
