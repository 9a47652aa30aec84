//! SmolVLM, SmolVLM2 and Idefics 3: a SigLIP whose positions are spread over its grid, blocks of patches, one linear layer, Llama.

use super::{Family, Keys, pictures, text, towers};
use crate::names::Names;
use crate::spec::{
    Layout, ModelSpec, PatchPositions, ProjectorKind, ProjectorSpec, Shares, Spot, VisionSpec,
};
use image_prep::recipe::Splits;
use image_prep::{PixelValues, Preprocessor, Recipe};

pub(super) const FAMILY: Family = Family {
    types: &["smolvlm", "idefics3"],
    read,
    pictures: Some(splits),
};

fn read(keys: &Keys) -> Result<ModelSpec, String> {
    let mut spec = text::read_as("llama", &keys.object("text_config")?)?;
    let v = keys.object("vision_config")?;
    let tower = towers::siglip(&v)?;
    let patch = v.side_or("patch_size", 32)?;
    spec.vision = Some(VisionSpec {
        hidden: v.size_or("hidden_size", 1152)?,
        heads: v.size_or("num_attention_heads", 16)?,
        patch,
        positions: PatchPositions::Spread {
            side: tower.image / patch.max(1),
            shares: Shares::Stepped,
        },
        ..tower
    });
    spec.projector = Some(ProjectorSpec {
        kind: ProjectorKind::Linear,
        ..ProjectorSpec::linears(keys.size_or("scale_factor", 2)?, spec.decoder.hidden)
    });
    spec.decoder.tied = keys.flag_or("tie_word_embeddings", spec.decoder.tied)?;
    spec.decoder_prefix = "language_model.".into();
    spec.image_token_id = Some(keys.id("image_token_id")?.unwrap_or(49190));
    spec.prompt.spot = Spot::Token;
    spec.prompt.layout = Layout::Tiles {
        border: "<fake_token_around_image>".into(),
        whole: "<global-img>".into(),
    };
    spec.names = Names::replaced(&[
        ("^model.text_model.", "language_model.model."),
        ("^model.vision_model.", "vision_tower.vision_model."),
        (
            "^model.connector.modality_projection.proj.",
            "multi_modal_projector.linear_2.",
        ),
        ("^lm_head.", "language_model.lm_head."),
    ]);
    Ok(spec)
}

fn splits(_: &Keys, keys: &Keys) -> Result<Preprocessor, String> {
    let plain = pictures::values(keys, pictures::HALF)?;
    let lanczos = image_prep::resize::Filter::Lanczos3;
    let recipe = Recipe::Splits(Splits {
        longest: pictures::side(keys, "size", &["longest_edge"], 1456)?,
        tile: pictures::side(keys, "max_image_size", &["longest_edge"], 364)?,
        split: keys.flag_or("do_image_splitting", true)?,
    });
    let filter = if keys.get("resample").is_some() {
        plain.filter
    } else {
        lanczos
    };
    pictures::preprocessor(recipe, PixelValues { filter, ..plain })
}
