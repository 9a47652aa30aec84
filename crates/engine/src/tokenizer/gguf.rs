//! The tokenizer that a GGUF file holds, as a tokenizer.json that gives the same ids.
//!
//! `tokenizer.ggml.model` is `llama` (sentencepiece's BPE with scores and bytes) or `gpt2` (BPE of bytes with merges). How the
//! latter splits texts first is not in the file: it names one of the ways that llama.cpp knows
//! (<https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp>).

use model::gguf::Gguf;
use serde_json::{Map, Value as Json, json};

use super::sentencepiece::{Algorithm, Kind, Pieces};
use crate::error::EngineError;

/// A way to split texts before pairs are merged.
pub(super) struct Split {
    /// What `tokenizer.ggml.pre` calls it.
    pub names: &'static [&'static str],
    /// Each splits what the ones before it left.
    pub patterns: &'static [&'static str],
    /// Characters are put together before, as the family's own tokenizer does.
    composed: Composed,
    /// Whether a text that is a token is that token, whatever merges would make of it.
    whole_tokens: WholeTokens,
}

#[derive(Clone, Copy, PartialEq)]
enum Composed {
    Yes,
    No,
}

#[derive(Clone, Copy, PartialEq)]
enum WholeTokens {
    First,
    ByMerges,
}

pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

