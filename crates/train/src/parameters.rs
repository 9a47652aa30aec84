//! Every number that training changes: one flat vector of f32 and the table that says which tensor lies where.
//!
//! One vector, because the optimizer, the gradient sum, clipping and checkpoints then are loops over slices. The order
//! is that of the table, not that of the weight file: tensors that are multiplied together (q, k and v; gate and up)
//! lie side by side, so that they are one matrix to the layers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

pub use crate::starts::Start;

use rayon::prelude::*;

/// Elements of one piece of work.
const PIECE: usize = 1 << 15;

/// Which part of the network a tensor belongs to; stages train some parts and freeze others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The vision encoder.
    Vision,
    /// The projector between encoder and decoder.
    Projector,
    /// The language decoder with its embedding and head.
    Language,
    /// Heads that exist for training only; never exported.
    Auxiliary,
}

/// One tensor of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRecord {
    /// Name as in the safetensors file, or `aux.*`.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// First element in [`Parameters::values`].
    pub offset: usize,
    /// Number of elements.
    pub length: usize,
    /// Part of the network.
    pub group: Group,
    /// For the vision encoder, the place for layer-wise decay: 0 patch and position embedding, i block i (from 1),
    /// blocks + 1 the norm behind them. None elsewhere.
    pub vision_layer: Option<usize>,
    /// Rule for the first values.
    pub start: Start,
}

impl TensorRecord {
    /// The elements' place in [`Parameters::values`].
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.length
    }

    /// Weight decay pulls matrices only: not norms, biases or positions.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1 && !matches!(self.start, Start::Places(_))
    }

    /// Whether it is a matrix that turns rows into rows: those of layers and projector, not embeddings and heads.
    pub fn is_inner_matrix(&self) -> bool {
        let inside = self.group == Group::Projector || self.name.contains(".layers.");
        self.shape.len() == 2 && inside && self.group != Group::Auxiliary
    }
}

/// The table of tensors.
#[derive(Debug, Default, PartialEq)]
pub struct Layout {
    tensors: Vec<TensorRecord>,
    by_name: BTreeMap<String, usize>,
    length: usize,
}

impl Layout {
    /// Appends a tensor behind all others and returns its offset. Panics when the name is taken: names come from code.
    pub(crate) fn push(
        &mut self,
        name: String,
        shape: &[usize],
        group: Group,
        vision_layer: Option<usize>,
        start: Start,
    ) -> usize {
        let length = shape.iter().product();
        let offset = self.length;
        let old = self.by_name.insert(name.clone(), self.tensors.len());
        assert!(old.is_none(), "tensor {name} is laid out twice");
        self.tensors.push(TensorRecord {
            name,
            shape: shape.to_vec(),
            offset,
            length,
            group,
            vision_layer,
            start,
        });
        self.length += length;
        offset
    }

    /// Gives a tensor that is laid out already another start.
    pub(crate) fn restart(&mut self, name: &str, start: Start) {
        let index = self.by_name[name];
        self.tensors[index].start = start;
    }

    /// All tensors in the order of their offsets.
    pub fn tensors(&self) -> &[TensorRecord] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn find(&self, name: &str) -> Option<&TensorRecord> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    /// Elements of all tensors together.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// The values of all tensors.
#[derive(Clone, Debug)]
pub struct Parameters {
    layout: Arc<Layout>,
    values: Vec<f32>,
}

impl Parameters {
    /// All zero.
    pub fn zeros(layout: Arc<Layout>) -> Parameters {
        let values = vec![0.0; layout.length()];
        Parameters { layout, values }
    }

    /// First values by each tensor's rule. Every tensor draws from its own stream, keyed by its name, so that the
    /// values of one do not depend on which others exist.
    pub fn random(layout: Arc<Layout>, seed: u64) -> Parameters {
        let mut parameters = Parameters::zeros(layout.clone());
        for tensor in layout.tensors() {
            let values = &mut parameters.values[tensor.range()];
            tensor.start.fill(values, seed, &tensor.name);
        }
        parameters
    }

