//! `bluelm serve`: the model behind HTTP, for programs and for a browser.

mod settings;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use engine::{Cancel, EncoderWeights, Encoding, Engine, MemoryRoom, Network, Overlap, Threads};
use server::{Config, Limits, Remote, Worker};
use toml::{Table, Value};

use crate::looking::{KeepArguments, USUAL_CACHE_BYTES};
use crate::parallel::{self, ParallelArguments};
use crate::source::ModelArgument;
use crate::terminal::styles_of_stderr;
use crate::{calibrated, interrupt};
use settings::Settings;
pub use settings::Wrong;

/// Arguments of `bluelm serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm serve                         then open http://127.0.0.1:8080 in a browser
  bluelm serve --model MODEL --port 9000
  BLUELM_API_KEY=secret bluelm serve --host 0.0.0.0
  bluelm serve --config serve.toml

Every setting has the same name in the configuration file (max_body_mb = 64), in the environment
(BLUELM_MAX_BODY_MB=64) and here. What is given here counts most, then the environment, then the
file (--config, BLUELM_CONFIG, or serve.toml in the folder bluelm of the user's settings).

Programs that speak the OpenAI API take http://127.0.0.1:8080/v1 as their base URL, those that speak
Anthropic's http://127.0.0.1:8080. Ctrl-C ends the server when running requests are done; a second
one ends it at once.")]
pub struct ServeArguments {
    /// Read settings from this file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another model than the one inside: a folder (config.json, model.safetensors, tokenizer.json, ...), a bundle or a GGUF file
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The image encoder of a GGUF model [default: mmproj*.gguf beside it]
    #[arg(long, value_name = "FILE")]
    mmproj: Option<PathBuf>,
    #[command(flatten)]
    parallel: ParallelArguments,
    /// The address to listen on; others than this machine's own need a key (default: 127.0.0.1)
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// The port; 0 takes a free one (default: 8080)
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// A key that clients must show; may be given several times. BLUELM_API_KEY is not seen by other users of the machine
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
    /// Let requests name pictures by http:// and https:// addresses of the public internet, which are then fetched
    #[arg(long)]
    allow_remote_images: bool,
    /// Most requests that wait; further ones are told to ask again (default: 32)
    #[arg(long, value_name = "N")]
    max_waiting: Option<u32>,
    /// Longest body of a request, in millions of bytes (default: 64)
    #[arg(long, value_name = "MB")]
    max_body_mb: Option<u32>,
    /// Largest picture, in millions of pixels (default: 40)
    #[arg(long, value_name = "MP")]
    max_megapixels: Option<u32>,
    /// Most pictures in a request (default: 16)
    #[arg(long, value_name = "N")]
    max_pictures: Option<u32>,
    /// Memory for the bodies and pictures of all requests together, in millions of bytes (default: 1000)
    #[arg(long, value_name = "MB")]
    max_memory_mb: Option<u32>,
    /// Memory for what one request leaves in the key-value cache, in millions of bytes; pictures get fewer tiles where it
    /// would take more (default: nine tenths of what the system has available)
    #[arg(long, value_name = "MB")]
    max_request_mb: Option<u32>,
    /// Minutes that a picture handed over at /v1/images is kept after its last use (default: 30)
    #[arg(long, value_name = "N")]
    picture_minutes: Option<u32>,
    /// Memory for encoded images that may be asked about again, in millions of bytes (default: 128)
    #[arg(long, value_name = "MB")]
    image_cache_mb: Option<u32>,
    #[command(flatten)]
    keep: KeepArguments,
    /// Threads that compute; answers do not depend on it (default: one for each core)
    #[arg(long, value_name = "N")]
    threads: Option<u32>,
    /// Tiles of an image that are encoded together; more need more memory (default: 4)
    #[arg(long, value_name = "N")]
    tile_batch: Option<u32>,
    /// Hold the encoder's weights in memory, and read the prompt beside the image: sooner done, in more memory
    #[arg(long)]
    keep_encoder: bool,
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
    let settings = arguments.settings()?;
    let config = config(&settings)?;
    let host: IpAddr = match settings.text("host") {
        Some(host) => host.parse().with_context(|| settings.place("host"))?,
        None => [127, 0, 0, 1].into(),
    };
    if !host.is_loopback() && config.keys.is_empty() && !settings.switch("allow_without_key") {
        return Err(OpenToAll(host).into());
    }
    // Before the model, which takes longer: a port in use shows at once.
    let port = settings
        .whole("port")
        .and_then(|port| u16::try_from(port).ok());
    let address = SocketAddr::new(host, port.unwrap_or(8080));
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let model = ModelArgument {
        model: settings.text("model").map(PathBuf::from),
        mmproj: settings.text("mmproj").map(PathBuf::from),
    };
    let engine = engine(&settings, &model)?;
    let cache_bytes = engine.network().cache_bytes_per_token();
    let context = engine.network().shape().context_tokens;
    let requests = count(&settings, "parallel", parallel::DEFAULT_REQUESTS);
    let cache_mb = settings.whole("cache_mb").map(|mega| mega as usize);
    let capacity = parallel::capacity(requests, cache_mb, context, cache_bytes);
    let waiting = count(&settings, "max_waiting", 32);
    let chat = Worker::start(engine, &model.name(), cache_bytes, waiting, capacity);
    let styles = styles_of_stderr();
    let (strong, dim) = (styles.strong, styles.dim);
    let address = listener.local_addr()?;
    eprintln!(
        "{strong}{}{strong:#} listens on {strong}http://{address}{strong:#}",
        model.name()
    );
    eprintln!("{dim}{}{dim:#}", parallel::told(&capacity, cache_bytes));
    eprintln!("{dim}OpenAI base URL: http://{address}/v1; Ctrl-C ends it{dim:#}");
    let _cooperative = interrupt::cooperate();
    server::serve(listener, Arc::new(chat), config, cancel)?;
    Ok(())
}

/// The model, computing and keeping as the settings say.
fn engine(settings: &Settings, model: &ModelArgument) -> anyhow::Result<Engine> {
    let threads = match settings.whole("threads") {
        Some(threads) => Threads::new(usize::try_from(threads)?)?,
        None => Threads::of_all_cores()?,
    };
    let usual = Encoding::default();
    let (weights, overlap) = match settings.switch("keep_encoder") {
        true => (EncoderWeights::Keep, Overlap::Steps),
        false => (EncoderWeights::Release, Overlap::None),
    };
    let encoding = Encoding {
        batch_tiles: count(settings, "tile_batch", usual.batch_tiles),
        weights,
        ..usual
    };
    let keep = KeepArguments {
        image_cache: settings.text("image_cache").map(PathBuf::from),
        image_cache_disk_mb: settings
            .whole("image_cache_disk_mb")
            .and_then(|mb| u32::try_from(mb).ok()),
    };
    let cache_bytes = match settings.whole("image_cache_mb") {
        Some(_) => mega(count(settings, "image_cache_mb", 0)),
        None => USUAL_CACHE_BYTES,
    };
    let engine = model
        .load()?
        .with_threads(threads)
        .with_encoding(encoding)?;
    let mut engine = keep.apply(engine.with_overlap(overlap), cache_bytes)?;
    if let Some(mb) = settings.whole("max_request_mb") {
        engine = engine.with_memory_room(MemoryRoom::Bytes(mb * 1_000_000));
    }
    calibrated::apply(engine)
}

fn config(settings: &Settings) -> anyhow::Result<Config> {
    let body_bytes = mega(count(settings, "max_body_mb", 64));
    let minutes = settings.whole("picture_minutes").unwrap_or(30);
    let mut config = Config::new(Limits {
        body_bytes,
        picture_bytes: body_bytes,
        picture_pixels: settings.whole("max_megapixels").unwrap_or(40) * 1_000_000,
        pictures: count(settings, "max_pictures", 16),
        memory_bytes: mega(count(settings, "max_memory_mb", 1000)),
        picture_life: Duration::from_secs(60 * minutes),
        ..Limits::default()
    });
    config.keys = settings.texts("api_key");
    config.hosts = settings.texts("allow_host");
    config.origins = settings.texts("allow_origin");
    if let Some(folder) = settings.text("media_path") {
        let found = Path::new(folder).canonicalize();
        let place = || format!("{} {folder}", settings.place("media_path"));
        config.media = Some(found.with_context(place)?);
    }
    config.remote = settings.switch("allow_remote_images").then(Remote::default);
    Ok(config)
}

fn count(settings: &Settings, name: &str, usual: usize) -> usize {
    let given = settings.whole(name);
    given.map_or(usual, |given| usize::try_from(given).unwrap_or(usize::MAX))
}

fn mega(count: usize) -> usize {
    count.saturating_mul(1_000_000)
}

impl ServeArguments {
    fn settings(&self) -> anyhow::Result<Settings> {
        let environment = |name: &str| std::env::var(name).ok();
        let named = self.config.clone();
        let named = named.or_else(|| environment("BLUELM_CONFIG").map(PathBuf::from));
        let file = named.or_else(settings::usual_file);
        Settings::read(self.flags(), environment, file.as_deref())
    }

    /// The flags that were given, by the names of the settings.
    fn flags(&self) -> Table {
        let path = |path: &Option<PathBuf>| {
            let path = path.as_ref()?;
            Some(Value::String(path.to_string_lossy().into_owned()))
        };
        let whole = |number: Option<u32>| Some(Value::Integer(number?.into()));
        let texts = |texts: &[String]| {
            let items = texts.iter().map(|text| Value::String(text.clone()));
            (!texts.is_empty()).then(|| Value::Array(items.collect()))
        };
        let switch = |on: bool| on.then_some(Value::Boolean(true));
        let given = [
            ("model", path(&self.model)),
            ("mmproj", path(&self.mmproj)),
            (
                "host",
                self.host.map(|host| Value::String(host.to_string())),
            ),
            ("port", whole(self.port.map(u32::from))),
            ("api_key", texts(&self.keys)),
            ("allow_without_key", switch(self.allow_without_key)),
            ("allow_host", texts(&self.hosts)),
            ("allow_origin", texts(&self.origins)),
            ("media_path", path(&self.media_path)),
            ("allow_remote_images", switch(self.allow_remote_images)),
            ("parallel", whole(self.parallel.parallel)),
            ("cache_mb", whole(self.parallel.cache_mb)),
            ("max_waiting", whole(self.max_waiting)),
            ("max_body_mb", whole(self.max_body_mb)),
            ("max_megapixels", whole(self.max_megapixels)),
            ("max_pictures", whole(self.max_pictures)),
            ("max_memory_mb", whole(self.max_memory_mb)),
            ("max_request_mb", whole(self.max_request_mb)),
            ("picture_minutes", whole(self.picture_minutes)),
            ("image_cache_mb", whole(self.image_cache_mb)),
            ("image_cache", path(&self.keep.image_cache)),
            ("image_cache_disk_mb", whole(self.keep.image_cache_disk_mb)),
            ("threads", whole(self.threads)),
            ("tile_batch", whole(self.tile_batch)),
            ("keep_encoder", switch(self.keep_encoder)),
        ];
        let given = given.into_iter();
        given
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArguments,
    }

    #[test]
    fn every_flag_is_a_setting_and_every_setting_has_a_flag() {
        let line = Line::parse_from([
            "x",
            "--model=m",
            "--mmproj=e",
            "--host=127.0.0.1",
            "--port=1",
            "--api-key=a",
            "--api-key=b",
            "--allow-without-key",
            "--allow-host=h",
            "--allow-origin=o",
            "--media-path=p",
            "--allow-remote-images",
            "--parallel=1",
            "--cache-mb=1",
            "--max-waiting=1",
            "--max-body-mb=1",
            "--max-megapixels=1",
            "--max-pictures=1",
            "--max-memory-mb=1",
            "--max-request-mb=1",
            "--picture-minutes=1",
            "--image-cache-mb=1",
            "--image-cache=c",
            "--image-cache-disk-mb=1",
            "--threads=1",
            "--tile-batch=1",
            "--keep-encoder",
        ]);
        let flags = line.serve.flags();
        let mut names: Vec<&str> = flags.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, settings::names());
        let settings = Settings::read(flags, |_| None, None).unwrap();
        assert_eq!(settings.texts("api_key"), ["a", "b"]);
        assert!(Line::parse_from(["x"]).serve.flags().is_empty());
    }
}
