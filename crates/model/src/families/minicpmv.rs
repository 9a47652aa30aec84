//! MiniCPM-V 2.6: slices of any size, a resampler for each, a Qwen2 decoder whose keys stand at the top of config.json.

use super::{Family, Keys, pictures, text, towers};
use crate::names::{Fused, Names};
use crate::spec::{
    Layout, ModelSpec, PatchPositions, ProjectorKind, ProjectorSpec, ReferencePixels, Shares,
    Slices, Spot, VisionSpec,
};
use image_prep::recipe::Slicing;
use image_prep::{Preprocessor, Recipe};
use serde_json::json;

pub(super) const FAMILY: Family = Family {
    types: &["minicpmv"],
    read,
    pictures: Some(slices),
};

fn read(keys: &Keys) -> Result<ModelSpec, String> {
    let version = keys.number_or("version", 2.6)?;
    if version != 2.6 {
        return Err(format!("version is {version}, expected 2.6"));
    }
    let mut spec = text::read_as("qwen2", keys)?;
    let large = json!({"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16, "image_size": 980, "patch_size": 14});
    let tower = match keys.get("vision_config") {
        Some(_) => towers::siglip(&keys.object("vision_config")?)?,
        None => towers::siglip(&Keys::new(&large, "vision_config")?)?,
    };
    let used_layers = tower.layers
        - usize::from(keys.flag_or("drop_vision_last_layer", false)?).min(tower.layers);
    spec.vision = Some(VisionSpec {
        used_layers,
        layers: used_layers,
        positions: PatchPositions::Spread {
            side: tower.grid(),
            shares: Shares::Divided,
        },
        ..tower
    });
    let hidden = spec.decoder.hidden;
    if !hidden.is_multiple_of(128) {
        return Err(format!(
            "hidden_size is {hidden}, expected heads of 128 in the resampler"
        ));
    }
    spec.projector = Some(ProjectorSpec {
        norm_eps: 1e-6,
        kind: ProjectorKind::Resampler {
            queries: keys.size_or("query_num", 64)?,
        },
        ..ProjectorSpec::linears(1, hidden)
    });
    spec.decoder_prefix = "language_model.".into();
    spec.pixels = ReferencePixels::Patches { block: 1 };
    spec.prompt.spot = Spot::Text("(<image>./</image>)".into());
    spec.prompt.image_token = Some("<unk>".into());
    let tags = |name: &str| [format!("<{name}>"), format!("</{name}>")];
    spec.prompt.layout = Layout::Slices(Slices {
        number: keys
            .flag_or("use_image_id", true)?
            .then(|| tags("image_id")),
        whole: tags("image"),
        slice: tags("slice"),
        between: "\n".into(),
    });
    spec.names = Names {
        replaced: vec![
            ("^llm.", "language_model."),
            ("^vpm.", "vision_tower.vision_model."),
            ("^resampler.proj", "multi_modal_projector.proj.weight"),
            (
                "^resampler.attn.in_proj_",
                "multi_modal_projector.attn.in_proj.",
            ),
            ("^resampler.", "multi_modal_projector."),
        ],
        fused: vec![Fused {
            part: "attn.in_proj.",
            into: vec!["attn.q_proj.", "attn.k_proj.", "attn.v_proj."],
            rows: vec![hidden; 3],
        }],
        transposed: vec!["multi_modal_projector.proj."],
        ignored: vec!["resampler.pos_embed"],
    };
    Ok(spec)
}

fn slices(config: &Keys, keys: &Keys) -> Result<Preprocessor, String> {
    let small = |key: &str, default: usize| pictures::count(keys, key, default);
    let sliced = config.flag_or("slice_mode", keys.flag_or("slice_mode", true)?)?;
    let recipe = Recipe::Slices(Slicing {
        side: small("scale_resolution", 448)?,
        patch: small("patch_size", 14)?,
        most: if sliced {
            small("max_slice_nums", 9)?
        } else {
            1
        },
    });
    let plain = pictures::values(keys, pictures::HALF)?;
    let values = image_prep::PixelValues {
        mean: keys.triple_or("norm_mean", plain.mean)?,
        std: keys.triple_or("norm_std", plain.std)?,
        ..plain
    };
    pictures::preprocessor(recipe, values)
}
