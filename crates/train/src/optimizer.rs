//! AdamW over the flat vectors: global-norm clipping, decoupled weight decay, a rate per tensor; Muon for inner matrices if the
//! run wants it.
//!
//! The state is two vectors in the order of the parameters. Work is dealt to threads in fixed pieces and sums are added
//! in the order of the pieces, so the numbers do not depend on the number of threads.

use kernels::isa::Isa;
use kernels::training::{AdamFactors, adam, sum_of_squares};
use rayon::prelude::*;

use crate::config::{MatrixRule, OptimizerConfig};
use crate::muon::{self, Matrix};
use crate::network::{Arithmetic, NetworkError};
use crate::parameters::{Gradients, Group, Layout, Parameters, TensorRecord};

/// Elements of one piece of work.
const PIECE: usize = 1 << 15;

/// The optimizer's state.
#[derive(Clone, Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    arithmetic: Arithmetic,
    mean: Vec<f32>,
    square: Vec<f32>,
}

/// One update's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Counts updates from 1, over the whole run: corrects the moments' start at zero.
    pub step: u64,
    /// Learning rate now, by the schedule.
    pub learning_rate: f32,
    /// Factor of the learning rate of each tensor, in the layout's order; 0 leaves values and moments alone.
    pub rates: &'a [f32],
}

/// How fast each part learns; 0 freezes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// The vision encoder's last layer's successor (its post norm).
    pub vision: f32,
    /// Each encoder layer below learns this much slower than the one above.
    pub vision_layer_decay: f32,
    /// The projector.
    pub projector: f32,
    /// The decoder.
    pub language: f32,
    /// The auxiliary heads.
    pub auxiliary: f32,
}

impl Rates {
    /// The factor of every tensor. In the encoder `decay^(layers + 1 - id)`: id 0 is patch and position embedding, i the
    /// i-th layer, layers + 1 the post norm (timm's and BEiT's rule).
    pub fn for_layout(&self, layout: &Layout) -> Vec<f32> {
        let top = layout
            .tensors()
            .iter()
            .filter_map(|tensor| tensor.vision_layer)
            .max()
            .unwrap_or(0);
        let factor = |tensor: &TensorRecord| match tensor.group {
            Group::Vision => {
                self.vision
                    * self
                        .vision_layer_decay
                        .powi((top - tensor.vision_layer.unwrap_or(top)) as i32)
            }
            Group::Projector => self.projector,
            Group::Language => self.language,
            Group::Auxiliary => self.auxiliary,
        };
        layout.tensors().iter().map(factor).collect()
    }
}

/// A piece of one tensor with everything that its update needs.
struct Piece<'a> {
    values: &'a mut [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
    gradients: &'a [f32],
    rate: f32,
    decays: bool,
}

impl Optimizer {
    /// Moments at zero.
    pub fn new(layout: &Layout, config: &OptimizerConfig) -> Optimizer {
        Optimizer {
            config: config.clone(),
            arithmetic: Arithmetic {
                isa: Isa::detect(),
                bf16: None,
            },
            mean: vec![0.0; layout.length()],
            square: vec![0.0; layout.length()],
        }
    }

    /// The same with Muon's products in a run's precision.
    pub(crate) fn with_arithmetic(self, arithmetic: Arithmetic) -> Optimizer {
        Optimizer { arithmetic, ..self }
    }

    /// The running mean of gradients.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The running mean of squared gradients.
    pub fn square(&self) -> &[f32] {
        &self.square
    }

    /// Takes both moments from a checkpoint. Panics when they belong to another layout.
    pub fn restore(&mut self, mean: Vec<f32>, square: Vec<f32>) {
        assert_eq!(
            [mean.len(), square.len()],
            [self.mean.len(); 2],
            "moments of another network"
        );
        (self.mean, self.square) = (mean, square);
    }

