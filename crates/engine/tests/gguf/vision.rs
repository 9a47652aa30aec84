//! Image encoders in files of their own. The files are written here from the folders of golden/families, under llama.cpp's
//! names, and must give what the reference of the folder gives.

use super::file::{Tensor, file};
use engine::verify::{RELATIVE, verify_case};
use engine::{Cancel, Engine, PromptFiles, gguf_keys};
use model::gguf::{List, Value};
use model::{Checkpoint, ModelSpec};
use std::path::{Path, PathBuf};

/// Parts of native names and of llama.cpp's, one after the other.
const NAMES: [(&str, &str); 29] = [
    ("language_model.model.layers.", "blk."),
    ("language_model.model.embed_tokens", "token_embd"),
    ("language_model.model.norm", "output_norm"),
    ("language_model.lm_head", "output"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.out_proj", "attn_out"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate"),
    ("mlp.fc1", "ffn_up"),
    ("mlp.fc2", "ffn_down"),
    (
        "vision_tower.vision_model.embeddings.patch_embedding",
        "v.patch_embd",
    ),
    (
        "vision_tower.vision_model.embeddings.class_embedding",
        "v.class_embd",
    ),
    (
        "vision_tower.vision_model.embeddings.position_embedding",
        "v.position_embd",
    ),
    ("vision_tower.vision_model.encoder.layers.", "v.blk."),
    ("layer_norm", "ln"),
    ("layer_scale1", "ls1.weight"),
    ("layer_scale2", "ls2.weight"),
    ("multi_modal_projector.norm", "NORM"),
    ("multi_modal_projector.linear_1", "FIRST"),
    ("multi_modal_projector.linear_2", "SECOND"),
    ("self_attn.", "attn_"),
    ("_layernorm", "_norm"),
];

/// A folder's tensors by llama.cpp's names; `last` are those of norm and layers of the projector.
fn tensors(checkpoint: &Checkpoint, spec: &ModelSpec, last: [&str; 3]) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for tensor in spec.tensors() {
        let mut name = tensor.name.clone();
        for (native, gguf) in NAMES {
            name = name.replace(native, gguf);
        }
        for (own, gguf) in ["NORM", "FIRST", "SECOND"].iter().zip(last) {
            name = name.replace(own, gguf);
        }
        let numbers = checkpoint.tensor_f32(&tensor.name).unwrap();
        match tensor.shape.as_slice() {
            // A convolution over two pictures is two tensors.
            &[outputs, colors, 2, rows, columns] => {
                for (half, end) in ["", ".1"].iter().enumerate() {
                    let pieces = numbers.chunks_exact(rows * columns).skip(half).step_by(2);
                    let own = pieces.flatten().copied().collect();
                    tensors.push((
                        format!("{name}{end}"),
                        vec![outputs, colors, rows, columns],
                        own,
                    ));
                }
            }
            shape => tensors.push((name, shape.to_vec(), numbers)),
        }
    }
    tensors
}

/// The rows of heads pair by pair, as files of this architecture have them.
fn by_pairs((name, shape, numbers): &mut Tensor, heads: [usize; 2]) {
    let heads = match name.as_str() {
        name if name.contains("v.blk") => return,
        name if name.contains("attn_q.") => heads[0],
        name if name.contains("attn_k.") => heads[1],
        _ => return,
    };
    let (width, row) = (shape[0] / heads, numbers.len() / shape[0]);
    let rows: Vec<f32> = (0..shape[0])
        .flat_map(|at| {
            let (head, place) = (at / width, at % width);
            let from = head * width + place % 2 * (width / 2) + place / 2;
            numbers[from * row..][..row].to_vec()
        })
        .collect();
    *numbers = rows;
}

fn keys(list: &[(&str, Value)]) -> Vec<(String, Value)> {
    let list = list.iter();
    list.map(|(key, value)| (key.to_string(), value.clone()))
        .collect()
}

