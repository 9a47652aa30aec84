//! Image encoders that several families share.

use super::keys::Keys;
use crate::spec::{NormKind, QkNorm, VisionSpec};

/// A SigLIP tower: keys and defaults of transformers' `siglip_vision_model`.
pub(in crate::families) fn siglip(v: &Keys) -> Result<VisionSpec, String> {
    let plain = VisionSpec::siglip();
    let layers = v.size_or("num_hidden_layers", plain.layers)?;
    Ok(VisionSpec {
        hidden: v.size_or("hidden_size", plain.hidden)?,
        ffn: v.size_or("intermediate_size", plain.ffn)?,
        layers,
        used_layers: layers,
        heads: v.size_or("num_attention_heads", plain.heads)?,
        image: v.side_or("image_size", plain.image)?,
        patch: v.side_or("patch_size", plain.patch)?,
        norm_eps: v.number_or("layer_norm_eps", 1e-6)? as f32,
        activation: v.activation("hidden_act", "gelu_pytorch_tanh")?,
        ..plain
    })
}

/// A CLIP tower: a class token, a norm before the blocks, patches without bias.
pub(in crate::families) fn clip(v: &Keys) -> Result<VisionSpec, String> {
    let plain = siglip(v)?;
    Ok(VisionSpec {
        patch: v.side_or("patch_size", 32)?,
        norm_eps: v.number_or("layer_norm_eps", 1e-5)? as f32,
        activation: v.activation("hidden_act", "quick_gelu")?,
        patch_bias: false,
        class_token: true,
        pre_norm: true,
        ..plain
    })
}

/// An InternViT tower: a class token, scaled sums, no norm at the end. `bias` and `qk_norm` are the keys of two spellings.
pub(in crate::families) fn internvit(
    v: &Keys,
    bias: &str,
    qk_norm: &str,
) -> Result<VisionSpec, String> {
    let plain = siglip(v)?;
    let layers = v.size_or("num_hidden_layers", 24)?;
    Ok(VisionSpec {
        hidden: v.size_or("hidden_size", 1024)?,
        ffn: v.size_or("intermediate_size", 4096)?,
        layers,
        used_layers: layers,
        post_norm: false,
        heads: v.size_or("num_attention_heads", 16)?,
        image: v.side_or("image_size", 448)?,
        patch: v.side_or("patch_size", 14)?,
        activation: v.activation("hidden_act", "gelu")?,
        norm: match v.text_or("norm_type", "layer_norm")? {
            "layer_norm" => NormKind::Layer,
            "rms_norm" => NormKind::Rms,
            other => {
                return Err(format!(
                    "{} is {other:?}, expected layer_norm or rms_norm",
                    v.name("norm_type")
                ));
            }
        },
        class_token: true,
        has_post_norm: false,
        qkv_bias: v.flag_or(bias, false)?,
        qk_norm: match v.flag_or(qk_norm, false)? {
            true => QkNorm::WholeRow,
            false => QkNorm::None,
        },
        layer_scale: true,
        ..plain
    })
}

/// How many blocks are computed for a feature layer that counts from the end, -1 being the output of the last block.
pub(in crate::families) fn used_layers(
    keys: &Keys,
    key: &str,
    default: i64,
    layers: usize,
) -> Result<usize, String> {
    let value = match keys.get(key) {
        None => default,
        Some(value) => value
            .as_i64()
            .ok_or_else(|| format!("{} is {value}, expected one whole number", keys.name(key)))?,
    };
    let past = usize::try_from(value.unsigned_abs()).unwrap_or(usize::MAX);
    let from_start = usize::try_from(value).ok().filter(|layer| *layer <= layers);
    match value < 0 && past - 1 <= layers {
        true => Ok(layers - (past - 1)),
        false => from_start.ok_or_else(|| {
            format!(
                "{} is {value}, expected -{} to {layers}",
                keys.name(key),
                layers + 1
            )
        }),
    }
}