    /// The table.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// All values, in the table's order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// One tensor's values.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        self.layout
            .find(name)
            .map(|tensor| &self.values[tensor.range()])
    }

    /// One tensor's values, to be changed (loading a checkpoint).
    pub fn tensor_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let range = self.layout.find(name)?.range();
        Some(&mut self.values[range])
    }

    /// What goes into a weight file: every tensor but the auxiliary ones.
    pub fn exported(&self) -> impl Iterator<Item = (&TensorRecord, &[f32])> {
        let tensors = self
            .layout
            .tensors()
            .iter()
            .filter(|tensor| tensor.group != Group::Auxiliary);
        tensors.map(|tensor| (tensor, &self.values[tensor.range()]))
    }
}

/// One number per parameter, in the same order: what backward passes add into.
#[derive(Clone, Debug)]
pub struct Gradients {
    values: Vec<f32>,
}

impl Gradients {
    /// All zero.
    pub fn zeros(layout: &Layout) -> Gradients {
        Gradients {
            values: vec![0.0; layout.length()],
        }
    }

    /// Back to zero.
    pub fn clear(&mut self) {
        self.values.fill(0.0);
    }

    /// Adds another micro-batch's gradients. Sum in a fixed order and the result does not depend on threads.
    pub fn add(&mut self, other: &Gradients) {
        assert_eq!(
            self.values.len(),
            other.values.len(),
            "gradients of two different networks"
        );
        let isa = kernels::isa::Isa::detect();
        let pieces = self
            .values
            .par_chunks_mut(PIECE)
            .zip(other.values.par_chunks(PIECE));
        pieces.for_each(|(mine, theirs)| kernels::rows::add(isa, mine, theirs));
    }

    /// All values, in the table's order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::starts::Places;

    fn layout() -> Arc<Layout> {
        let mut layout = Layout::default();
        layout.push(
            "weight".into(),
            &[200, 100],
            Group::Language,
            None,
            Start::Normal(0.5),
        );
        layout.push("bias".into(), &[3], Group::Language, None, Start::Zeros);
        layout.push(
            "positions".into(),
            &[16, 8],
            Group::Vision,
            Some(0),
            Start::Places(Places {
                side: 4,
                width: 8,
                pairs: 2,
            }),
        );
        layout.push(
            "aux.weight".into(),
            &[7],
            Group::Auxiliary,
            None,
            Start::Ones,
        );
        Arc::new(layout)
    }

    #[test]
    fn normal_values_have_the_asked_mean_and_deviation() {
        let parameters = Parameters::random(layout(), 1);
        let values = parameters.tensor("weight").unwrap();
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = values
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / count;
        // 20000 draws: the mean's deviation is 0.5/sqrt(20000) = 0.0035, that of the deviation 0.5/sqrt(40000) = 0.0025.
        assert!(mean.abs() < 5.0 * 0.0035, "{mean}");
        assert!(
            (variance.sqrt() - 0.5).abs() < 5.0 * 0.0025,
            "{}",
            variance.sqrt()
        );
    }

    #[test]
    fn values_depend_on_the_seed_and_the_name_only() {
        let (first, second) = (
            Parameters::random(layout(), 1),
            Parameters::random(layout(), 2),
        );
        assert_ne!(first.values()[0], second.values()[0]);
        let mut alone = Layout::default();
        alone.push(
            "weight".into(),
            &[200, 100],
            Group::Language,
            None,
            Start::Normal(0.5),
        );
        let alone = Parameters::random(Arc::new(alone), 1);
        assert_eq!(alone.values(), first.tensor("weight").unwrap());
    }

    #[test]
    fn auxiliary_tensors_are_not_exported_and_one_dimensional_ones_do_not_decay() {
        let parameters = Parameters::zeros(layout());
        let names: Vec<&str> = parameters
            .exported()
            .map(|(tensor, _)| tensor.name.as_str())
            .collect();
        assert_eq!(names, ["weight", "bias", "positions"]);
        let decaying: Vec<bool> = parameters
            .layout()
            .tensors()
            .iter()
            .map(TensorRecord::decays)
            .collect();
        assert_eq!(decaying, [true, false, false, false]);
    }
}
