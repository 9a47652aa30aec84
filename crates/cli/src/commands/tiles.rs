//! `bluelm tiles`: which grid of tiles a picture gets under each rule, and what that costs in tokens.

mod draw;
mod input;
mod rules;
mod statistics;
mod table;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use image_prep::tiling::Grid;
use serde_json::json;

use input::{Input, Subject};
pub use input::{InputError, grid};
use rules::{Policy, Rule};

/// Arguments of `bluelm tiles`.
#[derive(Args, Debug)]
#[command(after_help = "\
Rules:
  relaxed     BlueLM-V-3B: a larger grid only where it shows clearly more (--alpha)
  llava-next  LLaVA-NeXT: the grid that shows most of the picture, however little more
  internvl    InternVL 1.5: the nearest aspect ratio, whatever the size

A grid of more than 1:1 also gets a thumbnail, which counts as a tile. Each tile costs
ceil(floor(tile / patch) / 2)^2 tokens: 196 for tiles of 384 and patches of 14.

A corpus is a table of sizes, its columns apart by tabs: width and height, a name before them and a
count after them if you like. A first line of column names (width, height, count; any other is the
name) may put them in any order. Lines that begin with # are skipped. For a corpus the answer is how
the rules compare; with --json it is one line for each row and rule.

Examples:
  bluelm tiles receipt.png
  bluelm tiles 1080x2400 500x102 394x390
  bluelm tiles --policy relaxed --draw grid.png receipt.png
  bluelm tiles --max-grid 3x3 llava-665k.tsv       the statistics of the BlueLM-V-3B paper
  bluelm tiles --tile 256 --max-grid 2x2 --patch 8 receipt.png  as the model inside this program cuts it
  bluelm tiles --json --policy relaxed *.jpg | jq -s 'map(.tokens) | add'")]
pub struct TilesArguments {
    /// Only this rule (default: all three)
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Most columns and rows for relaxed and llava-next
    #[arg(long, value_name = "CxR", default_value = "4x4", value_parser = input::grid)]
    max_grid: Grid,
    /// Most tiles for internvl, thumbnail not counted (default: columns x rows of --max-grid)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_tiles: Option<u32>,
    /// Side of a tile in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 384, value_parser = clap::value_parser!(u32).range(1..=16384))]
    tile: u32,
    /// Side of a patch of the vision encoder in pixels: decides the tokens of a tile
    #[arg(long, value_name = "PIXELS", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=16384))]
    patch: u32,
    /// How much better a larger grid has to be for relaxed
    #[arg(long, default_value_t = 0.1, value_parser = input::alpha)]
    alpha: f64,
    /// Print one JSON line for each picture and rule
    #[arg(long)]
    json: bool,
    /// Draw the tiles of one picture, padding hatched and thumbnail apart; several rules side by side
    #[arg(long, value_name = "OUT.png")]
    draw: Option<PathBuf>,
    /// Pictures (- is standard input), sizes, or corpora
    #[arg(required = true, value_name = "IMAGE|WxH|FILE.tsv")]
    inputs: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: TilesArguments) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    run_to(&arguments, &mut out)?;
    Ok(out.flush()?)
}

/// Runs the command; what belongs on standard output goes to `out`. All inputs are read before anything is written.
fn run_to(arguments: &TilesArguments, out: &mut impl Write) -> anyhow::Result<()> {
    let rules = arguments.rules()?;
    let inputs: Vec<Input> = arguments
        .inputs
        .iter()
        .map(|path| Input::read(path))
        .collect::<Result<_, _>>()?;
    if let Some(path) = &arguments.draw {
        draw::draw(&inputs, &rules, path)?;
    }
    if arguments.json {
        for subject in inputs.iter().flat_map(Input::subjects) {
            for rule in &rules {
                writeln!(out, "{}", json_line(subject, rule))?;
            }
        }
        return Ok(());
    }
    let pictures: Vec<&Subject> = inputs
        .iter()
        .filter(|input| !matches!(input, Input::Corpus { .. }))
        .flat_map(Input::subjects)
        .collect();
    if !pictures.is_empty() {
        out.write_all(table::pictures(&pictures, &rules).as_bytes())?;
    }
    let mut corpora = 0;
    for input in &inputs {
        if let Input::Corpus { name, subjects } = input {
            if corpora > 0 || !pictures.is_empty() {
                writeln!(out)?;
            }
            let text = statistics::corpus(name, subjects, &rules);
            out.write_all(text.as_bytes())?;
            corpora += 1;
        }
    }
    Ok(())
}

impl TilesArguments {
    fn rules(&self) -> Result<Vec<Rule>, InputError> {
        if self.patch > self.tile {
            return Err(InputError::new(
                format!(
                    "--patch: expected at most the side of a tile, {}, found {}",
                    self.tile, self.patch
                ),
                "a tile has to hold at least one patch; SigLIP at 384 pixels has patches of 14",
            ));
        }
        let policies = match self.policy {
            Some(policy) => vec![policy],
            None => Policy::ALL.to_vec(),
        };
        let max_tiles = self
            .max_tiles
            .unwrap_or(self.max_grid.columns * self.max_grid.rows);
        let rule = |policy: Policy| {
            let choice = policy.choice(self.max_grid, max_tiles, self.alpha);
            Rule::new(policy, choice, self.tile, self.patch)
        };
        Ok(policies.into_iter().map(rule).collect())
    }
}

fn json_line(subject: &Subject, rule: &Rule) -> serde_json::Value {
    let outcome = rule.apply(subject.width, subject.height);
    let mut line = json!({
        "input": subject.name(),
        "width": subject.width,
        "height": subject.height,
        "policy": rule.policy.name(),
        "grid": [outcome.grid.columns, outcome.grid.rows],
        "canvas": [outcome.canvas.0, outcome.canvas.1],
        "tiles": outcome.tiles,
        "tokens": outcome.tokens,
    });
    if let Some(count) = subject.count {
        line["count"] = json!(count);
    }
    line
}

#[cfg(test)]
mod tests;
