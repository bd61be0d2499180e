//! Hand-made incidents for the tests of the outputs.

use std::collections::BTreeMap;

use crate::model::ids::{ContainerId, IncidentId, Pid};
use crate::model::incident::{
    Affected, Alternative, Cause, CauseKind, ClientError, Condition, ConditionKind, Confidence, Detail, HttpxClass,
    Incident, Moment, MomentFact, Party, Phase, Role, SCHEMA, Sender, State, Subject, TimelineEntry, TimelineSource,
    Via,
};
use crate::model::time::{Nanos, Stamp, Utc};

/// 2025-11-25T14:02:11.123456789Z
pub const MOMENT: Stamp = Stamp(1_764_079_331_123_456_789);

pub fn party(container: &str, ip: &str, port: u16, pid: u32, comm: &str) -> Party {
    Party {
        container: Some(container.to_owned()),
        service: Some(container.to_owned()),
        ip: Some(ip.parse().unwrap()),
        port: Some(port),
        pid: Some(Pid(pid)),
        comm: Some(comm.to_owned()),
    }
}

pub fn affected(after: Nanos, port: u16, httpx: HttpxClass, detail: Detail, phase: Phase) -> Affected {
    Affected {
        at: Utc(MOMENT.plus(after)),
        begun_at: None,
        client: party("gaia-web", "172.28.0.5", port, 3_333, "python3"),
        server: party("gaia-core-candidate", "172.28.0.7", 6415, 4_242, "uvicorn"),
        via: None,
        client_error: ClientError {
            httpx,
            also_possible: None,
            detail: Some(detail),
            errno: (detail == Detail::Reset).then(|| "ECONNRESET".to_owned()),
            phase,
            retried: matches!(httpx, HttpxClass::ConnectError | HttpxClass::RemoteProtocolError),
        },
        confidence: Confidence::Certain,
    }
}

pub fn line(after: Nanos, source: TimelineSource, text: &str) -> TimelineEntry {
    TimelineEntry { at: Utc(MOMENT.plus(after)), offset_ns: after, source, text: text.to_owned(), counter: None }
}

/// `docker kill` of the candidate with two requests under way: one waiting, one uploading.
pub fn killed() -> Incident {
    Incident {
        schema: SCHEMA.to_owned(),
        id: IncidentId("inc-7f3a90c2".to_owned()),
        revision: 1,
        state: State::Open,
        merged_into: None,
        cause: Cause {
            kind: CauseKind::ProcessKilled,
            summary: "gaia-core-candidate was killed by SIGKILL (bash on the host) with 2 requests under way"
                .to_owned(),
            confidence: Confidence::Certain,
            signal: Some("SIGKILL".to_owned()),
            exit_code: None,
            how: None,
            sender: Some(Sender {
                pid: Some(Pid(812)),
                comm: Some("bash".to_owned()),
                container: None,
                via: None::<Via>,
                requested_by: None,
            }),
            caused_by: None,
            crash: None,
            limit: None,
        },
        moment: Moment { at: Utc(MOMENT), fact: MomentFact::ProcessExit },
        subject: Subject {
            container: Some("gaia-core-candidate".to_owned()),
            container_id: Some(ContainerId("0123456789abcdef".repeat(4))),
            image: Some("gaia:1".to_owned()),
            project: Some("gaia".to_owned()),
            service: Some("gaia-core-candidate".to_owned()),
            role: Role::Candidate,
            health: Some("healthy".to_owned()),
            started_at: Some(Utc(MOMENT.minus(Nanos::from_secs(192)))),
            pid: Some(Pid(4_242)),
            comm: Some("uvicorn".to_owned()),
        },
        failover_of: None,
        condition: Some(Condition { kind: ConditionKind::ContainerDown, since: Utc(MOMENT), until: None }),
        deaths: 1,
        affected: vec![
            affected(
                Nanos(4_213_000),
                44_312,
                HttpxClass::RemoteProtocolError,
                Detail::NoResponse,
                Phase::AwaitingResponse,
            ),
            affected(Nanos(4_313_000), 44_313, HttpxClass::ReadError, Detail::Reset, Phase::Sending),
        ],
        affected_total: 2,
        affected_by_class: BTreeMap::from([(HttpxClass::ReadError, 1), (HttpxClass::RemoteProtocolError, 1)]),
        alternatives: vec![Alternative {
            kind: CauseKind::OomKilled,
            against: "the kernel marked no OOM victim".to_owned(),
        }],
        timeline: vec![
            line(Nanos(-312_000), TimelineSource::Process, "SIGKILL from bash (pid 812)"),
            line(Nanos(0), TimelineSource::Process, "uvicorn (pid 4242) exited by SIGKILL"),
            line(Nanos(4_213_000), TimelineSource::Tcp, "FIN reached gaia-web 172.28.0.5:44312"),
        ],
        timeline_left_out: 0,
        lost_events: BTreeMap::new(),
    }
}

/// An incident without evidence: nulls and empty lists.
pub fn unknown() -> Incident {
    let unidentified = Party { container: None, service: None, ip: None, port: None, pid: None, comm: None };
    let mut incident = killed();
    incident.cause = Cause {
        kind: CauseKind::Unknown,
        summary: "a connection of gaia-web broke and nothing shows why".to_owned(),
        confidence: Confidence::Possible,
        signal: None,
        exit_code: None,
        how: None,
        sender: None,
        caused_by: None,
        crash: None,
        limit: None,
    };
    incident.moment.fact = MomentFact::ClientError;
    incident.subject = Subject {
        container: None,
        container_id: None,
        image: None,
        project: None,
        service: None,
        role: Role::None,
        health: None,
        started_at: None,
        pid: None,
        comm: None,
    };
    incident.condition = None;
    incident.deaths = 0;
    incident.affected.truncate(1);
    incident.affected.iter_mut().for_each(|entry| entry.server = unidentified.clone());
    incident.alternatives.clear();
    incident.timeline.clear();
    incident.affected_total = 0;
    incident.affected_by_class.clear();
    incident
}
