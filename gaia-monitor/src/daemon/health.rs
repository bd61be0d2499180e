//! State of the monitor itself: the basis of readiness and of its own metrics.
//!
//! The run writes it, the server reads it; neither waits for the other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::output::metrics::Readings;
use crate::sources::docker::Connected;
use crate::sources::ebpf::{Probe, RingGauge};
use crate::sources::procfs;

/// Readings of the ring, one a second; their maximum is published. A minute of them, so that no scrape misses a peak.
const PEAKS: usize = 60;

#[derive(Debug, Default)]
pub struct Health {
    probe: OnceLock<Attached>,
    inventory: AtomicBool,
    docker: Connected,
    peaks: Mutex<VecDeque<f64>>,
}

#[derive(Debug)]
struct Attached {
    gauge: RingGauge,
    probes: Vec<(String, bool)>,
}

/// What a run still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    Probe,
    Inventory,
    Docker,
}

impl Unready {
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Unready::Probe => "the probe is not attached yet",
            Unready::Inventory => "the inventory of containers is not read yet",
            Unready::Docker => "Docker does not respond, or its event stream is interrupted; trying again",
        }
    }
}

impl Health {
    /// Records that the probe is attached.
    pub fn attached(&self, probe: &Probe) {
        let missing = probe.missing().into_iter().map(|missing| (missing.name, false));
        let probes = probe.attached().into_iter().map(|name| (name, true)).chain(missing).collect();
        // A run has one probe: the cell is still empty.
        let _ = self.probe.set(Attached { gauge: probe.gauge(), probes });
    }

    /// Records that the inventory has been processed.
    pub fn inventory_read(&self) {
        self.inventory.store(true, Ordering::Relaxed);
    }

    /// The containers of this host are known: the run watches.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.inventory.load(Ordering::Relaxed)
    }

    /// Shared with the reader of Docker's event stream, which updates it.
    #[must_use]
    pub fn docker(&self) -> Connected {
        self.docker.clone()
    }

    /// `None` when ready.
    #[must_use]
    pub fn unready(&self) -> Option<Unready> {
        if self.probe.get().is_none() {
            return Some(Unready::Probe);
        }
        if !self.has_begun() {
            return Some(Unready::Inventory);
        }
        (!self.docker.is_connected()).then_some(Unready::Docker)
    }

    /// Call it once a second: reading the ring's gauge resets its peak.
    #[must_use]
    pub fn read(&self) -> Readings {
        let attached = self.probe.get();
        let mut peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        peaks.push_back(attached.map_or(0.0, |attached| attached.gauge.ring_used_ratio()));
        if peaks.len() > PEAKS {
            peaks.pop_front();
        }
        Readings {
            ring_used: peaks.iter().copied().fold(0.0, f64::max),
            docker_connected: self.docker.is_connected(),
            memory_bytes: procfs::own_memory().unwrap_or(0),
            probes: attached.map(|attached| attached.probes.clone()).unwrap_or_default(),
            outputs: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, Unready};

    #[test]
    fn is_unready_without_a_probe() {
        let health = Health::default();
        health.inventory_read();
        assert_eq!(health.unready(), Some(Unready::Probe));
        assert!(health.read().memory_bytes > 1 << 20);
    }
}
