//! Arguments that say what an answer must look like.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use engine::request_json::{Pictures, Rules, read_body};
use engine::{Grammar, MAX_GRAMMAR_BYTES};

/// A JSON schema or a grammar.
#[derive(Args, Debug)]
pub struct FormatArguments {
    /// Answer in JSON that this schema allows: a file, or the schema itself, such as '{"type": "object"}'
    #[arg(long, value_name = "FILE|TEXT", conflicts_with = "grammar")]
    json_schema: Option<String>,
    /// Answer in text that this grammar derives: Lark as llguidance reads it (from `start`), or llama.cpp's GBNF (from `root`)
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
}

impl FormatArguments {
    /// The grammar that was asked for, if one was.
    pub fn grammar(&self) -> anyhow::Result<Option<Grammar>> {
        if let Some(schema) = &self.json_schema {
            return json_schema(schema).map(Some);
        }
        let Some(path) = &self.grammar else {
            return Ok(None);
        };
        let name = path.display().to_string();
        let grammar = Grammar::of_either_format(&read(path)?).with_context(|| name.clone())?;
        Ok(Some(grammar.named(name)))
    }
}

/// A text that begins with a brace is the schema itself.
fn json_schema(argument: &str) -> anyhow::Result<Grammar> {
    let (name, text) = match argument.trim_start().starts_with('{') {
        true => ("--json-schema".to_owned(), argument.to_owned()),
        false => (argument.to_owned(), read(Path::new(argument))?),
    };
    let schema =
        serde_json::from_str(&text).with_context(|| format!("{name}: expected a JSON schema"))?;
    let grammar = Grammar::json_schema(&schema).with_context(|| name.clone())?;
    Ok(grammar.named(name))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut rules = Rules::new(Pictures::DataUrls);
    rules.max_body_bytes = MAX_GRAMMAR_BYTES;
    let bytes = read_body(path, &rules)?;
    String::from_utf8(bytes).with_context(|| path.display().to_string())
}
