//! `--listen`: metrics, health and the latest incidents over HTTP/1.1, on a thread and a runtime of its own.
//!
//! Whoever asks is never waited for by the belt, and never acts on anything. Bounds: [`CONNECTIONS`] at once, further
//! ones wait to be accepted; [`IDLE`] for a request to arrive, [`LIFE`] for a connection.

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

use crate::sinks::notice::warn;
use pages::Pages;

/// A Prometheus or two, a browser and some scripts.
const CONNECTIONS: usize = 64;
/// Longer than any usual scrape interval, so that a scraper may keep its connection.
const IDLE: Duration = Duration::from_secs(90);
/// Then a connection ends after the answer that is under way; one that is not read is cut [`GRACE`] later.
const LIFE: Duration = Duration::from_secs(600);
const GRACE: Duration = Duration::from_secs(30);
/// Out of descriptors, most likely: a moment later there may be some.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// How long the end of a run waits for the server's thread.
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; give --listen an address of this host and a port that is free")]
pub struct ListenError {
    pub address: SocketAddr,
    source: io::Error,
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: Receiver<()>,
}

/// Takes the port, before anything else is touched.
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
    /// Starts to serve, from a thread that is called `thread` and begins with `begin`.
    ///
    /// # Errors
    /// When the system has no thread to give.
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
                warn(format_args!("the server on {address} has ended: {error}"));
            }
            // The run may have stopped waiting.
            let _ = done.send(());
        })?;
        Ok(Self { address, stop, ended })
    }

    /// Where it listens: with the port that the system chose, if it was to choose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // An error means that the thread is gone, which is what is waited for.
        let _ = self.ended.recv_timeout(FAREWELL);
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
            // The client left, or there is no descriptor for it.
            Err(_) => sleep(AFTER_FAILURE).await,
        }
    }
}

async fn connection(stream: TcpStream, pages: Pages, _permit: OwnedSemaphorePermit) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let answer = pages.answer(request.method(), request.uri());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A connection that fails is its client's affair.
    if timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GRACE, connection).await;
    }
}
