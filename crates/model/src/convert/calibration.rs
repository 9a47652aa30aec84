//! What the decoder's matrices take in when the model does its work, block by block: only one block's weights and sums are in
//! memory at a time. Rows go through the blocks twice, as they are and as they are written, so that what one rounded block lost
//! can be made up for in the next.

use super::Sequence;
use super::factors::{Factors, Gram};
use crate::block::{Block, Buffers, Input, Layers, Place, Stretch, Watch};
use crate::cache::{CacheShape, KvCache};
use crate::spec::{DecoderSpec, ModelSpec};
use crate::weights::{Overlay, Source, from_bf16};
use crate::{Checkpoint, ModelError};
use kernels::isa::Isa;
use std::collections::BTreeMap;

/// Rows on their way through the decoder.
pub(super) struct Calibration {
    isa: Isa,
    layers: Layers,
    prefix: String,
    sequences: Vec<Twins>,
    /// The block that they are before.
    layer: usize,
    /// Those of its weights that are rounded, as they are written.
    written: Written,
    /// What is in use.
    factors: Option<(Input, Factors)>,
}

/// What the next block takes in when no weight is rounded, and when those before it are.
struct Twins {
    whole: Sequence,
    rounded: Sequence,
}

/// A matrix as whole numbers `[outputs, k]` and bf16 scales `[outputs, groups]`.
#[derive(Default)]
pub(super) struct Rounded {
    pub values: Vec<i8>,
    pub scales: Vec<u16>,
}

/// The weights of a block as they are written: by name, with k and the size of a group.
#[derive(Default)]
struct Written(BTreeMap<String, (Rounded, usize, usize)>);

impl Overlay for Written {
    fn weights(&self, name: &str) -> Option<Vec<f32>> {
        let (matrix, k, group) = self.0.get(name)?;
        let scales = matrix.scales.chunks_exact(k.div_ceil(*group));
        let rows = matrix.values.chunks_exact(*k).zip(scales);
        let weights = rows.flat_map(|(row, scales)| {
            let groups = row.chunks(*group).zip(scales);
            groups.flat_map(|(values, scale)| {
                let scale = from_bf16(*scale);
                values.iter().map(move |value| f32::from(*value) * scale)
            })
        });
        Some(weights.collect())
    }
}

/// Sums for one input of a block: of the rows after rounded weights, and of what they lost.
struct Sums {
    input: Input,
    gram: Gram,
    /// None where nothing can be lost.
    drift: Option<Gram>,
}

impl Sums {
    fn new(spec: &DecoderSpec, layer: usize, input: Input) -> Sums {
        let width = match input {
            Input::Normed | Input::MlpNormed => spec.hidden,
            Input::Attended => spec.heads * spec.head_dim,
            Input::Gated => spec.ffn,
        };
        Sums {
            input,
            gram: Gram::new(width),
            drift: (layer > 0 || input != Input::Normed).then(|| Gram::new(width)),
        }
    }
}

/// Keeps what some matrices of a block take in, times a factor.
struct Kept {
    input: Input,
    factor: f32,
    rows: Vec<f32>,
}

impl Watch for Kept {
    fn takes_in(&mut self, input: Input, rows: &[f32]) {
        if input == self.input {
            self.rows.extend(rows.iter().map(|row| row * self.factor));
        }
    }
}

/// A block that rows pass.
struct Walk<'a> {
    isa: Isa,
    layers: &'a Layers,
    block: &'a Block,
}

impl Walk<'_> {
    /// Takes a sequence through the block; `seen` is given what matrices take in, part by part.
    fn pass(
        &self,
        sequence: &mut Sequence,
        watched: Option<Input>,
        mut seen: impl FnMut(Vec<f32>),
    ) {
        let spec = &self.layers.spec;
        let rows = |x: &[f32]| x.len() / spec.hidden;
        let shared = rows(&sequence.shared);
        let longest = sequence.branches.iter().map(|x| rows(x)).max();
        let shape = CacheShape {
            layers: 1,
            heads: spec.kv_heads,
            head_dim: spec.head_dim,
            precision: None,
        };
        let mut cache = KvCache::new(&shape, shared + longest.unwrap_or(0));
        let mut buffers = Buffers::default();
        let mut take = |x: &mut [f32], (before, positions), weight: f32| {
            cache.truncate(before);
            let positions = self.layers.positions(&mut cache, rows(x), positions);
            let stretches = &[Stretch {
                rows: 0..rows(x),
                before,
                pictures: Vec::new(),
            }];
            let place = Place {
                isa: self.isa,
                angles: &self.layers.rotary.angles(&positions),
                stretches,
                window: None,
            };
            let mut kept = watched.map(|input| Kept {
                input,
                factor: weight.sqrt(),
                rows: Vec::new(),
            });
            let watch: &mut dyn Watch = match &mut kept {
                Some(kept) => kept,
                None => &mut (),
            };
            let memory = &mut [cache.layer(0)];
            self.layers
                .block(self.block, &place, memory, x, &mut buffers, watch);
            cache.advance(before + rows(x));
            kept.into_iter().for_each(|kept| seen(kept.rows));
        };
        if shared > 0 {
            let positions = sequence.positions.as_deref();
            take(&mut sequence.shared, (0, positions), 1.0);
        }
        for branch in &mut sequence.branches {
            take(branch, (shared, None), sequence.branch_weight);
        }
    }

    /// What matrices take in, part by part of the sequence, which stays where it is.
    fn look(&self, sequence: &Sequence, input: Input) -> Vec<Vec<f32>> {
        let mut parts = Vec::new();
        self.pass(&mut sequence.clone(), Some(input), |rows| parts.push(rows));
        parts
    }
}

