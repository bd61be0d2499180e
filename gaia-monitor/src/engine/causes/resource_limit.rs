//! The resource limit behind a signal: from what the kernel enforced, never from the limits that were configured.

use crate::engine::types::verdict::Verdict;
use crate::engine::world::processes::{Process, SignalSeen};
use crate::model::event::{ExitStatus, MemoryUse, ResourceLimit};
use crate::model::incident::{How, Limit};

/// Percentage of the limit from which a peak counts as reaching it. The kernel charges in batches, so a full cgroup
/// stays a little below its limit. A lower peak may be from any time.
const FULL: u64 = 98;

/// `deciding`: the signal that explains the status.
#[must_use]
pub fn of(how: How, process: &Process, status: &ExitStatus, deciding: Option<&SignalSeen>) -> Option<Limit> {
    if how == How::OomKilled {
        // Without a limit that was reached, the memory of the host or of a parent cgroup ran out.
        return process.memory.as_ref().filter(|memory| is_full(memory)).map(|_| Limit::Memory);
    }
    let deciding = deciding.filter(|seen| status.signal() == Some(seen.signal.as_str()))?;
    deciding.limit.map(|limit| match limit {
        ResourceLimit::Cpu => Limit::Cpu,
        ResourceLimit::FileSize => Limit::FileSize,
    })
}

/// Whether the use of a container's memory reached its own limit.
#[must_use]
pub fn is_full(memory: &MemoryUse) -> bool {
    matches!((memory.limit, memory.peak), (Some(limit), Some(peak)) if peak / 100 >= limit / 100 * FULL / 100)
}

/// ` at its limit of CPU time (RLIMIT_CPU)`. The limit of memory is part of another sentence.
#[must_use]
pub fn text(verdict: &Verdict) -> &'static str {
    match verdict.limit {
        Some(Limit::Cpu) => " at its limit of CPU time (RLIMIT_CPU)",
        Some(Limit::FileSize) => " at its limit of file size (RLIMIT_FSIZE)",
        Some(Limit::Memory) | None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::is_full;
    use crate::model::event::MemoryUse;
    use crate::model::ids::{ContainerId, Pid};

    #[test]
    fn counts_a_limit_only_when_the_peak_reached_it() {
        let read = |limit, peak| MemoryUse {
            container: ContainerId("core".to_owned()),
            victim: Pid(1),
            limit,
            in_use: None,
            peak,
        };
        assert!(is_full(&read(Some(100_000), Some(99_000))));
        assert!(!is_full(&read(Some(100_000), Some(90_000))));
        assert!(!is_full(&read(None, Some(90_000))) && !is_full(&read(Some(100_000), None)));
    }
}
