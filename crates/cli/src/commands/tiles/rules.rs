//! The three rules by name, and what they cost.

use clap::ValueEnum;
use image_prep::tiling::{Grid, GridChoice};
use image_prep::{TileLayout, TilePlan};

/// A tiling rule by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// BlueLM-V-3B
    Relaxed,
    /// LLaVA-NeXT
    LlavaNext,
    /// InternVL 1.5
    Internvl,
}

impl Policy {
    /// All rules, ours first: the others are compared with it.
    pub const ALL: [Policy; 3] = [Policy::Relaxed, Policy::LlavaNext, Policy::Internvl];

    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Relaxed => "relaxed",
            Policy::LlavaNext => "llava-next",
            Policy::Internvl => "internvl",
        }
    }

    /// The rule with its numbers.
    pub fn choice(self, max_grid: Grid, max_tiles: u32, alpha: f64) -> GridChoice {
        match self {
            Policy::Relaxed => GridChoice::RelaxedEffectiveArea {
                max_grid,
                slack: alpha,
            },
            Policy::LlavaNext => GridChoice::LargestEffectiveArea { max_grid },
            Policy::Internvl => GridChoice::NearestAspectRatio {
                min_tiles: 1,
                max_tiles,
            },
        }
    }
}

/// A rule on tiles of one size, seen by an encoder with patches of one size.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub policy: Policy,
    layout: TileLayout,
    tokens_per_tile: u64,
}

/// What a rule makes of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Columns and rows of tiles.
    pub grid: Grid,
    /// Width and height of the grid in pixels.
    pub canvas: (u32, u32),
    /// Tiles with the thumbnail.
    pub tiles: u64,
    /// Tokens of all tiles.
    pub tokens: u64,
}

impl Rule {
    /// A rule; `patch` is at most `tile`.
    pub fn new(policy: Policy, choice: GridChoice, tile: u32, patch: u32) -> Rule {
        let side = u64::from((tile / patch).div_ceil(2));
        Rule {
            policy,
            layout: TileLayout {
                choice,
                tile,
                thumbnail: true,
            },
            tokens_per_tile: side * side,
        }
    }

    /// Where a picture of this size lies.
    pub fn plan(&self, width: u32, height: u32) -> TilePlan {
        self.layout.plan(width, height)
    }

    /// What a picture of this size gets and costs.
    pub fn apply(&self, width: u32, height: u32) -> Outcome {
        let plan = self.plan(width, height);
        let tiles = plan.tiles as u64;
        Outcome {
            grid: plan.grid,
            canvas: plan.canvas,
            tiles,
            tokens: tiles * self.tokens_per_tile,
        }
    }

    /// Side of a tile in pixels.
    pub fn tile(&self) -> u32 {
        self.layout.tile
    }

    /// What one tile costs.
    pub fn tokens_per_tile(&self) -> u64 {
        self.tokens_per_tile
    }

    /// How far the rule may go, in words.
    pub fn bound(&self) -> String {
        match &self.layout.choice {
            GridChoice::LargestEffectiveArea { max_grid } => format!("up to {max_grid}"),
            GridChoice::RelaxedEffectiveArea { max_grid, slack } => {
                format!("up to {max_grid}, alpha {slack}")
            }
            GridChoice::NearestAspectRatio { max_tiles, .. } => format!("up to {max_tiles} tiles"),
        }
    }
}
