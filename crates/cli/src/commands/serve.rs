//! `bluelm serve`: the model behind HTTP, for programs and for a browser.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use engine::{Cancel, Network};
use server::{Config, Limits, Worker};

use crate::interrupt;
use crate::parallel::{self, ParallelArguments};
use crate::source::ModelArgument;
use crate::terminal::styles_of_stderr;

/// Arguments of `bluelm serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm serve                         then open http://127.0.0.1:8080 in a browser
  bluelm serve --model MODEL --port 9000
  BLUELM_API_KEY=secret bluelm serve --host 0.0.0.0

Programs that speak the OpenAI API take http://127.0.0.1:8080/v1 as their base URL, those that speak
Anthropic's http://127.0.0.1:8080. Ctrl-C ends the server when running requests are done; a second
one ends it at once.")]
pub struct ServeArguments {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    parallel: ParallelArguments,
    /// The address to listen on; others than this machine's own need a key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// A key that clients must show; may be given several times. BLUELM_API_KEY is one too, and is not seen by other
    /// users of the machine
    #[arg(long = "api-key", value_name = "KEY")]
    keys: Vec<String>,
    /// Listen for other machines without a key: anybody who reaches the port may ask
    #[arg(long)]
    allow_without_key: bool,
    /// A further name under which browsers may reach the server; may be given several times
    #[arg(long = "allow-host", value_name = "NAME")]
    hosts: Vec<String>,
    /// A further origin, such as https://app.example, whose pages may ask; may be given several times
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Let requests name pictures in this folder as file:// addresses
    #[arg(long, value_name = "FOLDER")]
    media_path: Option<PathBuf>,
    /// Most requests that wait; further ones are told to ask again
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_waiting: usize,
    /// Longest body of a request, in millions of bytes
    #[arg(long, value_name = "MB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4000))]
    max_body_mb: u32,
    /// Largest picture, in millions of pixels
    #[arg(long, value_name = "MP", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_megapixels: u32,
    /// Most pictures in a request
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_pictures: usize,
    /// Memory for the bodies and pictures of all requests together, in millions of bytes
    #[arg(long, value_name = "MB", default_value_t = 1000)]
    max_memory_mb: usize,
    /// Minutes that a picture handed over at /v1/images is kept after its last use
    #[arg(long, value_name = "N", default_value_t = 30)]
    picture_minutes: u64,
}

/// An address that others can reach, without a key.
#[derive(Debug, thiserror::Error)]
#[error("{0} can be reached by other machines, and no key is set")]
pub struct OpenToAll(IpAddr);

impl OpenToAll {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "set BLUELM_API_KEY or give --api-key, or say --allow-without-key if that is what you want"
    }
}

/// Runs the command until Ctrl-C throws `cancel`.
pub fn run(arguments: ServeArguments, cancel: &Cancel) -> anyhow::Result<()> {
    let config = arguments.config()?;
    if !arguments.host.is_loopback() && config.keys.is_empty() && !arguments.allow_without_key {
        return Err(OpenToAll(arguments.host).into());
    }
    // Before the model, which takes longer: a port in use shows at once.
    let address = SocketAddr::new(arguments.host, arguments.port);
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let engine = arguments.model.load()?;
    let cache_bytes = engine.network().cache_bytes_per_token();
    let context = engine.network().shape().context_tokens;
    let capacity = arguments.parallel.capacity(context, cache_bytes);
    let chat = Worker::start(
        engine,
        &arguments.model.name(),
        cache_bytes,
        arguments.max_waiting,
        capacity,
    );
    let styles = styles_of_stderr();
    let (strong, dim) = (styles.strong, styles.dim);
    let address = listener.local_addr()?;
    eprintln!(
        "{strong}{}{strong:#} listens on {strong}http://{address}{strong:#}",
        arguments.model.name()
    );
    eprintln!("{dim}{}{dim:#}", parallel::told(&capacity, cache_bytes));
    eprintln!("{dim}OpenAI base URL: http://{address}/v1; Ctrl-C ends it{dim:#}");
    let _cooperative = interrupt::cooperate();
    server::serve(listener, Arc::new(chat), config, cancel)?;
    Ok(())
}

impl ServeArguments {
    fn config(&self) -> anyhow::Result<Config> {
        let mega = |count: usize| count.saturating_mul(1_000_000);
        let memory_bytes = mega(self.max_memory_mb);
        let mut config = Config::new(Limits {
            body_bytes: mega(self.max_body_mb as usize),
            picture_bytes: mega(self.max_body_mb as usize),
            picture_pixels: u64::from(self.max_megapixels) * 1_000_000,
            pictures: self.max_pictures,
            memory_bytes,
            picture_life: Duration::from_secs(60 * self.picture_minutes),
            ..Limits::default()
        });
        config.keys = self.keys.clone();
        config.keys.extend(std::env::var("BLUELM_API_KEY").ok());
        config.keys.retain(|key| !key.is_empty());
        config.hosts = self.hosts.clone();
        config.origins = self.origins.clone();
        if let Some(folder) = &self.media_path {
            let found = folder.canonicalize();
            config.media =
                Some(found.with_context(|| format!("--media-path {}", folder.display()))?);
        }
        Ok(config)
    }
}
