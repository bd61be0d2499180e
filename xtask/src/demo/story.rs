//! Stories of the demo, as data. A new one is a file in `stories` and a line in `stories/mod.rs`.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, Incident, MomentFact, name_of};

use super::gaia::{CORE, WEB};

/// Response body of a request that succeeds in the end.
const SUCCESS: &str = "done";
/// One small request to gaia-core, and its outcome.
pub const ONE_REQUEST: &[Step] = &[Step::Post { path: "process_packet", bytes: 64 }, Step::AwaitResponse];
/// Last reason of every story in which the primary's container is no longer running.
pub const FALLBACK_RESPONDED: &str =
    "ConnectError is on the list as well: after 2 s and 4 s gaia-web called the fallback, and the candidate responded.";

/// One way in which a connection breaks.
#[derive(Debug)]
pub struct Story {
    /// Value of `--story`.
    pub name: &'static str,
    /// One-line summary.
    pub about: &'static str,
    /// The situation, printed before the story is played.
    pub intro: &'static str,
    /// Differences from a healthy stack.
    pub weak: &'static [Weakness],
    pub steps: &'static [Step],
    pub claim: Claim,
    /// Why the client's policy did or did not help, one step a sentence. The claim proves these sentences.
    pub why: &'static [&'static str],
}

impl Story {
    /// The policy brought the caller a successful response.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        self.claim.response == SUCCESS
    }
}

