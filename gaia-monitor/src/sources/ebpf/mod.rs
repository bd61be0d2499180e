//! The kernel's side of the story: loads the probe, and turns its records into observations.
//!
//! Nothing is pinned: programs and links live as long as this process, so a monitor that is killed leaves nothing
//! attached. The types of aya stop at this folder.

pub mod cgroup;
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

use self::names::Names;
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;

/// The loaded and attached probe. Dropping it detaches everything.
pub struct Probe {
    /// Owns the programs and their links.
    programs: Ebpf,
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    filter: FilterHandle,
    names: Names,
    gauge: RingGauge,
    attached: Vec<String>,
    missing: Vec<Missing>,
}

impl Probe {
    /// Loads and attaches every program that the running kernel has the events for. Needs CAP_BPF, CAP_PERFMON and
    /// CAP_NET_ADMIN, and the host's pid and network namespaces; it needs no async runtime.
    pub fn load() -> Result<Self, ProbeError> {
        load::load()
    }

    /// Names of the attached programs.
    #[must_use]
    pub fn attached(&self) -> Vec<String> {
        self.attached.clone()
    }

    /// Programs that this kernel has no event for, and what stays invisible without them.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        self.missing.clone()
    }

    /// The way to tell the kernel what else belongs to containers.
    #[must_use]
    pub fn filter(&self) -> FilterHandle {
        self.filter.clone()
    }

    /// How full the ring gets; stays valid while [`Probe::run`] works.
    #[must_use]
    pub fn gauge(&self) -> RingGauge {
        self.gauge.clone()
    }

    /// Reads the ring until `stop` is ready or nobody listens any more, and reads it once more then.
    ///
    /// Observations leave in batches, each sorted by the kernel's time. What found no room in the ring is reported under
    /// `ring.<kind>`.
    ///
    /// # Errors
    /// Where the ring cannot be waited for, which on a kernel that could load the probe means a runtime without I/O.
    pub async fn run(
        self,
        clock: Arc<Clock>,
        outlet: Outlet,
        stop: impl Future<Output = ()>,
    ) -> Result<(), std::io::Error> {
        let Self { programs, ring, lost, filter: _, names, gauge, attached: _, missing: _ } = self;
        let result = reader::run(ring, lost, names, gauge, clock, outlet, stop).await;
        drop(programs);
        result
    }
}
