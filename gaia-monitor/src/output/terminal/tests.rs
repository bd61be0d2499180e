//! The text output: blocks, updates, and revisions that print nothing.

use std::sync::Arc;

use super::Terminal;
use crate::engine::effect::Effect;
use crate::model::incident::{
    Affected, Condition, Confidence, Detail, HttpxClass, Incident, Phase, State, TimelineSource, Via,
};
use crate::model::policy::{Policy, RetryPolicy};
use crate::model::time::{Nanos, Utc};
use crate::output::queue::Writer;
use crate::output::test_fixtures;

/// What a terminal prints for these revisions, one text each.
fn printed(revisions: &[Incident], colour: bool) -> Vec<String> {
    let mut terminal = Terminal::new(Vec::new(), colour, policy());
    let mut texts = Vec::new();
    for (index, revision) in revisions.iter().enumerate() {
        let mut revision = revision.clone();
        revision.revision = u32::try_from(index).unwrap() + 1;
        terminal.take(Arc::new(Effect::Incident(Box::new(revision))), 0).unwrap();
        texts.push(String::from_utf8(std::mem::take(&mut terminal.output)).unwrap());
    }
    texts
}

/// gaia-web has a policy of its own.
fn policy() -> Policy {
    Policy { clients: [("gaia-web".to_owned(), RetryPolicy::default())].into(), ..Policy::default() }
}

#[test]
fn names_the_default_policy_of_a_client_without_one_of_its_own() {
    let mut incident = test_fixtures::killed();
    for entry in &mut incident.affected {
        (entry.client.container, entry.client.service) = (Some("job".to_owned()), None);
    }
    let text = &printed(&[incident], false)[0];
    assert!(text.contains("would be retried under the default policy"), "{text}");
    assert!(text.contains("NOT RETRIED under the default policy, which does not list ReadError"), "{text}");
}

fn with(change: impl FnOnce(&mut Incident)) -> Incident {
    let mut incident = test_fixtures::killed();
    change(&mut incident);
    incident
}

const BLOCK: &str = "
● gaia-core-candidate was killed by SIGKILL (bash on the host) with 2 requests under way
  when      2025-11-25T14:02:11.123456789Z  exit of the last thread
  why       process_killed, certain · SIGKILL · sent by bash (pid 812) on the host
  subject   gaia-core-candidate · candidate · project gaia · image gaia:1 · healthy · pid 4242 uvicorn · up 3 min 12 s
  clients   2 connections broken: 1 ReadError, 1 RemoteProtocolError
            gaia-web 172.28.0.5:44312 → gaia-core-candidate 172.28.0.7:6415  +4.213 ms
              RemoteProtocolError (no_response) while waiting for the response
              would be retried under the policy of gaia-web
            gaia-web 172.28.0.5:44313 → gaia-core-candidate 172.28.0.7:6415  +4.313 ms
              ReadError (reset, ECONNRESET) while sending the request
              NOT RETRIED under the policy of gaia-web, which does not list ReadError
  timeline      −0.312 ms  process SIGKILL from bash (pid 812)
                        0  process uvicorn (pid 4242) exited by SIGKILL
                +4.213 ms  tcp     FIN reached gaia-web 172.28.0.5:44312
  rejected  oom_killed: the kernel marked no OOM victim
  condition container_down since 2025-11-25T14:02:11.123456789Z
  incident  inc-7f3a90c2 · revision 1 · open
";

#[test]
fn prints_a_block_for_the_first_revision() {
    let texts = printed(&[test_fixtures::killed()], false);
    assert_eq!(texts[0], BLOCK);
}

#[test]
fn prints_nothing_for_an_unchanged_revision() {
    let texts = printed(&[test_fixtures::killed(), test_fixtures::killed()], false);
    assert_eq!(texts[1], "");
}

#[test]
fn prints_only_the_additions_of_a_settled_revision() {
    let settled = with(|incident| {
        incident.state = State::Settled;
        incident.timeline.push(test_fixtures::line(Nanos(26_000_000), TimelineSource::Docker, "die, exit code 137"));
        if let Some(sender) = &mut incident.cause.sender {
            sender.via = Some(Via::DockerKill);
        }
    });
    let texts = printed(&[test_fixtures::killed(), settled], false);
    assert_eq!(
        texts[1],
        "↳ gaia-core-candidate process_killed settled: verdict is final  inc-7f3a90c2 · revision 2 · settled
  why       process_killed, certain · SIGKILL · sent by bash (pid 812) on the host, requested by docker kill or rm -f
  timeline     +26.000 ms  docker  die, exit code 137
"
    );
}

#[test]
fn prints_a_deferred_timeline_entry_with_the_next_revision() {
    let more = |incident: &mut Incident| {
        incident.timeline.push(test_fixtures::line(Nanos(26_000_000), TimelineSource::Docker, "die, exit code 137"));
    };
    let settled = with(|incident| {
        more(incident);
        incident.state = State::Settled;
    });
    let texts = printed(&[test_fixtures::killed(), with(more), settled], false);
    assert_eq!(texts[1], "");
    assert!(texts[2].contains("die, exit code 137"), "{}", texts[2]);
}

