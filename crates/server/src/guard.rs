//! What stands before every route: the host that a browser believes to talk to, the page that asks, the key; and behind it
//! the headers that every answer has.
//!
//! A page of any site can make a browser send requests to a server on its own machine. Two checks keep it out: `Host` must
//! be an address or a known name, so that a name which an attacker points at 127.0.0.1 (DNS rebinding) leads nowhere; and
//! `Origin`, which browsers send with everything but plain navigation, must be the server's own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::Next;

use crate::app::App;
use crate::config::{Config, secret_name};
use crate::error::{ApiError, Shape};

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Whose a request is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    /// The place of its key among the keys.
    pub owner: Option<usize>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// Only what comes from the server itself is loaded; nothing that a model writes can load or run anything.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The checks before and the headers after.
pub async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match admit(&app.config, &request) {
        Ok(Admitted::Preflight) => preflight(),
        Ok(Admitted::As(owner)) => {
            let address = request.extensions().get().map(|Peer(peer)| peer.ip());
            request.extensions_mut().insert(Client { owner, address });
            next.run(request).await
        }
        Err(error) => error.response(Shape::of_path(&path)),
    };
    app.metrics
        .count_request(route(&path), response.status().as_u16());
    finish(&app.config, origin.as_ref(), response.headers_mut());
    response
}

enum Admitted {
    As(Option<usize>),
    /// A browser asks whether it may ask.
    Preflight,
}

fn admit(config: &Config, request: &Request) -> Result<Admitted, ApiError> {
    let headers = request.headers();
    let host = check_host(config, request)?;
    check_origin(config, headers, host)?;
    if request.method() == Method::OPTIONS
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return Ok(Admitted::Preflight);
    }
    let path = request.uri().path();
    // The page asks for the key itself, and who watches over the server need not have one.
    let open =
        path == "/" || path == "/health" || path == "/favicon.ico" || path.starts_with("/assets/");
    if config.keys.is_empty() || open {
        return Ok(Admitted::As(None));
    }
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let shown = bearer.or_else(|| headers.get("x-api-key").map(HeaderValue::as_bytes));
    let message = match shown {
        None => "a key is needed: Authorization: Bearer KEY",
        Some(shown) => match config.find_key(shown) {
            Some(owner) => return Ok(Admitted::As(Some(owner))),
            None => "the key is wrong",
        },
    };
    Err(ApiError::new(
        StatusCode::UNAUTHORIZED,
        Some("invalid_api_key"),
        message,
    ))
}

fn check_host<'a>(config: &Config, request: &'a Request) -> Result<&'a str, ApiError> {
    let refused = |host: &str| {
        let host: String = host.chars().take(80).collect();
        let message =
            format!("the host {host:?} is not this server's; --allow-host names further ones");
        ApiError::new(StatusCode::FORBIDDEN, Some("wrong_host"), message)
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            None,
            "expected one Host header",
        ));
    };
    let host = host.to_str().map_err(|_| refused("?"))?;
    // A request line may name a host too; it then counts as well.
    let in_line = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    match [Some(host), in_line]
        .into_iter()
        .flatten()
        .find(|host| !is_own_host(config, host))
    {
        Some(wrong) => Err(refused(wrong)),
        None => Ok(host),
    }
}

/// Addresses cannot be pointed elsewhere; names can, so only known ones are taken.
fn is_own_host(config: &Config, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || config
            .hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(&name))
}

fn check_origin(config: &Config, headers: &HeaderMap, host: &str) -> Result<(), ApiError> {
    let refused = || {
        let message = "pages of other sites may not ask; --allow-origin names those that may";
        ApiError::new(StatusCode::FORBIDDEN, Some("wrong_origin"), message)
    };
    let Some(origin) = headers.get(header::ORIGIN) else {
        // Pictures and scripts of another page's are asked for without an origin.
        let says = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
        return match says("sec-fetch-site", "cross-site") && !says("sec-fetch-mode", "navigate") {
            true => Err(refused()),
            false => Ok(()),
        };
    };
    let origin = origin.to_str().map_err(|_| refused())?;
    let own = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    match own == Some(host) || config.origins.iter().any(|allowed| allowed == origin) {
        true => Ok(()),
        false => Err(refused()),
    }
}

fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, DELETE"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, x-api-key, anthropic-version"),
    );
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
    response
}

fn finish(config: &Config, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    for (name, value) in [
        ("content-security-policy", CONTENT_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(&secret_name("req_")) {
        headers.insert("x-request-id", id);
    }
    let allowed = origin.filter(|origin| {
        config
            .origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
    });
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(
            "cross-origin-resource-policy",
            HeaderValue::from_static("cross-origin"),
        );
    }
}

/// The route of a path, for the metrics: ids are left out, and what clients make up is not counted apart.
fn route(path: &str) -> &'static str {
    const ROUTES: [&str; 16] = [
        "/v1/chat/completions/control",
        "/v1/chat/completions/input_tokens",
        "/v1/chat/completions",
        "/v1/responses/input_tokens",
        "/v1/responses",
        "/v1/messages/count_tokens",
        "/v1/messages",
        "/v1/images",
        "/v1/sessions",
        "/v1/explain",
        "/v1/models",
        "/tokenize",
        "/detokenize",
        "/health",
        "/metrics",
        "/assets",
    ];
    let begins = |route: &&str| {
        path.strip_prefix(*route)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match path {
        "/" => "/",
        _ => ROUTES
            .iter()
            .find(|route| begins(route))
            .copied()
            .unwrap_or("other"),
    }
}
