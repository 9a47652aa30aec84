//! Gemma 3: SigLIP, the mean of each block of patches, a norm and a matrix, and a decoder in which the rows of a picture see each other.

use super::{Family, Keys, pictures, text, towers};
use crate::names::Names;
use crate::spec::{
    Layout, MergeNorm, ModelSpec, NormKind, ProjectorKind, ProjectorSpec, Spot, VisionSpec,
};
use image_prep::resize::Filter;
use image_prep::{PixelValues, Preprocessor, Recipe};

pub(super) const FAMILY: Family = Family {
    types: &["gemma3"],
    read,
    pictures: Some(stretched),
};

fn read(keys: &Keys) -> Result<ModelSpec, String> {
    let mut spec = text::read_as("gemma3_text", &keys.object("text_config")?)?;
    let tower = towers::siglip(&keys.object("vision_config")?)?;
    let side = mean_side(keys, &tower)?;
    spec.projector = Some(ProjectorSpec {
        norm: MergeNorm::AfterMerge(NormKind::RmsPlusOne),
        norm_eps: tower.norm_eps,
        kind: ProjectorKind::Mean,
        ..ProjectorSpec::linears(side, spec.decoder.hidden)
    });
    spec.vision = Some(tower);
    spec.decoder.whole_pictures = true;
    spec.decoder.tied = keys.flag_or("tie_word_embeddings", true)?;
    spec.decoder_prefix = "language_model.".into();
    let id = keys.id("image_token_id")?.or(keys.id("image_token_index")?);
    spec.image_token_id = Some(id.unwrap_or(262144));
    spec.stop_token_ids.extend(keys.ids("eos_token_id")?);
    spec.prompt.spot = Spot::Text("<start_of_image>".into());
    spec.prompt.layout = Layout::whole("\n\n<start_of_image>", "<end_of_image>\n\n");
    spec.names = Names {
        replaced: [
            vec![
                ("^model.language_model.", "language_model.model."),
                ("^lm_head.", "language_model.lm_head."),
                ("^model.", ""),
                ("^vision_tower.vision_model.", "vision_tower."),
                ("^vision_tower.", "vision_tower.vision_model."),
                ("projector.mm_soft_emb_norm.", "projector.norm."),
                (
                    "projector.mm_input_projection_weight",
                    "projector.linear_2.weight",
                ),
            ],
            spec.names.replaced,
        ]
        .concat(),
        transposed: vec!["projector.linear_2."],
        ignored: vec!["vision_model.head."],
        ..spec.names
    };
    Ok(spec)
}

/// Patches along a side of the blocks of which a picture has `mm_tokens_per_image`.
fn mean_side(keys: &Keys, tower: &VisionSpec) -> Result<usize, String> {
    let tokens = keys.size_or("mm_tokens_per_image", 256)?;
    let (across, patches) = (tokens.isqrt(), tower.image / tower.patch.max(1));
    match across > 0 && across * across == tokens && patches.is_multiple_of(across) {
        true => Ok(patches / across),
        false => Err(format!(
            "mm_tokens_per_image is {tokens}, expected a square that divides {patches}x{patches} patches evenly"
        )),
    }
}

fn stretched(_: &Keys, keys: &Keys) -> Result<Preprocessor, String> {
    if keys.flag_or("do_pan_and_scan", false)? {
        return Err(format!(
            "{} is true; crops beside the whole picture are not supported",
            keys.name("do_pan_and_scan")
        ));
    }
    let recipe = Recipe::Stretch {
        width: pictures::side(keys, "size", &["width", "height"], 896)?,
        height: pictures::side(keys, "size", &["height", "width"], 896)?,
    };
    let plain = pictures::values(keys, pictures::HALF)?;
    let filter = match keys.get("resample") {
        Some(_) => plain.filter,
        None => Filter::Bilinear,
    };
    pictures::preprocessor(recipe, PixelValues { filter, ..plain })
}