fn whole(number: usize) -> Value {
    Value::Whole(number as i128)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn numbers(numbers: [f32; 3]) -> Value {
    Value::List(List::Numbers(numbers.to_vec()))
}

/// Keys of a decoder.
fn decoder(spec: &ModelSpec, architecture: &str) -> Vec<(String, Value)> {
    let d = &spec.decoder;
    let own = [
        ("context_length", whole(d.context_tokens)),
        ("embedding_length", whole(d.hidden)),
        ("block_count", whole(d.layers)),
        ("feed_forward_length", whole(d.ffn)),
        ("attention.head_count", whole(d.heads)),
        ("attention.head_count_kv", whole(d.kv_heads)),
        ("rope.freq_base", Value::Number(d.rope_base)),
        (
            "attention.layer_norm_rms_epsilon",
            Value::Number(d.norm_eps.into()),
        ),
    ];
    let mut all = keys(&[("general.architecture", text(architecture))]);
    let own = own.into_iter();
    all.extend(own.map(|(key, value)| (format!("{architecture}.{key}"), value)));
    all
}

/// Keys of an encoder of 32 numbers in 4 heads, as the folders of golden/families have it.
fn encoder(projector: &str, layers: usize, own: &[(&str, Value)]) -> Vec<(String, Value)> {
    let mut all = keys(&[
        ("general.architecture", text("clip")),
        ("clip.projector_type", text(projector)),
        ("clip.vision.embedding_length", whole(32)),
        ("clip.vision.feed_forward_length", whole(48)),
        ("clip.vision.block_count", whole(layers)),
        ("clip.vision.attention.head_count", whole(4)),
        (
            "clip.vision.attention.layer_norm_epsilon",
            Value::Number(1e-6),
        ),
        ("clip.vision.image_size", whole(56)),
        ("clip.vision.patch_size", whole(14)),
    ]);
    all.extend(keys(own));
    all
}

/// A folder of golden/families as two files.
struct Pair {
    folder: tempfile::TempDir,
    spec: ModelSpec,
    tensors: Vec<Tensor>,
    tokens: Vec<(String, Value)>,
}

impl Pair {
    fn of(name: &str, last: [&str; 3]) -> Pair {
        let model = golden(name).join("model");
        let checkpoint = Checkpoint::open(&model).unwrap();
        let spec = ModelSpec::from_json(checkpoint.config()).unwrap();
        let files = PromptFiles::open(&model).unwrap();
        Pair {
            folder: tempfile::tempdir().unwrap(),
            tensors: tensors(&checkpoint, &spec, last),
            tokens: gguf_keys(&files, &spec).unwrap(),
            spec,
        }
    }

    /// Writes both files and loads the first, which finds the other.
    fn load(&self, mut text: Vec<(String, Value)>, encoder: &[(String, Value)]) -> Engine {
        text.extend(self.tokens.clone());
        let of_text = |tensor: &&Tensor| {
            ["blk.", "token_embd", "output"]
                .iter()
                .any(|begin| tensor.0.starts_with(begin))
        };
        let (own, others): (Vec<_>, Vec<_>) = self.tensors.iter().partition(of_text);
        let own: Vec<Tensor> = own.into_iter().cloned().collect();
        let others: Vec<Tensor> = others.into_iter().cloned().collect();
        let write = |name: &str, keys: &[(String, Value)], tensors: &[Tensor]| {
            std::fs::write(self.folder.path().join(name), file(keys, tensors)).unwrap();
        };
        write("model.gguf", &text, &own);
        write("mmproj-model.gguf", encoder, &others);
        Engine::load(&self.folder.path().join("model.gguf")).unwrap()
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../golden/families")
        .join(name)
}

/// All cases of a folder.
fn assert_equal(engine: &Engine, name: &str) {
    let mut cases = 0;
    for case in std::fs::read_dir(golden(name).join("cases")).unwrap() {
        let folder = case.unwrap().path();
        let case = verify_case(engine, &folder, RELATIVE, &Cancel::default()).unwrap();
        assert!(
            case.first_difference().is_none(),
            "{name}: {:?}",
            case.first_difference()
        );
        cases += 1;
    }
    assert_eq!(cases, 2);
}

#[test]
fn qwen2_5_vl_with_its_convolution_in_two_halves() {
    let name = "qwen2_5_vl";
    let pair = Pair::of(name, ["v.post_ln", "mm.0", "mm.2"]);
    let mut decoder = decoder(&pair.spec, "qwen2vl");
    let sections = Value::List(List::Whole(vec![2, 3, 3, 0]));
    decoder.push(("qwen2vl.rope.dimension_sections".into(), sections));
    let encoder = encoder(
        "qwen2.5vl_merger",
        4,
        &[
            ("clip.use_silu", Value::Flag(true)),
            ("clip.vision.n_wa_pattern", whole(2)),
            ("clip.vision.window_size", whole(56)),
            (
                "clip.vision.image_mean",
                numbers([0.48145466, 0.4578275, 0.40821073]),
            ),
            (
                "clip.vision.image_std",
                numbers([0.26862954, 0.261_302_6, 0.275_777_1]),
            ),
            ("clip.vision.image_min_pixels", whole(3136)),
            ("clip.vision.image_max_pixels", whole(31360)),
        ],
    );
    assert_equal(&pair.load(decoder, &encoder), name);
}

#[test]
fn internvl_with_a_decoder_whose_rows_lie_pair_by_pair() {
    let name = "internvl_chat_internlm2";
    let last = ["mm.model.mlp.0", "mm.model.mlp.1", "mm.model.mlp.3"];
    let mut pair = Pair::of(name, last);
    let heads = [pair.spec.decoder.heads, pair.spec.decoder.kv_heads];
    pair.tensors
        .iter_mut()
        .for_each(|tensor| by_pairs(tensor, heads));
    // The folder's own template is the family's, which knows pictures.
    let encoder = encoder(
        "internvl",
        3,
        &[
            ("clip.use_gelu", Value::Flag(true)),
            ("clip.vision.image_mean", numbers([0.485, 0.456, 0.406])),
            ("clip.vision.image_std", numbers([0.229, 0.224, 0.225])),
        ],
    );
    assert_equal(&pair.load(decoder(&pair.spec, "internlm2"), &encoder), name);
}

#[test]
fn a_projector_that_is_not_read_is_named() {
    let pair = Pair::of("qwen2_5_vl", ["v.post_ln", "mm.0", "mm.2"]);
    let path = pair.folder.path().join("model.gguf");
    let mut text = decoder(&pair.spec, "qwen2");
    text.extend(pair.tokens.clone());
    std::fs::write(&path, file(&text, &pair.tensors)).unwrap();
    let other = pair.folder.path().join("other.gguf");
    std::fs::write(&other, file(&encoder("gemma3", 4, &[]), &[])).unwrap();
    let told = |projector: &Path| {
        let error = Engine::load_gguf(&path, Some(projector)).err().unwrap();
        error
            .to_string()
            .replace(&pair.folder.path().display().to_string(), "")
    };
    assert_eq!(
        told(&other),
        "/other.gguf: clip.projector_type is \"gemma3\", expected one of mlp, internvl, qwen2vl_merger, qwen2.5vl_merger"
    );
    assert_eq!(
        told(&path),
        "/model.gguf: general.architecture is \"qwen2\", expected \"clip\" of an image encoder"
    );
}
