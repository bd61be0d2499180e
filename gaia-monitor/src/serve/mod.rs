//! HTTP server (`--listen`): metrics, health and the latest incidents, on a thread and a runtime of its own.
//!
//! The driver never waits for a client, no client waits for another one, and no request changes anything. Bounds: the
//! number of connections and their time without progress ([`connections`]), [`MAX_AGE`] for a connection, [`MAX_HEAD`] for
//! a header section.

mod connections;
pub mod pages;
pub mod recent;
mod stream;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use nix::sys::socket::{Backlog, listen};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until};

use crate::stderr::warn;
use connections::{Connection, Connections};
use pages::Pages;
use stream::WatchedStream;

/// Bytes of a request's header section; a scraper's has some hundred.
const MAX_HEAD: usize = 16 << 10;
/// Connections that may wait for the accept loop.
const BACKLOG: i32 = 1_024;
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
    // The standard library's backlog is 128: in a flood of connections, a scraper's SYN is dropped and comes again after 1 s.
    let backlog = Backlog::new(BACKLOG).map_err(|error| failed(error.into()))?;
    listen(&listener, backlog).map_err(|error| failed(error.into()))?;
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
    let connections = Connections::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connections.admit(Instant::now());
                let id = connection.id();
                let task = tokio::spawn(serve_connection(stream, pages.clone(), connection));
                connections.attach(id, task.abort_handle());
                // A client whose request has arrived is answered before further clients can push it out.
                yield_now().await;
            }
            // The client disconnected, or no descriptor is free.
            Err(error) => {
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    connections.evict();
                }
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, pages: Pages, connection: Connection) {
    let connection = Arc::new(connection);
    let requested = Arc::clone(&connection);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        requested.requested(Instant::now());
        let response = pages.respond(request.method(), request.uri());
        async move { Ok::<_, Infallible>(response) }
    });
    // hyper's own timeout of a header section would also count the time between two requests.
    let served = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(WatchedStream::new(stream, Arc::clone(&connection)), service);
    tokio::pin!(served);
    let mut end = Instant::now() + MAX_AGE;
    let mut ending = false;
    // Without an entry it has been evicted.
    while let Some(deadline) = connection.deadline() {
        tokio::select! {
            // A failed connection is of no interest to the monitor.
            _ = served.as_mut() => return,
            () = sleep_until(deadline.min(end).into()) => {}
        }
        let now = Instant::now();
        if connection.deadline().is_none_or(|deadline| deadline <= now) || (ending && end <= now) {
            return;
        }
        if end <= now {
            served.as_mut().graceful_shutdown();
            (ending, end) = (true, now + GRACE);
        }
    }
}

#[cfg(test)]
mod tests;
