//! One message of Docker's event stream, as a fact. Pure: bytes of a real stream are its tests.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bollard::models::{EventMessage, EventMessageTypeEnum};

use super::signal;
use crate::model::event::{DockerAction, DockerEvent};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;

/// What a message says to this program.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// `name` is empty where the message does not carry the container's (network events).
    Container(DockerEvent),
    /// A network has come: its prefixes may be new.
    NetworkCreated { network: String },
    /// A health check's or somebody's exec, an image, a volume … of no concern.
    Nothing,
}

/// The instant of a message, by its nanoseconds.
#[must_use]
pub fn instant(message: &EventMessage) -> Option<Stamp> {
    message.time_nano.map(Stamp).or_else(|| message.time.map(|seconds| Stamp(seconds.saturating_mul(1_000_000_000))))
}

#[must_use]
pub fn told(message: &EventMessage) -> Told {
    let Some(actor) = &message.actor else { return Told::Nothing };
    let (Some(id), Some(action)) = (&actor.id, message.action.as_deref()) else { return Told::Nothing };
    let none = HashMap::new();
    let attributes = actor.attributes.as_ref().unwrap_or(&none);
    let attribute = |name: &str| attributes.get(name).cloned().unwrap_or_default();
    match message.typ {
        Some(EventMessageTypeEnum::CONTAINER) => match container_action(action, attributes) {
            Some(action) => {
                Told::Container(DockerEvent { container: ContainerId(id.clone()), name: attribute("name"), action })
            }
            None => Told::Nothing,
        },
        Some(EventMessageTypeEnum::NETWORK) => {
            let network = attribute("name");
            let action = match action {
                "create" => return Told::NetworkCreated { network: id.clone() },
                "connect" => DockerAction::NetworkConnect { network },
                "disconnect" => DockerAction::NetworkDisconnect { network },
                _ => return Told::Nothing,
            };
            match attributes.get("container") {
                Some(container) => Told::Container(DockerEvent {
                    container: ContainerId(container.clone()),
                    name: String::new(),
                    action,
                }),
                None => Told::Nothing,
            }
        }
        // Filtered out by the request already.
        Some(
            EventMessageTypeEnum::EMPTY
            | EventMessageTypeEnum::BUILDER
            | EventMessageTypeEnum::CONFIG
            | EventMessageTypeEnum::DAEMON
            | EventMessageTypeEnum::IMAGE
            | EventMessageTypeEnum::NODE
            | EventMessageTypeEnum::PLUGIN
            | EventMessageTypeEnum::SECRET
            | EventMessageTypeEnum::SERVICE
            | EventMessageTypeEnum::VOLUME,
        )
        | None => Told::Nothing,
    }
}

fn container_action(action: &str, attributes: &HashMap<String, String>) -> Option<DockerAction> {
    // `health_status: healthy`, `exec_create: /bin/sh -c true`: the detail stands behind a colon.
    let (verb, detail) = match action.split_once(':') {
        Some((verb, detail)) => (verb, detail.trim()),
        None => (action, ""),
    };
    Some(match verb {
        "create" => DockerAction::Create,
        "start" => DockerAction::Start,
        "die" => DockerAction::Die { exit_code: attributes.get("exitCode").and_then(|code| code.parse().ok()) },
        "oom" => DockerAction::Oom,
        "kill" => DockerAction::Kill {
            signal: attributes.get("signal").map_or_else(|| "unknown".to_owned(), |signal| signal::normal(signal)),
        },
        "stop" => DockerAction::Stop,
        "pause" => DockerAction::Pause,
        "unpause" => DockerAction::Unpause,
        "health_status" => DockerAction::HealthStatus { status: detail.to_owned() },
        "restart" => DockerAction::Restart,
        "rename" => DockerAction::Rename {
            old_name: attributes.get("oldName").map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default(),
        },
        "destroy" => DockerAction::Destroy,
        // exec_*, attach, commit, copy, export, resize, top, update, archive-path …
        _ => return None,
    })
}

/// Remembers the last messages, so that one that a replay brings again is dropped.
#[derive(Debug, Default)]
pub struct Recent {
    order: VecDeque<Key>,
    keys: BTreeSet<Key>,
}

type Key = (i64, String, String);

/// Four times what Docker can replay (eventsLimit, daemon/events/events.go).
const REMEMBERED: usize = 1_024;

impl Recent {
    /// `false` if this very message came before.
    pub fn is_new(&mut self, message: &EventMessage) -> bool {
        let actor = message.actor.as_ref();
        let mut id = actor.and_then(|actor| actor.id.clone()).unwrap_or_default();
        // One network joins many containers, perhaps at one instant.
        if let Some(container) = actor.and_then(|actor| actor.attributes.as_ref()?.get("container")) {
            id.push_str(container);
        }
        let key = (instant(message).unwrap_or_default().0, id, message.action.clone().unwrap_or_default());
        if !self.keys.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests;