/// Fault injected into a service of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// The service's variable `GAIA_FAULT` has this value.
    Fault(&'static str, &'static str),
    /// A memory limit in MiB.
    Memory(&'static str, u64),
    /// Number of worker processes under one parent.
    Workers(&'static str, u8),
    /// Timeout of gaia-web in seconds, instead of 300.
    Timeout(u8),
}

/// One action of the demo.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// `docker stop SERVICE`.
    Stop(&'static str),
    /// The same with a grace period in seconds.
    StopWithin(&'static str, u32),
    /// `docker pause SERVICE`.
    Pause(&'static str),
    /// `docker unpause SERVICE`.
    Unpause(&'static str),
    /// The caller posts to gaia-web, which posts that many bytes to gaia-core at `/PATH`. Does not wait.
    Post { path: &'static str, bytes: usize },
    /// The same by a client that keeps its connection: two requests, the second after the server's idle timeout.
    PostTwice { path: &'static str },
    /// Waits for a text in the log of a service.
    AwaitLog { service: &'static str, needle: &'static str },
    /// `kill -KILL` of the service's first process, from the host and without Docker.
    KillFromHost(&'static str),
    /// Waits until the caller has its response.
    AwaitResponse,
}

/// The incident that the monitor must report. gaia-web is the affected client in every story.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The service to which the failure is attributed.
    pub subject: &'static str,
    pub kind: CauseKind,
    pub end: End,
    pub moment: MomentFact,
    pub error: HttpxClass,
    /// Prefix of the last line of the client's traceback, if the client is not httpx.
    pub raised: Option<&'static str>,
    pub retried: bool,
    /// Text in the response to the caller.
    pub response: &'static str,
}

/// How the subject's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Signal(&'static str),
    Exit(i32),
    /// The process did not end.
    Lives,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Signal(name) => f.write_str(name),
            End::Exit(code) => write!(f, "exit {code}"),
            End::Lives => f.write_str("none"),
        }
    }
}

/// The end that an incident reports, in the same form.
fn end_of(incident: &Incident) -> String {
    match (&incident.cause.signal, incident.cause.exit_code) {
        (Some(signal), _) => signal.clone(),
        (None, Some(code)) => format!("exit {code}"),
        (None, None) => "none".to_owned(),
    }
}

impl Claim {
    /// gaia-core's process ends during a request; the policy retries, with success in the end.
    #[must_use]
    pub const fn new(kind: CauseKind, end: End) -> Self {
        Self {
            subject: CORE,
            kind,
            end,
            moment: MomentFact::ProcessExit,
            error: HttpxClass::RemoteProtocolError,
            raised: None,
            retried: true,
            response: SUCCESS,
        }
    }

    /// The same with an error that the policy does not retry.
    #[must_use]
    pub const fn not_retried(kind: CauseKind, end: End, error: HttpxClass, response: &'static str) -> Self {
        Self { error, retried: false, response, ..Self::new(kind, end) }
    }

    /// Differences between the claim and an incident; none for the incident of the story.
    #[must_use]
    pub fn differences(&self, incident: &Incident) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, wanted: &str, found: &str| {
            if wanted != found {
                differences.push(format!("{what} is {found}, not {wanted}"));
            }
        };
        compare("subject", self.subject, incident.subject.service.as_deref().unwrap_or("nothing"));
        compare("cause", &name_of(&self.kind), &name_of(&incident.cause.kind));
        compare("end", &self.end.to_string(), &end_of(incident));
        compare("moment", &name_of(&self.moment), &name_of(&incident.moment.fact));
        let entry = incident.affected.iter().find(|entry| entry.client.service.as_deref() == Some(WEB));
        match entry.map(|entry| &entry.client_error) {
            Some(error) => {
                compare("client's error", &name_of(&self.error), &name_of(&error.httpx));
                compare("retried", &self.retried.to_string(), &error.retried.to_string());
            }
            None => differences.push(format!("no connection of {WEB} is affected")),
        }
        differences
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::demo::stories;

    /// An incident that fits the claim of a story.
    pub fn claimed(story: &Story) -> Value {
        let claim = story.claim;
        let (signal, code) = match claim.end {
            End::Signal(name) => (Some(name), None),
            End::Exit(code) => (None, Some(code)),
            End::Lives => (None, None),
        };
        let party = |service: &str, ip: &str, port: u16| json!({"container": format!("gm-{service}"), "service": service, "ip": ip, "port": port, "pid": 41, "comm": "python3"});
        json!({
            "schema": "gaia-monitor.incident/1", "id": "inc-1", "revision": 2, "state": "settled", "merged_into": null,
            "cause": {
                "kind": name_of(&claim.kind), "summary": "it ended", "confidence": "certain", "signal": signal,
                "exit_code": code, "how": null, "sender": null, "caused_by": null,
            },
            "moment": {"at": "2026-01-01T00:00:11.000000000Z", "fact": name_of(&claim.moment)},
            "subject": {
                "container": "gm-x", "container_id": "0123456789ab", "image": null, "project": "gm", "service": claim.subject,
                "role": "candidate", "health": null, "started_at": null, "pid": 42, "comm": "python3",
            },
            "failover_of": null, "condition": null, "deaths": 1,
            "affected": [{
                "at": "2026-01-01T00:00:11.004712000Z",
                "client": party(WEB, "10.213.1.5", 41234),
                "server": party(claim.subject, "10.213.1.3", 6415),
                "via": null,
                "client_error": {
                    "httpx": name_of(&claim.error), "also_possible": null, "detail": "reset", "errno": "ECONNRESET",
                    "phase": "awaiting_response", "retried": claim.retried,
                },
                "confidence": "certain",
            }],
            "affected_total": 1, "affected_by_class": {name_of(&claim.error): 1}, "alternatives": [], "timeline": [],
            "timeline_left_out": 0, "lost_events": {},
        })
    }

    /// The differences to that incident with one field changed.
    fn differences(story: &Story, pointer: &str, value: Value) -> Vec<String> {
        let mut incident = claimed(story);
        *incident.pointer_mut(pointer).unwrap() = value;
        story.claim.differences(&serde_json::from_value(incident).unwrap())
    }

    #[test]
    fn accepts_the_incident_of_each_story() {
        for story in stories::ALL {
            let incident = serde_json::from_value(claimed(story)).unwrap();
            assert_eq!(story.claim.differences(&incident), Vec::<String>::new(), "{}", story.name);
        }
    }

    #[test]
    fn rejects_an_incident_that_differs_in_one_part_of_the_claim() {
        let wrong = [
            ("/subject/service", json!("gaia-mcp")),
            ("/cause/kind", json!("link_down")),
            ("/cause/signal", json!("SIGBUS")),
            ("/moment/fact", json!("link_down")),
            ("/affected", json!([])),
            ("/affected/0/client/service", json!("caller")),
            ("/affected/0/client_error/httpx", json!("WriteTimeout")),
        ];
        for story in stories::ALL {
            for (pointer, value) in &wrong {
                assert_eq!(differences(story, pointer, value.clone()).len(), 1, "{} {pointer}", story.name);
            }
            let retried = json!(!story.claim.retried);
            assert_eq!(differences(story, "/affected/0/client_error/retried", retried).len(), 1, "{}", story.name);
        }
    }
}
