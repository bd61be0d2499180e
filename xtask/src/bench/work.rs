//! Workloads of the benchmark: connections that are all reset, and requests on keep-alive connections.
//!
//! Plain threads and blocking sockets leave most of the work to the kernel, so that the cost of the monitor shows. This
//! process runs the host's own traffic; copies of this program run the traffic of containers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};

/// Port of the keep-alive server.
pub const PORT: u16 = 8080;
/// Enough to keep two processors busy.
const KEPT_CONNECTIONS: usize = 2;
/// Read timeout; a workload never waits that long.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

const REQUEST: &[u8] = b"GET /api/v1/answers/42 HTTP/1.1\r\nHost: core:8080\r\nUser-Agent: bench\r\n\
Accept: application/json\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n";
const RESPONSE_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\n\
Content-Length: 256\r\nConnection: keep-alive\r\n\r\n";
const BODY: [u8; 256] = [b'x'; 256];

/// The work of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// Connections over loopback, each reset by its server; prints the rate per second.
    Churn,
    /// Requests to `--server` on keep-alive connections; prints the rate per second.
    KeepAlive,
    /// Responds to requests on [`PORT`] until it is killed.
    Serve,
}

impl Work {
    /// Runs the workload and prints its rate per second.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn work(self, server: Option<SocketAddr>, lasting: Duration) -> Result<()> {
        match self {
            Self::Churn => println!("{}", churn(lasting)?),
            Self::KeepAlive => println!("{}", keep_alive(server.context("no --server")?, lasting)?),
            Self::Serve => serve(&TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("cannot listen")?)?,
        }
        Ok(())
    }
}

/// Rate of connections that are opened, reset by their server, and seen as reset by their client, per second.
///
/// # Errors
/// When a socket fails, or a connection ends in any other way.
pub fn churn(lasting: Duration) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    let address = listener.local_addr().context("no address")?;
    let over = Arc::new(AtomicBool::new(false));
    let resetting = thread::spawn({
        let over = Arc::clone(&over);
        move || reset_all(&listener, &over)
    });
    let counted = count(lasting, || connect_and_be_reset(address));
    over.store(true, Ordering::Relaxed);
    // The server checks the flag after each connection.
    drop(TcpStream::connect(address));
    joined(resetting)??;
    counted
}

fn reset_all(listener: &TcpListener, over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let (stream, _) = listener.accept().context("cannot accept")?;
        let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&stream.as_fd(), sockopt::Linger, &reset).context("cannot set SO_LINGER")?;
    }
    Ok(())
}

fn connect_and_be_reset(address: SocketAddr) -> Result<()> {
    let mut stream = match TcpStream::connect(address) {
        Ok(stream) => stream,
        // The reset may arrive before connect(2) returns.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
        Err(error) => return Err(error).context("cannot connect"),
    };
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => bail!("a connection was not reset but ended with {other:?}"),
    }
}

/// Rate of requests on keep-alive connections to `server`, per second.
///
/// # Errors
/// When a connection fails or a response differs from the expected one.
pub fn keep_alive(server: SocketAddr, lasting: Duration) -> Result<f64> {
    let clients: Vec<JoinHandle<Result<f64>>> =
        (0..KEPT_CONNECTIONS).map(|_| thread::spawn(move || request_all(server, lasting))).collect();
    let mut rate = 0.0;
    for client in clients {
        rate += joined(client)??;
    }
    Ok(rate)
}

/// The same with a server in this process.
///
/// # Errors
/// As [`keep_alive`].
pub fn keep_alive_here(lasting: Duration) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    let address = listener.local_addr().context("no address")?;
    let server = thread::spawn(move || {
        let handlers: Vec<JoinHandle<()>> = (0..KEPT_CONNECTIONS)
            .filter_map(|_| listener.accept().ok())
            .map(|(stream, _)| thread::spawn(move || respond_all(stream)))
            .collect();
        handlers.into_iter().try_for_each(joined)
    });
    let rate = keep_alive(address, lasting)?;
    joined(server)??;
    Ok(rate)
}

fn request_all(server: SocketAddr, lasting: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect(server).context("cannot connect")?;
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    stream.set_read_timeout(Some(READ_TIMEOUT)).context("cannot set a timeout")?;
    let mut response = vec![0; RESPONSE_HEAD.len() + BODY.len()];
    count(lasting, || {
        stream.write_all(REQUEST).context("cannot send a request")?;
        stream.read_exact(&mut response).context("no response")?;
        ensure!(response.starts_with(RESPONSE_HEAD), "unexpected response");
        Ok(())
    })
}

fn serve(listener: &TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().context("cannot accept")?;
        thread::spawn(move || respond_all(stream));
    }
}

/// Responds to every request of a connection until the client closes it.
fn respond_all(mut stream: TcpStream) {
    let response = [RESPONSE_HEAD, &BODY].concat();
    let mut request = [0; REQUEST.len()];
    // Nagle's algorithm would wait for delayed acknowledgements of the client.
    if stream.set_nodelay(true).is_ok() {
        while stream.read_exact(&mut request).and_then(|()| stream.write_all(&response)).is_ok() {}
    }
}

/// Rate of calls of `once`, per second.
fn count(lasting: Duration, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    let mut times = 0_u32;
    while started.elapsed() < lasting {
        once()?;
        times = times.saturating_add(1);
    }
    Ok(f64::from(times) / started.elapsed().as_secs_f64())
}

fn joined<T>(thread: JoinHandle<T>) -> Result<T> {
    thread.join().map_err(|_| anyhow::anyhow!("a thread of the workload panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_connections_that_are_reset() {
        assert!(churn(Duration::from_millis(50)).unwrap() > 0.0);
    }

    #[test]
    fn counts_requests_on_kept_connections() {
        assert!(keep_alive_here(Duration::from_millis(50)).unwrap() > 0.0);
    }
}
