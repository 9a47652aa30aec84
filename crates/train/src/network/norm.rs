//! LayerNorm and RMS norm as layers: where their numbers lie, forward and backward over rows.

use super::linear::Rows;
use super::math::{NormGradients, NormWeights, norm_backward, norm_forward};

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

impl Norm {
    fn weights<'a>(&self, values: &'a [f32]) -> NormWeights<'a> {
        let part = |offset: usize| &values[offset..offset + self.width];
        NormWeights { weight: part(self.weight), bias: self.bias.map(part), eps: self.eps }
    }

    /// Norms the rows of x into contiguous rows of y.
    pub fn forward(&self, values: &[f32], x: Rows, y: &mut [f32], statistics: &mut [[f32; 2]]) {
        norm_forward(self.weights(values), x, y, statistics);
    }

    /// Adds into dx and, if given, into the flat gradients; dy is used up.
    pub fn backward(&self, values: &[f32], x: Rows, statistics: &[[f32; 2]], dy: &mut [f32], dx: &mut [f32], gradients: Option<&mut [f32]>) {
        let gradients = gradients.map(|flat| self.gradients(flat));
        norm_backward(self.weights(values), x, statistics, dy, dx, self.width, gradients);
    }

    /// A bias lies right behind its weight.
    fn gradients<'a>(&self, flat: &'a mut [f32]) -> NormGradients<'a> {
        match self.bias {
            Some(bias) => {
                assert_eq!(bias, self.weight + self.width, "norm weight and bias are laid out side by side");
                let (weight, bias) = flat[self.weight..bias + self.width].split_at_mut(self.width);
                NormGradients { weight, bias: Some(bias) }
            }
            None => NormGradients { weight: &mut flat[self.weight..self.weight + self.width], bias: None },
        }
    }
}
