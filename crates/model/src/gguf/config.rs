//! A GGUF file's keys as the config.json that says the same: families are described there and nowhere else.

use super::Gguf;
use super::names::HeadRows;
use super::value::{List, Value};
use serde_json::{Map, Value as Json, json};

/// A text architecture of GGUF.
pub(super) struct Architecture {
    /// `general.architecture`, which begins its keys.
    pub name: &'static str,
    /// `model_type` of config.json.
    pub family: &'static str,
    pub rows: HeadRows,
    /// Adds what only this family says.
    finish: fn(&Reader, &mut Map<String, Json>) -> Result<(), String>,
}

const ARCHITECTURES: [Architecture; 6] = [
    Architecture {
        name: "llama",
        family: "llama",
        rows: HeadRows::Neighbours,
        finish: llama,
    },
    Architecture {
        name: "qwen2",
        family: "qwen2",
        rows: HeadRows::Halves,
        finish: plain,
    },
    Architecture {
        name: "qwen3",
        family: "qwen3",
        rows: HeadRows::Halves,
        finish: plain,
    },
    Architecture {
        name: "qwen2vl",
        family: "qwen2",
        rows: HeadRows::Halves,
        finish: bands,
    },
    Architecture {
        name: "minicpm",
        family: "minicpm",
        rows: HeadRows::Neighbours,
        finish: minicpm,
    },
    Architecture {
        name: "internlm2",
        family: "internlm2",
        rows: HeadRows::Neighbours,
        finish: internlm2,
    },
];

impl Architecture {
    /// That of a file.
    pub fn of(gguf: &Gguf) -> Result<&'static Architecture, String> {
        let key = "general.architecture";
        let name = gguf.text(key)?.unwrap_or("");
        let known = || ARCHITECTURES.iter();
        known().find(|known| known.name == name).ok_or_else(|| {
            let known: Vec<&str> = known().map(|known| known.name).collect();
            format!("{key} is {name:?}, expected one of {}", known.join(", "))
        })
    }

    /// The text model's config.json.
    pub fn config(&self, gguf: &Gguf) -> Result<Map<String, Json>, String> {
        let reader = Reader {
            gguf,
            name: self.name,
        };
        let mut config = reader.common(self.family)?;
        (self.finish)(&reader, &mut config)?;
        Ok(config)
    }
}

/// Keys of an architecture.
struct Reader<'a> {
    gguf: &'a Gguf,
    name: &'static str,
}

