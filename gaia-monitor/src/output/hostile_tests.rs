//! The same hostile names through every output: nothing that moves a cursor, hides or has no bound arrives.
#![cfg(feature = "live")]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::journal::{Journal, Limits, read};
use super::json::JsonLines;
use super::metrics::{Metrics, Readings};
use super::queue::Overflow;
use super::terminal::Terminal;
use super::{Outputs, test_fixtures};
use crate::access::Access;
use crate::engine::Engine;
use crate::engine::effect::{Counter, Effect, Explanation};
use crate::model::incident::{CauseKind, Confidence, Crash, Hop, HttpxClass, Incident, Requester, Role, State};
use crate::model::policy::Policy;
use crate::model::settings::Settings;
use crate::model::story::{self, Attempt, AttemptOutcome, CallerSaw, Fallback, FallbackState, Story, StoryOutcome};
use crate::model::time::Stamp;
use crate::serve::recent::{IncidentQuery, Recent};
use crate::text::{NAME, TEXT, one_line};
use crate::wire::log_line::is_harmful;

/// Fields that hold text of containers, of processes or of files.
const FIELDS: [&str; 22] = [
    "id",
    "merged_into",
    "caused_by",
    "failover_of",
    "summary",
    "signal",
    "comm",
    "container",
    "container_id",
    "image",
    "project",
    "service",
    "health",
    "listen",
    "errno",
    "against",
    "text",
    "module",
    "offset",
    "address",
    "thread",
    "core",
];

fn hostile_names() -> Vec<String> {
    vec![
        "\u{1b}]0;owned\u{7}\u{1b}[2J".to_owned(),
        "one\r\ntwo\u{85}three\u{2028}four".to_owned(),
        "web\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}".to_owned(),
        "web\u{e0041}\u{e007f}\u{fe0f}\u{e0100}".to_owned(),
        "\u{202e}bew\u{2066}\u{61c}\u{200f}".to_owned(),
        "\u{9b}31m\u{90}\u{3164}\u{fff9}".to_owned(),
        "a\"} 1\n# HELP evil x\nevil{b=\"\\".to_owned(),
        "<script>\0</script>".to_owned(),
        "x".repeat(60 << 10),
        "\u{202e}".repeat(20 << 10),
    ]
}

