//! How a model computes: with how many threads, and images in batches of how many tiles. Answers do not depend on it.

use clap::Args;
use engine::{EncoderWeights, Encoding, Engine, MOST_BATCH_TILES, MOST_THREADS, Overlap, Threads};

/// How many threads compute.
#[derive(Args, Clone, Copy, Debug)]
pub struct ThreadsArgument {
    /// Threads that compute; answers do not depend on it (default: one for each core)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_THREADS as i64))]
    threads: Option<u32>,
}

impl ThreadsArgument {
    /// The threads.
    pub fn start(self) -> anyhow::Result<Threads> {
        Ok(match self.threads {
            Some(threads) => Threads::new(threads as usize)?,
            None => Threads::of_all_cores()?,
        })
    }
}

/// How a model computes.
#[derive(Args, Clone, Copy, Debug)]
pub struct ComputeArguments {
    #[command(flatten)]
    pub threads: ThreadsArgument,
    /// Tiles of an image that are encoded together; more need more memory (default: 4)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_BATCH_TILES as i64))]
    tile_batch: Option<u32>,
    /// Hold the encoder's weights in memory, and read the prompt beside the image: sooner done, in more memory
    #[arg(long)]
    keep_encoder: bool,
}

impl ComputeArguments {
    /// The engine, computing so.
    pub fn apply(self, engine: Engine) -> anyhow::Result<Engine> {
        // Whoever reads a prompt beside its image needs both weights in memory, and who has both may as well.
        let overlap = match self.keep_encoder {
            true => Overlap::Steps,
            false => Overlap::None,
        };
        let engine = engine.with_threads(self.threads.start()?);
        Ok(engine.with_encoding(self.encoding())?.with_overlap(overlap))
    }

    /// What a child process is told about images; its threads are told apart.
    pub fn as_arguments(self) -> Vec<String> {
        let batch = self.tile_batch.map(|tiles| format!("--tile-batch={tiles}"));
        let keep = self.keep_encoder.then(|| "--keep-encoder".to_owned());
        batch.into_iter().chain(keep).collect()
    }

    /// How images are encoded.
    pub fn encoding(self) -> Encoding {
        let usual = Encoding::default();
        Encoding {
            batch_tiles: self
                .tile_batch
                .map_or(usual.batch_tiles, |tiles| tiles as usize),
            weights: match self.keep_encoder {
                true => EncoderWeights::Keep,
                false => EncoderWeights::Release,
            },
            ..usual
        }
    }
}
