//! What GGUF calls the tensors of a text model, and the names of the native format.
//! (<https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py>)

use super::header::GgufTensor;
use crate::names::Part;
use crate::spec::{DecoderSpec, ModelSpec};
use std::ops::Range;

/// Parts of names in GGUF and in the native format, those of layers without their beginning.
const TEXT: [(&str, &str); 15] = [
    ("token_embd", "model.embed_tokens"),
    ("token_embd_norm", "model.embed_layer_norm"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// How the rows of queries and keys of a head lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadRows {
    /// As here: the first halves of all pairs that turn together, then the second ones.
    Halves,
    /// Pair by pair, as Meta had them.
    Neighbours,
}

/// The native name of a tensor of a decoder and its rows in their order here; its own name for one that decoders do not have.
pub(super) fn part(spec: &ModelSpec, rows: HeadRows, tensor: &GgufTensor) -> Part {
    known_part(spec, rows, tensor).unwrap_or_else(|| Part {
        name: tensor.name.clone(),
        rows: None,
        transposed: false,
    })
}

fn known_part(spec: &ModelSpec, rows: HeadRows, tensor: &GgufTensor) -> Option<Part> {
    let (layer, name) = match tensor.name.strip_prefix("blk.") {
        Some(rest) => {
            let (layer, rest) = rest.split_once('.')?;
            let layer: usize = layer.parse().ok()?;
            (format!("model.layers.{layer}."), rest)
        }
        None => (String::new(), tensor.name.as_str()),
    };
    let (stem, end) = name.rsplit_once('.')?;
    let (_, native) = TEXT.iter().find(|(gguf, _)| *gguf == stem)?;
    let prefix = &spec.decoder_prefix;
    let d = &spec.decoder;
    let heads = match stem {
        "attn_q" => Some(d.heads),
        "attn_k" => Some(d.kv_heads),
        _ => None,
    };
    Some(Part {
        name: format!("{prefix}{layer}{native}.{end}"),
        rows: heads
            .filter(|_| rows == HeadRows::Neighbours)
            // Another number of rows is a wrong shape, which whoever compares shapes tells.
            .filter(|heads| heads.checked_mul(d.head_dim) == tensor.shape.first().copied())
            .map(|heads| parted(heads, d.head_dim)),
        transposed: false,
    })
}

/// The rows of a decoder's tensor in the order of a file; none where they come as they are.
pub(super) fn order_of(d: &DecoderSpec, rows: HeadRows, name: &str) -> Option<Vec<usize>> {
    let heads = match (rows, name) {
        (HeadRows::Halves, _) => return None,
        (_, name) if name.contains(".attn_q.") => d.heads,
        (_, name) if name.contains(".attn_k.") => d.kv_heads,
        _ => return None,
    };
    let mut order = vec![0; heads * d.head_dim];
    for (own, range) in parted(heads, d.head_dim).into_iter().enumerate() {
        order[range.start] = own;
    }
    Some(order)
}

/// The rows of heads whose pairs lie side by side, put so that halves do.
fn parted(heads: usize, width: usize) -> Vec<Range<usize>> {
    let places = (0..heads).flat_map(|head| {
        let halves = (0..2).flat_map(move |half| (0..width / 2).map(move |pair| pair * 2 + half));
        halves.map(move |place| head * width + place)
    });
    places.map(|row| row..row + 1).collect()
}

/// The name in GGUF of a tensor of the native format, whose decoder's names begin with `prefix`.
pub(super) fn of_native(prefix: &str, name: &str) -> Option<String> {
    let name = name.strip_prefix(prefix)?;
    let (layer, name) = match name.strip_prefix("model.layers.") {
        Some(rest) => {
            let (layer, rest) = rest.split_once('.')?;
            (format!("blk.{layer}."), rest)
        }
        None => (String::new(), name),
    };
    let (stem, end) = name.rsplit_once('.')?;
    let (gguf, _) = TEXT.iter().find(|(_, native)| *native == stem)?;
    Some(format!("{layer}{gguf}.{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::Stored;

    #[test]
    fn pairs_of_rows_become_halves() {
        let rows: Vec<usize> = parted(2, 6).iter().map(|range| range.start).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }

    #[test]
    fn names_come_back() {
        for name in [
            "token_embd.weight",
            "blk.12.attn_q.bias",
            "blk.0.ffn_down.weight",
        ] {
            let spec = ModelSpec::from_json(r#"{"model_type": "llama", "num_hidden_layers": 20}"#);
            let tensor = GgufTensor {
                name: name.into(),
                shape: vec![1],
                stored: Stored::F32,
                range: 0..4,
            };
            let part = part(&spec.unwrap(), HeadRows::Halves, &tensor);
            assert_eq!(of_native("", &part.name).as_deref(), Some(name));
        }
    }
}