impl Reader<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    /// A whole number; where layers may differ in it, all must have the same.
    fn whole(&self, key: &str) -> Result<Option<u64>, String> {
        let key = self.key(key);
        match self.gguf.value(&key) {
            Some(Value::List(List::Whole(numbers))) => match numbers.as_slice() {
                [first, rest @ ..] if *first >= 0 && rest.iter().all(|other| other == first) => {
                    Ok(Some(*first as u64))
                }
                _ => Err(format!(
                    "{key} differs from layer to layer, expected one number"
                )),
            },
            _ => self.gguf.whole(&key),
        }
    }

    fn need(&self, key: &str) -> Result<u64, String> {
        self.whole(key)?
            .ok_or_else(|| format!("{} is missing", self.key(key)))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, String> {
        self.gguf.number(&self.key(key))
    }

    fn has(&self, tensor: &str) -> bool {
        self.gguf.tensors.iter().any(|known| known.name == tensor)
    }

    /// What all families have.
    fn common(&self, family: &str) -> Result<Map<String, Json>, String> {
        self.refuse_unsupported()?;
        let heads = self.need("attention.head_count")?;
        let hidden = self.need("embedding_length")?;
        let mut config = json!({
            "model_type": family,
            "hidden_size": hidden,
            "intermediate_size": self.need("feed_forward_length")?,
            "num_hidden_layers": self.need("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": self.whole("attention.head_count_kv")?.unwrap_or(heads),
            "head_dim": self.whole("attention.key_length")?.unwrap_or(hidden / heads.max(1)),
            "max_position_embeddings": self.need("context_length")?,
            "rope_theta": self.number("rope.freq_base")?.unwrap_or(10000.0),
            "vocab_size": self.vocabulary()?,
            "tie_word_embeddings": !self.has("output.weight"),
        });
        let config_keys = config.as_object_mut().map(std::mem::take);
        let mut config = config_keys.unwrap_or_default();
        if let Some(eps) = self.number("attention.layer_norm_rms_epsilon")? {
            // f32 in the file: the shortest decimal that means the same.
            config.insert("rms_norm_eps".into(), short(eps));
        }
        self.stretch(&mut config)?;
        let stops = self.stops()?;
        if !stops.is_empty() {
            config.insert("eos_token_id".into(), json!(stops));
        }
        Ok(config)
    }

    /// What would change the result and nothing here computes.
    fn refuse_unsupported(&self) -> Result<(), String> {
        if let Some(parts) = self.gguf.whole("split.count")?.filter(|parts| *parts > 1) {
            return Err(format!(
                "split.count is {parts}; files in parts are not supported"
            ));
        }
        if let Some(experts) = self.whole("expert_count")?.filter(|experts| *experts > 0) {
            return Err(format!(
                "{} is {experts}, expected 0: experts of {} are not supported",
                self.key("expert_count"),
                self.name
            ));
        }
        let [keys, values] = ["attention.key_length", "attention.value_length"];
        let turned = self.whole("rope.dimension_count")?;
        let width = match self.whole(keys)? {
            Some(width) => width,
            None => self.need("embedding_length")? / self.need("attention.head_count")?.max(1),
        };
        for (key, found) in [
            (values, self.whole(values)?),
            ("rope.dimension_count", turned),
        ] {
            if let Some(found) = found.filter(|found| *found != width) {
                return Err(format!(
                    "{} is {found}, expected {width}, the width of a head",
                    self.key(key)
                ));
            }
        }
        let window = self.whole("attention.sliding_window")?;
        match window.filter(|window| *window > 0) {
            Some(window) if window < self.need("context_length")? => Err(format!(
                "{} is {window}; windowed attention is not supported",
                self.key("attention.sliding_window")
            )),
            _ => Ok(()),
        }
    }

    fn vocabulary(&self) -> Result<usize, String> {
        let mut tensors = self.gguf.tensors.iter();
        let table = tensors.find(|tensor| tensor.name == "token_embd.weight");
        let table = table.ok_or("tensor token_embd.weight is missing")?;
        Ok(table.shape[0])
    }

    /// Rotary positions that reach farther.
    fn stretch(&self, config: &mut Map<String, Json>) -> Result<(), String> {
        let key = self.key("rope.scaling.type");
        let factor = self.number("rope.scaling.factor")?;
        let kind = match self.gguf.text(&key)? {
            // Older files have a factor only.
            None => {
                let linear = self.number("rope.scale_linear")?.or(factor);
                match linear.filter(|factor| ![0.0, 1.0].contains(factor)) {
                    Some(factor) => json!({"rope_type": "linear", "factor": factor}),
                    None => return Ok(()),
                }
            }
            Some("none") => return Ok(()),
            Some("linear") => json!({"rope_type": "linear", "factor": factor.unwrap_or(1.0)}),
            Some(other) => {
                return Err(format!("{key} is {other:?}, expected none or linear"));
            }
        };
        config.insert("rope_scaling".into(), kind);
        Ok(())
    }

    /// Ids that end an answer.
    fn stops(&self) -> Result<Vec<u64>, String> {
        let mut stops = Vec::new();
        for name in ["eos", "eot", "eom"] {
            let id = self
                .gguf
                .whole(&format!("tokenizer.ggml.{name}_token_id"))?;
            stops.extend(id.filter(|id| !stops.contains(id)));
        }
        Ok(stops)
    }
}

/// An f32 as the shortest decimal that means it.
pub(super) fn short(number: f64) -> Json {
    let text = (number as f32).to_string();
    json!(text.parse::<f64>().unwrap_or(number))
}

fn plain(_: &Reader, _: &mut Map<String, Json>) -> Result<(), String> {
    Ok(())
}

fn llama(reader: &Reader, config: &mut Map<String, Json>) -> Result<(), String> {
    config.insert(
        "attention_bias".into(),
        json!(reader.has("blk.0.attn_q.bias")),
    );
    Ok(())
}

fn internlm2(reader: &Reader, config: &mut Map<String, Json>) -> Result<(), String> {
    config.insert("bias".into(), json!(reader.has("blk.0.attn_q.bias")));
    Ok(())
}

/// Positions of pictures in bands.
fn bands(reader: &Reader, config: &mut Map<String, Json>) -> Result<(), String> {
    let key = reader.key("rope.dimension_sections");
    let sections = reader.gguf.wholes(&key)?.unwrap_or(&[]);
    let sections = sections
        .get(..3)
        .ok_or_else(|| format!("{key}: expected three numbers"))?;
    config.insert(
        "rope_scaling".into(),
        json!({"type": "mrope", "mrope_section": sections}),
    );
    Ok(())
}

/// Files that say nothing mean MiniCPM-2B's numbers.
fn minicpm(reader: &Reader, config: &mut Map<String, Json>) -> Result<(), String> {
    let hidden = reader.need("embedding_length")? as f64;
    let layers = reader.need("block_count")? as f64;
    let scale = reader.number("embedding_scale")?.unwrap_or(12.0);
    let residual = reader.number("residual_scale")?;
    let depth = residual.map_or(1.4, |scale| scale * layers.sqrt());
    let base = reader
        .number("logit_scale")?
        .map_or(256.0, |scale| hidden / scale);
    config.extend([
        ("scale_emb".to_string(), json!(scale)),
        ("scale_depth".to_string(), json!(depth)),
        ("dim_model_base".to_string(), json!(base)),
    ]);
    llama(reader, config)
}
