//! InternVL: InternViT, pixel shuffle, a norm and two linear layers, a text decoder; the layouts of OpenGVLab and of
//! transformers.

use super::{Family, Keys, conversations, pictures, text, towers};
use crate::names::Fused;
use crate::spec::{Layout, MergeNorm, ModelSpec, NormKind, ProjectorSpec, Spot, VisionSpec};
use image_prep::tiling::GridChoice;
use image_prep::{Preprocessor, Recipe, TileLayout};

pub(super) const FAMILIES: [Family; 2] = [
    Family {
        types: &["internvl"],
        read: read_hf,
        pictures: Some(|config, keys| tiles(config, keys, ["min_patches", "max_patches"])),
    },
    Family {
        types: &["internvl_chat"],
        read: read_chat,
        pictures: Some(|config, keys| {
            tiles(keys, config, ["min_dynamic_patch", "max_dynamic_patch"])
        }),
    },
];

/// transformers' layout.
fn read_hf(keys: &Keys) -> Result<ModelSpec, String> {
    let tower = towers::internvit(
        &keys.object("vision_config")?,
        "attention_bias",
        "use_qk_norm",
    )?;
    let mut spec = with_tower(keys, text::read(&keys.object("text_config")?)?, tower)?;
    spec.image_token_id = Some(keys.id("image_token_id")?.unwrap_or(151667));
    spec.prompt.spot = Spot::Token;
    spec.names.replaced.splice(
        0..0,
        [
            ("^model.language_model.", "language_model.model."),
            ("^lm_head.", "language_model.lm_head."),
            ("^model.", ""),
            ("^vision_tower.", "vision_model."),
            ("embeddings.cls_token", "embeddings.class_embedding"),
            ("patch_embeddings.projection.", "patch_embedding."),
            (
                "embeddings.position_embeddings",
                "embeddings.position_embedding",
            ),
            ("encoder.layer.", "encoder.layers."),
            ("attention.projection_layer.", "attn.proj."),
            ("vision_attention.", "attn."),
            (".lambda_", ".ls"),
            ("layernorm_before.", "norm1."),
            ("layernorm_after.", "norm2."),
            (
                "multi_modal_projector.layer_norm.",
                "multi_modal_projector.norm.",
            ),
        ],
    );
    Ok(spec)
}

/// OpenGVLab's layout: InternVL 1.5, 2 and 2.5.
fn read_chat(keys: &Keys) -> Result<ModelSpec, String> {
    let tower = towers::internvit(
        &keys.object("vision_config")?,
        "qkv_bias",
        "qk_normalization",
    )?;
    let mut spec = with_tower(keys, text::read(&keys.object("llm_config")?)?, tower)?;
    for (key, expected) in [("ps_version", "v2"), ("select_layer", "-1")] {
        let found = keys
            .get(key)
            .map(|value| value.to_string().replace('"', ""));
        if found.as_ref().is_some_and(|found| found != expected) {
            return Err(format!(
                "{key} is {}, expected {expected}",
                found.unwrap_or_default()
            ));
        }
    }
    spec.prompt.spot = Spot::Text("<image>".into());
    spec.prompt.image_token = Some("<IMG_CONTEXT>".into());
    spec.prompt.template = Some(conversations::internvl(
        keys.text_or("template", "internvl2_5")?,
    )?);
    Ok(spec)
}

fn with_tower(keys: &Keys, mut spec: ModelSpec, tower: VisionSpec) -> Result<ModelSpec, String> {
    let ratio = keys.number_or("downsample_ratio", 0.5)?;
    if ratio != 0.5 {
        return Err(format!("downsample_ratio is {ratio}, expected 0.5"));
    }
    let width = tower.hidden;
    spec.vision = Some(tower);
    spec.projector = Some(ProjectorSpec {
        activation: keys.activation("projector_hidden_act", "gelu")?,
        norm: MergeNorm::AfterMerge(NormKind::Layer),
        ..ProjectorSpec::linears(2, spec.decoder.hidden)
    });
    spec.decoder_prefix = "language_model.".into();
    spec.stop_token_ids.extend(keys.ids("eos_token_id")?);
    spec.prompt.layout = Layout::whole("<img>", "</img>");
    spec.names.replaced.extend([
        ("^vision_model.", "vision_tower.vision_model."),
        (
            "embeddings.position_embedding",
            "embeddings.position_embedding.weight",
        ),
        (".attn.proj.", ".self_attn.out_proj."),
        (".attn.q_norm.", ".self_attn.q_norm."),
        (".attn.k_norm.", ".self_attn.k_norm."),
        (".attention.", ".self_attn."),
        (".norm1.", ".layer_norm1."),
        (".norm2.", ".layer_norm2."),
        (".ls1", ".layer_scale1"),
        (".ls2", ".layer_scale2"),
        ("^mlp1.0.", "multi_modal_projector.norm."),
        ("^mlp1.1.", "multi_modal_projector.linear_1."),
        ("^mlp1.3.", "multi_modal_projector.linear_2."),
    ]);
    spec.names.fused.push(Fused::qkv(".attn.qkv.", width));
    Ok(spec)
}

/// `limits` has the numbers of tiles, the other file the size of a tile.
fn tiles(sizes: &Keys, limits: &Keys, [least, most]: [&str; 2]) -> Result<Preprocessor, String> {
    let tile = match limits.get("force_image_size") {
        Some(_) => pictures::side(limits, "force_image_size", &[], 448)?,
        None => pictures::side(limits, "size", &["height", "shortest_edge"], 448)?,
    };
    let values = match limits.get("image_mean") {
        Some(_) => pictures::values(limits, pictures::IMAGENET)?,
        None => pictures::values(sizes, pictures::IMAGENET)?,
    };
    let recipe = Recipe::Tiles(TileLayout {
        choice: GridChoice::NearestAspectRatio {
            min_tiles: pictures::count(limits, least, 1)?,
            max_tiles: pictures::count(limits, most, 12)?,
        },
        tile,
        thumbnail: limits.flag_or("use_thumbnail", true)?,
    });
    pictures::preprocessor(recipe, values)
}
