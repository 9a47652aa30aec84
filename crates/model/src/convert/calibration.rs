//! What the decoder's matrices take in when the model does its work, block by block: only one block's weights and sums are in
//! memory at a time.

use super::Sequence;
use super::factors::{Factors, Gram};
use crate::block::{Block, Buffers, Input, Layers, Place, Watch};
use crate::cache::{CacheShape, KvCache};
use crate::spec::{DecoderSpec, ModelSpec};
use crate::weights::Source;
use crate::{Checkpoint, ModelError};
use kernels::isa::Isa;

/// Rows on their way through the decoder.
pub(super) struct Calibration {
    isa: Isa,
    layers: Layers,
    prefix: String,
    /// What the next block takes in.
    sequences: Vec<Sequence>,
    /// Blocks that the sequences have passed.
    passed: usize,
    /// What the last of them took in.
    sums: Sums,
    /// The one that is in use.
    factors: Option<(Input, Factors)>,
}

/// Sums for the four inputs of a block, taken out as they are needed.
struct Sums {
    isa: Isa,
    grams: [Option<Gram>; 4],
    /// Root of how much the rows that come count.
    root: f32,
    scaled: Vec<f32>,
}

impl Sums {
    fn new(isa: Isa, spec: &DecoderSpec) -> Sums {
        let widths = [
            spec.hidden,
            spec.heads * spec.head_dim,
            spec.hidden,
            spec.ffn,
        ];
        Sums {
            isa,
            grams: widths.map(|width| Some(Gram::new(width))),
            root: 1.0,
            scaled: Vec::new(),
        }
    }
}

impl Watch for Sums {
    fn takes_in(&mut self, input: Input, rows: &[f32]) {
        if let Some(gram) = &mut self.grams[input as usize] {
            let scaled = rows.iter().map(|number| number * self.root);
            self.scaled.clear();
            self.scaled.extend(scaled);
            gram.add(self.isa, &self.scaled);
        }
    }
}

impl Calibration {
    /// Sequences of rows as the first block takes them in.
    pub fn new(spec: &ModelSpec, sequences: Vec<Sequence>) -> Result<Calibration, ModelError> {
        let isa = Isa::from_env().map_err(ModelError::InstructionSet)?;
        Ok(Calibration {
            isa,
            layers: Layers::new(&spec.decoder),
            prefix: format!("{}model.layers.", spec.decoder_prefix),
            sequences,
            passed: 0,
            sums: Sums {
                isa,
                grams: [const { None }; 4],
                root: 1.0,
                scaled: Vec::new(),
            },
            factors: None,
        })
    }

    /// What is known about the inputs of a decoder's matrix. Matrices come in the order of the specification: block after
    /// block, and those with the same input one after another.
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
            let gram = self.sums.grams[input as usize].take();
            let gram = gram.expect("matrices come in the order of the specification");
            self.factors = Some((input, Factors::new(gram)));
        }
        match &self.factors {
            Some((_, factors)) => Ok(factors),
            None => unreachable!("made above"),
        }
    }

    /// Takes the sequences through the next block.
    fn pass(
        &mut self,
        checkpoint: &Checkpoint,
        cancel: &dyn Fn() -> bool,
    ) -> Result<(), ModelError> {
        let spec = &self.layers.spec;
        let name = format!("{}{}.", self.prefix, self.passed);
        let block = Block::load(Source::Checkpoint(checkpoint), spec, &name)?;
        self.factors = None;
        self.sums = Sums::new(self.isa, spec);
        let mut buffers = Buffers::default();
        for sequence in &mut self.sequences {
            if cancel() {
                return Err(ModelError::Cancelled);
            }
            let rows = |x: &[f32]| x.len() / spec.hidden;
            let shared = rows(&sequence.shared);
            let longest = sequence.branches.iter().map(|x| rows(x)).max();
            let tokens = shared + longest.unwrap_or(0);
            let shape = CacheShape {
                layers: 1,
                heads: spec.kv_heads,
                head_dim: spec.head_dim,
                precision: None,
            };
            let mut cache = KvCache::new(&shape, tokens);
            let mut take = |x: &mut [f32], before, weight: f32| {
                cache.truncate(before);
                self.sums.root = weight.sqrt();
                let place = Place {
                    isa: self.isa,
                    angles: &self.layers.rotary.angles(before, rows(x)),
                    before,
                };
                let memory = cache.layer(0);
                self.layers
                    .block(&block, &place, memory, x, &mut buffers, &mut self.sums);
                cache.advance(before + rows(x));
            };
            if shared > 0 {
                take(&mut sequence.shared, 0, 1.0);
            }
            for branch in &mut sequence.branches {
                take(branch, shared, sequence.branch_weight);
            }
        }
        self.passed += 1;
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
