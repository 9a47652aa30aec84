//! Qwen2-VL and Qwen2.5-VL: pictures of any size, patches with rotary rows and columns, three positions in the decoder.

use super::{Family, Keys, pictures, text};
use crate::names::{Fused, Names};
use crate::spec::{
    Activation, Layout, MergeNorm, ModelSpec, NormKind, PatchPositions, PatchRotary, PatchWindows,
    ProjectorSpec, ReferencePixels, Spot, VisionMlp, VisionSpec,
};
use image_prep::{Preprocessor, Recipe};

pub(super) const FAMILIES: [Family; 2] = [
    Family {
        types: &["qwen2_vl"],
        read: read_2,
        pictures: Some(|config, keys| rounded(config, keys, 14)),
    },
    Family {
        types: &["qwen2_5_vl"],
        read: read_2_5,
        pictures: Some(|config, keys| rounded(config, keys, 14)),
    },
];

fn read_2(keys: &Keys) -> Result<ModelSpec, String> {
    let v = keys.object("vision_config")?;
    let hidden = v.size_or("embed_dim", 1280)?;
    let tower = VisionSpec {
        ffn: (hidden as f64 * v.number_or("mlp_ratio", 4.0)?) as usize,
        activation: v.activation("hidden_act", "quick_gelu")?,
        ..tower(&v, hidden)?
    };
    with_tower(keys, tower, "qwen2")
}

fn read_2_5(keys: &Keys) -> Result<ModelSpec, String> {
    let v = keys.object("vision_config")?;
    let plain = tower(&v, v.size_or("hidden_size", 1280)?)?;
    let merge = v.size_or("spatial_merge_size", 2)?.max(1);
    let window = v.size_or("window_size", 112)? / plain.patch.max(1) / merge * merge;
    let full_layers = match v.get("fullatt_block_indexes") {
        Some(_) => v.sizes("fullatt_block_indexes")?,
        None => vec![7, 15, 23, 31],
    };
    let tower = VisionSpec {
        ffn: v.size_or("intermediate_size", 3420)?,
        activation: v.activation("hidden_act", "silu")?,
        norm: NormKind::Rms,
        mlp: VisionMlp::Gated,
        windows: Some(PatchWindows {
            side: window.max(1),
            full_layers,
        }),
        ..plain
    };
    with_tower(keys, tower, "qwen2")
}

/// What all have.
pub(super) fn tower(v: &Keys, hidden: usize) -> Result<VisionSpec, String> {
    let layers = v.size_or("depth", 32)?;
    let patch = v.size_or("patch_size", 14)?;
    Ok(VisionSpec {
        hidden,
        layers,
        used_layers: layers,
        post_norm: false,
        heads: v.size_or("num_heads", 16)?,
        // Pictures have their own sizes; this is the smallest.
        image: patch.saturating_mul(v.size_or("spatial_merge_size", 2)?),
        patch,
        patch_bias: false,
        has_post_norm: false,
        positions: PatchPositions::None,
        rotary: Some(PatchRotary::RowThenColumn),
        frames: v.size_or("temporal_patch_size", 2)?,
        ..VisionSpec::siglip()
    })
}

/// `text` is the family of the decoder.
pub(super) fn with_tower(keys: &Keys, tower: VisionSpec, text: &str) -> Result<ModelSpec, String> {
    let merge = keys
        .object("vision_config")?
        .size_or("spatial_merge_size", 2)?;
    // Published files have the decoder's keys at the top, newer ones an object of their own.
    let mut spec = match keys.get("text_config") {
        Some(_) => text::read_as(text, &keys.object("text_config")?)?,
        None => text::read_as(text, keys)?,
    };
    let (width, norm) = (tower.hidden, tower.norm);
    spec.vision = Some(tower);
    spec.projector = Some(ProjectorSpec {
        norm_eps: 1e-6,
        activation: Activation::Gelu,
        norm: MergeNorm::BeforeMerge(norm),
        ..ProjectorSpec::linears(merge, width.saturating_mul(merge).saturating_mul(merge))
    });
    spec.decoder_prefix = "language_model.".into();
    spec.decoder.tied = keys.flag_or("tie_word_embeddings", spec.decoder.tied)?;
    spec.image_token_id = Some(keys.id("image_token_id")?.unwrap_or(151655));
    spec.pixels = ReferencePixels::Patches { block: merge };
    spec.prompt.spot = Spot::Token;
    spec.prompt.layout = Layout::whole("", "");
    spec.names = Names {
        replaced: vec![
            ("^model.visual.", "visual."),
            ("^model.language_model.", "language_model.model."),
            ("^model.", "language_model.model."),
            ("^lm_head.", "language_model.lm_head."),
            ("^visual.merger.ln_q.", "multi_modal_projector.norm."),
            ("^visual.merger.mlp.0.", "multi_modal_projector.linear_1."),
            ("^visual.merger.mlp.2.", "multi_modal_projector.linear_2."),
            ("patch_embed.proj.", "embeddings.patch_embedding."),
            ("^visual.blocks.", "visual.encoder.layers."),
            ("^visual.", "vision_tower.vision_model."),
            (".norm1.", ".layer_norm1."),
            (".norm2.", ".layer_norm2."),
            (".attn.proj.", ".self_attn.out_proj."),
            ("vision_tower.|mlp.gate_proj.", "mlp.gate."),
            ("vision_tower.|mlp.up_proj.", "mlp.fc1."),
            ("vision_tower.|mlp.down_proj.", "mlp.fc2."),
        ],
        fused: vec![Fused::qkv(".attn.qkv.", width)],
        ..Names::default()
    };
    Ok(spec)
}

/// `patch` is the side of a patch of folders that do not tell theirs.
pub(super) fn rounded(config: &Keys, keys: &Keys, patch: usize) -> Result<Preprocessor, String> {
    let v = config.object("vision_config")?;
    let merge = v.size_or("spatial_merge_size", 2)?;
    let factor = v.size_or("patch_size", patch)?.saturating_mul(merge);
    let pixels = |key: &str, inner: &str, default: usize| match keys.get("size") {
        Some(size) if keys.get(key).is_none() && size.get(inner).is_some() => {
            keys.object("size")?.size(inner)
        }
        _ => keys.size_or(key, default),
    };
    let recipe = Recipe::Rounded {
        factor: u32::try_from(factor)
            .map_err(|_| format!("patches of {factor} pixels"))?
            .max(1),
        min_pixels: pixels("min_pixels", "shortest_edge", 56 * 56)? as u64,
        max_pixels: pixels("max_pixels", "longest_edge", 14 * 14 * 4 * 1280)? as u64,
    };
    pictures::preprocessor(recipe, pictures::values(keys, pictures::CLIP)?)
}
