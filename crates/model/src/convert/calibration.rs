//! What the decoder's matrices take in when the model does its work, block by block: only one block's weights and sums are in
//! memory at a time. Rows go through the blocks twice, as they are and as they are written, so that what one rounded block lost
//! can be made up for in the next.

use super::Sequence;
use super::factors::{Factors, Gram};
use crate::block::{Block, Buffers, Input, Layers, Place, Watch};
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
    /// Blocks that the sequences have passed, those of rounded weights one less while a block is being rounded.
    passed: usize,
    /// The weights of the last of them as they are written.
    written: Written,
    /// What the last of them took in.
    sums: Sums,
    /// The one that is in use.
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

/// Sums for the four inputs of a block, taken out as they are needed: of the rows after rounded blocks, and of what they lost.
struct Sums([Option<(Gram, Option<Gram>)>; 4]);

impl Sums {
    /// Nothing can be lost before the first block.
    fn new(spec: &DecoderSpec, first: bool) -> Sums {
        let widths = [
            spec.hidden,
            spec.heads * spec.head_dim,
            spec.hidden,
            spec.ffn,
        ];
        let sums = |width| (Gram::new(width), (!first).then(|| Gram::new(width)));
        Sums(widths.map(|width| Some(sums(width))))
    }
}

/// Keeps what the matrices of a block take in, times a factor.
#[derive(Default)]
struct Kept {
    factor: f32,
    inputs: [Vec<f32>; 4],
}

impl Watch for Kept {
    fn takes_in(&mut self, input: Input, rows: &[f32]) {
        let kept = &mut self.inputs[input as usize];
        kept.clear();
        kept.extend(rows.iter().map(|number| number * self.factor));
    }
}

/// A block with the rows that are to pass it.
struct Walk<'a> {
    isa: Isa,
    layers: &'a Layers,
    block: &'a Block,
}

impl Walk<'_> {
    /// A memory for all rows of a sequence.
    fn memory(&self, sequence: &Sequence) -> KvCache {
        let spec = &self.layers.spec;
        let longest = sequence.branches.iter().map(Vec::len).max().unwrap_or(0);
        let shape = CacheShape {
            layers: 1,
            heads: spec.kv_heads,
            head_dim: spec.head_dim,
            precision: None,
        };
        KvCache::new(&shape, (sequence.shared.len() + longest) / spec.hidden)
    }

    /// Takes rows that come after others through the block.
    fn take(&self, cache: &mut KvCache, before: usize, x: &mut [f32], watch: &mut dyn Watch) {
        let rows = x.len() / self.layers.spec.hidden;
        cache.truncate(before);
        let place = Place {
            isa: self.isa,
            angles: &self.layers.angles(before, rows),
            before,
        };
        let (memory, buffers) = (cache.layer(0), &mut Buffers::default());
        self.layers
            .block(self.block, &place, memory, x, buffers, watch);
        cache.advance(before + rows);
    }

    /// Takes a sequence through the block.
    fn pass(&self, sequence: &mut Sequence) {
        let mut cache = self.memory(sequence);
        let shared = sequence.shared.len() / self.layers.spec.hidden;
        if shared > 0 {
            self.take(&mut cache, 0, &mut sequence.shared, &mut ());
        }
        for branch in &mut sequence.branches {
            self.take(&mut cache, shared, branch, &mut ());
        }
    }

    /// Takes the whole rows through the block, and adds up what it takes in from the others, which stay where they are.
    fn compare(&self, twins: &mut Twins, sums: &mut Sums) {
        let Twins { whole, rounded } = twins;
        let mut memories = [self.memory(whole), self.memory(whole)];
        let shared = whole.shared.len() / self.layers.spec.hidden;
        let mut add = |before, weight: f32, x: &mut [f32], of_rounded: &[f32]| {
            let [mut ideal, mut real] = [Kept::default(), Kept::default()];
            (ideal.factor, real.factor) = (weight.sqrt(), weight.sqrt());
            self.take(&mut memories[0], before, x, &mut ideal);
            self.take(&mut memories[1], before, &mut of_rounded.to_vec(), &mut real);
            let inputs = ideal.inputs.iter_mut().zip(&real.inputs);
            for ((ideal, real), sums) in inputs.zip(&mut sums.0) {
                let Some((gram, drift)) = sums else { continue };
                gram.add(self.isa, real, real);
                if let Some(drift) = drift {
                    let lost = ideal.iter_mut().zip(real);
                    lost.for_each(|(ideal, real)| *ideal -= real);
                    drift.add(self.isa, ideal, real);
                }
            }
        };
        if shared > 0 {
            add(0, 1.0, &mut whole.shared, &rounded.shared);
        }
        let weight = whole.branch_weight;
        for (branch, of_rounded) in whole.branches.iter_mut().zip(&rounded.branches) {
            add(shared, weight, branch, of_rounded);
        }
    }
}

