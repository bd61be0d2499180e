//! Containers' logs, read back from Docker when the engine asks for them: the subject's last lines, and those of a
//! client's that name an error.
//!
//! Nothing is followed and nothing waits: a question that finds no room is dropped and counted at `logs`. Docker's own
//! time stamps are kept. A dead container's log is read as well, until it is removed.

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

use crate::logline;
use crate::model::event::{Fact, LogLine, LogStream, LogsUnread, Observation};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;
use crate::sinks::notice::warn;
use crate::sources::docker;

/// The stage of a question that was dropped, or that Docker did not answer.
pub const STAGE: &str = "logs";

/// Questions under way. Docker reads a log file in a few milliseconds; a flood of incidents must not flood Docker.
const AT_A_TIME: usize = 8;
/// Lines that Docker gives back for one question, from the end.
const TAIL: &str = "500";
/// Docker's answer is worth no more than an incident's rest; on a loaded host it takes seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Containers whose last line is remembered. Beyond it one is read again, and the engine drops what it knows.
const REMEMBERED: usize = 4_096;

/// What is read of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lines {
    /// The last ones.
    All,
    /// Those that name an error of an HTTP client.
    Errors,
}

/// One question.
#[derive(Clone, Debug)]
pub struct Question {
    pub container: ContainerId,
    pub lines: Lines,
    pub since: Stamp,
}

/// Why a log could not be read.
#[derive(Debug)]
enum Failure {
    /// Its driver keeps nothing that Docker can give back.
    Unreadable(String),
    Gone,
    /// Docker did not answer.
    Other,
}

pub struct Source {
    host: Option<String>,
    docker: Option<Docker>,
    clock: Arc<Clock>,
    outlet: Outlet,
    questions: mpsc::Receiver<Question>,
    /// Up to where each container has been told.
    told: BTreeMap<(ContainerId, Lines), Stamp>,
    /// Containers whose logs cannot be read: said once.
    unread: BTreeSet<ContainerId>,
}

impl Source {
    #[must_use]
    pub fn new(host: Option<String>, clock: Arc<Clock>, outlet: Outlet, questions: mpsc::Receiver<Question>) -> Self {
        Self { host, docker: None, clock, outlet, questions, told: BTreeMap::new(), unread: BTreeSet::new() }
    }

    /// Ends when nobody is left to ask.
    pub async fn run(mut self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some((question, answer)) = under_way.next() => self.answered(question, answer),
                question = self.questions.recv(), if under_way.len() < AT_A_TIME => {
                    let Some(mut question) = question else { return };
                    if self.unread.contains(&question.container) {
                        continue;
                    }
                    let told = self.told.get(&(question.container.clone(), question.lines)).copied();
                    question.since = told.map_or(question.since, |told| told.max(question.since));
                    let Some(docker) = self.docker().await else {
                        self.outlet.lost(STAGE, 1);
                        continue;
                    };
                    under_way.push(async move {
                        let answer = timeout(PATIENCE, read(&docker, &question)).await;
                        (question, answer.unwrap_or(Err(Failure::Other)))
                    });
                }
            }
        }
    }

    /// One client for all questions; made anew while Docker was not to be reached.
    async fn docker(&mut self) -> Option<Docker> {
        if self.docker.is_none() {
            self.docker = docker::connect(self.host.as_deref()).await.ok();
        }
        self.docker.clone()
    }

    fn answered(&mut self, question: Question, answer: Result<Vec<(Stamp, LogLine)>, Failure>) {
        match answer {
            Ok(mut lines) => {
                if self.told.len() >= REMEMBERED {
                    self.told.pop_first();
                }
                let told = self.told.entry((question.container, question.lines)).or_default();
                // Another question of the same container may have been answered meanwhile.
                lines.retain(|(at, _)| at > told);
                *told = lines.last().map_or(*told, |(at, _)| *at);
                let kept = select::the_telling(lines, question.lines);
                self.outlet.offer(kept.into_iter().map(|(at, line)| fact(at, line)).collect());
            }
            Err(Failure::Gone) => {}
            Err(Failure::Other) => {
                self.docker = None;
                self.outlet.lost(STAGE, 1);
            }
            Err(Failure::Unreadable(why)) => self.cannot_be_read(question.container, why),
        }
    }

    fn cannot_be_read(&mut self, container: ContainerId, why: String) {
        if self.unread.len() >= REMEMBERED {
            self.unread.pop_first();
        }
        if !self.unread.insert(container.clone()) {
            return;
        }
        warn(format_args!("Docker cannot give the log of container {} back: {why}", container.short()));
        let fact = Fact::LogsUnread(LogsUnread { container, why });
        self.outlet.offer(vec![Observation { at: self.clock.now(), fact }]);
    }
}

fn fact(at: Stamp, line: LogLine) -> Observation {
    Observation { at, fact: Fact::Log(Box::new(line)) }
}

/// Everything behind `since`, in order of time.
async fn read(docker: &Docker, question: &Question) -> Result<Vec<(Stamp, LogLine)>, Failure> {
    // Docker's option has whole seconds here; what lies before is left out below.
    let since = i32::try_from(question.since.0.div_euclid(1_000_000_000)).unwrap_or(0);
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true).since(since).tail(TAIL).build();
    let mut stream = std::pin::pin!(docker.logs(&question.container.0, Some(options)));
    let mut lines = Vec::new();
    while let Some(next) = stream.next().await {
        let output = next.map_err(failure)?;
        if let Some((at, line)) = parsed(&question.container, &output).filter(|(at, _)| *at > question.since) {
            lines.push((at, line));
        }
    }
    // Two streams, each in order.
    lines.sort();
    Ok(lines)
}

fn failure(error: Error) -> Failure {
    match error {
        // 409: it is being removed ("dead or marked for removal").
        Error::DockerResponseServerError { status_code: 404 | 409, .. } => Failure::Gone,
        // 501 and these words by today's engines; older ones used other codes.
        Error::DockerResponseServerError { status_code, message }
            if status_code == 501 || message.contains("does not support reading") =>
        {
            Failure::Unreadable(logline::kept(&message))
        }
        _ => Failure::Other,
    }
}

/// `TIME TEXT`, as Docker writes it with time stamps. An empty line says nothing.
fn parsed(container: &ContainerId, output: &LogOutput) -> Option<(Stamp, LogLine)> {
    let (stream, message) = match output {
        LogOutput::StdOut { message } => (LogStream::Stdout, message),
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        LogOutput::Console { message } => (LogStream::Console, message),
        LogOutput::StdIn { .. } => return None,
    };
    let message = String::from_utf8_lossy(message);
    let (at, text) = message.split_once(' ')?;
    let text = logline::kept(text);
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
    fn a_line_has_dockers_time_and_what_the_container_wrote() {
        let (at, text) =
            line("2023-11-14T22:13:20.000000001Z Fatal Python error: \u{1b}[1mSegmentation fault\n").unwrap();
        assert_eq!((at, text.as_str()), (Stamp(1_700_000_000_000_000_001), "Fatal Python error: Segmentation fault"));
    }

    #[test]
    fn what_is_empty_or_has_no_time_is_left_out() {
        assert_eq!(line("2023-11-14T22:13:20.000000001Z  \n"), None);
        assert_eq!(line("no time at all"), None);
        assert_eq!(line(""), None);
    }
}
