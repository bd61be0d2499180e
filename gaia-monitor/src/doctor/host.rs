//! Capabilities, locked memory, and whether the probe really loads.

use procfs::process::{LimitValue, Process};

use crate::privileges;
use crate::sources::ebpf::{Check, Outcome, Probe};

pub const CAPABILITIES: &str = "capabilities";

/// From here on BPF memory is charged to the cgroup and RLIMIT_MEMLOCK does not count
/// (kernel/bpf: "bpf: Eliminate rlimit-based memory accounting", 5.11).
const MEMLOCK_FREE: (u8, u8) = (5, 11);

/// What a run needs all its life, more than the probe alone.
pub fn capabilities() -> Check {
    let lacking = privileges::lacking();
    if lacking.is_empty() {
        return Check { name: CAPABILITIES, outcome: Outcome::Ok, detail: "all there".to_owned(), fix: String::new() };
    }
    Check {
        name: CAPABILITIES,
        outcome: Outcome::Fail,
        detail: format!("lacks {}", lacking.join(", ")),
        fix: "run as root, or give the service these capabilities".to_owned(),
    }
}

pub fn memory_lock() -> Check {
    const NAME: &str = "locked memory";
    let ok = |detail: String| Check { name: NAME, outcome: Outcome::Ok, detail, fix: String::new() };
    let Ok(kernel) = procfs::KernelVersion::current() else { return ok("not known".to_owned()) };
    if (kernel.major, kernel.minor) >= MEMLOCK_FREE {
        return ok("no limit applies to this kernel's BPF memory".to_owned());
    }
    match Process::myself().and_then(|own| own.limits()).map(|limits| limits.max_locked_memory.soft_limit) {
        Ok(LimitValue::Value(bytes)) => Check {
            name: NAME,
            outcome: Outcome::Warn,
            detail: format!("limited to {} KiB, and this kernel counts BPF memory", bytes / 1024),
            fix: "raise it: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit".to_owned(),
        },
        Ok(LimitValue::Unlimited) | Err(_) => ok("no limit is set".to_owned()),
    }
}

/// Loads and attaches everything, and lets it go.
pub fn probe() -> Vec<Check> {
    const NAME: &str = "probe";
    let probe = match Probe::load() {
        Ok(probe) => probe,
        // The message says what to do as well.
        Err(error) => {
            let (detail, fix) = (crate::exit::chain(&error), "see the message".to_owned());
            return vec![Check { name: NAME, outcome: Outcome::Fail, detail, fix }];
        }
    };
    let detail = format!("{} programs attach", probe.attached().len());
    let mut checks = vec![Check { name: NAME, outcome: Outcome::Ok, detail, fix: String::new() }];
    checks.extend(probe.missing().into_iter().map(|missing| Check {
        name: NAME,
        outcome: Outcome::Warn,
        detail: format!("this kernel has no event for {}, so the monitor does not see {}", missing.name, missing.loses),
        fix: "use a kernel that has it, 6.12 or newer".to_owned(),
    }));
    checks
}
