//! What a story of the demo is: data. A new one is a file beside the others and a line in `stories.rs`.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, Incident, MomentFact, name_of};

/// One way in which a connection breaks.
#[derive(Debug)]
pub struct Story {
    /// For `--story`.
    pub name: &'static str,
    /// In a few words.
    pub about: &'static str,
    /// What is going to happen, for the person who watches.
    pub telling: &'static str,
    /// What is different from a healthy stack.
    pub weak: &'static [Weakness],
    pub steps: &'static [Step],
    pub claim: Claim,
    /// The policy brought the caller its answer all the same.
    pub saved: bool,
    /// Why the client's policy did or did not help, one step a sentence. The claim proves what they state.
    pub why: &'static [&'static str],
}

/// What makes a service of the stack break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// The value of the service's variable `GAIA_FAULT`.
    Fault(&'static str, &'static str),
    /// A memory limit in MiB.
    Memory(&'static str, u64),
    /// So many worker processes under one parent.
    Workers(&'static str, u8),
    /// gaia-web waits for an answer so many seconds, instead of 300.
    Patience(u8),
}

/// What the demo does, in order.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// `docker stop SERVICE`.
    Stop(&'static str),
    /// The same with so many seconds of grace.
    StopWithin(&'static str, u32),
    /// `docker pause SERVICE`, and its end.
    Pause(&'static str),
    Unpause(&'static str),
    /// The caller posts to gaia-web, which posts that many bytes to gaia-core at `/PATH`. Does not wait.
    Ask {
        path: &'static str,
        bytes: usize,
    },
    /// The same by a client that keeps its connection: two requests, the second after the server's idle timeout.
    AskTwice {
        path: &'static str,
    },
    /// Waits for a word in the log of a service.
    AwaitLog {
        service: &'static str,
        needle: &'static str,
    },
    /// `kill -KILL` of the service's first process, from the host and behind Docker's back.
    KillFromHost(&'static str),
    /// Waits until the caller has its answer.
    AwaitAnswer,
}

/// What the monitor must say in the end.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The service whose process ended.
    pub subject: &'static str,
    pub kind: CauseKind,
    pub end: End,
    pub moment: MomentFact,
    /// The service that was served.
    pub client: &'static str,
    pub error: HttpxClass,
    /// How the last line of the client's traceback begins, where the client is not httpx.
    pub raised: Option<&'static str>,
    pub retried: bool,
    /// What the answer to the caller names.
    pub caller_told: &'static str,
}

/// How the subject's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Signal(&'static str),
    Exit(i32),
    /// Not at all.
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

/// The same of an incident.
fn end_of(incident: &Incident) -> String {
    match (&incident.cause.signal, incident.cause.exit_code) {
        (Some(signal), _) => signal.clone(),
        (None, Some(code)) => format!("exit {code}"),
        (None, None) => "none".to_owned(),
    }
}

impl Claim {
    /// What keeps an incident from being the one of the story; empty when it is.
    #[must_use]
    pub fn objections(&self, incident: &Incident) -> Vec<String> {
        let mut objections = Vec::new();
        let mut compare = |what: &str, wanted: &str, found: &str| {
            if wanted != found {
                objections.push(format!("{what} is {found}, not {wanted}"));
            }
        };
        compare("subject", self.subject, incident.subject.service.as_deref().unwrap_or("nothing"));
        compare("cause", &name_of(&self.kind), &name_of(&incident.cause.kind));
        compare("end", &self.end.to_string(), &end_of(incident));
        compare("moment", &name_of(&self.moment), &name_of(&incident.moment.fact));
        let hit = incident.affected.iter().find(|entry| entry.client.service.as_deref() == Some(self.client));
        match hit.map(|entry| &entry.client_error) {
            Some(error) => {
                compare("client's error", &name_of(&self.error), &name_of(&error.httpx));
                compare("retried", &self.retried.to_string(), &error.retried.to_string());
            }
            None => objections.push(format!("no connection of {} is affected", self.client)),
        }
        objections
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::demo::stories;

    /// The incident that fits a story's claim.
    pub fn pinned(story: &Story) -> Value {
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
                "exit_code": code, "how": null, "sender": null, "because": null,
            },
            "moment": {"at": "2026-01-01T00:00:11.000000000Z", "fact": name_of(&claim.moment)},
            "subject": {
                "container": "gm-x", "container_id": "0123456789ab", "image": null, "project": "gm", "service": claim.subject,
                "role": "candidate", "health": null, "started_at": null, "pid": 42, "comm": "python3",
            },
            "failover_of": null, "condition": null, "deaths": 1,
            "affected": [{
                "at": "2026-01-01T00:00:11.004712000Z",
                "client": party(claim.client, "10.213.1.5", 41234),
                "server": party(claim.subject, "10.213.1.3", 6415),
                "via": null,
                "client_error": {
                    "httpx": name_of(&claim.error), "or": null, "detail": "reset", "errno": "ECONNRESET",
                    "phase": "awaiting_response", "retried": claim.retried,
                },
            }],
            "affected_total": 1, "affected_by_class": {name_of(&claim.error): 1}, "alternatives": [], "timeline": [],
            "timeline_left_out": 0, "lost_events": {},
        })
    }

    /// The same with one field changed.
    fn objections(story: &Story, pointer: &str, value: Value) -> Vec<String> {
        let mut incident = pinned(story);
        *incident.pointer_mut(pointer).unwrap() = value;
        story.claim.objections(&serde_json::from_value(incident).unwrap())
    }

    #[test]
    fn the_incident_of_a_story_fits_its_claim() {
        for story in stories::ALL {
            let incident = serde_json::from_value(pinned(story)).unwrap();
            assert_eq!(story.claim.objections(&incident), Vec::<String>::new(), "{}", story.name);
        }
    }

    #[test]
    fn an_incident_that_misses_one_part_of_the_claim_does_not_pass() {
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
                assert_eq!(objections(story, pointer, value.clone()).len(), 1, "{} {pointer}", story.name);
            }
            let retried = json!(!story.claim.retried);
            assert_eq!(objections(story, "/affected/0/client_error/retried", retried).len(), 1, "{}", story.name);
        }
    }
}
