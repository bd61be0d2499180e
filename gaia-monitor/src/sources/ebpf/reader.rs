//! The loop that drains the ring.
//!
//! Records that decide a verdict wake it immediately. All others wait for the next poll, because a wake-up for each record
//! would cost more than everything else here. Only records of one drain are sorted; nothing waits for later ones.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray, RingBuf};
use gaia_monitor_abi::Kind;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::decode::decode;
use super::names::KernelNames;
use crate::model::event::Observation;
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;
use crate::pipeline::timer::DeadlineTimer;

/// Maximum delay of a non-deciding record while records arrive.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// The same after a wake-up: records related to the deciding one follow within a tenth of a millisecond. A client raises
/// its exception 0.3 to 1 ms after it, and the first report must not be later.
const POLL_AFTER_WAKEUP: Duration = Duration::from_micros(150);
/// Duration of the shorter interval after a wake-up.
const WAKEUP_WINDOW: Duration = Duration::from_millis(1);
/// From this number of records in one drain on, more frequent polls cost as much as they gain.
const FLOOD: usize = 256;
/// The interval on an idle host, where 500 polls a second would be most of the monitor's cost.
const POLL_IDLE: Duration = Duration::from_millis(10);
/// Time without a record until the host counts as idle. Must exceed the probe's window of counted wake-ups (`ring.rs`,
/// 20 ms).
const IDLE_AFTER: Duration = Duration::from_millis(100);
/// Interval at which losses are read, which takes two system calls for each kind.
const LOSSES_INTERVAL: Duration = Duration::from_millis(100);
/// Interval at which boot time is measured against UTC, which NTP adjusts.
const ANCHOR_INTERVAL: Duration = Duration::from_secs(1);
/// Records of one drain, after which other tasks of this thread run.
const BATCH_RECORDS: usize = 16_384;
/// Bytes that the kernel adds to each record (`BPF_RINGBUF_HDR_SZ`).
const RING_HEADER: u64 = 8;
/// Stage of records that this version cannot decode.
const STAGE_UNREADABLE: &str = "ring.unreadable";

/// Fill level of the ring.
#[derive(Clone, Debug)]
pub struct RingGauge {
    capacity: u64,
    /// Maximum number of queued bytes since the gauge was last read.
    peak: Arc<AtomicU64>,
}

impl RingGauge {
    pub(super) fn new(capacity: u32) -> Self {
        Self { capacity: u64::from(capacity), peak: Arc::default() }
    }

    /// Maximum fill level since the last call: 0 empty, 1 full.
    #[must_use]
    pub fn ring_used_ratio(&self) -> f64 {
        let peak = self.peak.swap(0, Ordering::Relaxed).min(self.capacity);
        peak as f64 / self.capacity as f64
    }

    fn found(&self, bytes: u64) {
        self.peak.fetch_max(bytes, Ordering::Relaxed);
    }
}

pub(super) async fn run(
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    names: KernelNames,
    gauge: RingGauge,
    clock: Arc<Clock>,
    sender: EventSender,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    // SAFETY: the ring owns its map's descriptor and keeps the same one until it is dropped with the `AsyncFd`.
    let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(io::Error::from)?;
    let mut losses = Losses { map: lost, reported: [0; Kind::ALL.len()] };
    let mut timer = DeadlineTimer::new()?;
    timer.set_in(POLL_INTERVAL)?;
    let mut last_record = Instant::now();
    let mut soon_until = Instant::now();
    // Bytes read since the ring was last empty.
    let mut waiting = 0;
    let mut losses_read = Instant::now();
    let mut anchored = Instant::now();
    let mut stop = pin!(stop);
    loop {
        let stopping = tokio::select! {
            biased;
            () = &mut stop => true,
            ready = ring.readable_mut() => {
                // Before the drain: a wake-up during the drain must not be lost.
                ready?.clear_ready();
                soon_until = Instant::now() + WAKEUP_WINDOW;
                false
            }
            fired = timer.fired() => {
                fired?;
                false
            }
        };
        let drained = drain(ring.get_mut(), &names, &gauge, &mut waiting, &clock, &sender, stopping);
        let now = Instant::now();
        if drained.records > 0 {
            last_record = now;
        }
        if stopping || !drained.is_open || now - losses_read >= LOSSES_INTERVAL {
            losses_read = now;
            losses.report(&sender);
        }
        if stopping || !drained.is_open {
            return Ok(());
        }
        if now - anchored >= ANCHOR_INTERVAL {
            anchored = now;
            clock.anchor();
        }
        let pause = if now < soon_until && drained.records < FLOOD {
            POLL_AFTER_WAKEUP
        } else if now - last_record < IDLE_AFTER {
            POLL_INTERVAL
        } else {
            POLL_IDLE
        };
        timer.set_in(pause)?;
    }
}

/// Result of a drain.
struct Drained {
    records: usize,
    /// The receiver still exists.
    is_open: bool,
}

/// Sends the records in the ring: at most one batch, or all of them (`completely`).
fn drain(
    ring: &mut RingBuf<MapData>,
    names: &KernelNames,
    gauge: &RingGauge,
    waiting: &mut u64,
    clock: &Clock,
    sender: &EventSender,
    completely: bool,
) -> Drained {
    let mut drained = Drained { records: 0, is_open: true };
    loop {
        let mut batch: Vec<Observation> = Vec::new();
        let mut records = 0;
        while records < BATCH_RECORDS {
            let Some(item) = ring.next() else { break };
            records += 1;
            *waiting += item.len() as u64 + RING_HEADER;
            if decode(&item, names, clock, &mut batch).is_none() {
                sender.lost(STAGE_UNREADABLE, 1);
            }
        }
        gauge.found(*waiting);
        if records < BATCH_RECORDS {
            *waiting = 0;
        }
        // CPUs fill the ring concurrently. The sort is stable: records of one instant keep the order of the ring.
        batch.sort_by_key(|observation| observation.at);
        drained.records += records;
        drained.is_open = sender.send(batch);
        if !drained.is_open || !completely || records < BATCH_RECORDS {
            return drained;
        }
    }
}

/// Records that found no room in the ring, by kind.
struct Losses {
    map: PerCpuArray<MapData, u64>,
    reported: [u64; Kind::ALL.len()],
}

impl Losses {
    fn report(&mut self, sender: &EventSender) {
        for (kind, reported) in Kind::ALL.into_iter().zip(&mut self.reported) {
            let Ok(counts) = self.map.get(&(kind as u32), 0) else { continue };
            let total: u64 = counts.iter().sum();
            sender.lost(kind.stage(), total.saturating_sub(*reported));
            *reported = total;
        }
    }
}
