//! The loop that empties the ring.
//!
//! Records that decide a verdict wake it at once; all others wait for its next look, because one wake-up a record would
//! cost the host more than anything else here. Only records of one look are put in order; nothing waits for later ones.

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
use super::names::Names;
use crate::model::event::Observation;
use crate::pipeline::alarm::Alarm;
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;

/// How long an undecided record waits at most while records come.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The same after a wake-up: what goes with the record that decides follows within a tenth of a millisecond. A client
/// raises its exception 0.3 to 1 ms after it, and the first word shall be no later.
const LOOK_SOON: Duration = Duration::from_micros(150);
/// How long after a wake-up.
const AFTER_WAKING: Duration = Duration::from_millis(1);
/// So many records in one look are a flood, in which more looks would cost what they gain.
const FLOOD: usize = 256;
/// The same on a host where nothing happens: 500 looks a second would be most of what an idle monitor costs.
const LOOK_IDLE: Duration = Duration::from_millis(10);
/// How long without a record makes it idle; must exceed the probe's span of counted wake-ups (`ring.rs`, 20 ms).
const IDLE_AFTER: Duration = Duration::from_millis(100);
/// How often losses are asked for: two system calls a kind.
const LOSSES_EVERY: Duration = Duration::from_millis(100);
/// How often boot time is measured against UTC, which NTP moves.
const ANCHOR_EVERY: Duration = Duration::from_secs(1);
/// Most records of one look; then others get their turn on this thread.
const LOOK_RECORDS: usize = 16_384;
/// Bytes that the kernel adds to each record (`BPF_RINGBUF_HDR_SZ`).
const RING_HEADER: u64 = 8;
/// The stage of records that this version cannot read.
const UNREADABLE: &str = "ring.unreadable";

/// How full the ring was.
#[derive(Clone, Debug)]
pub struct RingGauge {
    capacity: u64,
    /// Most bytes that waited at once since the gauge was last read.
    peak: Arc<AtomicU64>,
}

impl RingGauge {
    pub(super) fn new(capacity: u32) -> Self {
        Self { capacity: u64::from(capacity), peak: Arc::default() }
    }

    /// The fullest that the ring was found since the last call: 0 empty, 1 full.
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
    names: Names,
    gauge: RingGauge,
    clock: Arc<Clock>,
    outlet: Outlet,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    // SAFETY: the ring owns its map's descriptor and keeps the same one until it is dropped with the `AsyncFd`.
    let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(io::Error::from)?;
    let mut losses = Losses { map: lost, told: [0; Kind::ALL.len()] };
    let mut look = Alarm::new()?;
    look.set_in(LOOK_EVERY)?;
    let mut last_record = Instant::now();
    let mut soon_until = Instant::now();
    // Bytes read since the ring was last empty.
    let mut waiting = 0;
    let mut asked_losses = Instant::now();
    let mut anchored = Instant::now();
    let mut stop = pin!(stop);
    loop {
        let stopping = tokio::select! {
            biased;
            () = &mut stop => true,
            ready = ring.readable_mut() => {
                // Before the drain: a wake-up that comes meanwhile must not be lost.
                ready?.clear_ready();
                soon_until = Instant::now() + AFTER_WAKING;
                false
            }
            rung = look.ring() => {
                rung?;
                false
            }
        };
        let drained = drain(ring.get_mut(), &names, &gauge, &mut waiting, &clock, &outlet, stopping);
        let now = Instant::now();
        if drained.records > 0 {
            last_record = now;
        }
        if stopping || !drained.heard || now - asked_losses >= LOSSES_EVERY {
            asked_losses = now;
            losses.report(&outlet);
        }
        if stopping || !drained.heard {
            return Ok(());
        }
        if now - anchored >= ANCHOR_EVERY {
            anchored = now;
            clock.anchor();
        }
        let pause = if now < soon_until && drained.records < FLOOD {
            LOOK_SOON
        } else if now - last_record < IDLE_AFTER {
            LOOK_EVERY
        } else {
            LOOK_IDLE
        };
        look.set_in(pause)?;
    }
}

/// What a look at the ring gave.
struct Drained {
    records: usize,
    /// Somebody listens still.
    heard: bool,
}

/// Hands over what is in the ring: one batch, or as many as there are.
fn drain(
    ring: &mut RingBuf<MapData>,
    names: &Names,
    gauge: &RingGauge,
    waiting: &mut u64,
    clock: &Clock,
    outlet: &Outlet,
    to_the_end: bool,
) -> Drained {
    let mut drained = Drained { records: 0, heard: true };
    loop {
        let mut batch: Vec<Observation> = Vec::new();
        let mut records = 0;
        while records < LOOK_RECORDS {
            let Some(item) = ring.next() else { break };
            records += 1;
            *waiting += item.len() as u64 + RING_HEADER;
            if decode(&item, names, clock, &mut batch).is_none() {
                outlet.lost(UNREADABLE, 1);
            }
        }
        gauge.found(*waiting);
        if records < LOOK_RECORDS {
            *waiting = 0;
        }
        // Processors fill the ring side by side. The sort is stable: at one instant the ring's own order stays.
        batch.sort_by_key(|observation| observation.at);
        drained.records += records;
        drained.heard = outlet.offer(batch);
        if !drained.heard || !to_the_end || records < LOOK_RECORDS {
            return drained;
        }
    }
}

/// What found no room in the ring, by kind.
struct Losses {
    map: PerCpuArray<MapData, u64>,
    told: [u64; Kind::ALL.len()],
}

impl Losses {
    fn report(&mut self, outlet: &Outlet) {
        for (kind, told) in Kind::ALL.into_iter().zip(&mut self.told) {
            let Ok(counts) = self.map.get(&(kind as u32), 0) else { continue };
            let total: u64 = counts.iter().sum();
            outlet.lost(kind.stage(), total.saturating_sub(*told));
            *told = total;
        }
    }
}
