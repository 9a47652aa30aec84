//! LayerNorm and RMS norm as layers: where their numbers lie, forward and backward over contiguous rows.

use kernels::training::{NormGradients, NormWeights, norm_backward, norm_forward};

use super::linear::Weights;

/// Mean and inverse deviation of each row.
pub(crate) type Statistics = Vec<[f32; 2]>;

/// A LayerNorm (with bias) or RMS norm (without).
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub width: usize,
    pub weight: usize,
    pub bias: Option<usize>,
    pub eps: f32,
}

/// What the backward pass of a norm reads.
#[derive(Clone, Copy)]
pub(crate) struct NormInput<'a> {
    pub x: &'a [f32],
    pub statistics: &'a [[f32; 2]],
}

impl Norm {
    fn weights<'a>(&self, values: &'a [f32]) -> NormWeights<'a> {
        let part = |offset: usize| &values[offset..offset + self.width];
        NormWeights {
            weight: part(self.weight),
            bias: self.bias.map(part),
            eps: self.eps,
        }
    }

    /// Norms the rows of x into y.
    pub fn forward(&self, w: Weights, x: &[f32], y: &mut [f32], statistics: &mut [[f32; 2]]) {
        norm_forward(w.isa, self.weights(w.values), x, y, statistics);
    }

    /// Adds into dx and, if given, into the flat gradients; dy is used up.
    pub fn backward(
        &self,
        w: Weights,
        input: NormInput,
        dy: &mut [f32],
        dx: &mut [f32],
        gradients: Option<&mut [f32]>,
    ) {
        let gradients = gradients.map(|flat| self.gradients(flat));
        norm_backward(
            w.isa,
            self.weights(w.values),
            input.x,
            input.statistics,
            dy,
            dx,
            gradients,
        );
    }

    /// A bias lies right behind its weight.
    fn gradients<'a>(&self, flat: &'a mut [f32]) -> NormGradients<'a> {
        match self.bias {
            Some(bias) => {
                assert_eq!(
                    bias,
                    self.weight + self.width,
                    "norm weight and bias are laid out side by side"
                );
                let (weight, bias) = flat[self.weight..bias + self.width].split_at_mut(self.width);
                NormGradients {
                    weight,
                    bias: Some(bias),
                }
            }
            None => NormGradients {
                weight: &mut flat[self.weight..self.weight + self.width],
                bias: None,
            },
        }
    }
}
