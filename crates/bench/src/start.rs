//! The paper's scenario in one piece: an image, a context filled up behind it, an answer. What a process needs at most for it.

use crate::error::BenchError;
use crate::measure::{ids, noise};
use engine::{Cache, Cancel, Network};
use model::{LogitRows, NoTaps};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Tiles of the image.
    pub tiles: usize,
    /// Positions of the prompt, the image's among them.
    pub prompt: usize,
    /// Tokens of the answer.
    pub answer: usize,
    /// Rows of a prefill step.
    pub chunk: usize,
}

/// Does the work of a request, tile by tile.
pub fn play<N: Network>(
    network: &N,
    scenario: Scenario,
    cancel: &Cancel,
) -> Result<(), BenchError> {
    let shape = network.shape();
    let (needed, context) = (scenario.prompt + scenario.answer, shape.context_tokens);
    if needed > context {
        return Err(BenchError::TooLong {
            what: "the scenario".into(),
            needed,
            context,
        });
    }
    let mut cache = network.new_cache(needed);
    let mut forward = |rows: &[f32], logits| {
        let step = scenario.chunk.max(1) * shape.hidden;
        for rows in rows.chunks(step) {
            network.forward(rows, &mut cache, logits, cancel, &mut NoTaps)?;
        }
        Ok::<usize, BenchError>(cache.tokens())
    };
    let pixels = 3 * shape.tile_side.pow(2);
    let mut done = 0;
    for _ in 0..scenario.tiles {
        let rows = network.encode(&noise(pixels), 1, cancel)?;
        let room = (scenario.prompt - done) * shape.hidden;
        done = forward(&rows[..rows.len().min(room)], LogitRows::None)?;
    }
    let rest = network.embed(&ids(scenario.prompt - done, shape.vocabulary));
    forward(&rest, LogitRows::None)?;
    for id in ids(scenario.answer, shape.vocabulary) {
        forward(&network.embed(&[id]), LogitRows::Last)?;
    }
    Ok(())
}
