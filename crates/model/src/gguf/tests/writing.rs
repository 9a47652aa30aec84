//! What is written is read back as it was.

use super::*;
use crate::convert::{Conversion, Options, Origin, Recipe, Rounding};
use crate::{Bundle, Checkpoint, ModelSpec, Role};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../golden")
        .join(name)
}

/// Writes a decoder and opens what was written.
fn written(weights: Weights, kind: Option<TensorType>) -> (Exported, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let export = Export {
        weights,
        kind,
        keys: vec![("general.name".into(), Value::Text("golden".into()))],
        progress: &mut |_, _| {},
        cancel: &|| false,
    };
    let exported = export.write(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), exported.bytes);
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.contents.text("general.name"), Ok(Some("golden")));
    (exported, Checkpoint::from_gguf(file, None).unwrap())
}

#[test]
fn a_decoder_and_its_configuration_come_back_from_f32() {
    for name in ["llama", "qwen2", "qwen3"] {
        let source = Checkpoint::open(&golden(name)).unwrap();
        let spec = ModelSpec::from_json(source.config()).unwrap();
        let (exported, back) = written(Weights::Checkpoint(&source), Some(TensorType::F32));
        assert_eq!(exported.kept, exported.matrices, "{name}");
        let again = ModelSpec::from_json(back.config()).unwrap();
        assert_eq!(again.decoder, spec.decoder, "{name}");
        for tensor in again.tensors() {
            let expected = source.tensor_f32(&format!("{}{}", spec.decoder_prefix, tensor.name));
            assert_eq!(
                back.tensor_f32(&tensor.name).unwrap(),
                expected.unwrap(),
                "{}",
                tensor.name
            );
        }
    }
}

#[test]
fn a_bundle_gives_its_very_numbers_to_q4_0_and_q8_0() {
    let mut source = Checkpoint::open(&golden("families/llava_next/model")).unwrap();
    let config = source.config().as_bytes().to_vec();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bluelm");
    let conversion = Conversion {
        weights: Origin::Checkpoint(&mut source),
        files: &[("config.json".into(), config)],
        options: Options {
            recipe: Recipe::Fast,
            group: 64,
            rounding: Rounding::Nearest,
        },
        sequences: Vec::new(),
        progress: &mut |_| {},
        cancel: &|| false,
    };
    conversion.write(&path).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    let (exported, back) = written(Weights::Bundle(&bundle), None);
    let decoder = ModelSpec::from_json(back.config()).unwrap();
    let prefix = &bundle.spec().decoder_prefix;
    let (mut whole, mut others) = (0, 0);
    for tensor in decoder.tensors() {
        let own = format!("{prefix}{}", tensor.name);
        let (rows, width) = (tensor.shape[0], tensor.shape[1..].iter().product());
        let expected = bundle.rows_f32(&own, width, 0..rows).unwrap();
        let found = back.tensor_f32(&tensor.name).unwrap();
        assert_eq!(found, expected, "{}", tensor.name);
        if tensor.role != Role::Numbers {
            match back.blocks(&tensor.name) {
                Some(_) => whole += 1,
                None => others += 1,
            }
        }
    }
    assert_eq!(
        (exported.kept, exported.matrices),
        (whole + others, whole + others)
    );
    assert!(whole > 0, "no matrix was written in blocks");
}

#[test]
fn a_decoder_that_llama_cpp_does_not_have_is_refused() {
    let mut config: serde_json::Value =
        serde_json::from_str(Checkpoint::open(&golden("llama")).unwrap().config()).unwrap();
    config["scale_emb"] = 12.into();
    config["model_type"] = "minicpm".into();
    let spec = ModelSpec::from_json(&config.to_string()).unwrap();
    let problem = write::architecture(&spec.decoder).err().unwrap();
    assert_eq!(
        problem,
        "the decoder is none of those that are written as GGUF: llama, qwen2, qwen3"
    );
}
