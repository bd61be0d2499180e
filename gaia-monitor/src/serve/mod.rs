//! HTTP server (`--listen`): metrics, health and the latest incidents, on a thread and a runtime of its own.
//!
//! The driver never waits for a client, and no request changes anything. Bounds: [`CONNECTIONS`] in parallel, further ones
//! wait in the accept queue; [`IDLE_TIMEOUT`] for a request to arrive, [`MAX_AGE`] for a connection.

pub mod pages;
pub mod recent;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::stderr::warn;
use pages::Pages;

/// A Prometheus or two, a browser and some scripts.
const CONNECTIONS: usize = 64;
/// Longer than any usual scrape interval, so that a scraper may keep its connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// After it, a connection ends with the response in progress; one that is not read is closed [`GRACE`] later.
const MAX_AGE: Duration = Duration::from_secs(600);
const GRACE: Duration = Duration::from_secs(30);
/// Pause after a failed accept: most likely no descriptor was free.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long the end of a run waits for the server's thread.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; pass --listen an address of this host and a free port")]
pub struct ListenError {
    pub address: SocketAddr,
    source: io::Error,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: Receiver<()>,
}

/// Binds the port, before anything else is started.
///
/// # Errors
/// The port is taken, or the address is not this host's.
pub fn bind(address: SocketAddr) -> Result<StdListener, ListenError> {
    let failed = |source| ListenError { address, source };
    let listener = StdListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

impl Server {
    /// Starts to serve on a thread named `thread`, which calls `begin` first.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        listener: StdListener,
        pages: Pages,
        thread: &str,
        begin: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let (done, ended) = channel();
        std::thread::Builder::new().name(thread.to_owned()).spawn(move || {
            if let Err(error) = begin().and_then(|()| runtime.block_on(serve(listener, pages, stopped))) {
                warn(format_args!("the HTTP server on {address} stopped: {error}"));
            }
            // The receiver may be gone; ignore the error.
            let _ = done.send(());
        })?;
        Ok(Self { address, stop, ended })
    }

    /// The address with the port that the kernel chose, if port 0 was given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // An error means that the thread has ended, which is the condition to wait for.
        let _ = self.ended.recv_timeout(SHUTDOWN_TIMEOUT);
    }
}

async fn serve(listener: StdListener, pages: Pages, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, _)| (stream, permit))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        };
        match accepted {
            Ok((stream, permit)) => drop(tokio::spawn(connection(stream, pages.clone(), permit))),
            // The client disconnected, or no descriptor is free.
            Err(_) => sleep(ACCEPT_RETRY).await,
        }
    }
}

async fn connection(stream: TcpStream, pages: Pages, _permit: OwnedSemaphorePermit) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let response = pages.respond(request.method(), request.uri());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A failed connection is of no interest to the monitor.
    if timeout(MAX_AGE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GRACE, connection).await;
    }
}
