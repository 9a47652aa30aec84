//! Sockets: connections taken, each with its time limits, and an orderly end.

use std::io;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use engine::Cancel;
use futures_util::future::{Either, select};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::ServiceExt;

use crate::app::app;
use crate::chat::Chat;
use crate::config::{Config, Limits};
use crate::guard::Peer;

/// How often the switch is looked at.
const WATCH_TIME: Duration = Duration::from_millis(50);
/// Longest head of a request; also how much of a body is read ahead.
const BUFFER_BYTES: usize = 64 << 10;

/// Serves until `stop` is thrown or SIGTERM comes; then takes no more connections, lets running requests end within the
/// grace time, and cancels what is left.
pub fn serve(
    listener: TcpListener,
    chat: Arc<dyn Chat>,
    config: Config,
    stop: &Cancel,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(run(listener, chat, config, stop));
    // Threads that decode pictures for clients that are gone.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn run(
    listener: TcpListener,
    chat: Arc<dyn Chat>,
    config: Config,
    stop: &Cancel,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let limits = config.limits.clone();
    let router = app(chat.clone(), config);
    let places = Arc::new(Semaphore::new(limits.connections));
    let (ending, told) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stopped = pin!(stopped(stop)?);
    loop {
        let accepted = pin!(async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        });
        match select(stopped.as_mut(), accepted).await {
            Either::Left(_) => break,
            Either::Right(((Ok((stream, address)), place), _)) => {
                let connection = connection(
                    stream,
                    Peer(address),
                    router.clone(),
                    limits.clone(),
                    told.clone(),
                );
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            // Out of file descriptors, or a connection that is gone already: neither is an end.
            Either::Right(((Err(_), _), _)) => sleep(WATCH_TIME).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let _ = ending.send(());
    let all = |connections: &mut JoinSet<()>| {
        let mut connections = std::mem::take(connections);
        async move {
            while connections.join_next().await.is_some() {}
            connections
        }
    };
    let mut last = pin!(all(&mut connections));
    if timeout(limits.grace_time, last.as_mut()).await.is_err() {
        chat.stop();
        // Time to tell the clients.
        let _ = timeout(Duration::from_secs(1), last).await;
    }
    chat.stop();
    Ok(())
}

/// Until the switch is thrown or the system asks the program to end.
fn stopped(stop: &Cancel) -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        let thrown = pin!(async {
            while !stop.is_cancelled() {
                sleep(WATCH_TIME).await;
            }
        });
        #[cfg(unix)]
        select(thrown, pin!(terminate.recv())).await;
        #[cfg(not(unix))]
        thrown.await;
    })
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    limits: Limits,
    mut told: watch::Receiver<()>,
) {
    // Small events are to leave at once.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let io = TokioIo::new(Impatient::new(stream, limits.write_time));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    // How a connection ended is nobody's news.
    if let Either::Right(_) = select(connection.as_mut(), pin!(told.changed())).await {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// A connection whose other end must take what it is sent, or is given up.
struct Impatient {
    stream: TcpStream,
    patience: Duration,
    /// When a write that waits is given up; none while nothing waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        Impatient {
            stream,
            patience,
            deadline: None,
        }
    }

    fn watch<T>(
        &mut self,
        poll: Poll<io::Result<T>>,
        context: &mut Context,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.deadline = None;
            return poll;
        }
        let patience = self.patience;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(poll, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(poll, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(poll, context)
    }
}
