//! The eBPF source: loads and attaches the probe, and decodes its records into observations.
//!
//! Nothing is pinned: programs and links live as long as this process, so a killed monitor leaves nothing attached. Types
//! of aya stay inside this folder.

pub mod cgroup;
mod crash;
mod decode;
mod drops;
mod filter;
mod finding;
mod http;
mod load;
mod names;
mod offsets;
mod preflight;
mod reader;

use std::future::Future;
use std::sync::Arc;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, RingBuf};

pub use self::filter::{FilterError, FilterHandle};
pub use self::finding::{Finding, Status};
pub use self::load::{Missing, ProbeError};
pub use self::preflight::preflight;
pub use self::reader::RingGauge;

use self::names::KernelNames;
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;

/// The loaded and attached probe. Dropping it detaches everything.
pub struct Probe {
    /// Owns the programs and their links.
    programs: Ebpf,
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    filter: FilterHandle,
    names: KernelNames,
    gauge: RingGauge,
    attached: Vec<String>,
    missing: Vec<Missing>,
    absent: Vec<String>,
}

impl Probe {
    /// Loads and attaches every program that the running kernel has the events for. Needs CAP_BPF, CAP_PERFMON and
    /// CAP_NET_ADMIN, and the host's pid and network namespaces; it needs no async runtime.
    pub fn load() -> Result<Self, ProbeError> {
        load::load()
    }

    /// KernelNames of the attached programs.
    #[must_use]
    pub fn attached(&self) -> Vec<String> {
        self.attached.clone()
    }

    /// Programs that this kernel does not support, and the consequence of each.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        self.missing.clone()
    }

    /// What this kernel reports less of than newer ones, in clauses, although every program for it is attached.
    #[must_use]
    pub fn absent(&self) -> &[String] {
        &self.absent
    }

    /// Handle by which user space updates the kernel's filter.
    #[must_use]
    pub fn filter(&self) -> FilterHandle {
        self.filter.clone()
    }

    /// Fill level of the ring; valid while [`Probe::run`] runs.
    #[must_use]
    pub fn gauge(&self) -> RingGauge {
        self.gauge.clone()
    }

    /// Reads the ring until `stop` completes or the receiver is dropped, then drains it once more.
    ///
    /// Observations are sent in batches, each sorted by kernel time. Records that found no room in the ring are reported as
    /// lost under `ring.<kind>`.
    ///
    /// # Errors
    /// When the ring cannot be polled, which on a kernel that loaded the probe means a runtime without I/O.
    pub async fn run(
        self,
        clock: Arc<Clock>,
        sender: EventSender,
        stop: impl Future<Output = ()>,
    ) -> Result<(), std::io::Error> {
        let Self { programs, ring, lost, filter: _, names, gauge, attached: _, missing: _, absent: _ } = self;
        let result = reader::run(ring, lost, names, gauge, clock, sender, stop).await;
        drop(programs);
        result
    }
}
