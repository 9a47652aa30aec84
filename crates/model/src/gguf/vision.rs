//! Image encoders and projectors, which GGUF keeps in a file of their own ("mmproj"), and the config.json that says what the
//! keys of both files say. (<https://github.com/ggml-org/llama.cpp/blob/master/tools/mtmd/clip-impl.h>)

use super::Gguf;
use super::header::GgufTensor;
use super::value::{List, Value};
use crate::names::Part;
use crate::spec::ModelSpec;
use serde_json::{Map, Value as Json, json};

/// A projector of GGUF.
struct Projector {
    /// `clip.projector_type`.
    name: &'static str,
    /// Parts of names in GGUF and in the native format.
    names: &'static [(&'static str, &'static str)],
    /// Puts the text model's config.json and the encoder's keys together.
    config: fn(&Reader, Map<String, Json>) -> Result<Json, String>,
}

const PROJECTORS: [Projector; 4] = [
    Projector {
        name: "mlp",
        names: &[("mm.0", "linear_1"), ("mm.2", "linear_2")],
        config: llava,
    },
    Projector {
        name: "internvl",
        names: &[
            ("mm.model.mlp.0", "norm"),
            ("mm.model.mlp.1", "linear_1"),
            ("mm.model.mlp.3", "linear_2"),
        ],
        config: internvl,
    },
    Projector {
        name: "qwen2vl_merger",
        names: &[
            ("v.post_ln", "norm"),
            ("mm.0", "linear_1"),
            ("mm.2", "linear_2"),
        ],
        config: qwen2_vl,
    },
    Projector {
        name: "qwen2.5vl_merger",
        names: &[
            ("v.post_ln", "norm"),
            ("mm.0", "linear_1"),
            ("mm.2", "linear_2"),
        ],
        config: qwen2_5_vl,
    },
];

/// Parts of names of an encoder, those of layers without their beginning.
const TOWER: [(&str, &str); 17] = [
    ("v.patch_embd", "embeddings.patch_embedding"),
    ("v.position_embd", "embeddings.position_embedding"),
    ("v.pre_ln", "pre_layernorm"),
    ("v.post_ln", "post_layernorm"),
    ("ln1", "layer_norm1"),
    ("ln2", "layer_norm2"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "attn.qkv"),
    ("attn_out", "self_attn.out_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate"),
    ("ffn_up", "mlp.fc1"),
    ("ffn_down", "mlp.fc2"),
    ("ls", "layer_scale"),
];

/// The second half of a convolution over two pictures.
pub(super) const SECOND_PATCH: &str = "v.patch_embd.weight.1";

/// Keys of an encoder, and what the text model's file says about tokens.
struct Reader<'a> {
    gguf: &'a Gguf,
    text: &'a Gguf,
}

/// The config.json of a text model and an encoder.
pub(super) fn config(gguf: &Gguf, text: &Gguf, config: Map<String, Json>) -> Result<Json, String> {
    let reader = Reader { gguf, text };
    (projector(gguf)?.config)(&reader, config)
}

/// The preprocessor_config.json of an encoder.
pub(super) fn preprocessor(gguf: &Gguf) -> Result<Json, String> {
    let mut settings = Map::new();
    for (key, name) in [("image_mean", "image_mean"), ("image_std", "image_std")] {
        if let Some(numbers) = gguf.numbers(&format!("clip.vision.{key}"))? {
            settings.insert(name.into(), json!(numbers));
        }
    }
    let reader = Reader { gguf, text: gguf };
    for (key, name) in [
        ("image_min_pixels", "min_pixels"),
        ("image_max_pixels", "max_pixels"),
    ] {
        if let Some(pixels) = reader.whole(key)? {
            settings.insert(name.into(), json!(pixels));
        }
    }
    if let Some(side) = reader.whole("image_size")? {
        settings.insert(
            "size".into(),
            json!({"shortest_edge": side, "height": side, "width": side}),
        );
        settings.insert("crop_size".into(), json!({"height": side, "width": side}));
    }
    Ok(Json::Object(settings))
}

