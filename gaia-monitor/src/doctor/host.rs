//! Checks of capabilities, of locked memory, and of loading the probe.

use procfs::process::{LimitValue, Process};

use crate::exit::chain;
use crate::privileges;
use crate::sources::ebpf::{Finding, Probe};

pub const CAPABILITIES: &str = "capabilities";

/// From this version on, BPF memory is charged to the cgroup and RLIMIT_MEMLOCK does not count
/// (kernel/bpf: "bpf: Eliminate rlimit-based memory accounting", 5.11).
const MEMLOCK_FREE: (u8, u8) = (5, 11);

/// The capabilities of a whole run, which are more than the probe's.
pub fn capabilities() -> Finding {
    let missing = privileges::missing();
    if missing.is_empty() {
        return Finding::ok(CAPABILITIES, "all present");
    }
    let fix = "run as root, or give the service these capabilities";
    Finding::failed(CAPABILITIES, format!("missing {}", missing.join(", ")), fix)
}

pub fn memory_lock() -> Finding {
    const NAME: &str = "locked memory";
    let Ok(kernel) = procfs::KernelVersion::current() else { return Finding::ok(NAME, "unknown") };
    if (kernel.major, kernel.minor) >= MEMLOCK_FREE {
        return Finding::ok(NAME, "no limit applies to this kernel's BPF memory");
    }
    match Process::myself().and_then(|own| own.limits()).map(|limits| limits.max_locked_memory.soft_limit) {
        Ok(LimitValue::Value(bytes)) => {
            let detail = format!("limited to {} KiB, and this kernel counts BPF memory", bytes / 1024);
            Finding::warning(NAME, detail, "raise it: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit")
        }
        Ok(LimitValue::Unlimited) | Err(_) => Finding::ok(NAME, "no limit is set"),
    }
}

/// Loads and attaches every program, then detaches all of them.
pub fn probe() -> Vec<Finding> {
    const NAME: &str = "probe";
    const FIX: &str = "use a newer kernel";
    let probe = match Probe::load() {
        Ok(probe) => probe,
        // The error message names the fix.
        Err(error) => return vec![Finding::failed(NAME, chain(&error), "see the message")],
    };
    let mut detail = format!("{} programs attach", probe.attached().len());
    if !probe.absent().is_empty() {
        detail += &format!("; this kernel reports {}", probe.absent().join(", "));
    }
    let mut findings = vec![Finding::ok(NAME, detail)];
    findings.extend(probe.missing().into_iter().map(|missing| {
        let detail = format!("this kernel has no event for {}: {}", missing.name, missing.impact);
        Finding::warning(NAME, detail, FIX)
    }));
    findings
}
