//! The MLP of a block: one, or many of which each row takes those that a router scores highest.

use crate::ModelError;
use crate::layers::{Bias, Linear, each_row};
use crate::matrix::{Intake, Matrix};
use crate::spec::{self, DecoderSpec};
use crate::weights::Source;
use kernels::isa::Isa;
use kernels::matmul::Panels;
use kernels::rows;

/// What a block has.
pub(super) enum Mlp {
    Gated(Box<Gated>),
    Experts(Box<Experts>),
}

impl Mlp {
    /// Its tensors' names begin with `name`.
    pub fn load(
        source: Source,
        decoder: &DecoderSpec,
        experts: Option<&spec::Experts>,
        name: &str,
    ) -> Result<Mlp, ModelError> {
        let d = decoder.hidden;
        Ok(match experts {
            None => Mlp::Gated(Box::new(Gated::load(source, name, d, decoder.ffn)?)),
            Some(spec) => Mlp::Experts(Box::new(Experts::load(source, spec, d, name)?)),
        })
    }

    /// Adds to `x` what it makes of the rows `normed`, `[m, d]` both.
    pub fn add_to(&self, isa: Isa, intake: &mut Intake, normed: &[f32], x: &mut [f32]) {
        match self {
            Mlp::Gated(gated) => gated.add_to(isa, intake, normed, x),
            Mlp::Experts(experts) => experts.add_to(isa, intake, normed, x),
        }
    }
}

/// `down(silu(gate(x)) · up(x))`.
pub(super) struct Gated {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Gated {
    fn load(source: Source, name: &str, hidden: usize, ffn: usize) -> Result<Gated, ModelError> {
        let linear = |part: &str, outputs, inputs| {
            Linear::load(
                source,
                &format!("{name}{part}"),
                outputs,
                inputs,
                Bias::Absent,
            )
        };
        Ok(Gated {
            gate: linear("gate_proj", ffn, hidden)?,
            up: linear("up_proj", ffn, hidden)?,
            down: linear("down_proj", hidden, ffn)?,
        })
    }

    /// What the last matrix takes in.
    fn gated(&self, isa: Isa, intake: &mut Intake, x: &[f32]) -> Vec<f32> {
        let (mut gate, mut up) = (Vec::new(), Vec::new());
        let halves = &mut [self.gate.product(&mut gate), self.up.product(&mut up)];
        intake.multiply(isa, x, halves);
        let ffn = self.gate.outputs();
        each_row(&mut gate, ffn, |first, gate| {
            rows::silu_multiply(isa, gate, &up[first * ffn..][..gate.len()])
        });
        gate
    }

    fn add_to(&self, isa: Isa, intake: &mut Intake, x: &[f32], sum: &mut [f32]) {
        let gated = self.gated(isa, intake, x);
        self.down.add_to(isa, intake, &gated, sum, &mut Vec::new());
    }

    fn apply(&self, isa: Isa, intake: &mut Intake, x: &[f32], out: &mut Vec<f32>) {
        let gated = self.gated(isa, intake, x);
        self.down.apply(isa, intake, &gated, out);
    }
}

/// A router, what it chooses from, and what every row takes.
pub(super) struct Experts {
    spec: spec::Experts,
    router: Matrix,
    /// Added to scores for choosing, not for weighing.
    correction: Vec<f32>,
    experts: Vec<Gated>,
    shared: Option<Gated>,
}

impl Experts {
    fn load(
        source: Source,
        spec: &spec::Experts,
        hidden: usize,
        name: &str,
    ) -> Result<Experts, ModelError> {
        let router = source.numbers(&format!("{name}gate.weight"))?;
        let expert = |at: usize| {
            let name = format!("{name}experts.{at}.");
            Gated::load(source, &name, hidden, spec.ffn)
        };
        let shared = format!("{name}shared_experts.");
        Ok(Experts {
            router: Matrix::Panels(Panels::from_linear_f32(spec.count, hidden, &router)),
            correction: source.numbers(&format!("{name}gate.e_score_correction_bias"))?,
            experts: (0..spec.count).map(expert).collect::<Result<_, _>>()?,
            shared: match spec.shared_ffn {
                0 => None,
                ffn => Some(Gated::load(source, &shared, hidden, ffn)?),
            },
            spec: spec.clone(),
        })
    }

