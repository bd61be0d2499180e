//! Start and run against an engine that hangs, or fails to inspect one container.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::fake_engine::FakeEngine;
use super::{Connected, DockerError, FilterChange, Listing, Source};
use crate::model::event::Fact;
use crate::model::ids::ContainerId;
use crate::pipeline::channel::{Batch, EventSender, Losses};
use crate::pipeline::clock::Clock;
use crate::sources::worker::SourceThread;

/// A bound for what takes one or two seconds, or the deadline and an interval of pings.
const PATIENCE: Duration = Duration::from_secs(60);

struct Started {
    listing: Listing,
    connected: Connected,
    batches: mpsc::Receiver<Batch>,
    losses: Losses,
    /// Dropping it ends the source.
    _stop: watch::Sender<bool>,
}

async fn start(engine: &FakeEngine) -> Result<Started, DockerError> {
    let (sender, batches, losses) = EventSender::new("docker");
    let reader = SourceThread::start("test-reader", || Ok(())).unwrap();
    let (connected, clock) = (Connected::default(), Arc::new(Clock::new()));
    let filter = |_: FilterChange| {};
    let (host, labels) = (engine.host(), Vec::new());
    let (source, listing) =
        Source::start(Some(&host), reader, labels, clock, sender, filter, connected.clone()).await?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(source.run(stopped));
    Ok(Started { listing, connected, batches, losses, _stop: stop })
}

impl Started {
    /// The next fact that fits.
    async fn fact<T>(&mut self, fits: impl Fn(&Fact) -> Option<T>) -> T {
        let next = async {
            loop {
                let batch = self.batches.recv().await.expect("the source runs");
                if let Some(found) = batch.iter().find_map(|observation| fits(&observation.fact)) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, next).await.expect("the fact arrives")
    }

    async fn listed(&mut self) -> Vec<ContainerId> {
        self.fact(|fact| match fact {
            Fact::InventoryRead { containers } => Some(containers.clone()),
            _ => None,
        })
        .await
    }

    async fn inspected(&mut self, id: &str) {
        self.fact(|fact| matches!(fact, Fact::ContainerSeen(seen) if seen.id.0 == id).then_some(())).await;
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn ids(ids: &[&str]) -> Vec<ContainerId> {
    ids.iter().map(|id| ContainerId((*id).to_owned())).collect()
}

#[tokio::test]
async fn start_fails_within_ten_seconds_when_the_engine_hangs() {
    let paths = ["/version", "/networks", "/containers/json", "/containers/aaaa/json"];
    join_all(paths.map(|path| async move {
        let engine = FakeEngine::start(&["aaaa"]);
        engine.hang_at(path);
        let began = Instant::now();
        let error = start(&engine).await.err().unwrap();
        assert!(matches!(error, DockerError::Hung { .. }), "{path}: {error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{path}: {:?}", began.elapsed());
    }))
    .await;
}

#[tokio::test]
async fn is_not_connected_while_the_engine_hangs_and_lists_again_after_it() {
    let engine = FakeEngine::start(&["aaaa"]);
    let mut started = start(&engine).await.unwrap();
    assert_eq!((started.listed().await, started.connected.is_connected()), (ids(&["aaaa"]), true));
    engine.hang(true);
    until("the hang is noticed", || !started.connected.is_connected()).await;
    engine.hang(false);
    until("the end of the hang is noticed", || started.connected.is_connected()).await;
    assert_eq!(started.listed().await, ids(&["aaaa"]));
    assert_eq!(engine.listings(), 2);
}

#[tokio::test]
async fn skips_a_container_that_cannot_be_inspected_and_tries_it_again() {
    let engine = FakeEngine::start(&["aaaa", "bbbb", "cccc"]);
    engine.set_broken("bbbb", true);
    let mut started = start(&engine).await.unwrap();
    let found: Vec<_> = started.listing.containers.iter().map(|seen| seen.id.clone()).collect();
    assert_eq!((found, started.listing.uninspected.clone()), (ids(&["aaaa", "cccc"]), ids(&["bbbb"])));
    assert_eq!(started.listed().await, ids(&["aaaa", "cccc", "bbbb"]), "it exists, so nothing may take it for removed");
    assert_eq!(started.losses.take().into_iter().collect::<Vec<_>>(), [("docker.inspect".to_owned(), 1)]);
    engine.set_broken("bbbb", false);
    started.inspected("bbbb").await;
}

#[tokio::test]
async fn keeps_the_listing_after_a_reconnect_when_one_container_cannot_be_inspected() {
    let engine = FakeEngine::start(&["aaaa", "bbbb"]);
    let mut started = start(&engine).await.unwrap();
    assert_eq!(started.listed().await, ids(&["aaaa", "bbbb"]));
    engine.set_broken("aaaa", true);
    let other = engine.clone();
    tokio::task::spawn_blocking(move || other.interrupt_events()).await.unwrap();
    started.inspected("bbbb").await;
    engine.set_broken("aaaa", false);
    started.inspected("aaaa").await;
}

#[test]
fn finds_the_socket_file_of_a_local_engine_only() {
    assert_eq!(super::socket_path(Some("unix:///run/other.sock")).as_deref(), Some(Path::new("/run/other.sock")));
    assert_eq!(super::socket_path(Some("tcp://127.0.0.1:2375")), None);
}
