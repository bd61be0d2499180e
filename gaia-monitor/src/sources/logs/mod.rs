//! Logs of containers, read from Docker when the engine requests them: the last lines of the subject, and the lines of a
//! client that name an error.
//!
//! Logs are not followed, and nothing waits: a request that finds no room is dropped and counted at `logs`. Docker's own
//! timestamps are kept. The log of a dead container is readable until the container is removed.

mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::model::event::{Fact, LogLine, LogStream, LogsUnread, Observation};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;

use crate::sources::docker;
use crate::stderr::warn;
use crate::wire::log_line;

/// The stage of requests that were dropped, or to which Docker did not respond.
pub const STAGE: &str = "logs";

/// Concurrent requests. Docker reads a log file in a few milliseconds; a flood of incidents must not flood Docker.
const CONCURRENT: usize = 8;
/// LineSelection that Docker returns for one request, from the end.
const TAIL: &str = "500";
/// LineSelection that arrive later than this miss the incident; on a loaded host, Docker takes seconds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Containers whose last line is remembered. Beyond, lines are read again, and the engine drops those that it knows.
const CONTAINERS: usize = 4_096;

/// Which lines of a container are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineSelection {
    /// The last ones.
    All,
    /// Those that name an error of an HTTP client.
    Errors,
}

/// A request for the lines of one container.
#[derive(Clone, Debug)]
pub struct LogRequest {
    pub container: ContainerId,
    pub lines: LineSelection,
    pub since: Stamp,
}

/// Why a log could not be read.
#[derive(Debug)]
enum ReadError {
    /// The log driver stores nothing that Docker could return.
    Unreadable(String),
    Gone,
    /// Docker did not respond.
    Other,
}

pub struct Source {
    host: Option<String>,
    docker: Option<Docker>,
    clock: Arc<Clock>,
    sender: EventSender,
    requests: mpsc::Receiver<LogRequest>,
    /// Instant of the last line sent, by container.
    read_until: BTreeMap<(ContainerId, LineSelection), Stamp>,
    /// Containers whose logs cannot be read, each reported once.
    unread: BTreeSet<ContainerId>,
}

impl Source {
    #[must_use]
    pub fn new(
        host: Option<String>,
        clock: Arc<Clock>,
        sender: EventSender,
        requests: mpsc::Receiver<LogRequest>,
    ) -> Self {
        Self { host, docker: None, clock, sender, requests, read_until: BTreeMap::new(), unread: BTreeSet::new() }
    }

    /// Ends when the sender of requests is dropped.
    pub async fn run(mut self) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some((request, result)) = in_flight.next() => self.complete(request, result),
                request = self.requests.recv(), if in_flight.len() < CONCURRENT => {
                    let Some(mut request) = request else { return };
                    if self.unread.contains(&request.container) {
                        continue;
                    }
                    let until = self.read_until.get(&(request.container.clone(), request.lines)).copied();
                    request.since = until.map_or(request.since, |until| until.max(request.since));
                    let Some(docker) = self.docker().await else {
                        self.sender.lost(STAGE, 1);
                        continue;
                    };
                    in_flight.push(async move {
                        let result = timeout(TIMEOUT, read(&docker, &request)).await;
                        (request, result.unwrap_or(Err(ReadError::Other)))
                    });
                }
            }
        }
    }

    /// One client for all requests; created again after Docker was unreachable.
    async fn docker(&mut self) -> Option<Docker> {
        if self.docker.is_none() {
            self.docker = docker::connect(self.host.as_deref()).await.ok();
        }
        self.docker.clone()
    }

    fn complete(&mut self, request: LogRequest, result: Result<Vec<(Stamp, LogLine)>, ReadError>) {
        match result {
            Ok(mut lines) => {
                if self.read_until.len() >= CONTAINERS {
                    self.read_until.pop_first();
                }
                let until = self.read_until.entry((request.container, request.lines)).or_default();
                // Another request for the same container may have completed meanwhile.
                lines.retain(|(at, _)| at > until);
                *until = lines.last().map_or(*until, |(at, _)| *at);
                let kept = select::most_relevant(lines, request.lines);
                self.sender.send(kept.into_iter().map(|(at, line)| fact(at, line)).collect());
            }
            Err(ReadError::Gone) => {}
            Err(ReadError::Other) => {
                self.docker = None;
                self.sender.lost(STAGE, 1);
            }
            Err(ReadError::Unreadable(why)) => self.report_unreadable(request.container, why),
        }
    }

    fn report_unreadable(&mut self, container: ContainerId, why: String) {
        if self.unread.len() >= CONTAINERS {
            self.unread.pop_first();
        }
        if !self.unread.insert(container.clone()) {
            return;
        }
        warn(format_args!("cannot read logs of container {}: {why}", container.short()));
        let fact = Fact::LogsUnread(LogsUnread { container, why });
        self.sender.send(vec![Observation { at: self.clock.now(), fact }]);
    }
}