fn projector(gguf: &Gguf) -> Result<&'static Projector, String> {
    let architecture = gguf.text("general.architecture")?.unwrap_or("");
    if architecture != "clip" {
        return Err(format!(
            "general.architecture is {architecture:?}, expected \"clip\" of an image encoder"
        ));
    }
    let named = gguf.text("clip.projector_type")?;
    let name = match named {
        Some(name) => name,
        None => gguf.text("clip.vision.projector_type")?.unwrap_or("mlp"),
    };
    let known = || PROJECTORS.iter();
    known().find(|known| known.name == name).ok_or_else(|| {
        let known: Vec<&str> = known().map(|known| known.name).collect();
        format!(
            "clip.projector_type is {name:?}, expected one of {}",
            known.join(", ")
        )
    })
}

/// The native name of a tensor of an encoder or a projector; nothing for one that they do not have.
pub(super) fn part(spec: &ModelSpec, gguf: &Gguf, tensor: &GgufTensor) -> Vec<Part> {
    let own = |name: String| Part {
        name,
        rows: None,
        transposed: false,
    };
    let found = native(spec, gguf, tensor);
    let name = found.unwrap_or_else(|| tensor.name.clone());
    let rows = tensor.shape[0];
    // One matrix for queries, keys and values.
    let fused = spec
        .names
        .fused
        .iter()
        .find(|fused| name.contains(fused.part));
    fused.map_or_else(|| vec![own(name.clone())], |fused| fused.parts(&name, rows))
}

fn native(spec: &ModelSpec, gguf: &Gguf, tensor: &GgufTensor) -> Option<String> {
    let vision = spec.vision.as_ref()?;
    let (tower, prefix) = (&vision.prefix, &spec.projector.as_ref()?.prefix);
    if tensor.name == "v.class_embd" {
        return Some(format!("{tower}embeddings.class_embedding"));
    }
    let (stem, end) = tensor.name.rsplit_once('.')?;
    let mut own = projector(gguf).ok()?.names.iter();
    if let Some((_, native)) = own.find(|(known, _)| *known == stem) {
        return Some(format!("{prefix}{native}.{end}"));
    }
    let known = |stem: &str| TOWER.iter().find(|(known, _)| *known == stem);
    let Some(rest) = stem.strip_prefix("v.blk.") else {
        return known(stem).map(|(_, native)| format!("{tower}{native}.{end}"));
    };
    let (layer, stem) = rest.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let layer = format!("{tower}encoder.layers.{layer}.");
    if let Some(number @ ("1" | "2")) = stem.strip_prefix("ls") {
        return Some(format!("{layer}layer_scale{number}"));
    }
    // Older files call the two layers of the MLP by each other's names.
    let narrow = tensor.shape[0] == vision.hidden && vision.hidden != vision.ffn;
    let wide = tensor.shape[0] == vision.ffn && vision.hidden != vision.ffn;
    let native = match stem {
        "ffn_up" if narrow => "mlp.fc2",
        "ffn_down" if wide => "mlp.fc1",
        stem => known(stem)?.1,
    };
    Some(format!("{layer}{native}.{end}"))
}

