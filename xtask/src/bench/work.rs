//! What the monitor is measured against: connections that all end in a reset, and requests on kept connections.
//!
//! Plain threads and blocking sockets: the work is the kernel's, so what the monitor adds to it shows. Runs in this very
//! process for the host's own traffic, and in containers by the same program.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};

/// Where the server of the keep-alive work listens.
pub const PORT: u16 = 8080;
/// As many as keep two processors busy.
const KEPT_CONNECTIONS: usize = 2;
/// A peer that says nothing for so long is broken.
const PATIENCE: Duration = Duration::from_secs(10);

const REQUEST: &[u8] = b"GET /api/v1/answers/42 HTTP/1.1\r\nHost: core:8080\r\nUser-Agent: bench\r\n\
Accept: application/json\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n";
const ANSWER_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\n\
Content-Length: 256\r\nConnection: keep-alive\r\n\r\n";
const BODY: [u8; 256] = [b'x'; 256];

/// One piece of work that a process is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// Connections over loopback, each ended by its server with a reset; prints how many a second.
    Churn,
    /// Requests to `--server` on kept connections; prints how many a second.
    KeepAlive,
    /// Answers requests on [`PORT`] until it is ended.
    Serve,
}

impl Work {
    /// Does it, and says on standard output how many a second.
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

/// Connections a second that are opened, reset by their server, and seen to be reset.
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
    // The server looks at the flag after each connection.
    drop(TcpStream::connect(address));
    joined(resetting)??;
    counted
}

fn reset_all(listener: &TcpListener, over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let (stream, _) = listener.accept().context("cannot accept")?;
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&stream.as_fd(), sockopt::Linger, &at_once).context("cannot set SO_LINGER")?;
    }
    Ok(())
}

fn connect_and_be_reset(address: SocketAddr) -> Result<()> {
    let mut stream = match TcpStream::connect(address) {
        Ok(stream) => stream,
        // Reset before the client had its turn: a reset all the same.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
        Err(error) => return Err(error).context("cannot connect"),
    };
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => bail!("a connection did not end in a reset but with {other:?}"),
    }
}

/// Requests a second, over kept connections to `server`.
///
/// # Errors
/// When a connection fails or an answer is another than expected.
pub fn keep_alive(server: SocketAddr, lasting: Duration) -> Result<f64> {
    let clients: Vec<JoinHandle<Result<f64>>> =
        (0..KEPT_CONNECTIONS).map(|_| thread::spawn(move || ask(server, lasting))).collect();
    let mut rate = 0.0;
    for client in clients {
        rate += joined(client)??;
    }
    Ok(rate)
}

/// The same with a server of this process.
///
/// # Errors
/// As [`keep_alive`].
pub fn keep_alive_here(lasting: Duration) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    let address = listener.local_addr().context("no address")?;
    let answering = thread::spawn(move || {
        let answering: Vec<JoinHandle<()>> = (0..KEPT_CONNECTIONS)
            .filter_map(|_| listener.accept().ok())
            .map(|(stream, _)| thread::spawn(move || answer_all(stream)))
            .collect();
        answering.into_iter().try_for_each(joined)
    });
    let rate = keep_alive(address, lasting)?;
    joined(answering)??;
    Ok(rate)
}

fn ask(server: SocketAddr, lasting: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect(server).context("cannot connect")?;
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot set a timeout")?;
    let mut answer = vec![0; ANSWER_HEAD.len() + BODY.len()];
    count(lasting, || {
        stream.write_all(REQUEST).context("cannot ask")?;
        stream.read_exact(&mut answer).context("no answer")?;
        ensure!(answer.starts_with(ANSWER_HEAD), "another answer than expected");
        Ok(())
    })
}

fn serve(listener: &TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().context("cannot accept")?;
        thread::spawn(move || answer_all(stream));
    }
}

/// Until the client leaves.
fn answer_all(mut stream: TcpStream) {
    let answer = [ANSWER_HEAD, &BODY].concat();
    let mut request = [0; REQUEST.len()];
    // Nagle's algorithm would wait for acknowledgements that the client delays.
    if stream.set_nodelay(true).is_ok() {
        while stream.read_exact(&mut request).and_then(|()| stream.write_all(&answer)).is_ok() {}
    }
}

/// Calls a second that `once` allows.
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
    fn every_connection_of_the_churn_ends_in_a_reset_and_is_counted() {
        assert!(churn(Duration::from_millis(50)).unwrap() > 0.0);
    }

    #[test]
    fn requests_are_answered_on_kept_connections() {
        assert!(keep_alive_here(Duration::from_millis(50)).unwrap() > 0.0);
    }
}
