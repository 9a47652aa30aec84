//! A projector that asks: learned queries attend to the features of a view, however many they are (MiniCPM-V).

use super::block::attend_heads;
use crate::ModelError;
use crate::layers::{Linear, Norm};
use crate::matrix::Intake;
use crate::spec::ProjectorSpec;
use crate::weights::Source;
use kernels::isa::Isa;
use kernels::rows;

/// Numbers of a head.
const HEAD: usize = 128;
/// Base of the frequencies of sines and cosines that tell keys where they stand.
const BASE: f64 = 10000.0;

pub(super) struct Resampler {
    d: usize,
    queries: Vec<f32>,
    queries_norm: Norm,
    asked: Linear,
    features: Linear,
    features_norm: Norm,
    keys: Linear,
    values: Linear,
    out: Linear,
    out_norm: Norm,
    last: Linear,
}

impl Resampler {
    pub fn load(
        source: Source,
        hidden: usize,
        spec: &ProjectorSpec,
        d: usize,
    ) -> Result<Resampler, ModelError> {
        let named = |name: &str| format!("{}{name}", spec.prefix);
        let linear = |name: &str, inputs, bias: bool| {
            Linear::load(source, &named(name), d, inputs, bias.into())
        };
        let norm = |name: &str| Norm::layer(source, &named(name), spec.norm_eps);
        Ok(Resampler {
            d,
            queries: source.numbers(&named("query"))?,
            queries_norm: norm("ln_q")?,
            asked: linear("attn.q_proj", d, true)?,
            features: linear("kv_proj", hidden, false)?,
            features_norm: norm("ln_kv")?,
            keys: linear("attn.k_proj", d, true)?,
            values: linear("attn.v_proj", d, true)?,
            out: linear("attn.out_proj", d, true)?,
            out_norm: norm("ln_post")?,
            last: linear("proj", d, false)?,
        })
    }

    /// Features of one view, row after row of its grid, to as many rows as there are queries.
    pub fn view(&self, isa: Isa, features: &[f32], grid: [usize; 2]) -> Vec<f32> {
        let intake = &mut Intake::default();
        let [mut x, mut normed, mut asked, mut keys, mut values] = [const { Vec::new() }; 5];
        self.queries_norm.apply(isa, &self.queries, &mut normed);
        self.asked.apply(isa, intake, &normed, &mut asked);
        self.features.apply(isa, intake, features, &mut x);
        self.features_norm.apply(isa, &x, &mut normed);
        self.values.apply(isa, intake, &normed, &mut values);
        rows::add(isa, &mut normed, &self.places(grid));
        self.keys.apply(isa, intake, &normed, &mut keys);
        let heads = self.d / HEAD;
        attend_heads(
            isa,
            heads,
            [&asked, &keys, &values],
            grid[0] * grid[1],
            &mut x,
        );
        self.out.apply(isa, intake, &x, &mut normed);
        self.out_norm.apply(isa, &normed, &mut x);
        self.last.apply(isa, intake, &x, &mut normed);
        normed
    }

    /// For each patch sines and cosines of its column, then of its row; products in f32, as the reference has them.
    fn places(&self, [rows, columns]: [usize; 2]) -> Vec<f32> {
        let quarter = self.d / 4;
        let frequency = |i: usize| BASE.powf(-(i as f64) / quarter as f64) as f32;
        let frequencies: Vec<f32> = (0..quarter).map(frequency).collect();
        let wave = |at: usize| {
            let angles = frequencies
                .iter()
                .map(move |frequency| f64::from(at as f32 * frequency));
            let sines = angles.clone().map(|angle| angle.sin() as f32);
            sines.chain(angles.map(|angle| angle.cos() as f32))
        };
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        places
            .flat_map(|(row, column)| wave(column).chain(wave(row)))
            .collect()
    }
}
