//! A GGUF file as a model folder: what it says between a question and the network, as the small files of a folder; and the
//! other way round.

use std::path::{Path, PathBuf};

use model::gguf::{Gguf, GgufFile, Value};
use model::{Checkpoint, ModelSpec};
use serde_json::{Map, Value as Json, json};

use crate::error::EngineError;
use crate::files::PromptFiles;
use crate::tokenizer::{gguf, gguf_keys};

/// A model that a GGUF file holds.
pub struct GgufModel {
    /// Its weights, and its config.json.
    pub checkpoint: Checkpoint,
    /// Names and contents of the small files that a folder of the same model has.
    pub files: Vec<(String, Vec<u8>)>,
    /// The files that it lies in.
    pub(crate) paths: Vec<PathBuf>,
}

impl GgufModel {
    /// Opens a text model and, where there is one, the image encoder with its projector: the file that was named, or the only
    /// one beside the model whose name begins with `mmproj`.
    pub fn open(path: &Path, projector: Option<&Path>) -> Result<GgufModel, EngineError> {
        let text = GgufFile::open(path)?;
        let beside = match projector {
            Some(named) => Some(named.to_path_buf()),
            None => projector_beside(path),
        };
        let paths = std::iter::once(path.to_path_buf()).chain(beside.clone());
        let projector = beside.map(|path| GgufFile::open(&path)).transpose()?;
        let files = small_files(&text, projector.as_ref())?;
        Ok(GgufModel {
            checkpoint: Checkpoint::from_gguf(text, projector)?,
            files,
            paths: paths.collect(),
        })
    }

    /// Tokenizer, template and settings.
    pub fn prompt_files(&self) -> Result<PromptFiles, EngineError> {
        PromptFiles::from_small(&self.files, "the GGUF file does not say it")
    }
}

/// The only file in a model's folder whose name says that it is an image encoder.
fn projector_beside(path: &Path) -> Option<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("mmproj") && name.ends_with(".gguf")
    };
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut found = entries.map(|entry| entry.path()).filter(named);
    let only = found.next().filter(|only| only != path);
    only.filter(|_| found.next().is_none())
}

fn small_files(
    text: &GgufFile,
    projector: Option<&GgufFile>,
) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
    let gguf = &text.contents;
    let config = text.config(projector)?;
    let template = gguf.text("tokenizer.chat_template");
    let template = template.map_err(gguf::wrong)?;
    let mut files = vec![
        ("tokenizer.json", gguf::json(gguf)?.to_string()),
        ("tokenizer_config.json", names(gguf)?.to_string()),
    ];
    match (template, projector) {
        (Some(template), None) => files.push(("chat_template.jinja", template.into())),
        (template, Some(projector)) => {
            files.push(("preprocessor_config.json", projector.preprocessor()?));
            let mark = mark(&config, gguf);
            let of_family = ModelSpec::from_json(&config)?.prompt.template;
            let template = template.map(str::to_owned).or(of_family);
            let template = template.unwrap_or_else(|| VICUNA.into());
            files.push(("chat_template.jinja", with_pictures(&template, &mark)));
        }
        (None, None) => {}
    }
    files.insert(0, ("config.json", config));
    let files = files.into_iter();
    Ok(files
        .map(|(name, text)| (name.to_string(), text.into_bytes()))
        .collect())
}

/// What a template writes where a picture stands: the token of its rows, or what InternVL's own code looks for.
fn mark(config: &str, gguf: &Gguf) -> String {
    let config: Json = serde_json::from_str(config).unwrap_or_default();
    let id = config["image_token_id"].as_u64();
    let tokens = gguf.texts("tokenizer.ggml.tokens").ok().flatten();
    let token = id
        .zip(tokens)
        .and_then(|(id, tokens)| tokens.get(id as usize));
    token.map_or("<image>".into(), String::clone)
}

/// The conversation of Vicuna, whose files have no template of their own, as LLaVA-1.5's folder has it.
const VICUNA: &str = "{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }} {% elif m['role'] == 'assistant' %}\
    ASSISTANT: {{ m['content'] }}{{ eos_token }}{% else %}{{ m['content'] }} {% endif %}{% endfor %}\
    {% if add_generation_prompt %}ASSISTANT:{% endif %}";

/// A template for messages with pictures. One that knows nothing of them is given their content as a text, in which `mark` and
/// a new line stand for each picture.
fn with_pictures(template: &str, mark: &str) -> String {
    if template.contains("image") {
        return template.to_owned();
    }
    let mark = json!(format!("{mark}\n"));
    format!(
        "{{%- set flat = namespace(list=[]) -%}}{{%- for m in messages -%}}{{%- set own = namespace(text='') -%}}\
         {{%- if m['content'] is string -%}}{{%- set own.text = m['content'] -%}}{{%- else -%}}{{%- for c in m['content'] -%}}\
         {{%- if c['type'] == 'image' -%}}{{%- set own.text = own.text + {mark} -%}}{{%- else -%}}\
         {{%- set own.text = own.text + c['text'] -%}}{{%- endif -%}}{{%- endfor -%}}{{%- endif -%}}\
         {{%- set flat.list = flat.list + [{{'role': m['role'], 'content': own.text}}] -%}}{{%- endfor -%}}\
         {{%- set messages = flat.list -%}}{template}"
    )
}

/// The tokens that begin and end a text.
fn names(gguf: &Gguf) -> Result<Json, EngineError> {
    let mut names = Map::new();
    for (name, key) in [("bos", "bos_token"), ("eos", "eos_token")] {
        if let Some(text) = gguf::named(gguf, name)? {
            names.insert(key.into(), json!(text));
        }
    }
    Ok(Json::Object(names))
}

/// The keys of a GGUF file that say what a model's small files say.
///
/// # Errors
/// When llama.cpp has no such tokenizer.
pub fn gguf_keys(
    files: &PromptFiles,
    spec: &ModelSpec,
) -> Result<Vec<(String, Value)>, EngineError> {
    let tokenizer = &files.tokenizer;
    let mut keys = gguf_keys::keys(tokenizer, spec.decoder.vocabulary)?;
    let mut put = |key: &str, value| keys.push((format!("tokenizer.{key}"), value));
    let bos = tokenizer.token_to_id(files.template.bos());
    if let Some(bos) = bos.or(files.begin.first().copied()) {
        put("ggml.bos_token_id", Value::Whole(bos.into()));
    }
    put("ggml.add_bos_token", Value::Flag(!files.begin.is_empty()));
    let named = files.eos_token.as_deref();
    let eos = named.and_then(|eos| tokenizer.token_to_id(eos));
    let stops = spec.stop_token_ids.iter();
    let mut stops: Vec<u32> = stops
        .chain(&files.generation.eos_token_ids)
        .copied()
        .collect();
    stops.retain(|id| Some(*id) != eos);
    for (name, id) in ["eos", "eot", "eom"]
        .iter()
        .zip(eos.into_iter().chain(stops))
    {
        put(&format!("ggml.{name}_token_id"), Value::Whole(id.into()));
    }
    put("chat_template", Value::Text(files.template.source()));
    Ok(keys)
}
