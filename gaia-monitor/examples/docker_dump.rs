//! Prints the observations of the Docker and inventory sources as JSON lines, to inspect a host manually.
//!
//! `cargo run --example docker_dump [-- DOCKER_HOST]`; stop it with Ctrl-C. Observations go to standard output, changes of
//! the probe's filter and losses to standard error. The inventory needs root; no probe is loaded.

use std::sync::Arc;

use gaia_monitor::pipeline::channel::EventSender;
use gaia_monitor::pipeline::clock::Clock;
use gaia_monitor::pipeline::merge::Merge;
use gaia_monitor::sources::docker::{Connected, Source};
use gaia_monitor::sources::inventory;
use gaia_monitor::sources::netns::Broker;
use gaia_monitor::sources::worker::SourceThread;
use tokio::sync::watch;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let host = std::env::args().nth(1);
    let broker = Broker::start("netns-broker", || Ok(()))?;
    let clock = Arc::new(Clock::new());
    let (sender, mut batches, losses) = EventSender::new("docker");
    let filter = |change| eprintln!("filter {change:?}");
    let reader = SourceThread::start("proc-reader", || Ok(()))?;
    let connected = Connected::default();
    let (source, listing) =
        Source::start(host.as_deref(), reader, Vec::new(), clock.clone(), sender.clone(), filter, connected).await?;
    let found = inventory::read(&listing, &broker, clock.now());
    eprintln!("inventory {} facts, proxied {:?}, unread {}", found.observations.len(), found.proxied, found.unread);
    sender.send(found.observations);
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(source.run(stopped));
    let mut merge = Merge::default();
    loop {
        tokio::select! {
            batch = batches.recv() => for observation in batch.unwrap_or_default() {
                println!("{}", serde_json::to_string(&merge.release(clock.now(), observation))?);
            },
            signal = tokio::signal::ctrl_c() => {
                signal?;
                break;
            }
        }
        for event in merge.lost(clock.now(), losses.take()) {
            eprintln!("lost {}", serde_json::to_string(&event)?);
        }
    }
    stop.send_replace(true);
    running.await?;
    Ok(())
}
