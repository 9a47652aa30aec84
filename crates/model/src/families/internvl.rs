//! InternVL: InternViT, pixel shuffle, a norm and two linear layers, a text decoder; the layouts of OpenGVLab and of
//! transformers.

use super::{Family, Keys, pictures, text, towers};
use crate::names::Fused;
use crate::spec::{Layout, MergeNorm, ModelSpec, ProjectorKind, ProjectorSpec, Spot, VisionSpec};
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
        pictures: Some(|config, keys| tiles(keys, config, ["min_dynamic_patch", "max_dynamic_patch"])),
    },
];

/// transformers' layout.
fn read_hf(keys: &Keys) -> Result<ModelSpec, String> {
    let tower = towers::internvit(&keys.object("vision_config")?, "attention_bias", "use_qk_norm")?;
    let mut spec = with_tower(keys, text::read(&keys.object("text_config")?)?, tower)?;
    spec.image_token_id = Some(keys.id("image_token_id")?.unwrap_or(151667));
    spec.prompt.spot = Spot::Token;
    spec.names.replaced.splice(0..0, [
        ("^model.language_model.", "language_model.model."),
        ("^lm_head.", "language_model.lm_head."),
        ("^model.", ""),
        ("^vision_tower.", "vision_model."),
        ("embeddings.cls_token", "embeddings.class_embedding"),
        ("patch_embeddings.projection.", "patch_embedding."),
        ("embeddings.position_embeddings", "embeddings.position_embedding"),
        ("encoder.layer.", "encoder.layers."),
        ("attention.projection_layer.", "attn.proj."),
        ("vision_attention.", "attn."),
        (".lambda_", ".ls"),
        ("layernorm_before.", "norm1."),
        ("layernorm_after.", "norm2."),
        ("multi_modal_projector.layer_norm.", "multi_modal_projector.norm."),
    ]);
    Ok(spec)
}

/// OpenGVLab's layout: InternVL 1.5, 2 and 2.5.
fn read_chat(keys: &Keys) -> Result<ModelSpec, String> {
    let tower = towers::internvit(&keys.object("vision_config")?, "qkv_bias", "qk_normalization")?;
    let mut spec = with_tower(keys, text::read(&keys.object("llm_config")?)?, tower)?;
    for (key, expected) in [("ps_version", "v2"), ("select_layer", "-1")] {
        let found = keys.get(key).map(|value| value.to_string().replace('"', ""));
        if found.as_ref().is_some_and(|found| found != expected) {
            return Err(format!("{key} is {}, expected {expected}", found.unwrap_or_default()));
        }
    }
    spec.prompt.spot = Spot::Text("<image>".into());
    spec.prompt.image_token = Some("<IMG_CONTEXT>".into());
    spec.prompt.template = Some(template(keys.text_or("template", "internvl2_5")?)?);
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
        merge: 2,
        norm_eps: 1e-5,
        activation: keys.activation("projector_hidden_act", "gelu")?,
        prefix: "multi_modal_projector.".into(),
        norm: MergeNorm::AfterMerge,
        inner: spec.decoder.hidden,
        kind: ProjectorKind::Linears,
    });
    spec.decoder_prefix = "language_model.".into();
    spec.stop_token_ids.extend(keys.ids("eos_token_id")?);
    spec.prompt.layout = Layout::whole("<img>", "</img>");
    spec.names.replaced.extend([
        ("^vision_model.", "vision_tower.vision_model."),
        ("embeddings.position_embedding", "embeddings.position_embedding.weight"),
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
    spec.names.fused.push(Fused {
        part: ".attn.qkv.",
        into: vec![".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."],
        rows: vec![width; 3],
    });
    Ok(spec)
}

/// `limits` has the numbers of tiles, the other file the size of a tile.
fn tiles(sizes: &Keys, limits: &Keys, [least, most]: [&str; 2]) -> Result<Preprocessor, String> {
    let of_limits = || pictures::side(limits, "size", &["height", "shortest_edge"], 448);
    let tile = match limits.get("force_image_size") {
        Some(_) => pictures::side(limits, "force_image_size", &[], 448)?,
        None => of_limits()?,
    };
    let values = match limits.get("image_mean") {
        Some(_) => pictures::values(limits, pictures::IMAGENET)?,
        None => pictures::values(sizes, pictures::IMAGENET)?,
    };
    let count = |key: &str, default: usize| {
        let count = limits.size_or(key, default)?;
        u32::try_from(count).ok().filter(|n| (1..=1024).contains(n)).ok_or_else(|| {
            format!("{} is {count}, expected 1 to 1024", limits.name(key))
        })
    };
    let recipe = Recipe::Tiles(TileLayout {
        choice: GridChoice::NearestAspectRatio {
            min_tiles: count(least, 1)?,
            max_tiles: count(most, 12)?,
        },
        tile,
        thumbnail: limits.flag_or("use_thumbnail", true)?,
    });
    pictures::preprocessor(recipe, values)
}

/// The conversations that OpenGVLab's code builds by name.
fn template(name: &str) -> Result<String, String> {
    let (system, end) = match name {
        "internlm2-chat" => (
            "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。",
            "<|im_end|>",
        ),
        "internvl2_5" | "Hermes-2" => (
            "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。",
            "<|im_end|>\\n",
        ),
        other => return Err(format!("template is {other:?}, expected internlm2-chat, internvl2_5 or Hermes-2")),
    };
    Ok(format!(
        "{{{{ '<|im_start|>system\\n{system}{end}' }}}}{{% for m in messages %}}{{{{ '<|im_start|>' + m['role'] + '\\n' }}}}\
         {{% if m['content'] is string %}}{{{{ m['content'] }}}}{{% else %}}{{% for c in m['content'] %}}\
         {{% if c['type'] == 'image' %}}{{{{ '<image>\\n' }}}}{{% else %}}{{{{ c['text'] }}}}{{% endif %}}{{% endfor %}}\
         {{% endif %}}{{{{ '{end}' }}}}{{% endfor %}}{{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\\n' }}}}{{% endif %}}"
    ))
}