impl Reader<'_> {
    fn whole(&self, key: &str) -> Result<Option<u64>, String> {
        self.gguf.whole(&format!("clip.vision.{key}"))
    }

    fn need(&self, key: &str) -> Result<u64, String> {
        let missing = || format!("clip.vision.{key} is missing");
        self.whole(key)?.ok_or_else(missing)
    }

    fn flag(&self, key: &str) -> Result<bool, String> {
        Ok(self.gguf.flag(&format!("clip.{key}"))?.unwrap_or(false))
    }

    fn has(&self, tensor: &str) -> bool {
        self.gguf.tensors.iter().any(|known| known.name == tensor)
    }

    /// The id of the first of some tokens that the text model has.
    fn token(&self, names: &[&str]) -> Result<usize, String> {
        let key = "tokenizer.ggml.tokens";
        let tokens = self.text.texts(key)?.unwrap_or(&[]);
        let place = |name: &&str| tokens.iter().position(|token| token == name);
        let found = names.iter().find_map(place);
        found.ok_or_else(|| format!("{key} has none of {}", names.join(", ")))
    }

    /// What all towers have.
    fn tower(&self, activation: &str) -> Result<Json, String> {
        let eps = self
            .gguf
            .number("clip.vision.attention.layer_norm_epsilon")?;
        Ok(json!({
            "hidden_size": self.need("embedding_length")?,
            "intermediate_size": self.need("feed_forward_length")?,
            "num_hidden_layers": self.need("block_count")?,
            "num_attention_heads": self.need("attention.head_count")?,
            "image_size": self.need("image_size")?,
            "patch_size": self.need("patch_size")?,
            "layer_norm_eps": super::config::short(eps.unwrap_or(1e-6)),
            "hidden_act": activation,
        }))
    }
}

/// Two linear layers behind CLIP or SigLIP. The file ends with the last layer that is computed.
fn llava(reader: &Reader, text: Map<String, Json>) -> Result<Json, String> {
    for key in ["image_grid_pinpoints", "feature_layer"] {
        if reader.gguf.value(&format!("clip.vision.{key}")).is_some() {
            return Err(format!(
                "clip.vision.{key} is not supported: only LLaVA-1.5 is"
            ));
        }
    }
    let gelu = if reader.flag("use_gelu")? {
        "gelu_pytorch_tanh"
    } else {
        "quick_gelu"
    };
    let mut tower = reader.tower(gelu)?;
    let clip = reader.has("v.class_embd");
    tower["model_type"] = json!(if clip {
        "clip_vision_model"
    } else {
        "siglip_vision_model"
    });
    Ok(json!({
        "model_type": "llava",
        "text_config": text,
        "vision_config": tower,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": if clip { "default" } else { "full" },
        // Vicuna's vocabulary has no token for pictures, whose rows take the place of one that means nothing.
        "image_token_id": reader.token(&["<image>", "<unk>"])?,
    }))
}

fn internvl(reader: &Reader, text: Map<String, Json>) -> Result<Json, String> {
    let mut tower = reader.tower("gelu")?;
    let bias = reader.has("v.blk.0.attn_q.bias") || reader.has("v.blk.0.attn_qkv.bias");
    tower["qkv_bias"] = json!(bias);
    tower["qk_normalization"] = json!(reader.has("v.blk.0.attn_q_norm.weight"));
    let norm = if reader.has("v.blk.0.ln1.bias") {
        "layer_norm"
    } else {
        "rms_norm"
    };
    tower["norm_type"] = json!(norm);
    let conversation = match text["model_type"].as_str() {
        Some("internlm2") => "internlm2-chat",
        _ => "internvl2_5",
    };
    let mut config = json!({
        "model_type": "internvl_chat",
        "template": conversation,
        "llm_config": text,
        "force_image_size": reader.need("image_size")?,
        "vision_config": tower,
    });
    for (key, name) in [
        ("preproc_min_tiles", "min_dynamic_patch"),
        ("preproc_max_tiles", "max_dynamic_patch"),
    ] {
        if let Some(tiles) = reader.whole(key)? {
            config[name] = json!(tiles);
        }
    }
    Ok(config)
}

/// The decoder's keys, with an encoder's beside them.
fn qwen(
    reader: &Reader,
    text: Map<String, Json>,
    family: &str,
    vision: Json,
) -> Result<Json, String> {
    let mut config = Json::Object(text);
    config["model_type"] = json!(family);
    config["vision_config"] = vision;
    config["image_token_id"] = json!(reader.token(&["<|image_pad|>"])?);
    Ok(config)
}

