//! Pictures from the network, where the server was told to fetch them (`--allow-remote-images`).
//!
//! Whoever may make a server fetch addresses may ask it for what only the server can reach: the router, the cloud's metadata,
//! other programs of the machine. So a host is resolved once, every one of its addresses must belong to the public internet,
//! and the connection goes to one of those very addresses, whatever the name means a moment later (DNS rebinding). Each
//! redirect, of which there are few, passes the same checks; `https` never leads to `http`. Length and time are bounded. No
//! key, cookie or referrer is sent.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, Uri};
use serde_json::{Map, Value as Json};
use tokio::time::{Instant, timeout_at};

use crate::config::Limits;
use crate::error::ApiError;
use crate::pictures::Fetched;
use crate::room::Room;

mod address;
mod client;

pub use address::is_global;

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 3;
/// Longest address.
const MOST_ADDRESS_BYTES: usize = 2048;

/// The way to other machines: what tests put something else in place of.
pub trait Reach: Send + Sync + Debug {
    /// The addresses of a host. May take its time: it is called where that is allowed.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }

    /// Whether a connection to this address may be opened.
    fn may_connect(&self, address: IpAddr) -> bool {
        is_global(address)
    }
}

/// The system's resolver, and addresses of the public internet only.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublicInternet;

impl Reach for PublicInternet {}

/// How pictures are fetched.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The way to other machines.
    pub reach: Arc<dyn Reach>,
    /// For all pictures of a request together.
    pub time: Duration,
}

impl Default for Remote {
    fn default() -> Self {
        Remote {
            reach: Arc::new(PublicInternet),
            time: Duration::from_secs(10),
        }
    }
}

/// Where a picture lies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    scheme: Scheme,
    host: String,
    port: u16,
    /// Path and query.
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// What an address answered.
enum Answered {
    Picture(Vec<u8>),
    Elsewhere(String),
}

/// Fetches all pictures that a body names by an address of the network.
pub async fn fetch_all(
    remote: &Remote,
    limits: &Limits,
    body: &Map<String, Json>,
    room: &mut Room,
) -> Fetched {
    let mut fetched = HashMap::new();
    let until = Instant::now() + remote.time;
    for address in addresses(body, limits.pictures) {
        let picture = fetch(remote, limits, &address, room);
        let picture = timeout_at(until, picture).await.unwrap_or_else(|_| {
            let seconds = remote.time.as_secs_f32();
            Err(failed(&format!("it took longer than {seconds} seconds")))
        });
        fetched.insert(address, picture);
    }
    fetched
}

