//! The server against slow and hostile clients: real sockets on loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::pages::Pages;
use super::recent::Recent;
use super::{MAX_HEAD, Server, bind};
use crate::daemon::health::Health;
use crate::model::ids::IncidentId;
use crate::model::incident::Incident;
use crate::output::metrics::{Metrics, Readings};
use crate::output::test_fixtures;

/// A client that is locked out waits for the timeouts of others, 10 s and more.
const AT_ONCE: Duration = Duration::from_secs(5);
const SLOW_CLIENTS: usize = 1_000;
/// Held by a test that loads the machine.
static ALONE: Mutex<()> = Mutex::new(());

fn server() -> Server {
    let metrics = Metrics::new("0", "0", crate::model::time::Stamp(0), Readings::default);
    let recent = Recent::default();
    for number in 0..1_000 {
        recent.keep(&Incident { id: IncidentId(format!("inc-{number}")), ..test_fixtures::killed() }).unwrap();
    }
    let pages = Pages { metrics: metrics.handle(), health: Arc::new(Health::default()), recent };
    Server::start(bind("127.0.0.1:0".parse().unwrap()).unwrap(), pages, "test-server", || Ok(())).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, AT_ONCE).unwrap();
    stream.set_read_timeout(Some(AT_ONCE)).unwrap();
    stream
}

fn request(stream: &mut TcpStream, path: &str, close: bool) {
    let end = if close { "Connection: close\r\n" } else { "" };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n{end}\r\n").unwrap();
}

/// One scrape over a connection of its own; returns its duration.
fn scrape(address: SocketAddr) -> Duration {
    let begun = Instant::now();
    let mut stream = connect(address);
    request(&mut stream, "/metrics", true);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    begun.elapsed()
}

/// Room for both ends of every connection.
fn allow_many_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most.min(8_192), most).unwrap();
}

#[test]
fn a_scrape_succeeds_at_once_while_a_thousand_slow_clients_are_connected() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    allow_many_files();
    let server = server();
    let address = server.address();
    let slow: Vec<_> = (0..SLOW_CLIENTS)
        .map(|number| {
            let mut stream = connect(address);
            match number % 4 {
                // Silent.
                0 => {}
                // A header section without an end.
                1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nX-A: ").unwrap(),
                // A response that is not read.
                2 => request(&mut stream, "/incidents?limit=1000", false),
                // Idle after a response.
                _ => request(&mut stream, "/healthz", false),
            }
            stream
        })
        .collect();
    let longest = (0..20).map(|_| scrape(address)).max().unwrap();
    println!("the longest of 20 scrapes: {longest:?}");
    assert!(longest < AT_ONCE);
    drop(slow);
}

#[test]
fn scrapes_succeed_while_clients_connect_again_and_again() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = server();
    let address = server.address();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut open = std::collections::VecDeque::new();
                while !ended.load(Ordering::Relaxed) {
                    open.extend(TcpStream::connect_timeout(&address, AT_ONCE));
                    if open.len() > 100 {
                        open.pop_front();
                    }
                }
            });
        }
        // A panic must end the clients as well.
        let scrapes = std::panic::catch_unwind(|| (0..50).map(|_| scrape(address)).max());
        ended.store(true, Ordering::Relaxed);
        println!("the longest of 50 scrapes: {:?}", scrapes.unwrap());
    });
}

#[test]
fn a_kept_connection_serves_request_after_request() {
    let server = server();
    let mut stream = connect(server.address());
    let mut answer = [0; 4_096];
    for _ in 0..3 {
        request(&mut stream, "/healthz", false);
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200") && answer[..length].ends_with(b"ok\n"));
    }
}

#[test]
fn a_header_section_beyond_the_bound_is_refused() {
    let server = server();
    let mut stream = connect(server.address());
    let long = format!("GET /metrics HTTP/1.1\r\nX-A: {}", "a".repeat(MAX_HEAD * 2));
    // The server may have closed before the last byte.
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