fn qwen2_vl(reader: &Reader, text: Map<String, Json>) -> Result<Json, String> {
    let gelu = if reader.flag("use_gelu")? {
        "gelu"
    } else {
        "quick_gelu"
    };
    let (hidden, ffn) = (
        reader.need("embedding_length")?,
        reader.need("feed_forward_length")?,
    );
    let vision = json!({
        "embed_dim": hidden,
        "mlp_ratio": ffn as f64 / hidden.max(1) as f64,
        "depth": reader.need("block_count")?,
        "num_heads": reader.need("attention.head_count")?,
        "patch_size": reader.need("patch_size")?,
        "hidden_act": gelu,
    });
    qwen(reader, text, "qwen2_vl", vision)
}

fn qwen2_5_vl(reader: &Reader, text: Map<String, Json>) -> Result<Json, String> {
    let depth = reader.need("block_count")?;
    let full: Vec<u64> = match (
        reader.gguf.value("clip.vision.wa_layer_indexes"),
        reader.whole("n_wa_pattern")?,
    ) {
        (Some(Value::List(List::Whole(layers))), _) => layers
            .iter()
            .filter_map(|layer| u64::try_from(*layer).ok())
            .collect(),
        // Whoever checks the specification refuses more layers.
        (_, Some(every)) if every > 0 => (0..depth.min(1 << 10))
            .filter(|layer| (layer + 1) % every == 0)
            .collect(),
        _ => return Err("clip.vision.n_wa_pattern is missing".into()),
    };
    let vision = json!({
        "hidden_size": reader.need("embedding_length")?,
        "intermediate_size": reader.need("feed_forward_length")?,
        "depth": depth,
        "num_heads": reader.need("attention.head_count")?,
        "patch_size": reader.need("patch_size")?,
        "window_size": reader.whole("window_size")?.unwrap_or(112),
        "fullatt_block_indexes": full,
        "hidden_act": "silu",
    });
    qwen(reader, text, "qwen2_5_vl", vision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::tests::{Pieces, text};
    use crate::stored::Stored;

    #[test]
    fn older_files_call_the_layers_of_the_mlp_by_each_others_names() {
        let spec = r#"{"model_type": "llava", "image_token_id": 0, "text_config": {"model_type": "llama"},
            "vision_config": {"model_type": "clip_vision_model", "hidden_size": 8, "intermediate_size": 16,
                "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 28, "patch_size": 14}}"#;
        let spec = ModelSpec::from_json(spec).unwrap();
        let clip = text("clip");
        let gguf = Pieces::default()
            .key("general.architecture", 8, &clip)
            .parse()
            .unwrap();
        let name = |name: &str, shape: &[usize]| {
            let tensor = GgufTensor {
                name: name.into(),
                shape: shape.into(),
                stored: Stored::F32,
                range: 0..0,
            };
            part(&spec, &gguf, &tensor).remove(0).name
        };
        let first = "vision_tower.vision_model.encoder.layers.1.mlp.fc1";
        let second = "vision_tower.vision_model.encoder.layers.1.mlp.fc2";
        for (up, down) in [("ffn_up", "ffn_down"), ("ffn_down", "ffn_up")] {
            let up = format!("v.blk.1.{up}");
            assert_eq!(
                name(&format!("{up}.weight"), &[16, 8]),
                format!("{first}.weight")
            );
            assert_eq!(name(&format!("{up}.bias"), &[16]), format!("{first}.bias"));
            let down = format!("v.blk.1.{down}");
            assert_eq!(
                name(&format!("{down}.weight"), &[8, 16]),
                format!("{second}.weight")
            );
            assert_eq!(
                name(&format!("{down}.bias"), &[8]),
                format!("{second}.bias")
            );
        }
        assert_eq!(
            name("v.blk.1.ls2.weight", &[8]),
            "vision_tower.vision_model.encoder.layers.1.layer_scale2"
        );
        assert_eq!(name("v.something", &[8]), "v.something");
    }
}
