//! Where a process crashed: module, offset, faulting address and thread, for `cause.crash` and the summary.
//!
//! A signal that a process raises itself comes from a system call in libc; the caller of libc is the place, if it is
//! known.

use crate::engine::types::verdict::Verdict;
use crate::engine::world::processes::Process;
use crate::model::event::{CrashSite, ExitStatus, ModuleOffset};
use crate::model::incident::Crash;
use crate::model::time::Stamp;

/// Beginnings of the file names of C libraries: glibc, glibc before 2.34, musl.
const LIBC: [&str; 4] = ["libc.so.", "libc-2.", "libpthread", "ld-musl-"];

/// The place of the signal that ended the process.
#[must_use]
pub fn of(process: &Process, status: &ExitStatus) -> Option<Crash> {
    status.signal()?;
    let (_, site) = process.crash.as_ref()?;
    let place = module(site);
    Some(Crash {
        module: place.map(|place| place.file.clone()),
        offset: place.map(|place| hexadecimal(place.offset)),
        address: site.address.map(hexadecimal),
        thread: Some(site.thread.clone()),
        core: process.core.as_ref().map(|dump| dump.pattern.clone()),
    })
}

/// The delivery of the fatal signal, with its name, if a core dump lies between it and the exit: the core was written, or
/// another signal ended the dump.
#[must_use]
pub fn before_dump<'a>(process: &'a Process, status: &ExitStatus) -> Option<(Stamp, &'a str)> {
    let (at, site) = process.crash.as_ref()?;
    let ExitStatus::Signal { signal, core } = status else { return None };
    (*core || *signal != site.signal).then_some((*at, site.signal.as_str()))
}

/// The module to name: that of the instruction, or its caller's.
#[must_use]
pub fn module(site: &CrashSite) -> Option<&ModuleOffset> {
    let own = site.module.as_ref()?;
    let is_call = site.raised && LIBC.iter().any(|name| own.file.starts_with(name));
    Some(site.caller.as_ref().filter(|_| is_call).unwrap_or(own))
}

#[must_use]
pub fn hexadecimal(number: u64) -> String {
    format!("{number:#x}")
}

/// ` in libz.so.1+0x3fe3, thread embed`. The main thread has the name of the process, which the sentence has already.
#[must_use]
pub fn text(verdict: &Verdict) -> String {
    let Some(crash) = &verdict.crash else { return String::new() };
    let place = match (&crash.module, &crash.offset) {
        (Some(module), Some(offset)) => format!(" in {module}+{offset}"),
        (Some(_) | None, _) => String::new(),
    };
    let thread = crash.thread.as_ref().filter(|thread| verdict.comm.as_ref() != Some(*thread));
    let thread = thread.map_or_else(String::new, |thread| format!(", thread {thread}"));
    format!("{place}{thread}")
}

#[cfg(test)]
mod tests {
    use super::module;
    use crate::model::event::{CrashSite, ModuleOffset, Process};
    use crate::model::ids::{CgroupId, NetnsId, Pid};

    fn at(file: &str) -> Option<ModuleOffset> {
        Some(ModuleOffset { file: file.to_owned(), offset: 1 })
    }

    fn named(raised: bool, own: &str, caller: Option<&str>) -> String {
        let process = Process {
            pid: Pid(1),
            ns_pid: 1,
            ns_level: 1,
            cgroup: CgroupId(1),
            netns: NetnsId(1),
            comm: "python".to_owned(),
        };
        let (signal, thread) = ("SIGABRT".to_owned(), "embed".to_owned());
        let caller = caller.and_then(at);
        let site = CrashSite { process, signal, thread, raised, module: at(own), caller, address: None };
        module(&site).map_or_else(String::new, |place| place.file.clone())
    }

    #[test]
    fn names_the_caller_of_libc_when_the_signal_was_raised_there() {
        assert_eq!(named(true, "libc.so.6", Some("libtorch.so")), "libtorch.so");
        assert_eq!(named(true, "ld-musl-x86_64.so.1", Some("app")), "app");
        assert_eq!(named(true, "libc.so.6", None), "libc.so.6");
    }

    #[test]
    fn names_the_instruction_when_it_is_a_fault_or_no_libc() {
        assert_eq!(named(false, "libc.so.6", Some("libtorch.so")), "libc.so.6");
        assert_eq!(named(true, "server", Some("libtorch.so")), "server");
        assert_eq!(named(true, "libcrypto.so.3", Some("app")), "libcrypto.so.3");
    }
}
