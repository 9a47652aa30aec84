//! VILA-1.5 and NVILA: SigLIP, a merge of 2x2 or 3x3 patches, a text decoder; each in a folder of its own.

use super::{Family, Keys, pictures, text, towers};
use crate::names::Names;
use crate::spec::{
    Assembly, Begin, Layout, MergeNorm, ModelSpec, NormKind, ProjectorKind, ProjectorSpec, Spot,
    VisionSpec,
};
use image_prep::recipe::{Scales, Several};
use image_prep::tiling::GridChoice;
use image_prep::{Preprocessor, Recipe, TileLayout};

pub(super) const FAMILY: Family = Family {
    types: &["llava_llama"],
    read,
    pictures: Some(views),
};

/// How a picture is shown: `image_aspect_ratio`.
#[derive(Clone, Copy, PartialEq)]
enum Show {
    /// One view: VILA-1.5.
    Resize,
    /// Tiles and a thumbnail: NVILA-Lite.
    Dynamic,
    /// Three scales, of which the last is tiles: NVILA.
    Scales,
}

fn show(keys: &Keys) -> Result<Show, String> {
    match keys.text_or("image_aspect_ratio", "resize")? {
        "resize" => Ok(Show::Resize),
        "dynamic" => Ok(Show::Dynamic),
        "dynamic_s2" => Ok(Show::Scales),
        other => Err(format!(
            "image_aspect_ratio is {other:?}, expected resize, dynamic or dynamic_s2"
        )),
    }
}

fn read(keys: &Keys) -> Result<ModelSpec, String> {
    let mut spec = text::read(&keys.object("llm_config")?)?;
    let tower = towers::siglip(&keys.object("vision_config")?)?;
    let show = show(keys)?;
    refuse_others(keys, tower.image)?;
    let (d, scales) = (
        spec.decoder.hidden,
        if show == Show::Scales { 3 } else { 1 },
    );
    let width = tower.hidden * scales;
    let mut projector = ProjectorSpec {
        norm: MergeNorm::AfterMerge(NormKind::Layer),
        ..ProjectorSpec::linears(2, d)
    };
    let mut names = vec![
        ("^llm.", "language_model."),
        ("^vision_tower.", "vision_tower.vision_model."),
        (
            "vision_tower.vision_model.vision_model.",
            "vision_tower.vision_model.",
        ),
        ("^mm_projector.layers.1.", "multi_modal_projector.norm."),
    ];
    match keys.object("projector_config")?.text("mm_projector_type")? {
        "mlp_downsample" | "mlp_downsample_2x2_fix" => names.extend([
            ("^mm_projector.layers.2.", "multi_modal_projector.linear_1."),
            ("^mm_projector.layers.4.", "multi_modal_projector.linear_2."),
        ]),
        "mlp_downsample_3x3_fix" => {
            projector.merge = 3;
            projector.kind = ProjectorKind::LinearsTwice { first: width * 3 };
            names.extend([
                ("^mm_projector.layers.2.", "multi_modal_projector.linear_0."),
                ("^mm_projector.layers.4.", "multi_modal_projector.norm_0."),
                ("^mm_projector.layers.5.", "multi_modal_projector.linear_1."),
                ("^mm_projector.layers.7.", "multi_modal_projector.linear_2."),
            ]);
        }
        other => {
            return Err(format!(
                "mm_projector_type is {other:?}, expected mlp_downsample, _2x2_fix or _3x3_fix"
            ));
        }
    }
    spec.projector = Some(projector);
    spec.vision = Some(VisionSpec {
        used_layers: towers::used_layers(keys, "mm_vision_select_layer", -2, tower.layers)?,
        post_norm: false,
        ..tower
    });
    if show == Show::Scales {
        spec.assembly = Assembly::Scales;
    }
    spec.decoder_prefix = "language_model.".into();
    spec.names = Names {
        ignored: vec!["vision_model.head."],
        ..Names::replaced(&names)
    };
    spec.prompt.spot = Spot::Text("<image>".into());
    spec.prompt.image_token = Some("<image>".into());
    spec.prompt.begin = Begin::ByTokenizer;
    // The published code puts embeddings of a newline behind the rows of a picture, or of a tile, and a newline into the prompt.
    spec.prompt.layout = match show {
        Show::Resize => Layout::Apart { alone: 0, among: 0 },
        Show::Dynamic => Layout::Apart { alone: 2, among: 1 },
        Show::Scales => Layout::Apart { alone: 1, among: 1 },
    };
    Ok(spec)
}

/// Settings of the published code of which others would change the result.
fn refuse_others(keys: &Keys, tile: usize) -> Result<(), String> {
    let scales = [tile, 2 * tile, 3 * tile].map(|side| side.to_string());
    for (key, expected) in [
        ("mm_vision_select_feature", "cls_patch"),
        ("s2_scales", &scales.join(",")),
    ] {
        match keys.text_or(key, "")?.replace(' ', "") {
            found if found.is_empty() || found == expected => {}
            found => return Err(format!("{key} is {found:?}, expected {expected:?}")),
        }
    }
    Ok(())
}

fn views(config: &Keys, keys: &Keys) -> Result<Preprocessor, String> {
    let tile = pictures::side(keys, "size", &["height", "shortest_edge"], 384)?;
    let count = |key: &str, default: usize| pictures::count(config, key, default);
    let recipe = match show(config)? {
        Show::Resize => Recipe::Stretch {
            width: tile,
            height: tile,
        },
        Show::Dynamic => Recipe::Alone(Several::Tiles(TileLayout {
            choice: GridChoice::NearestAspectRatio {
                min_tiles: count("min_tiles", 1)?,
                max_tiles: count("max_tiles", 12)?,
            },
            tile,
            thumbnail: true,
        })),
        Show::Scales => Recipe::Alone(Several::Scales(Scales {
            tile,
            most_tiles: count("max_tiles", 12)?,
        })),
    };
    pictures::preprocessor(recipe, pictures::values(keys, pictures::HALF)?)
}