    /// One step down the gradient; gives the gradient's length before clipping. With an infinite or not-a-number
    /// gradient nothing changes and the error says so.
    pub fn update(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        update: Update,
    ) -> Result<f64, NetworkError> {
        let norm = gradient_norm(gradients.values());
        if !norm.is_finite() {
            return Err(NetworkError::NotFinite {
                what: "the gradient",
                value: norm,
            });
        }
        let OptimizerConfig {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            clip_norm,
            matrices: _,
            momentum,
        } = self.config;
        let steps = update.step.clamp(1, i32::MAX as u64) as i32;
        let corrected = |beta: f32| 1.0 - f64::from(beta).powi(steps);
        let clip = (f64::from(clip_norm) / (norm + 1e-6)).min(1.0) as f32;
        let root_correction = (1.0 / corrected(beta2).sqrt()) as f32;
        let (isa, learning_rate) = (Isa::detect(), update.learning_rate);
        let muon_factors = muon::Factors {
            momentum,
            clip,
            learning_rate,
            weight_decay,
        };
        let arithmetic = self.arithmetic;
        let (matrices, pieces) = self.pieces(parameters, gradients, update.rates);
        matrices
            .into_par_iter()
            .for_each(|matrix| muon::step(arithmetic, muon_factors, matrix));
        pieces.into_par_iter().for_each(|piece| {
            let rate = f64::from(learning_rate) * f64::from(piece.rate);
            let kept = if piece.decays {
                (1.0 - rate * f64::from(weight_decay)) as f32
            } else {
                1.0
            };
            let rate = (rate / corrected(beta1)) as f32;
            let factors = AdamFactors {
                beta1,
                beta2,
                epsilon,
                clip,
                rate,
                root_correction,
                kept,
            };
            adam(
                isa,
                factors,
                piece.values,
                piece.gradients,
                piece.mean,
                piece.square,
            );
        });
        Ok(norm)
    }

    fn pieces<'a>(
        &'a mut self,
        parameters: &'a mut Parameters,
        gradients: &'a Gradients,
        rates: &[f32],
    ) -> (Vec<Matrix<'a>>, Vec<Piece<'a>>) {
        let muon = self.config.matrices == MatrixRule::Muon;
        let layout = parameters.layout().clone();
        assert_eq!(rates.len(), layout.tensors().len(), "one rate per tensor");
        let (mut values, mut mean, mut square) = (
            parameters.values_mut(),
            &mut self.mean[..],
            &mut self.square[..],
        );
        let mut gradients = gradients.values();
        let (mut matrices, mut pieces) = (Vec::new(), Vec::new());
        for (tensor, &rate) in layout.tensors().iter().zip(rates) {
            let whole = muon && tensor.is_inner_matrix();
            let most = if whole { tensor.length } else { PIECE };
            for start in (0..tensor.length).step_by(most) {
                let length = most.min(tensor.length - start);
                let piece = Piece {
                    values: values
                        .split_off_mut(..length)
                        .expect("as long as the layout"),
                    mean: mean.split_off_mut(..length).expect("as long as the layout"),
                    square: square
                        .split_off_mut(..length)
                        .expect("as long as the layout"),
                    gradients: gradients
                        .split_off(..length)
                        .expect("as long as the layout"),
                    rate,
                    decays: tensor.decays(),
                };
                if rate == 0.0 {
                    continue;
                }
                if whole {
                    matrices.push(Matrix {
                        width: tensor.shape[1],
                        values: piece.values,
                        mean: piece.mean,
                        gradients: piece.gradients,
                        rate,
                    });
                } else {
                    pieces.push(piece);
                }
            }
        }
        (matrices, pieces)
    }
}