pub(super) const SPLITS: [Split; 8] = [
    Split {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        composed: Composed::No,
        whole_tokens: WholeTokens::ByMerges,
    },
    Split {
        names: &["gpt-2", "gpt2", "phi-2", "mpt", "olmo"],
        patterns: &[GPT2],
        composed: Composed::No,
        whole_tokens: WholeTokens::ByMerges,
    },
    Split {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell"],
        patterns: &[r"\p{N}", GPT2],
        composed: Composed::No,
        whole_tokens: WholeTokens::ByMerges,
    },
    Split {
        names: &["llama-bpe", "llama3", "llama-v3"],
        patterns: &[concat!(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        composed: Composed::No,
        whole_tokens: WholeTokens::First,
    },
    Split {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[concat!(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        composed: Composed::Yes,
        whole_tokens: WholeTokens::ByMerges,
    },
    Split {
        names: &["deepseek-llm"],
        // llama.cpp lists the letters that have a case one by one.
        patterns: &[
            r"[\r\n]",
            r"\s?[\p{Lu}\p{Ll}\p{Lt}]+",
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            r"[一-龥ࠀ-一가-\u{D7FF}]+",
            r"\p{N}+",
        ],
        composed: Composed::No,
        whole_tokens: WholeTokens::ByMerges,
    },
    Split {
        names: &["deepseek-coder"],
        patterns: &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            r"[一-龥ࠀ-一가-\u{D7FF}]+",
            r"\p{N}",
        ],
        composed: Composed::No,
        whole_tokens: WholeTokens::ByMerges,
    },
    Split {
        names: &["deepseek-v3"],
        patterns: &[
            r"\p{N}{1,3}",
            r"[一-龥぀-ゟ゠-ヿ]+",
            concat!(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
                r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
        ],
        composed: Composed::No,
        whole_tokens: WholeTokens::ByMerges,
    },
];

/// What a file says about its tokens.
struct Tokens<'a> {
    gguf: &'a Gguf,
    texts: &'a [String],
    kinds: Vec<Kind>,
}

/// What is wrong with a file's keys.
pub(crate) fn wrong(message: String) -> EngineError {
    let file = "GGUF";
    EngineError::Configuration { file, message }
}

/// A tokenizer.json that says what the file says.
pub(crate) fn json(gguf: &Gguf) -> Result<Json, EngineError> {
    let tokens = Tokens::of(gguf).map_err(wrong)?;
    let model = gguf.text("tokenizer.ggml.model");
    let mut json = match model.map_err(wrong)? {
        Some("llama") => tokens.pieces()?.json(&[])?,
        Some("gpt2") => tokens.bytes().map_err(wrong)?,
        other => {
            return Err(wrong(format!(
                "tokenizer.ggml.model is {:?}, expected llama or gpt2",
                other.unwrap_or("missing")
            )));
        }
    };
    if let Some(begin) = tokens.begin().map_err(wrong)? {
        let text = &tokens.texts[begin];
        json["post_processor"] = json!({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {text: {"id": text, "ids": [begin], "tokens": [text]}}});
    }
    Ok(json)
}

/// The spelling of the token that `tokenizer.ggml.{name}_token_id` names.
pub(crate) fn named(gguf: &Gguf, name: &str) -> Result<Option<String>, EngineError> {
    let tokens = Tokens::of(gguf).map_err(wrong)?;
    let id = tokens.id(name).map_err(wrong)?;
    Ok(id.map(|id| tokens.texts[id].clone()))
}

impl<'a> Tokens<'a> {
    fn of(gguf: &'a Gguf) -> Result<Tokens<'a>, String> {
        let key = "tokenizer.ggml.tokens";
        let texts = gguf.texts(key)?.filter(|texts| !texts.is_empty());
        let texts = texts.ok_or_else(|| format!("{key} is missing"))?;
        let key = "tokenizer.ggml.token_type";
        let kinds = match gguf.wholes(key)? {
            None => vec![Kind::Normal; texts.len()],
            Some(kinds) if kinds.len() == texts.len() => {
                kinds.iter().map(|kind| kind_of(*kind)).collect()
            }
            Some(kinds) => {
                return Err(format!(
                    "{key} has {} values, expected {}",
                    kinds.len(),
                    texts.len()
                ));
            }
        };
        Ok(Tokens { gguf, texts, kinds })
    }

    /// The id of a token that has a use.
    fn id(&self, name: &str) -> Result<Option<usize>, String> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match self.gguf.whole(&key)? {
            None => Ok(None),
            Some(id) if id < self.texts.len() as u64 => Ok(Some(id as usize)),
            Some(id) => Err(format!(
                "{key} is {id}, expected one below {}",
                self.texts.len()
            )),
        }
    }

    /// The token that comes before a text, where one does: as with llama.cpp, sentencepiece has one unless told otherwise.
    fn begin(&self) -> Result<Option<usize>, String> {
        let pieces = self.gguf.text("tokenizer.ggml.model")? == Some("llama");
        let adds = self.gguf.flag("tokenizer.ggml.add_bos_token")?;
        match adds.unwrap_or(pieces) {
            true => self.id("bos"),
            false => Ok(None),
        }
    }

    fn pieces(&self) -> Result<Pieces, EngineError> {
        let key = "tokenizer.ggml.scores";
        let scores = self.gguf.numbers(key).map_err(wrong)?;
        let scores = match scores {
            Some(scores) if scores.len() == self.texts.len() => scores,
            other => {
                return Err(wrong(format!(
                    "{key} has {} values, expected {}",
                    other.map_or(0, <[f32]>::len),
                    self.texts.len()
                )));
            }
        };
        let flag = |name: &str| {
            let flag = self.gguf.flag(&format!("tokenizer.ggml.{name}"));
            flag.map_err(wrong)
        };
        let pieces = self.texts.iter().zip(scores).zip(&self.kinds);
        Ok(Pieces {
            list: pieces
                .map(|((text, score), kind)| (text.clone(), *score, *kind))
                .collect(),
            algorithm: Algorithm::Bpe,
            byte_fallback: true,
            dummy_prefix: flag("add_space_prefix")?.unwrap_or(true),
            remove_spaces: flag("remove_extra_whitespaces")?.unwrap_or(false),
            characters: Vec::new(),
        })
    }

    /// BPE of bytes.
    fn bytes(&self) -> Result<Json, String> {
        let split = self.split()?;
        let key = "tokenizer.ggml.merges";
        let merges = self.gguf.texts(key)?.unwrap_or(&[]).iter().map(|merge| {
            let pair = merge.split_once(' ');
            let pair = pair.filter(|(left, right)| !left.is_empty() && !right.contains(' '));
            pair.ok_or_else(|| format!("{key} has {merge:?}, expected two tokens and a space"))
        });
        let merges: Vec<(&str, &str)> = merges.collect::<Result<_, _>>()?;
        let ids = self.texts.iter().enumerate();
        let vocabulary: Map<String, Json> =
            ids.map(|(id, text)| (text.clone(), json!(id))).collect();
        let added = self.texts.iter().zip(&self.kinds).enumerate();
        let added = added.filter(|(_, (text, kind))| {
            let own = matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined);
            own && !text.is_empty()
        });
        let added: Vec<Json> = added
            .map(|(id, (text, kind))| {
                json!({"id": id, "content": text, "special": *kind != Kind::UserDefined,
                    "normalized": false, "single_word": false, "lstrip": false, "rstrip": false})
            })
            .collect();
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        let splits = split.patterns.iter().map(|pattern| {
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
        });
        let splits: Vec<Json> = splits.chain([bytes.clone()]).collect();
        let normalizer = (split.composed == Composed::Yes).then(|| json!({"type": "NFC"}));
        Ok(
            json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": normalizer, "post_processor": null, "decoder": bytes,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": split.whole_tokens == WholeTokens::First,
                "vocab": vocabulary, "merges": merges}}),
        )
    }

    fn split(&self) -> Result<&'static Split, String> {
        let key = "tokenizer.ggml.pre";
        let name = self.gguf.text(key)?.unwrap_or("default");
        let split = SPLITS.iter().find(|split| split.names.contains(&name));
        split.ok_or_else(|| {
            let known: Vec<&str> = SPLITS
                .iter()
                .flat_map(|split| split.names)
                .copied()
                .collect();
            format!("{key} is {name:?}, expected one of {}", known.join(", "))
        })
    }
}

/// The kinds of tokens, by their numbers.
fn kind_of(number: i64) -> Kind {
    match number {
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        6 => Kind::Byte,
        _ => Kind::Normal,
    }
}
