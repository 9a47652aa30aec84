//! Models of real size that exist in shape only, to measure speed on random weights.

/// The decoder of BlueLM-V-3B's size (2.74 billion weights) behind SigLIP so400m/14-384 and a projector with a 2 x 2 merge.
pub const BLUELM_V_3B: &str = include_str!("../shapes/bluelm-v-3b.json");

/// Every shape.
pub const NAMES: [&str; 1] = ["bluelm-v-3b"];

/// The shape of this name: its config.json.
pub fn find(name: &str) -> Option<&'static str> {
    (name == NAMES[0]).then_some(BLUELM_V_3B)
}
