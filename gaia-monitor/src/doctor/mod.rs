//! `doctor`: does this host give the monitor what it needs? Each finding names its fix.
//!
//! It looks and changes nothing; the probe is attached for an instant and is gone when the check ends. Whatever would
//! make `run` refuse to start fails here, too, and is a failed pre-flight.

mod docker;
mod host;

use serde::Serialize;

use crate::exit::Exit;
use crate::sources::ebpf::cgroup::enter_host_namespace;
use crate::sources::ebpf::{Check, Outcome, preflight};

/// All findings, in the order in which they matter.
#[must_use]
pub fn examine(docker_host: Option<&str>) -> Vec<Finding> {
    enter_host_namespace();
    // The probe asks for fewer capabilities than a run: what is said here covers both.
    let mut checks: Vec<Check> = preflight().into_iter().filter(|check| check.name != host::CAPABILITIES).collect();
    checks.push(host::capabilities());
    checks.push(host::memory_lock());
    let ready = checks.iter().all(|check| check.outcome != Outcome::Fail);
    if ready {
        checks.extend(host::probe());
    }
    checks.push(docker::reachable(docker_host));
    checks.into_iter().map(Finding::from).collect()
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub status: Status,
    pub detail: String,
    /// What to do; null when nothing is to be done.
    pub fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    Warning,
    Failed,
}

impl From<Check> for Finding {
    fn from(check: Check) -> Self {
        let status = match check.outcome {
            Outcome::Ok => Status::Ok,
            Outcome::Warn => Status::Warning,
            Outcome::Fail => Status::Failed,
        };
        Self { check: check.name, status, detail: check.detail, fix: Some(check.fix).filter(|fix| !fix.is_empty()) }
    }
}

/// How the command ends, and what it says then.
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
    use super::{Finding, Status, verdict};
    use crate::exit::Exit;

    fn finding(check: &'static str, status: Status) -> Finding {
        Finding { check, status, detail: String::new(), fix: None }
    }

    #[test]
    fn the_worst_finding_decides() {
        let (ok, warning, failed) =
            (finding("a", Status::Ok), finding("b", Status::Warning), finding("c", Status::Failed));
        assert_eq!(verdict(std::slice::from_ref(&ok)), (Exit::Ok, None));
        let (exit, message) = verdict(&[ok, warning.clone()]);
        assert_eq!((exit, exit.code()), (Exit::DoctorWarnings, 1));
        assert!(message.unwrap().contains("with limits: b;"));
        let (exit, message) = verdict(&[warning, failed]);
        assert_eq!((exit, exit.code()), (Exit::DoctorPreflight, 3));
        assert!(message.unwrap().contains("cannot start on this host: c;"));
    }
}