impl Calibration {
    /// Sequences of rows as the first block takes them in.
    pub fn new(spec: &ModelSpec, sequences: Vec<Sequence>) -> Result<Calibration, ModelError> {
        let isa = Isa::from_env().map_err(ModelError::InstructionSet)?;
        let twins = |whole: Sequence| Twins {
            rounded: whole.clone(),
            whole,
        };
        Ok(Calibration {
            isa,
            layers: Layers::new(&spec.decoder),
            prefix: format!("{}model.layers.", spec.decoder_prefix),
            sequences: sequences.into_iter().map(twins).collect(),
            passed: 0,
            written: Written::default(),
            sums: Sums([const { None }; 4]),
            factors: None,
        })
    }

    /// What is known about the inputs of a decoder's matrix. Matrices come in the order of the specification: block after
    /// block, and those with the same input one after another; what they became is kept before the next block is asked about.
    pub fn factors(
        &mut self,
        checkpoint: &Checkpoint,
        name: &str,
        cancel: &dyn Fn() -> bool,
    ) -> Result<&Factors, ModelError> {
        let (layer, input) = place(&self.prefix, name);
        while self.passed <= layer {
            self.pass(checkpoint, cancel)?;
        }
        if self.factors.as_ref().is_none_or(|(of, _)| *of != input) {
            self.factors = None;
            let sums = self.sums.0[input as usize].take();
            let (gram, drift) = sums.expect("matrices come in the order of the specification");
            self.factors = Some((input, Factors::new(self.isa, gram, drift)));
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

    /// Takes the rows through the block that was rounded, and then those of no rounding through the next.
    fn pass(
        &mut self,
        checkpoint: &Checkpoint,
        cancel: &dyn Fn() -> bool,
    ) -> Result<(), ModelError> {
        self.factors = None;
        if let Some(last) = self.passed.checked_sub(1) {
            let written = std::mem::take(&mut self.written);
            let source = Source::Overlaid(checkpoint, &written);
            self.walk(source, last, cancel, |walk, twins| {
                walk.pass(&mut twins.rounded)
            })?;
        }
        let mut sums = Sums::new(&self.layers.spec, self.passed == 0);
        let source = Source::Checkpoint(checkpoint);
        self.walk(source, self.passed, cancel, |walk, twins| {
            walk.compare(twins, &mut sums)
        })?;
        self.sums = sums;
        self.passed += 1;
        Ok(())
    }

    /// Does something with a block for each sequence.
    fn walk(
        &mut self,
        source: Source,
        layer: usize,
        cancel: &dyn Fn() -> bool,
        mut step: impl FnMut(&Walk, &mut Twins),
    ) -> Result<(), ModelError> {
        let name = format!("{}{layer}.", self.prefix);
        let walk = Walk {
            isa: self.isa,
            layers: &self.layers,
            block: &Block::load(source, &self.layers.spec, &name)?,
        };
        for twins in &mut self.sequences {
            if cancel() {
                return Err(ModelError::Cancelled);
            }
            step(&walk, twins);
        }
        Ok(())
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