/// An incident with this text wherever text of another party can stand.
fn hostile(name: &str) -> Incident {
    fn put(value: &mut Value, name: &str) {
        match value {
            Value::Object(fields) => {
                for (field, value) in fields {
                    if FIELDS.contains(&field.as_str()) && value.is_string() {
                        *value = name.into();
                    } else {
                        put(value, name);
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| put(value, name)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut incident = test_fixtures::killed();
    let text = || Some("x".to_owned());
    incident.merged_into = Some(incident.id.clone());
    incident.failover_of = Some(incident.id.clone());
    incident.cause.caused_by = Some(incident.id.clone());
    incident.cause.crash =
        Some(Crash { module: text(), offset: text(), address: text(), thread: text(), core: text() });
    if let Some(sender) = &mut incident.cause.sender {
        sender.container = text();
        sender.requested_by = Some(Requester { pid: crate::model::ids::Pid(1), comm: "x".into(), container: text() });
    }
    for entry in &mut incident.affected {
        entry.via = Some(Hop { pid: None, comm: text(), container: text(), listen: text() });
        entry.client_error.errno = text();
    }
    let mut value = serde_json::to_value(incident).unwrap();
    put(&mut value, name);
    let mut incident: Incident = serde_json::from_value(value).unwrap();
    incident.lost_events = BTreeMap::from([(name.to_owned(), 1)]);
    incident.state = State::Closed;
    incident
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Lines of plain text, each within `length` characters.
#[track_caller]
fn check_lines(output: &str, text: &str, length: usize) {
    assert!(!text.is_empty(), "{output} is empty");
    for line in text.lines() {
        assert!(!line.contains(is_harmful), "{output}: {:?}", line.chars().take(300).collect::<String>());
        assert!(line.chars().count() <= length, "{output}: {} characters", line.chars().count());
    }
}

/// Every string and key of a JSON line.
#[track_caller]
fn check_json(output: &str, line: &str) {
    fn check(value: &Value) {
        let text = |text: &str| {
            assert!(!text.contains(is_harmful) && text.chars().count() <= TEXT + 1, "{text:?}");
        };
        match value {
            Value::String(string) => text(string),
            Value::Array(values) => values.iter().for_each(check),
            Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                text(key);
                check(value);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    check_lines(output, line, 64 << 10);
    check(&serde_json::from_str(line).unwrap());
}

fn hostile_story(name: &str, incident: &Incident) -> Story {
    let entry = incident.affected.first().unwrap();
    let attempt = Attempt {
        begun_at: entry.at,
        ended_at: entry.at,
        server: entry.server.clone(),
        role: Role::Primary,
        outcome: AttemptOutcome::Failed,
        status: None,
        client_error: Some(entry.client_error.clone()),
        incident: Some(incident.id.clone()),
    };
    Story {
        schema: story::SCHEMA.to_owned(),
        id: name.to_owned(),
        client: entry.client.clone(),
        begun_at: entry.at,
        ended_at: entry.at,
        attempts: vec![attempt],
        fallback: Fallback { state: FallbackState::None, reason: None },
        outcome: StoryOutcome::Failed,
        caller_saw: CallerSaw { status: None, httpx: Some(HttpxClass::ReadError), attempt: 0, swallowed: Vec::new() },
        confidence: Confidence::Certain,
    }
}

#[test]
fn every_output_is_bounded_and_free_of_harmful_text() {
    for name in hostile_names() {
        let place = tempfile::tempdir().unwrap();
        let (pretty, json, recent) = (Shared::default(), Shared::default(), Recent::default());
        let mut outputs = Outputs::new(Overflow::Block);
        outputs.add_explaining(Terminal::new(pretty.clone(), false, Policy::default())).unwrap();
        outputs.add(JsonLines::new(json.clone()).with_stories(true)).unwrap();
        outputs.add(Journal::create(place.path(), Limits::default(), Access::Owner, || Stamp(0)).unwrap()).unwrap();
        outputs.add(recent.clone()).unwrap();
        let metrics = Metrics::new(&name, &name, Stamp(0), Readings::default);
        let page = metrics.handle();
        outputs.add_fold(metrics);
        let incident = hostile(&name);
        outputs.emit(Effect::Incident(Box::new(incident.clone())), Stamp(1));
        outputs.emit(Effect::Story(Box::new(hostile_story(&name, &incident))), Stamp(1));
        let explanation = Explanation {
            at: Stamp(1),
            client: name.clone(),
            server: "127.0.0.1:1".parse().unwrap(),
            symptom: "reset",
            row: None,
            reason: name.clone(),
        };
        outputs.emit(Effect::Explained(explanation), Stamp(1));
        let own = || name.clone();
        for counter in [
            Counter::ClientCancelled { client: own(), server: own() },
            Counter::IdleClose { server: own() },
            Counter::LogsUnread { container: own(), why: own() },
            Counter::Lost { stage: own(), count: 1 },
            Counter::Broken {
                client: own(),
                server: own(),
                httpx: HttpxClass::ReadError,
                cause: CauseKind::Unknown,
                retried: false,
            },
            Counter::Restarted { container: own(), service: own() },
            Counter::OomKill { container: own(), service: own() },
        ] {
            outputs.emit(Effect::Count(counter), Stamp(1));
        }
        outputs.publish(Stamp(2), &mut Engine::new(Settings::default()), None);
        let (summary, _) = outputs.finish();

        check_lines("the terminal", &pretty.text(), 2 * TEXT);
        check_lines("the summary", &summary.text(&[]), 2 * TEXT);
        check_lines("/metrics", &page.render(), 4 * (NAME + 64));
        let printed = json.text();
        let (line, of_story) = printed.trim_end().split_once('\n').unwrap();
        check_json("standard output", line);
        check_json("standard output", of_story);
        let served = recent.page(&IncidentQuery { limit: 9, ..IncidentQuery::default() }).unwrap().lines;
        check_json("/incidents", &served[0]);
        let mut journal = Vec::new();
        read(place.path(), |incident| journal.push(serde_json::to_string(&incident).unwrap())).unwrap();
        check_json("the journal", &journal[0]);
        check_lines("standard error", &one_line(&format!("cannot read {name}")), TEXT + 100);
        assert_eq!([line, &served[0]], [&journal[0], &journal[0]], "all outputs show the same");
    }
}