#[test]
fn defers_additions_to_a_settled_incident_until_it_closes() {
    let more = |incident: &mut Incident| {
        incident.state = State::Settled;
        incident.timeline.push(test_fixtures::line(Nanos(90_000_000), TimelineSource::Docker, "left the network"));
    };
    let settled = with(|incident| incident.state = State::Settled);
    let closed = with(|incident| {
        more(incident);
        incident.state = State::Closed;
    });
    let texts = printed(&[test_fixtures::killed(), settled, with(more), closed], false);
    assert_eq!(texts[2], "");
    assert!(texts[3].contains("closed while still container_down"), "{}", texts[3]);
    assert!(texts[3].contains("left the network"), "{}", texts[3]);
}

#[test]
fn prints_a_later_broken_connection_immediately_and_alone() {
    let entry =
        test_fixtures::affected(Nanos(9_000_000), 50_000, HttpxClass::ConnectError, Detail::Refused, Phase::Connecting);
    let more = with(|incident| {
        incident.affected.push(entry);
        incident.affected_total = 3;
        incident.affected_by_class.insert(HttpxClass::ConnectError, 1);
    });
    let texts = printed(&[test_fixtures::killed(), more.clone(), more], false);
    assert!(texts[1].starts_with("↳ gaia-core-candidate process_killed updated"), "{}", texts[1]);
    assert!(texts[1].contains("3 connections broken: 1 ConnectError, 1 ReadError, 1 RemoteProtocolError"));
    assert!(texts[1].contains("172.28.0.5:50000") && !texts[1].contains("44312"), "{}", texts[1]);
    assert_eq!(texts[2], "");
}

#[test]
fn prints_the_block_again_when_the_verdict_changes() {
    let doubtful = with(|incident| incident.cause.confidence = Confidence::Possible);
    let texts = printed(&[doubtful, test_fixtures::killed()], false);
    assert!(texts[1].starts_with("\n● ") && texts[1].contains("timeline"), "{}", texts[1]);
}

#[test]
fn prints_the_duration_of_an_ended_condition() {
    let closed = with(|incident| {
        incident.state = State::Closed;
        incident.condition = incident.condition.map(|condition| Condition {
            until: Some(Utc(test_fixtures::MOMENT.plus(Nanos(3_210_000_000)))),
            ..condition
        });
    });
    let texts = printed(&[test_fixtures::killed(), closed], false);
    assert!(
        texts[1].contains("closed: container_down for 3.210 s, until 2025-11-25T14:02:14.333456789Z"),
        "{}",
        texts[1]
    );
}

#[test]
fn names_the_incident_that_a_withdrawn_one_is_part_of() {
    let withdrawn = with(|incident| {
        incident.state = State::Withdrawn;
        incident.merged_into = Some(crate::model::ids::IncidentId("inc-other".into()));
    });
    let texts = printed(&[test_fixtures::killed(), withdrawn.clone()], false);
    assert!(texts[1].contains("withdrawn: part of incident inc-other"), "{}", texts[1]);
    assert_eq!(printed(&[withdrawn], false), [""]);
}

#[test]
fn groups_equal_connections() {
    let crowd = with(|incident| {
        let entry = |index: u16| -> Affected {
            let after = Nanos(4_000_000 + i64::from(index) * 1_000);
            test_fixtures::affected(after, 40_000 + index, HttpxClass::ReadError, Detail::Reset, Phase::Sending)
        };
        incident.affected = (0..20).map(entry).collect();
        incident.affected_total = 20;
    });
    let text = &printed(&[crowd], false)[0];
    assert!(text.contains("gaia-web → gaia-core-candidate  × 20  +4.000 ms … +4.019 ms"), "{text}");
    assert_eq!(text.matches("NOT RETRIED").count(), 1);
}

#[test]
fn prints_lost_events_with_the_verdict() {
    let blind = with(|incident| {
        incident.lost_events.insert("ring.tcp_state".into(), 4);
    });
    let text = &printed(&[blind], false)[0];
    assert!(text.contains("  lost      4 events at stage ring.tcp_state: "), "{text}");
}

#[test]
fn omits_the_middle_of_a_long_timeline() {
    let long = with(|incident| {
        let line = |index: i64| test_fixtures::line(Nanos(index), TimelineSource::Tcp, &format!("fact {index}."));
        incident.timeline = (0..200).map(line).collect();
        incident.timeline_left_out = 17;
    });
    let text = &printed(&[long], false)[0];
    assert!(text.contains("fact 23.") && !text.contains("fact 24.") && text.contains("fact 188."), "{text}");
    assert!(text.contains("…  181 more lines"), "{text}");
}

#[test]
fn escapes_text_of_containers() {
    let hostile = with(|incident| {
        incident.subject.comm = Some("\x1b[2Jevil".into());
        incident.cause.summary = "a\nb\x07".into();
        incident.timeline[0].text = "\x1b]0;title\x07".into();
        incident.affected[0].client.container = Some("web\x1b[1A".into());
    });
    let text = &printed(&[hostile], false)[0];
    assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
    assert!(text.contains("\\u{1b}[2Jevil"), "{text}");
}

#[test]
fn colour_changes_no_text() {
    let colourful = &printed(&[test_fixtures::killed()], true)[0];
    assert!(colourful.contains('\x1b'));
    assert_eq!(anstream::adapter::strip_str(colourful).to_string(), BLOCK);
}
