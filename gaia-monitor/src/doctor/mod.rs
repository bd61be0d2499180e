//! `doctor`: checks whether this host meets the requirements of the monitor. Each finding names its fix.
//!
//! It changes nothing: the probe is attached for an instant and detached when the check ends. Every condition under
//! which `run` would refuse to start is a failed pre-flight check here.

mod docker;
mod host;

use crate::exit::Exit;
use crate::sources::ebpf::cgroup::enter_host_namespace;
use crate::sources::ebpf::preflight;

pub use crate::sources::ebpf::{Finding, Status};

/// All findings, most fundamental first.
#[must_use]
pub fn examine(docker_host: Option<&str>) -> Vec<Finding> {
    enter_host_namespace();
    // A run needs more capabilities than the probe alone, so its own check covers both.
    let mut findings: Vec<Finding> =
        preflight().into_iter().filter(|finding| finding.check != host::CAPABILITIES).collect();
    findings.push(host::capabilities());
    findings.push(host::memory_lock());
    let ready = findings.iter().all(|finding| finding.status != Status::Failed);
    if ready {
        findings.extend(host::probe());
    }
    findings.push(docker::reachable(docker_host));
    findings
}

/// The exit code, and the closing message.
#[must_use]
pub fn verdict(findings: &[Finding]) -> (Exit, Option<String>) {
    let names = |status: Status| -> Vec<&str> {
        findings.iter().filter(|finding| finding.status == status).map(|finding| finding.check).collect()
    };
    let (failed, warned) = (names(Status::Failed), names(Status::Warning));
    if !failed.is_empty() {
        let message = format!("`run` cannot start on this host: {}; see the fix of each above", failed.join(", "));
        (Exit::DoctorPreflight, Some(message))
    } else if warned.is_empty() {
        (Exit::Ok, None)
    } else {
        let message = format!("`run` starts, with limits: {}; see the fix of each above", warned.join(", "));
        (Exit::DoctorWarnings, Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, verdict};
    use crate::exit::Exit;

    #[test]
    fn reports_the_worst_status() {
        let (ok, warning, failed) = (Finding::ok("a", ""), Finding::warning("b", "", ""), Finding::failed("c", "", ""));
        assert_eq!(verdict(std::slice::from_ref(&ok)), (Exit::Ok, None));
        let (exit, message) = verdict(&[ok, warning.clone()]);
        assert_eq!((exit, exit.code()), (Exit::DoctorWarnings, 1));
        assert!(message.unwrap().contains("with limits: b;"));
        let (exit, message) = verdict(&[warning, failed]);
        assert_eq!((exit, exit.code()), (Exit::DoctorPreflight, 3));
        assert!(message.unwrap().contains("cannot start on this host: c;"));
    }
}