impl Sums {
    /// Adds what a sequence brings along, whole and through blocks that are rounded as far as they go.
    fn add(&mut self, whole: &Walk, rounded: &Walk, twins: &Twins) {
        let real = rounded.look(&twins.rounded, self.input);
        for rows in &real {
            self.gram.add(rounded.isa, rows, rows);
        }
        let Some(drift) = &mut self.drift else { return };
        let ideal = whole.look(&twins.whole, self.input);
        for (mut lost, real) in ideal.into_iter().zip(&real) {
            let pairs = lost.iter_mut().zip(real);
            pairs.for_each(|(lost, real)| *lost -= real);
            drift.add(rounded.isa, &lost, real);
        }
    }
}

impl Calibration {
    /// Sequences of rows on their way into the decoder.
    pub fn new(spec: &ModelSpec, sequences: Vec<Sequence>) -> Result<Calibration, ModelError> {
        let isa = Isa::from_env().map_err(ModelError::InstructionSet)?;
        let layers = Layers::new(&spec.decoder);
        let twins = |mut whole: Sequence| {
            let branches = whole.branches.iter_mut();
            branches.for_each(|rows| layers.enter(rows));
            layers.enter(&mut whole.shared);
            Twins {
                rounded: whole.clone(),
                whole,
            }
        };
        Ok(Calibration {
            isa,
            prefix: format!("{}model.layers.", spec.decoder_prefix),
            sequences: sequences.into_iter().map(twins).collect(),
            layers,
            layer: 0,
            written: Written::default(),
            factors: None,
        })
    }

    /// What is known about the inputs of a decoder's matrix. Matrices come in the order of the specification: block after
    /// block, and those with the same input one after another; what they became is kept before the next input is asked about.
    pub fn factors(
        &mut self,
        checkpoint: &Checkpoint,
        name: &str,
        cancel: &dyn Fn() -> bool,
    ) -> Result<&Factors, ModelError> {
        let (layer, input) = place(&self.prefix, name);
        while self.layer < layer {
            self.advance(checkpoint, cancel)?;
        }
        if self.factors.as_ref().is_none_or(|(of, _)| *of != input) {
            self.factors = None;
            let sums = self.sums(checkpoint, input, cancel)?;
            let factors = Factors::new(self.isa, sums.gram, sums.drift);
            self.factors = Some((input, factors));
        }
        match &self.factors {
            Some((_, factors)) => Ok(factors),
            None => unreachable!("made above"),
        }
    }

    /// A matrix of k inputs has been rounded, in groups of `group`.
    pub fn keep(&mut self, name: &str, matrix: Rounded, k: usize, group: usize) {
        self.written.0.insert(name.to_owned(), (matrix, k, group));
    }

    /// What the block takes in there, those of its weights rounded that are already.
    fn sums(
        &mut self,
        checkpoint: &Checkpoint,
        input: Input,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Sums, ModelError> {
        let whole = self.block(Source::Checkpoint(checkpoint))?;
        let rounded = self.block(Source::Overlaid(checkpoint, &self.written))?;
        let (whole, rounded) = (self.walk(&whole), self.walk(&rounded));
        let mut sums = Sums::new(&self.layers.spec, self.layer, input);
        for twins in &self.sequences {
            stop_at(cancel)?;
            sums.add(&whole, &rounded, twins);
        }
        Ok(sums)
    }

    /// Takes all rows through the block, whose weights are all rounded by now.
    fn advance(
        &mut self,
        checkpoint: &Checkpoint,
        cancel: &dyn Fn() -> bool,
    ) -> Result<(), ModelError> {
        self.factors = None;
        let whole = self.block(Source::Checkpoint(checkpoint))?;
        let rounded = self.block(Source::Overlaid(checkpoint, &self.written))?;
        let mut sequences = std::mem::take(&mut self.sequences);
        let (walk, rounded) = (self.walk(&whole), self.walk(&rounded));
        for Twins { whole, rounded: of } in &mut sequences {
            stop_at(cancel)?;
            walk.pass(whole, None, |_| {});
            rounded.pass(of, None, |_| {});
        }
        self.sequences = sequences;
        self.written = Written::default();
        self.layer += 1;
        Ok(())
    }

    fn block(&self, source: Source) -> Result<Block, ModelError> {
        let name = format!("{}{}.", self.prefix, self.layer);
        Block::load(source, &self.layers.spec, &name)
    }

    fn walk<'a>(&'a self, block: &'a Block) -> Walk<'a> {
        Walk {
            isa: self.isa,
            layers: &self.layers,
            block,
        }
    }
}

fn stop_at(cancel: &dyn Fn() -> bool) -> Result<(), ModelError> {
    match cancel() {
        true => Err(ModelError::Cancelled),
        false => Ok(()),
    }
}

/// Which block a matrix belongs to, and what it takes in.
fn place(prefix: &str, name: &str) -> (usize, Input) {
    let known = name.strip_prefix(prefix).and_then(|rest| {
        let (layer, matrix) = rest.split_once('.')?;
        let input = match matrix {
            "self_attn.q_proj.weight" | "self_attn.k_proj.weight" | "self_attn.v_proj.weight" => {
                Input::Normed
            }
            "self_attn.o_proj.weight" => Input::Attended,
            "mlp.gate_proj.weight" | "mlp.up_proj.weight" => Input::MlpNormed,
            "mlp.down_proj.weight" => Input::Gated,
            _ => return None,
        };
        Some((layer.parse().ok()?, input))
    });
    known.unwrap_or_else(|| panic!("{name} is no matrix of a decoder block"))
}

#[cfg(test)]
mod tests;
