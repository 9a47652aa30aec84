//! The whole network for training: explicit layers with hand-written backward over the same description and the same
//! tensor names as the engine's.
//!
//! A step runs on one thread over one micro-batch; the caller runs several on threads, each with its own gradients and
//! workspace, and adds the gradients in a fixed order. All rows of a micro-batch go through a linear layer together.

mod attention;
mod batch;
mod buffers;
mod build;
mod decoder;
mod error;
mod linear;
mod norm;
mod plan;
mod product;
mod projector;
mod rope;
mod shape;
mod sight;
mod step;
mod vision;

use std::sync::Arc;

use kernels::isa::Isa;
use kernels::matmul_bf16::Bf16Isa;
use model::ModelSpec;

pub use batch::{AuxSpec, MicroBatch, PatchLabels, Sequence};
pub use error::NetworkError;
pub use linear::PackedWeights;
pub use product::Precision;
pub use sight::Sight;
pub use step::{StepInputs, Trainable, Workspace};

use crate::parameters::{Layout, Parameters};
use build::Layers;
pub(crate) use product::{Arithmetic, Right, Rows};
use shape::Shape;
use sight::PlaceCodes;

/// A network that can be trained: layers that know where their tensors lie. It holds no values.
#[derive(Clone, Debug)]
pub struct Network {
    arithmetic: Arithmetic,
    shape: Shape,
    aux: AuxSpec,
    layers: Layers,
    layout: Arc<Layout>,
    places: PlaceCodes,
}

impl Network {
    /// The network of a description, with an auxiliary patch head if `aux` has classes.
    pub fn new(spec: &ModelSpec, aux: AuxSpec) -> Result<Network, NetworkError> {
        let shape = Shape::new(spec)?;
        let (layers, layout) = Layers::new(&shape, aux);
        compare_tensors(spec, &layout)?;
        let places = PlaceCodes::new(shape.vision.merged_side(), shape.decoder.width);
        Ok(Network {
            places,
            arithmetic: Arithmetic {
                isa: Isa::detect(),
                bf16: None,
            },
            shape,
            aux,
            layers,
            layout: Arc::new(layout),
        })
    }

    /// The same network with matrices multiplied in another precision; an error where the processor lacks it.
    pub fn with_precision(mut self, precision: Precision) -> Result<Network, NetworkError> {
        self.arithmetic.bf16 = match precision {
            Precision::F32 => None,
            Precision::Bf16 => Some(Bf16Isa::detect(self.arithmetic.isa).ok_or_else(|| {
                NetworkError::Unsupported {
                    what: "in bf16",
                    expected: "a processor with AVX512-BF16",
                    found: self.arithmetic.isa.name().into(),
                }
            })?),
        };
        Ok(self)
    }

    /// Who multiplies.
    pub(crate) fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// The table of tensors, for [`Parameters`] and [`crate::parameters::Gradients`].
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Tokens that one tile gives to the decoder.
    pub fn tokens_per_tile(&self) -> usize {
        self.shape.vision.tokens()
    }

    /// Patches of one tile: rows of patch labels.
    pub fn patches_per_tile(&self) -> usize {
        self.shape.vision.patches()
    }

    /// Encoder blocks in the file, for layer-wise decay.
    pub fn vision_layers(&self) -> usize {
        self.shape.vision.layers
    }

    /// Packs all weights for multiplication: once after every change of the values, before any step.
    pub fn pack(&self, parameters: &Parameters, packed: &mut PackedWeights) {
        packed.repack(self.arithmetic, &self.layers.linears, parameters.values());
    }
}

/// The trainer must know every tensor of the weight file, and no other.
fn compare_tensors(spec: &ModelSpec, layout: &Layout) -> Result<(), NetworkError> {
    let describe = |name: &str, shape: &[usize]| format!("{name} {shape:?}");
    let wanted: Vec<String> = spec
        .tensors()
        .iter()
        .map(|tensor| describe(&tensor.name, &tensor.shape))
        .collect();
    let known = layout
        .tensors()
        .iter()
        .filter(|tensor| !tensor.name.starts_with("aux."));
    let known: Vec<String> = known
        .map(|tensor| describe(&tensor.name, &tensor.shape))
        .collect();
    let missing: Vec<String> = wanted
        .iter()
        .filter(|name| !known.contains(name))
        .cloned()
        .collect();
    let extra: Vec<String> = known
        .iter()
        .filter(|name| !wanted.contains(name))
        .cloned()
        .collect();
    if missing.is_empty() && extra.is_empty() {
        Ok(())
    } else {
        Err(NetworkError::Tensors { missing, extra })
    }
}