fn fact(at: Stamp, line: LogLine) -> Observation {
    Observation { at, fact: Fact::Log(Box::new(line)) }
}

/// All lines after `since`, sorted by time.
async fn read(docker: &Docker, request: &LogRequest) -> Result<Vec<(Stamp, LogLine)>, ReadError> {
    // Docker's option takes whole seconds; the filter below is exact.
    let since = i32::try_from(request.since.0.div_euclid(1_000_000_000)).unwrap_or(0);
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true).since(since).tail(TAIL).build();
    let mut stream = std::pin::pin!(docker.logs(&request.container.0, Some(options)));
    let mut lines = Vec::new();
    while let Some(next) = stream.next().await {
        let output = next.map_err(failure)?;
        if let Some((at, line)) = parsed(&request.container, &output).filter(|(at, _)| *at > request.since) {
            lines.push((at, line));
        }
    }
    // Two streams, each sorted.
    lines.sort();
    Ok(lines)
}

fn failure(error: Error) -> ReadError {
    match error {
        // 409: the container is being removed ("dead or marked for removal").
        Error::DockerResponseServerError { status_code: 404 | 409, .. } => ReadError::Gone,
        // Current engines send 501 with this text; older ones used other codes.
        Error::DockerResponseServerError { status_code, message }
            if status_code == 501 || message.contains("does not support reading") =>
        {
            ReadError::Unreadable(log_line::kept(&message))
        }
        _ => ReadError::Other,
    }
}

/// Parses `TIME TEXT`, the format of Docker with timestamps. Empty lines are ignored.
fn parsed(container: &ContainerId, output: &LogOutput) -> Option<(Stamp, LogLine)> {
    let (stream, message) = match output {
        LogOutput::StdOut { message } => (LogStream::Stdout, message),
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        LogOutput::Console { message } => (LogStream::Console, message),
        LogOutput::StdIn { .. } => return None,
    };
    let message = String::from_utf8_lossy(message);
    let (at, text) = message.split_once(' ')?;
    let text = log_line::kept(text);
    let at: Stamp = at.parse().ok()?;
    (!text.trim().is_empty()).then(|| (at, LogLine { container: container.clone(), stream, text }))
}

#[cfg(test)]
mod tests {
    use bollard::container::LogOutput;

    use super::parsed;
    use crate::model::event::LogStream;
    use crate::model::ids::ContainerId;
    use crate::model::time::Stamp;

    fn line(text: &str) -> Option<(Stamp, String)> {
        let message = text.as_bytes().to_vec().into();
        let parsed = parsed(&ContainerId("c".into()), &LogOutput::StdErr { message });
        parsed.map(|(at, line)| {
            assert_eq!(line.stream, LogStream::Stderr);
            (at, line.text)
        })
    }

    #[test]
    fn reads_time_and_text_of_a_line() {
        let (at, text) =
            line("2023-11-14T22:13:20.000000001Z Fatal Python error: \u{1b}[1mSegmentation fault\n").unwrap();
        assert_eq!((at, text.as_str()), (Stamp(1_700_000_000_000_000_001), "Fatal Python error: Segmentation fault"));
    }

    #[test]
    fn ignores_empty_lines_and_lines_without_a_time() {
        assert_eq!(line("2023-11-14T22:13:20.000000001Z  \n"), None);
        assert_eq!(line("no time at all"), None);
        assert_eq!(line(""), None);
    }
}
