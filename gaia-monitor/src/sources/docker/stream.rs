//! The event stream, read without ever waiting for anything else, and taken up again when it breaks.
//!
//! Docker replays at most its last 256 events (moby#36928), and none from before its own restart: a stream that
//! breaks is resumed by a replay *and* a listing, and where the replay does not reach back to the last event known,
//! `docker.events` is counted as lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Connected;
use super::event::{Recent, Told, instant, told};
use super::inspector::Look;
use crate::model::event::{DockerAction, DockerEvent, Fact, Observation};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;

/// Pauses between attempts to reach a Docker that is gone: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Stream {
    docker: Docker,
    clock: Arc<Clock>,
    outlet: Outlet,
    looks: mpsc::Sender<Look>,
    /// The last event's instant, or where to begin.
    since: Stamp,
    /// An event has been seen at `since`.
    known: bool,
    recent: Recent,
    /// Network events do not carry a container's name. Bounded by the containers that there are.
    names: BTreeMap<ContainerId, String>,
    connected: Connected,
}

impl Stream {
    #[must_use]
    pub fn new(
        docker: Docker,
        clock: Arc<Clock>,
        outlet: Outlet,
        looks: mpsc::Sender<Look>,
        began: Stamp,
        names: BTreeMap<ContainerId, String>,
        connected: Connected,
    ) -> Self {
        connected.say(true);
        Self { docker, clock, outlet, looks, since: began, known: false, recent: Recent::default(), names, connected }
    }

    /// Never ends by itself.
    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.follow().await;
            self.connected.say(false);
            loop {
                sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
                if self.resume().await.is_ok() {
                    pause = FIRST_PAUSE;
                    self.connected.say(true);
                    break;
                }
            }
        }
    }

    /// Reads until the stream breaks.
    async fn follow(&mut self) {
        let mut events = Box::pin(self.docker.events(Some(options(self.since).build())));
        while let Some(next) = events.next().await {
            match next {
                Ok(message) => self.take(&message),
                // A replay would bring the same unreadable message again, for ever: step over it.
                Err(Error::JsonDataError { .. }) => {
                    self.outlet.lost("docker.events", 1);
                    self.since = self.clock.now();
                    self.known = false;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Reaches Docker again, replays what it still has and asks for a listing of the rest.
    async fn resume(&mut self) -> Result<(), Error> {
        // It may have come back as another version.
        self.docker = self.docker.clone().negotiate_version().await?;
        let until = self.clock.now();
        let mut replay = Box::pin(self.docker.events(Some(options(self.since).until(&seconds(until)).build())));
        let mut complete = false;
        let mut missed = Vec::new();
        while let Some(message) = replay.next().await {
            let message = message?;
            // `since` includes its own instant: the last known event is the first one of a replay without a gap.
            complete |= self.known && missed.is_empty() && instant(&message) == Some(self.since);
            missed.push(message);
        }
        drop(replay);
        if !complete {
            // How many is unknown: at least one cannot be excluded.
            self.outlet.lost("docker.events", 1);
        }
        for message in &missed {
            self.take(message);
        }
        self.look(Look::Everything);
        Ok(())
    }

    fn take(&mut self, message: &EventMessage) {
        let Some(at) = instant(message) else { return };
        if !self.recent.is_new(message) {
            return;
        }
        // Docker's clock may have stepped back; a replay from the earlier instant is the safer one.
        self.since = at;
        self.known = true;
        match told(message) {
            Told::Container(event) => self.container(at, event),
            Told::NetworkCreated { network } => self.look(Look::Network(network)),
            Told::Nothing => {}
        }
    }

    fn container(&mut self, at: Stamp, mut event: DockerEvent) {
        let id = event.container.clone();
        if event.name.is_empty() {
            event.name = self.names.get(&id).cloned().unwrap_or_default();
        } else {
            self.names.insert(id.clone(), event.name.clone());
        }
        let look = match &event.action {
            DockerAction::Create | DockerAction::Start | DockerAction::Die { .. } | DockerAction::Rename { .. } => {
                Some(Look::Container(id))
            }
            DockerAction::NetworkConnect { network } => {
                self.look(Look::Network(network.clone()));
                Some(Look::Container(id))
            }
            DockerAction::NetworkDisconnect { .. } => Some(Look::Container(id)),
            DockerAction::Destroy => {
                self.names.remove(&id);
                Some(Look::Removed(id))
            }
            DockerAction::Oom
            | DockerAction::Kill { .. }
            | DockerAction::Stop
            | DockerAction::Pause
            | DockerAction::Unpause
            | DockerAction::HealthStatus { .. }
            | DockerAction::Restart => None,
        };
        self.outlet.offer(vec![Observation { at, fact: Fact::Docker(event) }]);
        if let Some(look) = look {
            self.look(look);
        }
    }

    fn look(&self, look: Look) {
        // The inspector ends only together with the stream: a closed way loses nothing.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.looks.try_send(look) {
            self.outlet.lost("docker.inspect", 1);
        }
    }
}

fn options(since: Stamp) -> EventsOptionsBuilder {
    let filters = HashMap::from([("type", vec!["container", "network"])]);
    EventsOptionsBuilder::new().since(&seconds(since)).filters(&filters)
}

/// Docker reads instants as seconds with nine decimals (api/types/time).
fn seconds(stamp: Stamp) -> String {
    let nanos = stamp.0.max(0);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::seconds;
    use crate::model::time::Stamp;

    #[test]
    fn an_instant_is_asked_for_with_all_its_nanoseconds() {
        assert_eq!(seconds(Stamp(1_795_612_092_000_000_042)), "1795612092.000000042");
        assert_eq!(seconds(Stamp(-1)), "0.000000000");
    }
}