    /// Each expert takes the rows that chose it at once; a row's sum is always in the order of the experts' numbers, so its bits
    /// do not depend on the rows beside it.
    fn add_to(&self, isa: Isa, intake: &mut Intake, normed: &[f32], x: &mut [f32]) {
        let d = self.router.inputs();
        let mut sum = vec![0.0; x.len()];
        let (mut taken, mut out) = (Vec::new(), Vec::new());
        for (expert, rows) in self.experts.iter().zip(self.route(isa, normed)) {
            if rows.is_empty() {
                continue;
            }
            taken.clear();
            for (row, _) in &rows {
                taken.extend_from_slice(&normed[row * d..][..d]);
            }
            expert.apply(isa, intake, &taken, &mut out);
            for ((row, weight), out) in rows.iter().zip(out.chunks_exact(d)) {
                let sum = sum[row * d..][..d].iter_mut();
                sum.zip(out).for_each(|(sum, out)| *sum += weight * out);
            }
        }
        if let Some(shared) = &self.shared {
            shared.add_to(isa, intake, normed, &mut sum);
        }
        rows::add(isa, x, &sum);
    }

    /// For each expert the rows that take it, with its weights.
    fn route(&self, isa: Isa, normed: &[f32]) -> Vec<Vec<(usize, f32)>> {
        let mut logits = Vec::new();
        let product = crate::matrix::Product {
            matrix: &self.router,
            bias: None,
            out: &mut logits,
        };
        Intake::default().multiply(isa, normed, &mut [product]);
        let mut rows = vec![Vec::new(); self.spec.count];
        for (row, logits) in logits.chunks_exact(self.spec.count).enumerate() {
            // In f64 and rounded once, whatever exp the machine has.
            let sigmoid = |x: &f32| (1.0 / (1.0 + (-f64::from(*x)).exp())) as f32;
            let scores: Vec<f32> = logits.iter().map(sigmoid).collect();
            for (expert, weight) in choose(&self.spec, &scores, &self.correction) {
                rows[expert].push((row, weight));
            }
        }
        rows
    }
}

/// The experts that a row takes and their weights, best first; of equal ones those with lower numbers.
fn choose(spec: &spec::Experts, scores: &[f32], correction: &[f32]) -> Vec<(usize, f32)> {
    let corrected: Vec<f32> = scores.iter().zip(correction).map(|(a, b)| a + b).collect();
    let of_group = spec.count / spec.groups;
    let group_score = |group: usize| {
        let group = &corrected[group * of_group..][..of_group];
        best(0..of_group, 2, |at| group[at])
            .iter()
            .map(|at| group[*at])
            .sum::<f32>()
    };
    let group_scores: Vec<f32> = (0..spec.groups).map(group_score).collect();
    let groups = best(0..spec.groups, spec.taken_groups, |group| {
        group_scores[group]
    });
    let in_groups = (0..spec.count).filter(|expert| groups.contains(&(expert / of_group)));
    let chosen = best(in_groups, spec.taken, |expert| corrected[expert]);
    let sum: f32 = chosen.iter().map(|expert| scores[*expert]).sum();
    let divisor = if spec.normalised { sum + 1e-20 } else { 1.0 };
    let weight = |expert: usize| scores[expert] / divisor * spec.scale;
    chosen
        .into_iter()
        .map(|expert| (expert, weight(expert)))
        .collect()
}

/// The `count` of some numbers with the highest scores.
fn best(
    from: impl Iterator<Item = usize>,
    count: usize,
    score: impl Fn(usize) -> f32,
) -> Vec<usize> {
    let mut all: Vec<usize> = from.collect();
    all.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> spec::Experts {
        spec::Experts {
            count: 4,
            taken: 2,
            ffn: 1,
            shared_ffn: 0,
            dense_layers: 0,
            groups: 1,
            taken_groups: 1,
            normalised: true,
            scale: 3.0,
        }
    }

    #[test]
    fn the_correction_chooses_and_the_scores_weigh() {
        let chosen = choose(&spec(), &[0.5, 0.25, 0.75, 0.5], &[0.0, 1.0, 0.0, 0.0]);
        assert_eq!(chosen, [(1, 0.75), (2, 2.25)]);
    }

    #[test]
    fn of_equal_experts_those_with_lower_numbers_are_taken() {
        let chosen = choose(&spec(), &[0.5; 4], &[0.0; 4]);
        assert_eq!(chosen, [(0, 1.5), (1, 1.5)]);
    }

    #[test]
    fn a_group_counts_by_its_two_best_and_the_others_are_out_of_reach() {
        let groups = spec::Experts {
            count: 6,
            groups: 2,
            normalised: false,
            scale: 1.0,
            ..spec()
        };
        // The best single expert is in the group whose two best sum to less.
        let chosen = choose(&groups, &[0.9, 0.1, 0.0, 0.6, 0.5, 0.0], &[0.0; 6]);
        assert_eq!(chosen, [(3, 0.6), (4, 0.5)]);
    }
}
