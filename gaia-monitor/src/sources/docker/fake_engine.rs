//! An engine for tests, on a Unix socket, that hangs, fails to inspect, or interrupts its event stream on request.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use serde_json::json;

#[derive(Default)]
struct State {
    containers: Vec<String>,
    /// Inspection fails.
    broken: BTreeSet<String>,
    hung: bool,
    /// A request with this in its path makes the engine hang.
    trap: Option<&'static str>,
    /// Event streams of an earlier number end.
    streams: u32,
    /// An event stream of this number is open.
    open: Option<u32>,
    listings: u32,
}

#[derive(Clone)]
pub struct FakeEngine {
    shared: Arc<(Mutex<State>, Condvar)>,
    place: Arc<tempfile::TempDir>,
}

impl FakeEngine {
    /// Its threads end with the test's process.
    pub fn start(containers: &[&str]) -> Self {
        let place = Arc::new(tempfile::tempdir().unwrap());
        let listener = UnixListener::bind(place.path().join("docker.sock")).unwrap();
        let engine = Self { shared: Arc::default(), place };
        engine.state().containers = containers.iter().map(|id| (*id).to_owned()).collect();
        let serving = engine.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (engine, stream) = (serving.clone(), stream.unwrap());
                std::thread::spawn(move || engine.serve(&stream));
            }
        });
        engine
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.place.path().join("docker.sock").display())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.shared.1.notify_all();
    }

    pub fn hang(&self, hung: bool) {
        self.change(|state| state.hung = hung);
    }

    pub fn hang_at(&self, path: &'static str) {
        self.change(|state| state.trap = Some(path));
    }

    pub fn set_broken(&self, id: &str, broken: bool) {
        self.change(|state| {
            state.broken.remove(id);
            state.broken.extend(broken.then(|| id.to_owned()));
        });
    }

    /// Ends the event stream, once there is one.
    pub fn interrupt_events(&self) {
        let mut state = self.shared.1.wait_while(self.state(), |state| state.open != Some(state.streams)).unwrap();
        state.streams += 1;
        self.shared.1.notify_all();
    }

    pub fn listings(&self) -> u32 {
        self.state().listings
    }

    fn serve(&self, stream: &UnixStream) {
        let mut lines = BufReader::new(stream).lines();
        while let Some(Ok(request)) = lines.next() {
            // Requests of this test have no body.
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            if self.respond(&path, stream).is_err() {
                return;
            }
        }
    }

    fn respond(&self, path: &str, mut stream: &UnixStream) -> std::io::Result<()> {
        let mut state = self.state();
        state.hung |= state.trap.take_if(|trap| path.contains(*trap)).is_some();
        state = self.shared.1.wait_while(state, |state| state.hung).unwrap();
        let inspected = path.split("/containers/").nth(1).and_then(|rest| rest.split("/json").next());
        let (status, body) = if path.contains("/events") {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            )?;
            if !path.contains("until=") {
                let own = state.streams;
                state.open = Some(own);
                self.shared.1.notify_all();
                state = self.shared.1.wait_while(state, |state| state.streams == own).unwrap();
            }
            drop(state);
            return stream.write_all(b"0\r\n\r\n");
        } else if path.contains("/_ping") {
            (200, json!("OK"))
        } else if path.contains("/version") {
            (200, json!({"Version": "29.0.0", "ApiVersion": "1.44", "MinAPIVersion": "1.24"}))
        } else if path.contains("/networks") {
            (200, json!([]))
        } else if path.contains("/containers/json") {
            state.listings += 1;
            let listed = state.containers.iter().map(|id| json!({"Id": id, "Names": [format!("/name-of-{id}")]}));
            (200, listed.collect())
        } else {
            match inspected.filter(|id| state.containers.iter().any(|known| known == id)) {
                Some(id) if state.broken.contains(id) => (500, json!({"message": "getting container: no such file"})),
                Some(id) => (200, json!({"Id": id, "Name": format!("/name-of-{id}"), "State": {"Running": false}})),
                None => (404, json!({"message": "no such container"})),
            }
        };
        drop(state);
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes())
    }
}
