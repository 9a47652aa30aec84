//! The shortest work that gives a token: what a process that has just started is timed with.

use crate::error::BenchError;
use crate::measure::ids;
use engine::{Cancel, Network};
use model::{LogitRows, NoTaps};

/// Takes one token in and gives the logits of the next.
pub fn first_token<N: Network>(network: &N, cancel: &Cancel) -> Result<Vec<f32>, BenchError> {
    let rows = network.embed(&ids(1, network.shape().vocabulary));
    let mut cache = network.new_cache(1);
    let rows = rows.as_slice().into();
    Ok(network.forward(rows, &mut cache, LogitRows::Last, cancel, &mut NoTaps)?)
}
