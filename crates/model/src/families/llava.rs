//! LLaVA-1.5, LLaVA-NeXT and LLaVA-OneVision as transformers has them: CLIP or SigLIP, two linear layers, a text decoder.

use super::{Family, Keys, pictures, text, towers};
use crate::names::Names;
use crate::spec::{Assembly, Begin, Layout, ModelSpec, ProjectorSpec, Spot, VisionSpec};
use image_prep::recipe::Pinpoints;
use image_prep::{Preprocessor, Recipe};
use serde_json::{Value, json};

pub(super) const FAMILIES: [Family; 3] = [
    Family {
        types: &["llava"],
        read,
        pictures: Some(centre_crop),
    },
    Family {
        types: &["llava_next"],
        read: read_next,
        pictures: Some(pinpoints),
    },
    Family {
        types: &["llava_onevision"],
        read: read_onevision,
        pictures: Some(pinpoints),
    },
];

fn read(keys: &Keys) -> Result<ModelSpec, String> {
    let large = json!({"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
        "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14});
    with_tower(keys, &large, -2, 32000)
}

fn read_next(keys: &Keys) -> Result<ModelSpec, String> {
    let mut spec = read(keys)?;
    spec.assembly = Assembly::Unpadded { most_tiles: None };
    Ok(spec)
}

fn read_onevision(keys: &Keys) -> Result<ModelSpec, String> {
    let large = json!({"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
        "num_hidden_layers": 26, "num_attention_heads": 16, "image_size": 384, "patch_size": 14});
    let mut spec = with_tower(keys, &large, -1, 151646)?;
    let ratio = keys.text_or("vision_aspect_ratio", "anyres_max_9")?;
    let most = ratio
        .strip_prefix("anyres_max_")
        .and_then(|n| n.parse().ok());
    spec.assembly = Assembly::Unpadded {
        most_tiles: Some(most.filter(|n| *n > 0).ok_or_else(|| {
            format!("vision_aspect_ratio is {ratio:?}, expected anyres_max_ and a number")
        })?),
    };
    Ok(spec)
}

/// `large` is the tower of folders that do not describe theirs.
fn with_tower(keys: &Keys, large: &Value, layer: i64, image: u32) -> Result<ModelSpec, String> {
    let nothing = json!({"model_type": "llama"});
    let mut spec = match keys.get("text_config") {
        Some(_) => text::read(&keys.object("text_config")?)?,
        None => text::read(&Keys::new(&nothing, "text_config")?)?,
    };
    let v = match keys.get("vision_config") {
        Some(_) => keys.object("vision_config")?,
        None => Keys::new(large, "vision_config")?,
    };
    let tower = match v.text_or("model_type", "clip_vision_model")? {
        "clip_vision_model" => towers::clip(&v)?,
        "siglip_vision_model" => towers::siglip(&v)?,
        other => {
            return Err(format!(
                "vision_config.model_type is {other:?}, expected CLIP or SigLIP"
            ));
        }
    };
    check_selection(keys, &tower)?;
    spec.vision = Some(VisionSpec {
        used_layers: towers::used_layers(keys, "vision_feature_layer", layer, tower.layers)?,
        post_norm: false,
        ..tower
    });
    spec.projector = Some(ProjectorSpec {
        activation: keys.activation("projector_hidden_act", "gelu")?,
        ..ProjectorSpec::linears(1, spec.decoder.hidden)
    });
    spec.decoder_prefix = "language_model.".into();
    let id = keys.id("image_token_id")?.or(keys.id("image_token_index")?);
    spec.image_token_id = Some(id.unwrap_or(image));
    spec.stop_token_ids.extend(keys.ids("eos_token_id")?);
    spec.prompt.spot = Spot::Token;
    spec.prompt.layout = Layout::whole("", "");
    spec.prompt.begin = Begin::ByTokenizer;
    spec.names = Names {
        replaced: vec![
            ("^model.language_model.", "language_model.model."),
            ("^lm_head.", "language_model.lm_head."),
            ("^model.", ""),
            ("^vision_tower.vision_model.", "vision_tower."),
            ("^vision_tower.", "vision_tower.vision_model."),
            ("pre_layrnorm", "pre_layernorm"),
        ],
        ignored: vec!["vision_model.head."],
        ..spec.names
    };
    Ok(spec)
}

/// `default` leaves the class token out, `full` takes all rows.
fn check_selection(keys: &Keys, tower: &VisionSpec) -> Result<(), String> {
    let expected = if tower.class_token { "default" } else { "full" };
    match keys.text_or("vision_feature_select_strategy", expected)? {
        found if found == expected => Ok(()),
        found => Err(format!(
            "vision_feature_select_strategy is {found:?}, expected {expected:?}"
        )),
    }
}

fn centre_crop(_: &Keys, keys: &Keys) -> Result<Preprocessor, String> {
    let crop = pictures::side(keys, "crop_size", &["height"], 336)?;
    let edge = pictures::side(keys, "size", &["shortest_edge", "height"], 336)?;
    if crop > edge {
        return Err(format!("crop_size is {crop}, expected at most {edge}"));
    }
    let recipe = Recipe::CentreCrop { edge, crop };
    pictures::preprocessor(recipe, pictures::values(keys, pictures::CLIP)?)
}

fn pinpoints(config: &Keys, keys: &Keys) -> Result<Preprocessor, String> {
    let tile = pictures::side(keys, "size", &["shortest_edge", "height"], 336)?;
    let of = |keys: &Keys| keys.pairs("image_grid_pinpoints");
    let resolutions = of(keys)?
        .or(of(config)?)
        .ok_or("image_grid_pinpoints is missing")?;
    let odd = |side: &u32| *side == 0 || !side.is_multiple_of(tile);
    if resolutions.iter().flatten().any(odd) {
        return Err(format!(
            "image_grid_pinpoints: expected multiples of {tile}"
        ));
    }
    let recipe = Recipe::Pinpoints(Pinpoints {
        tile,
        resolutions: resolutions
            .iter()
            .map(|&[height, width]| (width, height))
            .collect(),
    });
    pictures::preprocessor(recipe, pictures::values(keys, pictures::CLIP)?)
}
