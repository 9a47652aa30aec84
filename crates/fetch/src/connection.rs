//! Questions to a hub: HTTP with the system's proxy settings; a key goes to the hub alone, never to where it redirects to.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use crate::error::FetchError;
use crate::tls;

/// Longest list of a model's files, in bytes.
const MOST_ANSWER_BYTES: u64 = 32 << 20;

/// The way to one hub.
pub(crate) struct Connection {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl Connection {
    /// To an endpoint such as `https://huggingface.co`.
    pub fn new(endpoint: &str, token: Option<String>) -> Result<Connection, FetchError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(5)
            .user_agent("bluelm")
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)));
        if endpoint.starts_with("https:") {
            let failed = |problem: &str| FetchError::NoConnection {
                endpoint: endpoint.into(),
                problem: problem.into(),
            };
            config = config
                .tls_config(encrypted().map_err(failed)?)
                .https_only(true);
        }
        Ok(Connection {
            agent: config.build().into(),
            endpoint: endpoint.trim_end_matches('/').into(),
            token,
        })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks for what lies at `path`, from byte `from` on.
    pub fn get(&self, path: &str, from: u64) -> Result<Response<Body>, FetchError> {
        let mut request = self
            .agent
            .get(format!("{}{path}", self.endpoint))
            .header("Accept-Encoding", "identity");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|error| self.unreachable(&error))
    }

    /// All of a short answer.
    pub fn read(&self, response: Response<Body>) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        let mut body = response.into_body().into_reader().take(MOST_ANSWER_BYTES);
        body.read_to_end(&mut bytes)
            .map_err(|error| self.unreachable(&error))?;
        Ok(bytes)
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> FetchError {
        FetchError::NoConnection {
            endpoint: self.endpoint.clone(),
            problem: error.to_string(),
        }
    }
}

fn encrypted() -> Result<TlsConfig, &'static str> {
    let certificates = tls::certificates();
    if certificates.is_empty() {
        return Err(tls::NO_CERTIFICATES);
    }
    let roots = certificates.iter().map(|certificate| {
        let certificate = Certificate::from_der(certificate);
        certificate.to_owned()
    });
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(tls::provider()?)
        .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
        .build())
}
