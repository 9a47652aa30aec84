//! The native family: BlueLM-V-3B and BlueLM-2.5-3B (SigLIP, 2x2 merge, two linear layers, a decoder of the text families).

use super::{Family, Keys, text, towers};
use crate::spec::{
    MergeNorm, ModelSpec, NormKind, ProjectorKind, ProjectorSpec, PromptSpec, VisionSpec,
};

pub(super) const FAMILY: Family = Family {
    types: &["bluelm_v"],
    read,
    pictures: None,
};

fn read(keys: &Keys) -> Result<ModelSpec, String> {
    let v = keys.object("vision_config")?;
    let p = keys.object("projector_config")?;
    let mut spec = text::read(&keys.object("text_config")?)?;
    let tower = towers::siglip(&v)?;
    let (used_layers, post_norm) = feature_layer(keys, tower.layers)?;
    spec.vision = Some(VisionSpec {
        used_layers,
        post_norm,
        ..tower
    });
    if v.flag_or("vision_use_head", false)? {
        return Err(
            "vision_config.vision_use_head is true; the native format has no pooling head".into(),
        );
    }
    spec.projector = Some(ProjectorSpec {
        merge: p.size_or("merge_size", 2)?,
        norm_eps: p.number_or("norm_eps", 1e-5)? as f32,
        activation: p.activation("hidden_act", "gelu")?,
        prefix: "multi_modal_projector.".into(),
        norm: MergeNorm::AfterMerge(NormKind::Layer),
        inner: spec.decoder.hidden,
        kind: ProjectorKind::Linears,
    });
    // What a text family does with a folder of its own is not what the native format does.
    spec.prompt = PromptSpec::default();
    spec.decoder_prefix = "language_model.".into();
    spec.image_token_id = Some(
        keys.id("image_token_id")?
            .ok_or("image_token_id is missing")?,
    );
    spec.image_start_token_id = Some(
        keys.id("image_start_token_id")?
            .ok_or("image_start_token_id is missing")?,
    );
    spec.image_end_token_id = Some(
        keys.id("image_end_token_id")?
            .ok_or("image_end_token_id is missing")?,
    );
    spec.think_token_id = keys.id("think_token_id")?;
    spec.stop_token_ids.extend(keys.ids("eos_token_id")?);
    Ok(spec)
}

/// `vision_feature_layer` counts as in LLaVA: -1 is the last layer with the post norm, -2 the last but one without.
fn feature_layer(keys: &Keys, layers: usize) -> Result<(usize, bool), String> {
    let value = match keys.get("vision_feature_layer") {
        None => -2,
        Some(value) => value.as_i64().ok_or_else(|| {
            format!("vision_feature_layer is {value}, expected a negative whole number")
        })?,
    };
    // Both numbers come from outside; none of them is so small that its sign could not be turned.
    let from_end = usize::try_from(value.unsigned_abs()).unwrap_or(usize::MAX);
    if value >= 0 || from_end - 1 > layers {
        return Err(format!(
            "vision_feature_layer is {value}, expected -{} to -1",
            layers as u128 + 1
        ));
    }
    Ok((layers - (from_end - 1), value == -1))
}
