//! Parser for messages of Docker's event stream. Pure; its tests are bytes of a real stream.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bollard::models::{EventMessage, EventMessageTypeEnum};

use super::signal;
use crate::model::event::{DockerAction, DockerEvent};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;

/// What a message means to the monitor.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// `name` is empty if the message does not carry the container's name (network events).
    Container(DockerEvent),
    /// A network was created: its prefixes may be new.
    NetworkCreated { network: String },
    /// The exec of a health check or of a user, an image, a volume …
    Ignored,
}

/// The instant of a message, with nanoseconds if present.
#[must_use]
pub fn instant(message: &EventMessage) -> Option<Stamp> {
    message.time_nano.map(Stamp).or_else(|| message.time.map(|seconds| Stamp(seconds.saturating_mul(1_000_000_000))))
}

#[must_use]
pub fn parse(message: &EventMessage) -> Parsed {
    let Some(actor) = &message.actor else { return Parsed::Ignored };
    let (Some(id), Some(action)) = (&actor.id, message.action.as_deref()) else { return Parsed::Ignored };
    let none = HashMap::new();
    let attributes = actor.attributes.as_ref().unwrap_or(&none);
    let attribute = |name: &str| attributes.get(name).cloned().unwrap_or_default();
    match message.typ {
        Some(EventMessageTypeEnum::CONTAINER) => match container_action(action, attributes) {
            Some(action) => {
                Parsed::Container(DockerEvent { container: ContainerId(id.clone()), name: attribute("name"), action })
            }
            None => Parsed::Ignored,
        },
        Some(EventMessageTypeEnum::NETWORK) => {
            let network = attribute("name");
            let action = match action {
                "create" => return Parsed::NetworkCreated { network: id.clone() },
                "connect" => DockerAction::NetworkConnect { network },
                "disconnect" => DockerAction::NetworkDisconnect { network },
                _ => return Parsed::Ignored,
            };
            match attributes.get("container") {
                Some(container) => Parsed::Container(DockerEvent {
                    container: ContainerId(container.clone()),
                    name: String::new(),
                    action,
                }),
                None => Parsed::Ignored,
            }
        }
        // The request already filters these out.
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
        | None => Parsed::Ignored,
    }
}

fn container_action(action: &str, attributes: &HashMap<String, String>) -> Option<DockerAction> {
    // `health_status: healthy`, `exec_create: /bin/sh -c true`: the detail follows a colon.
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

/// The last messages, which a replay may repeat.
#[derive(Debug, Default)]
pub struct RecentEvents {
    order: VecDeque<Key>,
    keys: BTreeSet<Key>,
}

type Key = (i64, String, String);

/// Four times what Docker can replay (eventsLimit, daemon/events/events.go).
const REMEMBERED: usize = 1_024;

impl RecentEvents {
    /// Records the message. Returns `false` if it was recorded before.
    pub fn is_new(&mut self, message: &EventMessage) -> bool {
        let actor = message.actor.as_ref();
        let mut id = actor.and_then(|actor| actor.id.clone()).unwrap_or_default();
        // Several containers may join one network at one instant.
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