/// The addresses of pictures in a body: at most so many, for more are refused later.
fn addresses(body: &Map<String, Json>, most: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut left: Vec<&Json> = body.values().collect();
    while let Some(json) = left.pop() {
        match json {
            Json::Array(items) => left.extend(items),
            Json::Object(object) => {
                let kind = object.get("type").and_then(Json::as_str);
                if matches!(kind, Some("image_url" | "input_image" | "image")) {
                    let inner = object.get("image_url").or_else(|| object.get("source"));
                    let address = inner
                        .and_then(|inner| inner.as_str().or_else(|| inner.get("url")?.as_str()));
                    found.extend(address.filter(|it| is_remote(it)).map(str::to_owned));
                } else {
                    left.extend(object.values());
                }
            }
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    found.truncate(most);
    found
}

/// Whether an address is of the network.
pub fn is_remote(address: &str) -> bool {
    let begins = |scheme: &str| {
        address
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    begins("http://") || begins("https://")
}

async fn fetch(
    remote: &Remote,
    limits: &Limits,
    address: &str,
    room: &mut Room,
) -> Result<Vec<u8>, ApiError> {
    let mut target = Target::parse(address)?;
    for _ in 0..=MOST_REDIRECTS {
        let pinned = pin(remote, &target).await?;
        match client::get(&target, &pinned, limits.picture_bytes, room).await? {
            Answered::Picture(bytes) => return Ok(bytes),
            Answered::Elsewhere(location) => target = target.follow(&location)?,
        }
    }
    Err(failed(&format!("more than {MOST_REDIRECTS} redirects")))
}

/// The addresses of a target's host, all of which may be connected to.
async fn pin(remote: &Remote, target: &Target) -> Result<Vec<SocketAddr>, ApiError> {
    let (reach, host, port) = (remote.reach.clone(), target.host.clone(), target.port);
    let resolved = tokio::task::spawn_blocking(move || reach.resolve(&host, port)).await;
    let addresses = match resolved {
        Ok(Ok(addresses)) if !addresses.is_empty() => addresses,
        _ => return Err(failed("its host is not known")),
    };
    // One that is private among public ones is an attempt, not a mistake.
    match addresses
        .iter()
        .all(|address| remote.reach.may_connect(address.ip()))
    {
        true => Ok(addresses),
        false => Err(refused("the address does not lead to the public internet")),
    }
}

impl Target {
    fn parse(address: &str) -> Result<Self, ApiError> {
        let wrong = || refused("expected http:// or https://, a host, and a path");
        if address.len() > MOST_ADDRESS_BYTES {
            return Err(refused("an address of more than 2048 bytes"));
        }
        let address = address.split('#').next().unwrap_or_default();
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(refused("an address with a user's name"));
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = uri.port_u16();
        // A port beyond 65,535 is none to the parser.
        let has_odd_port = port.is_none() && authority.as_str() != authority.host();
        if host.is_empty() || has_odd_port {
            return Err(wrong());
        }
        let usual = match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        Ok(Target {
            scheme,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(usual),
            path: uri
                .path_and_query()
                .map_or("/".into(), |path| path.as_str().to_owned()),
        })
    }

    /// Where a redirect leads.
    fn follow(&self, location: &str) -> Result<Self, ApiError> {
        let name = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let address = if is_remote(location) {
            location.to_owned()
        } else if location.contains("://") {
            return Err(refused("a redirect to something that is not http"));
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{name}://{rest}")
        } else {
            let folder = self
                .path
                .split('?')
                .next()
                .and_then(|path| path.rsplit_once('/'));
            let path = match location.strip_prefix('/') {
                Some(rest) => format!("/{rest}"),
                None => format!("{}/{location}", folder.map_or("", |(folder, _)| folder)),
            };
            format!("{name}://{}{path}", self.authority())
        };
        let target = Target::parse(&address)?;
        match (self.scheme, target.scheme) {
            (Scheme::Https, Scheme::Http) => Err(refused("a redirect from https to http")),
            _ => Ok(target),
        }
    }

    /// Host and port as they stand in an address.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// An address that is not fetched.
fn refused(message: &str) -> ApiError {
    let message = format!("the picture is not fetched: {message}");
    ApiError::new(StatusCode::BAD_REQUEST, Some("invalid_image_url"), message)
}

/// An address that could not be fetched.
fn failed(message: &str) -> ApiError {
    let message = format!("the picture could not be fetched: {message}");
    ApiError::new(
        StatusCode::BAD_REQUEST,
        Some("failed_to_download_image"),
        message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: &str) -> Target {
        Target::parse(address).unwrap()
    }

    #[test]
    fn an_address_has_scheme_host_port_and_path() {
        let parsed = target("HTTPS://Example.org/a/b.png?x=1#part");
        assert_eq!(parsed.scheme, Scheme::Https);
        assert_eq!((parsed.host.as_str(), parsed.port), ("example.org", 443));
        assert_eq!(parsed.path, "/a/b.png?x=1");
        let parsed = target("http://[::1]:8080");
        assert_eq!((parsed.host.as_str(), parsed.port), ("::1", 8080));
        assert_eq!(
            (parsed.path.as_str(), parsed.authority().as_str()),
            ("/", "[::1]:8080")
        );
        for wrong in [
            "http://",
            "http:///x",
            "http://a b/",
            "http://user:secret@example.org/",
            "http://example.org\\@127.0.0.1/",
            "ftp://example.org/",
            "http://example.org:99999/",
            "http://ex\u{e4}mple.org/",
        ] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Target::parse(&format!("http://a/{}", "x".repeat(2048))).is_err());
    }

    #[test]
    fn a_redirect_leads_where_it_says_but_never_from_https_to_http() {
        let from = target("https://example.org/a/b.png?x=/y/");
        for (location, host, path) in [
            ("https://other.org/c", "other.org", "/c"),
            ("//other.org/c", "other.org", "/c"),
            ("/c", "example.org", "/c"),
            ("c.png", "example.org", "/a/c.png"),
        ] {
            let to = from.follow(location).unwrap();
            assert_eq!(
                (to.host.as_str(), to.path.as_str()),
                (host, path),
                "{location}"
            );
        }
        for wrong in [
            "http://example.org/",
            "file:///etc/passwd",
            "gopher://example.org/",
        ] {
            assert!(from.follow(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_found_where_pictures_stand_and_nowhere_else() {
        let body = serde_json::json!({
            "instructions": "http://not.a/picture",
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": "http://not.a/picture"},
                {"type": "image_url", "image_url": {"url": "http://a/1"}},
                {"type": "input_image", "image_url": "HTTPS://a/2"},
                {"type": "image", "source": {"type": "url", "url": "http://a/3"}},
                {"type": "image_url", "image_url": {"url": "data:,x"}},
                {"type": "image_url", "image_url": {"url": "http://a/1"}},
            ]}],
        });
        let found = |most| addresses(body.as_object().unwrap(), most);
        assert_eq!(found(9), ["HTTPS://a/2", "http://a/1", "http://a/3"]);
        assert_eq!(found(2).len(), 2);
    }
}
