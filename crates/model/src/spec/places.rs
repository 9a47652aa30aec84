//! Where the decoder's rows stand and what they see of each other, as data.

/// Changes to the rotary frequencies f(i) = base^(-2i / head_dim).
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// f(i) / factor.
    Linear {
        /// How much farther texts reach.
        factor: f64,
    },
    /// f(i) / exp(a·(i+1)^power) with a = ln(factor) / (head_dim / 2)^power: BlueLM-7B-32K.
    NtkMixed {
        /// What the slowest frequency is divided by.
        factor: f64,
        /// How the others come there.
        power: f64,
    },
    /// Slow frequencies are divided, fast ones stay, and those between are mixed by how often they turn within the context that
    /// the model was first trained with: Llama 3.1.
    Bands {
        /// What slow ones are divided by.
        factor: f64,
        /// Turns within that context below which a frequency is slow, and above which it is fast.
        turns: [f64; 2],
        /// That context.
        context: f64,
    },
    /// The same with a ramp over the numbers of the frequencies, and scores made larger
    /// (<https://arxiv.org/abs/2309.00071>): DeepSeek, Qwen on long texts.
    Yarn {
        /// What slow ones are divided by.
        factor: f64,
        /// Numbers of the frequencies between which the ramp lies.
        ramp: [f64; 2],
        /// Cosines and sines are multiplied with it.
        magnitude: f64,
    },
    /// Each frequency divided by its own factor: LongRoPE (<https://arxiv.org/abs/2402.13753>), MiniCPM3.
    Each {
        /// Half a head of them.
        factors: Vec<f64>,
        /// Cosines and sines are multiplied with it.
        magnitude: f64,
    },
}

/// Positions of rows: one number, or three of pictures (time, row, column).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeAxes {
    /// One.
    One,
    /// So many frequencies of each of the three, one band after the other: Qwen2-VL.
    Bands([usize; 3]),
    /// So many of each of the three, in turns, and those of time where the others have ended: Qwen3-VL.
    Turns([usize; 3]),
}

/// Layers in which a row sees only those rows before it that are near.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Rows that a row sees, itself among them.
    pub tokens: usize,
    /// The layers in which rows see all before them, nevertheless.
    pub full_layers: Vec<usize>,
    /// Base of the rotary frequencies of the others, which are not scaled; none where all layers have the same frequencies.
    pub rope_base: Option<f64>,
}

impl Window {
    /// What a row of a layer sees, where that is not all before it.
    pub fn at(window: &Option<Window>, layer: usize) -> Option<&Window> {
        window
            .as_ref()
            .filter(|window| !window.full_layers.contains(&layer))
    }
}
