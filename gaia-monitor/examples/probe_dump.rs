//! Prints the observations of the probe as JSON lines, for developers.
//!
//! `probe_dump [SECONDS] [PUBLISHED_PORT | PREFIX/LEN | cgroup:ID]…`

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gaia_monitor::model::ids::CgroupId;
use gaia_monitor::pipeline::channel::EventSender;
use gaia_monitor::pipeline::clock::Clock;
use gaia_monitor::sources::ebpf::Probe;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().as_deref().unwrap_or("10").parse().context("SECONDS")?;
    let probe = Probe::load()?;
    for argument in arguments {
        if let Some(cgroup) = argument.strip_prefix("cgroup:") {
            probe.filter().allow_cgroup(CgroupId(cgroup.parse().context("ID")?))?;
            continue;
        }
        match argument.split_once('/') {
            Some((prefix, len)) => {
                probe.filter().allow_prefix(prefix.parse().context("PREFIX")?, len.parse().context("LEN")?)?;
            }
            None => probe.filter().publish(argument.parse().context("PUBLISHED_PORT")?)?,
        }
    }
    eprintln!("attached {:?}, missing {:?}", probe.attached(), probe.missing());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (sender, mut batches, losses) = EventSender::new("pipeline");
        let gauge = probe.gauge();
        let stop = tokio::time::sleep(Duration::from_secs(seconds));
        let reading = tokio::spawn(probe.run(Arc::new(Clock::new()), sender, stop));
        let mut output = std::io::stdout().lock();
        while let Some(batch) = batches.recv().await {
            for observation in batch {
                let fact = serde_json::to_string(&observation.fact)?;
                writeln!(output, r#"{{"at":{},"fact":{fact}}}"#, observation.at.0)?;
            }
            output.flush()?;
        }
        reading.await??;
        eprintln!("lost {:?}, ring at most {:.4} full", losses.take(), gauge.ring_used_ratio());
        Ok(())
    })
}
