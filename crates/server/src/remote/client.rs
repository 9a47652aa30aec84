//! One request to an address that was checked: HTTP/1.1, with TLS for `https`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Answered, Scheme, Target, failed};
use crate::error::ApiError;
use crate::room::Room;

/// Gets what lies at a target from the first of these addresses that takes a connection.
pub async fn get(
    target: &Target,
    pinned: &[SocketAddr],
    most_bytes: usize,
    room: &mut Room,
) -> Result<Answered, ApiError> {
    let stream = TcpStream::connect(pinned).await;
    let stream = stream.map_err(|_| failed("its host takes no connection"))?;
    match target.scheme {
        Scheme::Http => ask(stream, target, most_bytes, room).await,
        Scheme::Https => {
            ask(
                tls::connect(stream, &target.host).await?,
                target,
                most_bytes,
                room,
            )
            .await
        }
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
    most_bytes: usize,
    room: &mut Room,
) -> Result<Answered, ApiError> {
    let broken = |_| failed("its host does not answer as it should");
    let shaken = http1::Builder::new()
        .max_buf_size(64 << 10)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream));
    let (mut sender, connection) = shaken.await.map_err(broken)?;
    // Ends with the sender.
    let work = tokio::spawn(connection);
    let request = request(target).ok_or_else(|| failed("its host has an odd name"))?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        read(response, most_bytes, room).await
    };
    let answered = answered.await;
    work.abort();
    answered
}

fn request(target: &Target) -> Option<Request<Empty<Bytes>>> {
    let host = HeaderValue::from_str(&target.authority()).ok()?;
    Request::get(target.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, "bluelm")
        .header(header::ACCEPT, "image/*")
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Empty::new())
        .ok()
}

async fn read(
    response: Response<Incoming>,
    most_bytes: usize,
    room: &mut Room,
) -> Result<Answered, ApiError> {
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        return match location {
            Some(location) => Ok(Answered::Elsewhere(location.to_owned())),
            None => Err(failed("a redirect to nowhere")),
        };
    }
    if status != StatusCode::OK {
        return Err(failed(&format!("its host answered {}", status.as_u16())));
    }
    let too_long = || {
        let message = format!("more than {most_bytes} bytes");
        failed(&message).with_code("image_file_too_large")
    };
    let announced = response.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most_bytes) {
        return Err(too_long());
    }
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| failed("it broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > most_bytes {
            return Err(too_long());
        }
        room.take(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(Answered::Picture(bytes))
}

/// TLS with the system's certificates.
mod tls {
    use fetch::tls;
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::*;

    pub async fn connect(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, ApiError> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| failed("its host has an odd name"))?;
        let connector = TlsConnector::from(config().map_err(failed)?);
        let connected = connector.connect(name, stream).await;
        connected.map_err(|_| failed("its host cannot prove who it is"))
    }

    fn config() -> Result<Arc<ClientConfig>, &'static str> {
        static CONFIG: OnceLock<Result<Arc<ClientConfig>, &'static str>> = OnceLock::new();
        let make = || {
            let config = ClientConfig::builder_with_provider(tls::provider()?)
                .with_safe_default_protocol_versions()
                .map_err(|_| "this program speaks no version of TLS")?
                .with_root_certificates(tls::roots()?.clone())
                .with_no_client_auth();
            Ok(Arc::new(config))
        };
        CONFIG.get_or_init(make).clone()
    }
}
