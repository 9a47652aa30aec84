//! Qwen3-VL: Qwen2-VL's way with pictures, a resized table of positions, and features of several blocks for the first layers of the
//! decoder (DeepStack).

use super::{Family, Keys, qwen_vl};
use crate::spec::{ModelSpec, PatchPositions, TableResize, VisionSpec};

pub(super) const FAMILY: Family = Family {
    types: &["qwen3_vl"],
    read,
    pictures: Some(|config, keys| qwen_vl::rounded(config, keys, 16)),
};

fn read(keys: &Keys) -> Result<ModelSpec, String> {
    let v = keys.object("vision_config")?;
    let plain = qwen_vl::tower(&v, v.size_or("hidden_size", 1152)?)?;
    let layers = v.size_or("depth", 27)?;
    let patch = v.size_or("patch_size", 16)?;
    let tower = VisionSpec {
        ffn: v.size_or("intermediate_size", 4304)?,
        layers,
        used_layers: layers,
        image: patch.saturating_mul(v.size_or("spatial_merge_size", 2)?),
        patch,
        patch_bias: true,
        activation: v.activation("hidden_act", "gelu_pytorch_tanh")?,
        positions: PatchPositions::Resized {
            sides: [side(v.size_or("num_position_embeddings", 2304)?)?; 2],
            resize: TableResize::BilinearCorners,
        },
        deep_layers: match v.get("deepstack_visual_indexes") {
            Some(_) => v.sizes("deepstack_visual_indexes")?,
            None => vec![8, 16, 24],
        },
        ..plain
    };
    let deep = tower.deep_layers.len();
    let mut spec = qwen_vl::with_tower(keys, tower, "qwen3_vl_text")?;
    spec.decoder.deep_rows = deep;
    let names = [
        (
            "^vision_tower.vision_model.merger.",
            "multi_modal_projector.",
        ),
        (
            "^vision_tower.vision_model.deepstack_merger_list.",
            "multi_modal_projector.deep.",
        ),
        ("multi_modal_projector.|linear_fc", "linear_"),
        ("vision_tower.|mlp.linear_fc", "mlp.fc"),
        (
            "^vision_tower.vision_model.pos_embed.",
            "vision_tower.vision_model.embeddings.position_embedding.",
        ),
    ];
    spec.names.replaced.extend(names);
    Ok(spec)
}

/// The side of the square table of positions.
fn side(count: usize) -> Result<usize, String> {
    let side = count.isqrt();
    match side * side == count {
        true => Ok(side),
        false => Err(format!(
            "vision_config.num_position_embeddings is {count}, expected a square"
        )),
    }
}
