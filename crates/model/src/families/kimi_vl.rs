//! Kimi-VL: MoonViT, which takes pictures of any size, and a decoder of DeepSeek-V3's kind (Moonlight).

use super::{Family, Keys, pictures, text};
use crate::names::{Fused, Names};
use crate::spec::{
    Layout, MergeNorm, ModelSpec, NormKind, PatchPositions, PatchRotary, ProjectorSpec,
    ReferencePixels, Spot, TableResize, VisionSpec,
};
use image_prep::recipe::Padding;
use image_prep::{Preprocessor, Recipe};

pub(super) const FAMILY: Family = Family {
    types: &["kimi_vl"],
    read,
    pictures: Some(padded),
};

fn read(keys: &Keys) -> Result<ModelSpec, String> {
    let mut spec = text::read(&keys.object("text_config")?)?;
    let v = keys.object("vision_config")?;
    let (tower, merge) = (moonvit(&v)?, merge(&v)?);
    let width = tower.hidden;
    spec.vision = Some(tower);
    spec.projector = Some(ProjectorSpec {
        norm: MergeNorm::BeforeMerge(NormKind::Layer),
        ..ProjectorSpec::linears(merge, width.saturating_mul(merge).saturating_mul(merge))
    });
    spec.decoder_prefix = "language_model.".into();
    spec.image_token_id = Some(keys.id("media_placeholder_token_id")?.unwrap_or(163605));
    spec.pixels = ReferencePixels::Patches { block: 1 };
    spec.prompt.spot = Spot::Token;
    spec.prompt.layout = Layout::whole("", "");
    spec.names.replaced.extend([
        (
            "^multi_modal_projector.pre_norm.",
            "multi_modal_projector.norm.",
        ),
        (
            "^vision_tower.patch_embed.proj.",
            "vision_tower.embeddings.patch_embedding.",
        ),
        (
            "^vision_tower.patch_embed.pos_emb.",
            "vision_tower.embeddings.position_embedding.",
        ),
        (
            "^vision_tower.encoder.final_layernorm.",
            "vision_tower.post_layernorm.",
        ),
        (
            "^vision_tower.encoder.blocks.",
            "vision_tower.encoder.layers.",
        ),
        ("^vision_tower.", "vision_tower.vision_model."),
        ("vision_tower.|.norm0.", ".layer_norm1."),
        ("vision_tower.|.norm1.", ".layer_norm2."),
        ("vision_tower.|.wo.", ".self_attn.out_proj."),
        ("vision_tower.|.mlp.fc1.", ".mlp.fc2."),
        ("vision_tower.|.mlp.fc0.", ".mlp.fc1."),
    ]);
    let projections = [
        ".self_attn.q_proj.",
        ".self_attn.k_proj.",
        ".self_attn.v_proj.",
    ];
    let fused = Fused {
        part: ".wqkv.",
        into: projections.to_vec(),
        rows: vec![width; 3],
    };
    spec.names = Names {
        fused: [spec.names.fused, vec![fused]].concat(),
        ..spec.names
    };
    Ok(spec)
}

fn moonvit(v: &Keys) -> Result<VisionSpec, String> {
    let layers = v.size_or("num_hidden_layers", 27)?;
    let patch = v.size_or("patch_size", 14)?;
    Ok(VisionSpec {
        hidden: v.size_or("hidden_size", 1152)?,
        ffn: v.size_or("intermediate_size", 4304)?,
        layers,
        used_layers: layers,
        heads: v.size_or("num_attention_heads", 16)?,
        // Pictures have their own sizes; this is the smallest.
        image: patch.saturating_mul(merge(v)?),
        patch,
        norm_eps: 1e-5,
        positions: PatchPositions::Resized {
            sides: [
                v.size_or("init_pos_emb_height", 64)?,
                v.size_or("init_pos_emb_width", 64)?,
            ],
            resize: TableResize::Bicubic,
        },
        rotary: Some(PatchRotary::ColumnAndRowByPairs),
        ..VisionSpec::siglip()
    })
}

/// Patches of a block along a side.
fn merge(keys: &Keys) -> Result<usize, String> {
    keys.side_or("merge_kernel_size", 2)
}

fn padded(config: &Keys, keys: &Keys) -> Result<Preprocessor, String> {
    if !keys.flag_or("pad_input", false)? {
        return Err(format!(
            "{} is not true; only pictures that are padded to whole blocks are supported, not cropped ones",
            keys.name("pad_input")
        ));
    }
    let v = config.object("vision_config")?;
    let patch = v.size_or("patch_size", 14)?;
    let recipe = Recipe::Padded(Padding {
        patch: pictures::within(keys, "patch_size", keys.size_or("patch_size", patch)?, 1024)?,
        block: pictures::within(
            keys,
            "merge_kernel_size",
            keys.side_or("merge_kernel_size", merge(&v)?)?,
            16,
        )?,
        most_patches: pictures::within(
            keys,
            "in_token_limit",
            keys.size_or("in_token_limit", 4096)?,
            1 << 18,
        )?,
    });
    pictures::preprocessor(recipe, pictures::values(keys, pictures::HALF)?)
}
