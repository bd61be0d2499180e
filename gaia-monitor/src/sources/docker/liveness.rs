//! Whether Docker responds. A hung engine keeps its connections open, so its silent event stream looks like a quiet one:
//! only a ping with a deadline shows the difference.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Connected;
use super::inspector::InspectRequest;
use crate::stderr::warn;

/// Docker responds within milliseconds; within this time also on a loaded host. It leaves a start that fails, and a
/// readiness check, well below 10 s.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Interval of pings.
const INTERVAL: Duration = Duration::from_secs(2);

/// Completes when Docker has not responded for the deadline.
pub async fn hung(docker: &Docker) {
    while responds(docker).await {
        sleep(INTERVAL).await;
    }
}

/// An error is a response, too; one without an HTTP status also shows within the deadline whether Docker accepts
/// connections, which the event stream reports.
async fn responds(docker: &Docker) -> bool {
    !matches!(timeout(DEADLINE, docker.ping()).await, Err(_) | Ok(Err(Error::RequestTimeoutError)))
}

/// Pings until it is dropped. After a hang everything is listed again: inspections may have failed meanwhile. The event
/// stream is left alone, because a hung engine that continues also continues its stream.
pub async fn watch(docker: Docker, connected: Connected, requests: mpsc::Sender<InspectRequest>) {
    loop {
        hung(&docker).await;
        connected.set_hung(true);
        warn(format_args!(
            "Docker has not responded for {} s: its events are late, and containers that start meanwhile have no name; the \
             kernel is still watched",
            DEADLINE.as_secs()
        ));
        while !responds(&docker).await {}
        connected.set_hung(false);
        warn("Docker responds again");
        // A full queue contains requests that were made since; what it does not cover is counted where it is lost.
        let _ = requests.try_send(InspectRequest::All);
    }
}