/// Length of the whole gradient: squares added in f64 in fixed pieces.
pub fn gradient_norm(gradients: &[f32]) -> f64 {
    let isa = Isa::detect();
    let sums: Vec<f64> = gradients
        .par_chunks(PIECE)
        .map(|piece| sum_of_squares(isa, piece))
        .collect();
    sums.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::parameters::Start;

    fn layout() -> Arc<Layout> {
        let mut layout = Layout::default();
        for layer in 0..4 {
            layout.push(
                format!("vision.{layer}"),
                &[2, 3],
                Group::Vision,
                Some(layer),
                Start::Normal(1.0),
            );
        }
        layout.push(
            "bias".into(),
            &[5],
            Group::Language,
            None,
            Start::Normal(1.0),
        );
        layout.push(
            "large".into(),
            &[300, 200],
            Group::Language,
            None,
            Start::Normal(1.0),
        );
        Arc::new(layout)
    }

    const RATES: Rates = Rates {
        vision: 1.0,
        vision_layer_decay: 0.9,
        projector: 0.0,
        language: 1.0,
        auxiliary: 0.0,
    };

    fn gradients(layout: &Layout) -> Gradients {
        let mut gradients = Gradients::zeros(layout);
        gradients
            .values_mut()
            .iter_mut()
            .enumerate()
            .for_each(|(i, g)| *g = ((i * 7919 % 1000) as f32 - 500.0) * 1e-6);
        gradients
    }

    fn run(threads: usize, steps: u64) -> (Parameters, Optimizer) {
        let layout = layout();
        let mut parameters = Parameters::random(layout.clone(), 3);
        let mut optimizer = Optimizer::new(&layout, &OptimizerConfig::default());
        let (rates, gradients) = (RATES.for_layout(&layout), gradients(&layout));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            for step in 1..=steps {
                let update = Update {
                    step,
                    learning_rate: 1e-2,
                    rates: &rates,
                };
                optimizer
                    .update(&mut parameters, &gradients, update)
                    .unwrap();
            }
        });
        (parameters, optimizer)
    }

    #[test]
    fn encoder_layers_learn_slower_the_lower_they_are() {
        let rates = RATES.for_layout(&layout());
        // decay^(layers + 1 - id) with ids 0..=3: 0.9^3, 0.9^2, 0.9, 1.
        for (rate, expected) in rates.iter().zip([0.729f32, 0.81, 0.9, 1.0, 1.0, 1.0]) {
            assert!((rate - expected).abs() < 1e-6, "{rates:?}");
        }
    }

    #[test]
    fn updates_are_the_same_bits_with_one_thread_and_with_three() {
        assert_eq!(run(1, 3).0.values(), run(3, 3).0.values());
    }

    #[test]
    fn the_first_step_moves_by_the_learning_rate_against_the_gradient() {
        let layout = layout();
        let before = Parameters::random(layout.clone(), 3);
        let (after, _) = run(1, 1);
        let bias = layout.find("bias").unwrap();
        let gradients = gradients(&layout);
        for at in bias.range() {
            // Corrected moments of one step are g and g², so the step is lr · g/(|g| + eps); biases do not decay.
            let g = gradients.values()[at];
            let expected = before.values()[at] - 1e-2 * g / (g.abs() + 1e-6);
            assert!(
                (after.values()[at] - expected).abs() < 1e-6,
                "{} {expected}",
                after.values()[at]
            );
        }
    }

    #[test]
    fn a_frozen_tensor_and_its_moments_stay() {
        let layout = layout();
        let mut parameters = Parameters::random(layout.clone(), 3);
        let before = parameters.values().to_vec();
        let mut optimizer = Optimizer::new(&layout, &OptimizerConfig::default());
        let rates = Rates {
            language: 0.0,
            ..RATES
        }
        .for_layout(&layout);
        let update = Update {
            step: 1,
            learning_rate: 1e-2,
            rates: &rates,
        };
        optimizer
            .update(&mut parameters, &gradients(&layout), update)
            .unwrap();
        let frozen = layout.find("large").unwrap().range();
        assert_eq!(parameters.values()[frozen.clone()], before[frozen.clone()]);
        assert!(optimizer.mean()[frozen].iter().all(|&m| m == 0.0));
        assert_ne!(parameters.values()[..6], before[..6]);
    }

    #[test]
    fn a_gradient_that_is_not_a_number_changes_nothing_and_is_named() {
        let layout = layout();
        let mut parameters = Parameters::random(layout.clone(), 3);
        let before = parameters.values().to_vec();
        let mut optimizer = Optimizer::new(&layout, &OptimizerConfig::default());
        let mut gradients = gradients(&layout);
        gradients.values_mut()[17] = f32::NAN;
        let rates = RATES.for_layout(&layout);
        let error = optimizer
            .update(
                &mut parameters,
                &gradients,
                Update {
                    step: 1,
                    learning_rate: 1e-2,
                    rates: &rates,
                },
            )
            .unwrap_err();
        assert_eq!(error.to_string(), "the gradient is not finite: NaN");
        assert_eq!(parameters.values(), before);
    }

    #[test]
    fn clipping_shortens_the_gradient_to_the_norm() {
        let layout = layout();
        let config = OptimizerConfig {
            clip_norm: 0.5,
            ..OptimizerConfig::default()
        };
        let mut optimizer = Optimizer::new(&layout, &config);
        let mut gradients = Gradients::zeros(&layout);
        gradients.values_mut()[..2].copy_from_slice(&[3.0, 4.0]);
        let rates = RATES.for_layout(&layout);
        let mut parameters = Parameters::zeros(layout);
        let norm = optimizer
            .update(
                &mut parameters,
                &gradients,
                Update {
                    step: 1,
                    learning_rate: 0.0,
                    rates: &rates,
                },
            )
            .unwrap();
        assert_eq!(norm, 5.0);
        // (1 - beta1) · g · 0.5 / 5
        assert!(
            (optimizer.mean()[0] - 0.03).abs() < 1e-6 && (optimizer.mean()[1] - 0.04).abs() < 1e-6
        );
    }
}
