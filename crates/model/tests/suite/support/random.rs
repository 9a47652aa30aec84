//! A checkpoint in memory with random weights, as f32, that a test may meddle with.

use model::{Checkpoint, Model, ModelError, ModelSpec};
use safetensors::{Dtype, tensor::TensorView};
use std::borrow::Cow;

/// Numbers between -1 and 1 that look random.
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| draw()).collect()
}

/// A tensor of a file: name, type, shape, bytes.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub fn f32(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
        Tensor {
            name: name.into(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

/// Everything that `config` needs.
pub fn tensors(config: &str) -> Vec<Tensor> {
    let specs = ModelSpec::from_json(config).unwrap().tensors();
    let draw = |(seed, spec): (usize, model::TensorSpec)| {
        let count = spec.shape.iter().product();
        let values = numbers(count, seed as u64);
        // Norm weights near 1, matrices that keep a row's size.
        let values: Vec<f32> = if spec.shape.len() == 1 && spec.name.ends_with("weight") {
            values.iter().map(|v| 1.0 + 0.1 * v).collect()
        } else {
            let inputs = count as f32 / spec.shape[0] as f32;
            values.iter().map(|v| v * (3.0 / inputs).sqrt()).collect()
        };
        Tensor::f32(&spec.name, &spec.shape, &values)
    };
    specs.into_iter().enumerate().map(draw).collect()
}

/// The bytes of a safetensors file.
pub fn file(tensors: &[Tensor]) -> Vec<u8> {
    let views = tensors.iter().map(|t| {
        let view = TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap();
        (t.name.clone(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

/// What loading them gives.
pub fn load(config: &str, tensors: &[Tensor]) -> Result<Model, ModelError> {
    Model::load(&Checkpoint::from_memory(config, Cow::Owned(file(tensors)))?)
}

/// A model with random weights.
pub fn model(config: &str) -> Model {
    load(config, &tensors(config)).unwrap()
}
