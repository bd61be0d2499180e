//! Messages of a real stream (Engine 20.10).

use bollard::models::EventMessage;

use super::{Parsed, RecentEvents, instant, parse};
use crate::model::event::{DockerAction, DockerEvent};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;

const ID: &str = "c0efd83067483ed7e4dd107e6a75c15bdaa7ff7473cb5407ad2bedb0f2171dc5";
const NETWORK: &str = "0b545d26b9833eb0df28a5424af44e2b3a40f61f852543950f6396d969db7e1c";

fn message(json: &str) -> EventMessage {
    serde_json::from_str(json).unwrap()
}

/// A container's message with this action and additional attributes.
fn container(action: &str, attributes: &str) -> EventMessage {
    message(&format!(
        r#"{{"status":"{action}","id":"{ID}","from":"gm:1","Type":"container","Action":"{action}","Actor":{{"ID":"{ID}",
        "Attributes":{{{attributes}"image":"gm:1","name":"gaia-core"}}}},"scope":"local","time":1795612092,
        "timeNano":1795612092217356829}}"#
    ))
}

fn network(action: &str, attributes: &str) -> EventMessage {
    message(&format!(
        r#"{{"Type":"network","Action":"{action}","Actor":{{"ID":"{NETWORK}",
        "Attributes":{{{attributes}"name":"gaia-network","type":"bridge"}}}},"scope":"local","time":1795612095,"timeNano":1795612095607304586}}"#
    ))
}

#[track_caller]
fn check(action: &str, attributes: &str, expected: DockerAction) {
    let event = DockerEvent { container: ContainerId(ID.into()), name: "gaia-core".into(), action: expected };
    assert_eq!(parse(&container(action, attributes)), Parsed::Container(event), "{action}");
}

#[test]
fn parses_every_action_of_a_container() {
    check("create", "", DockerAction::Create);
    check("start", "", DockerAction::Start);
    check("die", r#""exitCode":"137","#, DockerAction::Die { exit_code: Some(137) });
    check("die", "", DockerAction::Die { exit_code: None });
    check("oom", "", DockerAction::Oom);
    check("kill", r#""signal":"9","#, DockerAction::Kill { signal: "SIGKILL".into() });
    check("kill", r#""signal":"37","#, DockerAction::Kill { signal: "SIGRTMIN+3".into() });
    check("stop", "", DockerAction::Stop);
    check("pause", "", DockerAction::Pause);
    check("unpause", "", DockerAction::Unpause);
    check("health_status: healthy", "", DockerAction::HealthStatus { status: "healthy".into() });
    check("restart", "", DockerAction::Restart);
    check("rename", r#""oldName":"/gaia-a","#, DockerAction::Rename { old_name: "gaia-a".into() });
    check("destroy", "", DockerAction::Destroy);
}

#[test]
fn ignores_execs_and_other_unrelated_messages() {
    for action in ["exec_create: /bin/sh -c true", "exec_start: /bin/sh -c true", "exec_die", "attach", "top", "update"]
    {
        assert_eq!(parse(&container(action, "")), Parsed::Ignored, "{action}");
    }
    assert_eq!(
        parse(&message(r#"{"Type":"image","Action":"pull","Actor":{"ID":"gm:1","Attributes":{}}}"#)),
        Parsed::Ignored
    );
    assert_eq!(parse(&message("{}")), Parsed::Ignored);
}

#[test]
fn parses_network_messages_with_the_container_id() {
    let joins = format!(r#""container":"{ID}","#);
    for (verb, action) in [
        ("connect", DockerAction::NetworkConnect { network: "gaia-network".into() }),
        ("disconnect", DockerAction::NetworkDisconnect { network: "gaia-network".into() }),
    ] {
        let event = DockerEvent { container: ContainerId(ID.into()), name: String::new(), action };
        assert_eq!(parse(&network(verb, &joins)), Parsed::Container(event));
        assert_eq!(parse(&network(verb, "")), Parsed::Ignored, "without a container");
    }
    assert_eq!(parse(&network("create", "")), Parsed::NetworkCreated { network: NETWORK.into() });
    assert_eq!(parse(&network("destroy", "")), Parsed::Ignored);
}

#[test]
fn reads_instants_with_nanoseconds() {
    assert_eq!(instant(&container("start", "")), Some(Stamp(1_795_612_092_217_356_829)));
    assert_eq!(instant(&message(r#"{"time":3}"#)), Some(Stamp(3_000_000_000)), "very old daemons send only seconds");
}

#[test]
fn drops_replayed_messages_and_keeps_similar_ones() {
    let mut recent = RecentEvents::default();
    assert!(recent.is_new(&container("start", "")));
    assert!(!recent.is_new(&container("start", "")));
    assert!(recent.is_new(&container("restart", "")), "another action of the same nanosecond");
    assert!(recent.is_new(&network("connect", r#""container":"a","#)));
    assert!(recent.is_new(&network("connect", r#""container":"b","#)), "another container of the same network");
    let mut later = container("start", "");
    later.time_nano = Some(1_795_612_092_217_356_830);
    assert!(recent.is_new(&later));
}

#[test]
fn remembers_a_whole_replay_within_its_bound() {
    let mut recent = RecentEvents::default();
    let at = |nanos| {
        let mut message = container("start", "");
        message.time_nano = Some(nanos);
        message
    };
    for nanos in 0..5_000 {
        assert!(recent.is_new(&at(nanos)));
    }
    assert_eq!((recent.order.len(), recent.keys.len()), (super::REMEMBERED, super::REMEMBERED));
    for nanos in 5_000 - 256..5_000 {
        assert!(!recent.is_new(&at(nanos)));
    }
}
