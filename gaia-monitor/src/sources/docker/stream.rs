//! The event stream: read without waiting for anything else, and resumed after an interruption.
//!
//! Docker replays at most its last 256 events (moby#36928), and none from before its own restart. An interrupted stream is
//! therefore resumed with a replay *and* a listing; if the replay does not reach back to the last known event,
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
use super::event::{Parsed, RecentEvents, instant, parse};
use super::inspector::InspectRequest;
use crate::model::event::{ContainerInfo, DockerAction, DockerEvent, Fact, Observation};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;

/// Delays between attempts to reconnect, doubled from the first to the last.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Stream {
    docker: Docker,
    clock: Arc<Clock>,
    sender: EventSender,
    requests: mpsc::Sender<InspectRequest>,
    /// Instant of the last event, or of the start.
    since: Stamp,
    /// `since` is the instant of an event.
    known: bool,
    recent: RecentEvents,
    /// Network events do not carry a container's name. Bounded by the number of containers.
    names: BTreeMap<ContainerId, String>,
    connected: Connected,
}

impl Stream {
    #[must_use]
    pub fn new(
        docker: Docker,
        clock: Arc<Clock>,
        sender: EventSender,
        requests: mpsc::Sender<InspectRequest>,
        began: Stamp,
        names: BTreeMap<ContainerId, String>,
        connected: Connected,
    ) -> Self {
        connected.set(true);
        Self {
            docker,
            clock,
            sender,
            requests,
            since: began,
            known: false,
            recent: RecentEvents::default(),
            names,
            connected,
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = MIN_BACKOFF;
        loop {
            self.follow().await;
            self.connected.set(false);
            loop {
                sleep(backoff).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
                if self.resume().await.is_ok() {
                    backoff = MIN_BACKOFF;
                    self.connected.set(true);
                    break;
                }
            }
        }
    }

    /// Emits what Docker still holds of the ends of these containers, which had ended before the stream's start: who asked
    /// for them. Only their last runs; what the replay does not reach is known by Docker's record alone.
    ///
    /// # Errors
    /// When Docker does not replay its events.
    pub async fn replay_ends(&self, containers: &[ContainerInfo]) -> Result<(), Error> {
        let runs: BTreeMap<_, _> = containers.iter().filter_map(|info| Some((&info.id, last_run(info)?))).collect();
        let ended = || runs.values().filter(|(_, ended)| *ended < self.since);
        let Some(first) = ended().map(|(started, _)| *started).min() else { return Ok(()) };
        let options = options(first).until(&seconds(self.since)).build();
        let mut replay = Box::pin(self.docker.events(Some(options)));
        while let Some(message) = replay.next().await {
            let message = message?;
            let (Some(at), Parsed::Container(event)) = (instant(&message), parse(&message)) else { continue };
            let is_of_end = match &event.action {
                DockerAction::Kill { .. } | DockerAction::Stop | DockerAction::Oom | DockerAction::Die { .. } => true,
                DockerAction::Create
                | DockerAction::Start
                | DockerAction::Pause
                | DockerAction::Unpause
                | DockerAction::HealthStatus { .. }
                | DockerAction::Restart
                | DockerAction::Rename { .. }
                | DockerAction::Destroy
                | DockerAction::NetworkConnect { .. }
                | DockerAction::NetworkDisconnect { .. } => false,
            };
            let of_last_run = |(started, ended): &(Stamp, Stamp)| at >= *started && *ended < self.since;
            if is_of_end && at < self.since && runs.get(&event.container).is_some_and(of_last_run) {
                self.sender.send(vec![Observation { at, fact: Fact::Docker(event) }]);
            }
        }
        Ok(())
    }

    /// Reads until the stream is interrupted.
    async fn follow(&mut self) {
        let mut events = Box::pin(self.docker.events(Some(options(self.since).build())));
        while let Some(next) = events.next().await {
            match next {
                Ok(message) => self.accept(&message),
                // A replay would repeat the unreadable message forever, so continue after it.
                Err(Error::JsonDataError { .. }) => {
                    self.sender.lost("docker.events", 1);
                    self.since = self.clock.now();
                    self.known = false;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Reconnects, replays the events that Docker still has, and requests a listing for the rest.
    async fn resume(&mut self) -> Result<(), Error> {
        // Docker may have been upgraded.
        self.docker = self.docker.clone().negotiate_version().await?;
        let until = self.clock.now();
        let mut replay = Box::pin(self.docker.events(Some(options(self.since).until(&seconds(until)).build())));
        let mut complete = false;
        let mut replayed = Vec::new();
        while let Some(message) = replay.next().await {
            let message = message?;
            // `since` is inclusive: a replay without a gap begins with the last known event.
            complete |= self.known && replayed.is_empty() && instant(&message) == Some(self.since);
            replayed.push(message);
        }
        drop(replay);
        if !complete {
            // The number is unknown; at least one cannot be excluded.
            self.sender.lost("docker.events", 1);
        }
        for message in &replayed {
            self.accept(message);
        }
        self.request(InspectRequest::All);
        Ok(())
    }

    fn accept(&mut self, message: &EventMessage) {
        let Some(at) = instant(message) else { return };
        if !self.recent.is_new(message) {
            return;
        }
        // Docker's clock may have stepped back; a replay from the earlier instant is safer.
        self.since = at;
        self.known = true;
        match parse(message) {
            Parsed::Container(event) => self.container(at, event),
            Parsed::NetworkCreated { network } => self.request(InspectRequest::Network(network)),
            Parsed::Ignored => {}
        }
    }

    fn container(&mut self, at: Stamp, mut event: DockerEvent) {
        let id = event.container.clone();
        if event.name.is_empty() {
            event.name = self.names.get(&id).cloned().unwrap_or_default();
        } else {
            self.names.insert(id.clone(), event.name.clone());
        }
        let request = match &event.action {
            DockerAction::Create | DockerAction::Start | DockerAction::Die { .. } | DockerAction::Rename { .. } => {
                Some(InspectRequest::Container(id))
            }
            DockerAction::NetworkConnect { network } => {
                self.request(InspectRequest::Network(network.clone()));
                Some(InspectRequest::Container(id))
            }
            DockerAction::NetworkDisconnect { .. } => Some(InspectRequest::Container(id)),
            DockerAction::Destroy => {
                self.names.remove(&id);
                Some(InspectRequest::Removed(id))
            }
            DockerAction::Oom
            | DockerAction::Kill { .. }
            | DockerAction::Stop
            | DockerAction::Pause
            | DockerAction::Unpause
            | DockerAction::HealthStatus { .. }
            | DockerAction::Restart => None,
        };
        self.sender.send(vec![Observation { at, fact: Fact::Docker(event) }]);
        if let Some(request) = request {
            self.request(request);
        }
    }

    fn request(&self, request: InspectRequest) {
        // The inspector ends only together with the stream: a closed channel loses nothing.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.requests.try_send(request) {
            self.sender.lost("docker.inspect", 1);
        }
    }
}

/// The start and the end of the last run of a container that does not run.
fn last_run(info: &ContainerInfo) -> Option<(Stamp, Stamp)> {
    info.started_at.zip(info.ended).map(|(started, ended)| (started, ended.at))
}

fn options(since: Stamp) -> EventsOptionsBuilder {
    let filters = HashMap::from([("type", vec!["container", "network"])]);
    EventsOptionsBuilder::new().since(&seconds(since)).filters(&filters)
}

/// An instant in Docker's format: seconds with nine decimals (api/types/time).
fn seconds(stamp: Stamp) -> String {
    let nanos = stamp.0.max(0);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::seconds;
    use crate::model::time::Stamp;

    #[test]
    fn formats_instants_with_nanoseconds() {
        assert_eq!(seconds(Stamp(1_795_612_092_000_000_042)), "1795612092.000000042");
        assert_eq!(seconds(Stamp(-1)), "0.000000000");
    }
}
